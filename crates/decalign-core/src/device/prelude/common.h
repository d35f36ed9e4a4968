// What every kernel may use, whatever the language before it.

// Sums and maxima over a warp: every lane gets the result, added up in one order.
DEVICE REAL warp_sum(REAL x) {
  UNROLL for (uint mask = 16u; mask > 0u; mask >>= 1) x += SHUFFLE_XOR(x, mask);
  return x;
}

DEVICE REAL warp_max(REAL x) {
  UNROLL for (uint mask = 16u; mask > 0u; mask >>= 1) {
    const REAL other = SHUFFLE_XOR(x, mask);
    x = other > x ? other : x;
  }
  return x;
}

DEVICE REAL larger(REAL a, REAL b) { return b > a ? b : a; }
DEVICE uint least(uint a, uint b) { return b < a ? b : a; }

// Below every logit and above minus infinity: differences of two stay finite.
#define LOWEST ((REAL) - 1e30f)
#define LN2 ((REAL)0.6931471805599453)
#define LOG2E ((REAL)1.4426950408889634)

// As it is where a language has no other.
#ifndef CUDA
#define exp2_normal(x) exp2(x)
#endif
#define exp_normal(x) exp2_normal((x) * LOG2E)

// As it is where a language has no vectors of all types.
#ifndef LOAD_VECTOR
#define LOAD_VECTOR(x, at, count, out) \
  UNROLL for (uint _i = 0u; _i < (count); _i++) (out)[_i] = (x)[(at) + _i];
#endif
