// Responsibilities and sufficient statistics of diagonal covariances in one pass over the data (see e_step/mod.rs). K components, WIDTH
// columns.
//
// A group processes `rows_per_group` rows, ROWS at a time in shared memory: one lane a row for the log-densities, one warp a row for the
// softmax, and for the statistics each lane sums its cells (component, dimension) in registers. `packed` holds offsets (K), W, b and means
// (K, WIDTH), and centre and scale of the columns (WIDTH).

#define ROWS WARP
#define PITCH (WIDTH | 1u)
#define GAMMA_PITCH (K | 1u)
#define CELLS (K * WIDTH)
// Cells of a lane, and components of a warp.
#define OWN ((CELLS + LANES - 1u) / LANES)
#define HEIGHT ((K + WARPS - 1u) / WARPS)
#define CENTRE (K + 3u * CELLS)

// `partial_sums` (groups, 2 K WIDTH + K) are first and second moments about the means, and masses; `report` (groups, 2) the sum of
// weights times log2 p(x) and the least log2 p(x), that of row `least_likely`.
KERNEL(e_step, INPUT(0, REAL, given), INPUT(1, REAL, weights), INPUT(2, REAL, packed), OUTPUT(3, REAL, partial_sums), OUTPUT(4, REAL, report),
       OUTPUT(5, uint, least_likely), VALUE(6, uint, rows), VALUE(7, uint, rows_per_group)) {
  SHARED(REAL, x, ROWS * PITCH);
  SHARED(REAL, gamma, ROWS * GAMMA_PITCH);
  SHARED(REAL, partial, 2 * WARPS);
  SHARED(uint, lowest_rows, WARPS);
  const uint warp = LANE / WARP, lane = LANE % WARP;
  const uint start = GROUP * rows_per_group, end = least(rows, start + rows_per_group);
  REAL means[OWN], sums[OWN], squares[OWN], mass = 0;
  UNROLL for (uint i = 0u; i < OWN; i++) {
    const uint t = LANE + i * LANES;
    means[i] = t < CELLS ? packed[K + 2u * CELLS + t] : (REAL)0;
    sums[i] = 0;
    squares[i] = 0;
  }
  REAL likelihood = 0, lowest = -LOWEST;
  uint lowest_row = start;
  SERIAL for (uint first = start; first < end; first += ROWS) {
    // All lanes have summed the rows before.
    BARRIER();
    for (uint t = LANE; t < ROWS * WIDTH; t += LANES) {
      const uint row = first + t / WIDTH, d = t % WIDTH;
      x[t / WIDTH * PITCH + d] = row < end ? (given[(ulong)row * WIDTH + d] - packed[CENTRE + d]) * packed[CENTRE + WIDTH + d] : (REAL)0;
    }
    BARRIER();
    REAL distances[HEIGHT];
    UNROLL for (uint c = 0u; c < HEIGHT; c++) distances[c] = 0;
    for (uint d = 0u; d < WIDTH; d++) {
      const REAL v = x[lane * PITCH + d];
      UNROLL for (uint c = 0u; c < HEIGHT; c++) {
        const uint k = warp + c * WARPS;
        if (k < K) {
          const REAL e = fma(packed[K + k * WIDTH + d], v, packed[K + CELLS + k * WIDTH + d]);
          distances[c] = fma(e, e, distances[c]);
        }
      }
    }
    UNROLL for (uint c = 0u; c < HEIGHT; c++) {
      const uint k = warp + c * WARPS;
      if (k < K) gamma[lane * GAMMA_PITCH + k] = packed[k] - distances[c];
    }
    BARRIER();
    for (uint r = warp; r < ROWS; r += WARPS) {
      const uint row = first + r;
      const REAL weight = row >= end ? (REAL)0 : WEIGHTED == 1u ? weights[row] : (REAL)1;
      REAL largest = LOWEST * 8, sum = 0;
      for (uint k = lane; k < K; k += WARP) largest = larger(largest, gamma[r * GAMMA_PITCH + k]);
      largest = warp_max(largest);
      for (uint k = lane; k < K; k += WARP) sum += exp2_normal(gamma[r * GAMMA_PITCH + k] - largest);
      const REAL log = largest + log2(warp_sum(sum));
      for (uint k = lane; k < K; k += WARP) gamma[r * GAMMA_PITCH + k] = weight * exp2_normal(gamma[r * GAMMA_PITCH + k] - log);
      if (weight > 0) {
        likelihood = fma(weight, log, likelihood);
        if (log < lowest) {
          lowest = log;
          lowest_row = row;
        }
      }
    }
    BARRIER();
    UNROLL for (uint i = 0u; i < OWN; i++) {
      const uint t = LANE + i * LANES, k = t / WIDTH, d = t % WIDTH;
      if (t < CELLS) {
        for (uint r = 0u; r < ROWS; r++) {
          const REAL e = x[r * PITCH + d] - means[i], g = gamma[r * GAMMA_PITCH + k] * e;
          sums[i] += g;
          squares[i] = fma(g, e, squares[i]);
        }
      }
    }
    if (LANE < K)
      for (uint r = 0u; r < ROWS; r++) mass += gamma[r * GAMMA_PITCH + LANE];
  }
  const ulong to = (ulong)GROUP * (2u * CELLS + K);
  UNROLL for (uint i = 0u; i < OWN; i++) {
    const uint t = LANE + i * LANES;
    if (t < CELLS) {
      partial_sums[to + t] = sums[i];
      partial_sums[to + CELLS + t] = squares[i];
    }
  }
  if (LANE < K) partial_sums[to + 2u * CELLS + LANE] = mass;
  if (lane == 0u) {
    partial[warp] = likelihood;
    partial[WARPS + warp] = lowest;
    lowest_rows[warp] = lowest_row;
  }
  BARRIER();
  if (LANE > 0u) return;
  for (uint w = 1u; w < WARPS; w++) {
    likelihood += partial[w];
    if (partial[WARPS + w] < lowest) {
      lowest = partial[WARPS + w];
      lowest_row = lowest_rows[w];
    }
  }
  report[2u * GROUP] = likelihood;
  report[2u * GROUP + 1u] = lowest;
  least_likely[GROUP] = lowest_row;
}

// Adds the partial sums of all groups in order.
KERNEL(totals, INPUT(0, REAL, partial_sums), OUTPUT(1, REAL, sums), VALUE(2, uint, groups)) {
  const uint at = GROUP * LANES + LANE, count = 2u * CELLS + K;
  if (at >= count) return;
  REAL sum = 0;
  for (uint group = 0u; group < groups; group++) sum += partial_sums[(ulong)group * count + at];
  sums[at] = sum;
}
