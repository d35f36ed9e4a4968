// Kernels as sums of LEAVES leaves: leaf l has the profile FORM(l) and belongs to kernel OWNER(l). The functions value_of and slope_of
// of the profiles come before this text. `numbers` begins with (factor, a, b) of every leaf.

#define SQUARED 0u
#define DIFFERENCES 1u
#define CITY_BLOCK 2u
#define DOT 3u

#define WARPS (LANES / WARP)

// The profile, the kernel and the degree of leaf l: six, four and five bits of a packed constant.
DEVICE uint FORM(uint l) { return (uint)((ulong)FORMS >> (6u * l)) & 63u; }
DEVICE uint OWNER(uint l) { return (uint)((ulong)OWNERS >> (4u * l)) & 15u; }
DEVICE uint DEGREE(uint l) { return (uint)((ulong)DEGREES >> (5u * l)) & 31u; }

// The layout of samples and of pairs of samples: first rows and first tiles of samples, first tasks of pairs, the pairs, and for every
// sample its partners (sample, pair).
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

// Whether this launch leaves the work to the other program: squared distances from inner products are too imprecise where the
// squared norm of a point exceeds `limit`. `longest` holds the largest squares of `bounds` groups of points; with none of
// them there is no other program. The result is the same in all lanes; `partial` is WARPS numbers of shared memory.
DEVICE bool for_other_program(GLOBAL(const REAL) longest, uint bounds, REAL limit, SHARED_POINTER(REAL) partial, uint lane) {
  REAL largest = 0;
  for (uint t = lane; t < bounds; t += LANES) largest = larger(largest, longest[t]);
  largest = warp_max(largest);
  if (lane % WARP == 0u) partial[lane / WARP] = largest;
  BARRIER();
  UNROLL for (uint w = 0u; w < WARPS; w++) largest = larger(largest, partial[w]);
  return bounds > 0u && (largest > limit) != (MEASURE == DIFFERENCES);
}

// Turns the inner products of all pairs of a tile into features.
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
      // A point is at distance 0 of itself, and rounding must not go below 0; NaN stays.
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
