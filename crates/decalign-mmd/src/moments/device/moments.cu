// Moments of up to eight samples and their mean squared differences: the loops of moments.rs.
//
// `centred` holds the rows of all samples, one after the other, without their means; `moments` (samples, 4, width) means, variances,
// third moments and skewnesses; `covariances` (samples, width, width). `differences` holds the gradients of every sample with respect to
// covariance, mean and skewness, (samples, width width + 2 width).

#define TILE 16u
#define FLOOR ((REAL)1e-6)
#define CHOSEN(s, x) (s < 4u ? s < 2u ? s == 0u ? x##0 : x##1 : s == 2u ? x##2 : x##3 : s < 6u ? s == 4u ? x##4 : x##5 : s == 6u ? x##6 : x##7)
// The rows of the samples before.
#define BEFORE(s)                                                                                                  \
  ((s > 0u ? n0 : 0u) + (s > 1u ? n1 : 0u) + (s > 2u ? n2 : 0u) + (s > 3u ? n3 : 0u) + (s > 4u ? n4 : 0u) + (s > 5u ? n5 : 0u) + \
   (s > 6u ? n6 : 0u))

// Over the warps of a group, a column a lane: every lane gets its column's result.
DEVICE REAL column_sum(REAL x, SHARED_POINTER(REAL) partial, uint lane) {
  // The sum before may still be read.
  BARRIER();
  partial[lane] = x;
  BARRIER();
  REAL total = 0;
  for (uint w = lane % WARP; w < LANES; w += WARP) total += partial[w];
  return total;
}

// Over the group: the first lane gets the result.
DEVICE REAL group_total(REAL x, SHARED_POINTER(REAL) partial, uint lane) {
  x = warp_sum(x);
  if (lane % WARP == 0u) partial[lane / WARP] = x;
  BARRIER();
  REAL total = 0;
  for (uint w = 0u; lane == 0u && w < LANES / WARP; w++) total += partial[w];
  return total;
}

DEVICE REAL inverse_cube(REAL v) {
  v = v >= FLOOR ? v : FLOOR;
  return 1 / (v * sqrt(v));
}

// max(n - 1, 1)
DEVICE REAL degrees_of(uint n) { return n > 2u ? (REAL)(n - 1u) : (REAL)1; }

KERNEL(sample_moments, INPUT(0, REAL, x0), INPUT(1, REAL, x1), INPUT(2, REAL, x2), INPUT(3, REAL, x3), INPUT(4, REAL, x4),
       INPUT(5, REAL, x5), INPUT(6, REAL, x6), INPUT(7, REAL, x7), OUTPUT(8, REAL, centred), OUTPUT(9, REAL, moments), VALUE(10, uint, n0),
       VALUE(11, uint, n1), VALUE(12, uint, n2), VALUE(13, uint, n3), VALUE(14, uint, n4), VALUE(15, uint, n5), VALUE(16, uint, n6),
       VALUE(17, uint, n7), VALUE(18, uint, width)) {
  SHARED(REAL, partial, LANES);
  const uint blocks = (width + WARP - 1u) / WARP, s = GROUP / blocks, column = GROUP % blocks * WARP + LANE % WARP;
  GLOBAL(const REAL) x = CHOSEN(s, x);
  const uint n = CHOSEN(s, n);
  const ulong start = (ulong)BEFORE(s) * width;
  const bool inside = column < width;
  // About the first row, then what is left: the mean in two parts loses no digits.
  const REAL shift = inside ? x[column] : (REAL)0;
  REAL sum = 0;
  if (inside)
    for (uint r = LANE / WARP; r < n; r += LANES / WARP) sum += x[(ulong)r * width + column] - shift;
  const REAL mean = shift + column_sum(sum, partial, LANE) / (REAL)n;
  sum = 0;
  if (inside)
    for (uint r = LANE / WARP; r < n; r += LANES / WARP) sum += x[(ulong)r * width + column] - mean;
  const REAL rest = column_sum(sum, partial, LANE) / (REAL)n;
  REAL squares = 0, cubes = 0;
  if (inside)
    for (uint r = LANE / WARP; r < n; r += LANES / WARP) {
      const REAL c = x[(ulong)r * width + column] - mean - rest;
      centred[start + (ulong)r * width + column] = c;
      squares = fma(c, c, squares);
      cubes = fma(c * c, c, cubes);
    }
  const REAL variance = column_sum(squares, partial, LANE) / (REAL)n, third = column_sum(cubes, partial, LANE) / (REAL)n;
  if (inside && LANE < WARP) {
    const ulong at = (ulong)s * 4 * width + column;
    moments[at] = mean + rest;
    moments[at + width] = variance;
    moments[at + 2 * (ulong)width] = third;
    moments[at + 3 * (ulong)width] = third * inverse_cube(variance);
  }
}

// A tile of the covariances of one sample.
KERNEL(sample_covariances, INPUT(0, REAL, centred), OUTPUT(1, REAL, covariances), VALUE(2, uint, n0), VALUE(3, uint, n1),
       VALUE(4, uint, n2), VALUE(5, uint, n3), VALUE(6, uint, n4), VALUE(7, uint, n5), VALUE(8, uint, n6), VALUE(9, uint, n7),
       VALUE(10, uint, width)) {
  SHARED(REAL, left, TILE *TILE);
  SHARED(REAL, right, TILE *TILE);
  const uint tiles = (width + TILE - 1u) / TILE, s = GROUP / (tiles * tiles), tile = GROUP % (tiles * tiles);
  const uint i = tile / tiles * TILE, j = tile % tiles * TILE, a = LANE / TILE, b = LANE % TILE;
  const uint n = CHOSEN(s, n);
  const ulong start = (ulong)BEFORE(s) * width;
  REAL sum = 0;
  SERIAL for (uint first = 0u; first < n; first += TILE) {
    const ulong row = start + (ulong)(first + a) * width;
    left[LANE] = first + a < n && i + b < width ? centred[row + i + b] : (REAL)0;
    right[LANE] = first + a < n && j + b < width ? centred[row + j + b] : (REAL)0;
    BARRIER();
    UNROLL for (uint k = 0u; k < TILE; k++) sum = fma(left[k * TILE + a], right[k * TILE + b], sum);
    BARRIER();
  }
  if (i + a < width && j + b < width) covariances[((ulong)s * width + i + a) * width + j + b] = sum / degrees_of(n);
}

// Entry `e` of sample s: of its covariance, its mean, then its skewness.
DEVICE REAL entry_of(GLOBAL(const REAL) moments, GLOBAL(const REAL) covariances, ulong e, uint s, uint width) {
  const ulong cells = (ulong)width * width;
  if (e < cells) return covariances[(ulong)s * cells + e];
  e -= cells;
  return moments[(ulong)s * 4 * width + (e < width ? e : e + 2 * (ulong)width)];
}

// EACH entries a lane. `parts` are the groups' sums of squared differences.
KERNEL(compare, INPUT(0, REAL, moments), INPUT(1, REAL, covariances), OUTPUT(2, REAL, differences), OUTPUT(3, REAL, parts),
       VALUE(4, uint, samples), VALUE(5, uint, width), VALUE(6, REAL, pairs)) {
  SHARED(REAL, partial, LANES / WARP);
  const ulong cells = (ulong)width * width, entries = cells + 2 * (ulong)width;
  REAL sum = 0;
  for (uint k = 0u; k < EACH; k++) {
    const ulong e = ((ulong)GROUP * EACH + k) * LANES + LANE;
    if (e >= entries) continue;
    const REAL scale = 1 / (pairs * (e < cells ? (REAL)width * (REAL)width : (REAL)width));
    REAL squares = 0;
    for (uint s = 0u; s < samples; s++) {
      const REAL own = entry_of(moments, covariances, e, s, width);
      REAL slope = 0;
      for (uint t = 0u; t < samples; t++) {
        const REAL apart = own - entry_of(moments, covariances, e, t, width);
        slope += apart;
        if (t < s) squares = fma(apart, apart, squares);
      }
      differences[s * entries + e] = 2 * scale * slope;
    }
    sum = fma(squares, scale, sum);
  }
  sum = group_total(sum, partial, LANE);
  if (LANE == 0u) parts[GROUP] = sum;
}

KERNEL(total, INPUT(0, REAL, parts), OUTPUT(1, REAL, value), VALUE(2, uint, count)) {
  SHARED(REAL, partial, LANES / WARP);
  REAL sum = 0;
  for (uint i = LANE; i < count; i += LANES) sum += parts[i];
  sum = group_total(sum, partial, LANE);
  if (LANE == 0u) value[0] = sum;
}

// A tile of the rows of one sample. The difference of covariances is symmetric: twice the product. Of every column the slope of its
// mean and skewness is constant + linear x + square x^2.
KERNEL(moments_backward, INPUT(0, REAL, centred), INPUT(1, REAL, moments), INPUT(2, REAL, differences), INPUT(3, REAL, outer),
       OUTPUT(4, REAL, slopes), VALUE(5, uint, n0), VALUE(6, uint, n1), VALUE(7, uint, n2), VALUE(8, uint, n3), VALUE(9, uint, n4),
       VALUE(10, uint, n5), VALUE(11, uint, n6), VALUE(12, uint, n7), VALUE(13, uint, width)) {
  SHARED(REAL, left, TILE *TILE);
  SHARED(REAL, right, TILE *TILE);
  const uint tiles = (width + TILE - 1u) / TILE, a = LANE / TILE, b = LANE % TILE;
  uint row = GROUP / tiles, s = 0u, n = n0;
  while (row >= (n + TILE - 1u) / TILE) {
    row -= (n + TILE - 1u) / TILE;
    s += 1u;
    n = CHOSEN(s, n);
  }
  const uint i = row * TILE + a, j = GROUP % tiles * TILE + b;
  const ulong cells = (ulong)width * width, given = s * (cells + 2 * (ulong)width);
  const ulong start = (ulong)BEFORE(s) * width;
  REAL sum = 0;
  SERIAL for (uint first = 0u; first < width; first += TILE) {
    left[LANE] = i < n && first + b < width ? centred[start + (ulong)i * width + first + b] : (REAL)0;
    right[LANE] = first + a < width && j < width ? differences[given + (ulong)(first + a) * width + j] : (REAL)0;
    BARRIER();
    UNROLL for (uint k = 0u; k < TILE; k++) sum = fma(left[a * TILE + k], right[k * TILE + b], sum);
    BARRIER();
  }
  if (i >= n || j >= width) return;
  const ulong at = (ulong)s * 4 * width + j;
  const REAL v = moments[at + width], third = moments[at + 2 * (ulong)width], size = (REAL)n;
  const REAL square = differences[given + cells + width + j] * inverse_cube(v) * 3 / size;
  const REAL linear = v >= FLOOR ? -square * third / v : (REAL)0;
  const REAL constant_ = differences[given + cells + j] / size - square * v;
  const REAL x = centred[start + (ulong)i * width + j];
  slopes[start + (ulong)i * width + j] = (sum * 2 / degrees_of(n) + constant_ + x * (linear + square * x)) * outer[0];
}
