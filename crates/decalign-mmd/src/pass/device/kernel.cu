// Kernels as functions of one number, shape.rs on a device: the sum of LEAVES leaves, of which leaf l has FORM(l) and belongs to
// kernel OWNER(l). `numbers` begins with (factor, a, b) of every leaf.

#define SQUARED 0u
#define DIFFERENCES 1u
#define CITY_BLOCK 2u
#define DOT 3u

#define EXPONENTIAL 0u
#define ROOT 1u
#define THREE_HALVES 2u
#define FIVE_HALVES 3u
#define INVERSE_ROOT 4u
#define INVERSE_POWER 5u
#define DISTANCE 6u
// And the degree; the identity is the first.
#define POLYNOMIAL 16u

#define WARPS (LANES / WARP)

// Six bits a form and four an owner.
DEVICE uint FORM(uint l) { return (uint)((ulong)FORMS >> (6u * l)) & 63u; }
DEVICE uint OWNER(uint l) { return (uint)((ulong)OWNERS >> (4u * l)) & 15u; }

// exp(-t) for t >= 0.
DEVICE REAL decay(REAL t) { return exp2_normal(-LOG2E * t); }

// a sqrt u, finite so that what multiplies its exponential is; NaN stays.
DEVICE REAL scaled_root(REAL a, REAL u) {
  const REAL t = a * sqrt(u);
  return t > (REAL)4096 ? (REAL)4096 : t;
}

DEVICE REAL value_of(uint form, REAL u, REAL a, REAL b) {
  if (form == EXPONENTIAL) return exp2_normal(a * u);
  if (form == ROOT) return decay(a * sqrt(u));
  if (form == THREE_HALVES) {
    const REAL t = scaled_root(a, u), e = decay(t);
    return fma(t, e, e);
  }
  if (form == FIVE_HALVES) {
    const REAL t = scaled_root(a, u), e = decay(t);
    return fma((REAL)(1.0 / 3.0) * t * t, e, fma(t, e, e));
  }
  if (form == INVERSE_ROOT) return 1 / sqrt(fma(a, u, (REAL)1));
  if (form == INVERSE_POWER) return exp2(-b * log2(fma(a, u, (REAL)1)));
  if (form == DISTANCE) return -sqrt(u);
  const REAL base = fma(a, u, b);
  REAL power = base;
  UNROLL for (uint i = POLYNOMIAL + 1u; i < form; i++) power *= base;
  return power;
}

// dk/du. A root has no slope at 0: it falls as fast in every direction.
DEVICE REAL slope_of(uint form, REAL u, REAL a, REAL b) {
  if (form == EXPONENTIAL) return LN2 * a * exp2_normal(a * u);
  if (form == ROOT) {
    const REAL root = sqrt(u);
    return u > 0 ? (REAL)-0.5 * a * decay(a * root) / root : (REAL)0;
  }
  if (form == THREE_HALVES) return (REAL)-0.5 * a * a * decay(scaled_root(a, u));
  if (form == FIVE_HALVES) {
    const REAL t = scaled_root(a, u), e = decay(t);
    return (REAL)(-1.0 / 6.0) * a * a * fma(t, e, e);
  }
  if (form == INVERSE_ROOT) {
    const REAL k = 1 / sqrt(fma(a, u, (REAL)1));
    return (REAL)-0.5 * a * k * k * k;
  }
  if (form == INVERSE_POWER) {
    const REAL base = fma(a, u, (REAL)1);
    return -b * a * exp2(-b * log2(base)) / base;
  }
  if (form == DISTANCE) return u > 0 ? (REAL)-0.5 / sqrt(u) : (REAL)0;
  const REAL base = fma(a, u, b);
  REAL power = (REAL)(form - POLYNOMIAL) * a;
  UNROLL for (uint i = POLYNOMIAL + 1u; i < form; i++) power *= base;
  return power;
}

// The layout of samples and of the pairs of them: first rows and first tiles of samples, first tasks of pairs, what the pairs are,
// and of every sample the samples it is paired with: (sample, pair).
#define TILES (samples + 1u)
#define TASKS (2u * (samples + 1u))
#define PAIRED (TASKS + pairs + 1u)
#define PARTNERS (PAIRED + 2u * pairs)
#define PARTNER (PARTNERS + samples + 1u)

// The last of `count` starts at `at` that is not after `value`.
DEVICE uint last_start(GLOBAL(const uint) layout, uint at, uint count, uint value) {
  uint low = 0u, high = count;
  while (high - low > 1u) {
    const uint middle = (low + high) / 2u;
    if (layout[at + middle] <= value) low = middle;
    else high = middle;
  }
  return low;
}

DEVICE uint tiles_of(uint rows) { return (rows + SIDE - 1u) / SIDE; }

// Whether the launch is for another program: squared distances from inner products are too far off where points are so long that
// the square of one exceeds `limit`. `longest` holds the largest squares of `bounds` groups of points; with none of them every
// launch is meant. The same in all lanes; `partial` is WARPS numbers of shared memory.
DEVICE bool for_another(GLOBAL(const REAL) longest, uint bounds, REAL limit, SHARED_POINTER(REAL) partial, uint lane) {
  REAL largest = 0;
  for (uint t = lane; t < bounds; t += LANES) largest = larger(largest, longest[t]);
  largest = warp_max(largest);
  if (lane % WARP == 0u) partial[lane / WARP] = largest;
  BARRIER();
  UNROLL for (uint w = 0u; w < WARPS; w++) largest = larger(largest, partial[w]);
  return bounds > 0u && (largest > limit) != (MEASURE == DIFFERENCES);
}

// What kernels are functions of, of all pairs of rows of a tile, from what its pairs were summed up to.
DEVICE void make_features(GLOBAL(const REAL) norms, uint first, uint end, uint second, uint second_end, uint lane, LOCAL(REAL) u) {
#if MEASURE == SQUARED
  REAL columns[OWN_COLUMNS];
  UNROLL for (uint b = 0u; b < OWN_COLUMNS; b++) {
    const uint column = second + column_of(lane, b);
    columns[b] = column < second_end ? norms[column] : (REAL)0;
  }
  UNROLL for (uint a = 0u; a < OWN_ROWS; a++) {
    const uint row = first + row_of(lane, a);
    const REAL norm = row < end ? norms[row] : (REAL)0;
    UNROLL for (uint b = 0u; b < OWN_COLUMNS; b++) {
      const uint c = a * OWN_COLUMNS + b;
      const REAL v = fma((REAL)-2, u[c], norm + columns[b]);
      // A point is at distance 0 of itself, and nothing is below; NaN stays.
      u[c] = v < 0 || row == second + column_of(lane, b) ? (REAL)0 : v;
    }
  }
#endif
}

#if MEASURE == DIFFERENCES || MEASURE == CITY_BLOCK
// Sums of squared or absolute differences.
#if MEASURE == CITY_BLOCK
#define DIFFERENCE_STEP(u, v, sum) ((sum) + fabs((u) - (v)))
#else
#define DIFFERENCE_STEP(u, v, sum) fma((u) - (v), (u) - (v), sum)
#endif
PAIR_FUNCTION(pair_differences, DIFFERENCE_STEP)

#undef TILE_PRODUCTS
#define TILE_PRODUCTS(x, first, n, y, second, m, width, cells) pair_differences(x, first, n, y, second, m, width, x_table, y_table, LANE, cells)
#endif
