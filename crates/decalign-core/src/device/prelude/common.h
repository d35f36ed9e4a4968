// Functions for every kernel, in every language.

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

#define WARPS (LANES / WARP)

DEVICE REAL larger(REAL a, REAL b) { return b > a ? b : a; }
DEVICE uint least(uint a, uint b) { return b < a ? b : a; }

// Sums and maxima over a group: every lane gets the result. `partial` has WARPS numbers; all lanes of the group call together. The first
// barrier protects the numbers of the call before, which other lanes may still read.
DEVICE REAL group_sum(REAL x, SHARED_POINTER(REAL) partial, uint lane) {
  x = warp_sum(x);
  BARRIER();
  if (lane % WARP == 0u) partial[lane / WARP] = x;
  BARRIER();
  REAL total = 0;
  for (uint w = 0u; w < WARPS; w++) total += partial[w];
  return total;
}

DEVICE REAL group_max(REAL x, SHARED_POINTER(REAL) partial, uint lane) {
  x = warp_max(x);
  BARRIER();
  if (lane % WARP == 0u) partial[lane / WARP] = x;
  BARRIER();
  REAL most = partial[0];
  for (uint w = 1u; w < WARPS; w++) most = larger(most, partial[w]);
  return most;
}

// Parameter number k of several: of0, of1 and so on.
#define PICK_4(k, of) (k) == 0u ? of##0 : (k) == 1u ? of##1 : (k) == 2u ? of##2 : of##3
#define PICK_6(k, of) (k) == 0u ? of##0 : (k) == 1u ? of##1 : (k) == 2u ? of##2 : (k) == 3u ? of##3 : (k) == 4u ? of##4 : of##5

// Below every logit and above minus infinity: differences of two stay finite.
#define LOWEST ((REAL) - 1e30f)
#define LN2 ((REAL)0.6931471805599453)
#define LOG2E ((REAL)1.4426950408889634)

// Default where the language has no faster variant.
#ifndef CUDA
#define exp2_normal(x) exp2(x)
#endif
#define exp_normal(x) exp2_normal((x) * LOG2E)

// Default where the language has no vectors of all types.
#ifndef LOAD_VECTOR
#define LOAD_VECTOR(x, at, count, out) \
  UNROLL for (uint _i = 0u; _i < (count); _i++) (out)[_i] = (x)[(at) + _i];
#endif
