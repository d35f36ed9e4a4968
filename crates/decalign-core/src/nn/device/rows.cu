// Softmax and layer norm over the last dimension, a warp a row: the loops of softmax.rs and norm.rs.

#define ROWS_A_GROUP (LANES / WARP)

KERNEL(softmax, INPUT(0, REAL, x), OUTPUT(1, REAL, y), VALUE(2, uint, rows), VALUE(3, uint, n)) {
  const uint row = GROUP * ROWS_A_GROUP + LANE / WARP, lane = LANE % WARP;
  if (row >= rows) return;
  const ulong at = (ulong)row * n;
  REAL largest = x[at];
  for (uint i = lane; i < n; i += WARP) largest = larger(largest, x[at + i]);
  largest = warp_max(largest);
  REAL sum = 0;
  for (uint i = lane; i < n; i += WARP) {
    const REAL e = exp(x[at + i] - largest);
    y[at + i] = e;
    sum += e;
  }
  const REAL scale = 1 / warp_sum(sum);
  for (uint i = lane; i < n; i += WARP) y[at + i] *= scale;
}

// dx = y (g - <g, y>)
KERNEL(softmax_back, INPUT(0, REAL, y), INPUT(1, REAL, g), OUTPUT(2, REAL, dx), VALUE(3, uint, rows), VALUE(4, uint, n)) {
  const uint row = GROUP * ROWS_A_GROUP + LANE / WARP, lane = LANE % WARP;
  if (row >= rows) return;
  const ulong at = (ulong)row * n;
  REAL mean = 0;
  for (uint i = lane; i < n; i += WARP) mean = fma(g[at + i], y[at + i], mean);
  mean = warp_sum(mean);
  for (uint i = lane; i < n; i += WARP) dx[at + i] = y[at + i] * (g[at + i] - mean);
}

// The statistics are mean and reciprocal deviation of each row.
KERNEL(layer_norm, INPUT(0, REAL, x), INPUT(1, REAL, weight), INPUT(2, REAL, bias), OUTPUT(3, REAL, y), OUTPUT(4, REAL, statistics),
       VALUE(5, uint, rows), VALUE(6, uint, n), VALUE(7, REAL, epsilon)) {
  const uint row = GROUP * ROWS_A_GROUP + LANE / WARP, lane = LANE % WARP;
  if (row >= rows) return;
  const ulong at = (ulong)row * n;
  REAL sum = 0;
  for (uint i = lane; i < n; i += WARP) sum += x[at + i];
  const REAL mean = warp_sum(sum) / (REAL)n;
  // Centred first: the difference of squares would cancel.
  REAL squares = 0;
  for (uint i = lane; i < n; i += WARP) {
    const REAL c = x[at + i] - mean;
    squares = fma(c, c, squares);
  }
  const REAL scale = 1 / sqrt(warp_sum(squares) / (REAL)n + epsilon);
  for (uint i = lane; i < n; i += WARP) y[at + i] = fma((x[at + i] - mean) * scale, weight[i], bias[i]);
  if (lane == 0) {
    statistics[2 * (ulong)row] = mean;
    statistics[2 * (ulong)row + 1] = scale;
  }
}

// With h = (x - mean) s and u = g weight: dx = s (u - mean(u) - h mean(u h)).
KERNEL(layer_norm_back, INPUT(0, REAL, x), INPUT(1, REAL, weight), INPUT(2, REAL, g), INPUT(3, REAL, statistics), OUTPUT(4, REAL, dx),
       VALUE(5, uint, rows), VALUE(6, uint, n)) {
  const uint row = GROUP * ROWS_A_GROUP + LANE / WARP, lane = LANE % WARP;
  if (row >= rows) return;
  const ulong at = (ulong)row * n;
  const REAL mean = statistics[2 * (ulong)row], scale = statistics[2 * (ulong)row + 1];
  REAL average = 0, along = 0;
  for (uint i = lane; i < n; i += WARP) {
    const REAL u = g[at + i] * weight[i];
    average += u;
    along = fma(u, (x[at + i] - mean) * scale, along);
  }
  average = warp_sum(average) / (REAL)n;
  along = warp_sum(along) / (REAL)n;
  for (uint i = lane; i < n; i += WARP) {
    const REAL h = (x[at + i] - mean) * scale;
    dx[at + i] = scale * fma(-along, h, g[at + i] * weight[i] - average);
  }
}

// Sums of g h and of g over CHUNK rows, a lane a column; `partials` is (chunks, 2, n).
KERNEL(layer_norm_partials, INPUT(0, REAL, x), INPUT(1, REAL, g), INPUT(2, REAL, statistics), OUTPUT(3, REAL, partials), VALUE(4, uint, rows),
       VALUE(5, uint, n), VALUE(6, uint, blocks)) {
  const uint chunk = GROUP / blocks, i = GROUP % blocks * LANES + LANE;
  if (i >= n) return;
  const uint first = chunk * CHUNK, last = least(rows, first + CHUNK);
  REAL dw = 0, db = 0;
  for (uint row = first; row < last; row++) {
    const REAL v = g[(ulong)row * n + i];
    dw = fma(v, (x[(ulong)row * n + i] - statistics[2 * (ulong)row]) * statistics[2 * (ulong)row + 1], dw);
    db += v;
  }
  partials[(ulong)chunk * 2 * n + i] = dw;
  partials[(ulong)chunk * 2 * n + n + i] = db;
}
