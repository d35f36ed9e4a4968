// A fixed number of EM steps and their gradient (see step.rs and backward.rs). One group for each mixture, all its steps in one launch.
//
// K components of WIDTH coordinates, a batch of up to ROWS samples. Values that lanes exchange are in shared memory if they fit (FITS), else
// in global memory. `kept` holds for each mixture the centred data; for each step (means, raw variances, precisions), (3, K, d), weights and
// masses, (2, K), and responsibilities, (B, K); then the prototype masses, (K). Without shared memory the workspace follows after all
// mixtures.

#define WARPS (LANES / WARP)
#define CELLS (K * WIDTH)
// A warp sums one value for each of SAMPLES samples and PADDED components at a time; PADDED is K rounded up to a power of two.
#define VALUES (SAMPLES * PADDED)
#define LANES_PER_VALUE (WARP / VALUES)
#define MASS_FLOOR ((REAL)1e-6)
#define WEIGHT_FLOOR ((REAL)1e-8)
#define OF_MIXTURE(x) (GROUP == 0u ? x##0 : GROUP == 1u ? x##1 : x##2)
#define STEP_SIZE (3u * CELLS + 2u * K + batch * K)
#define KEPT_SIZE ((ulong)batch * WIDTH + (ulong)(steps + 1u) * STEP_SIZE + K)

#if FITS
#define EXCHANGED(type) SHARED_POINTER(type)
#define EXCHANGE_BARRIER() BARRIER()
#define STORED_ROWS ROWS
#else
#define EXCHANGED(type) GLOBAL(type)
#define EXCHANGE_BARRIER() BARRIER_GLOBAL()
#define STORED_ROWS batch
#endif

// The row at which component j is initialised; bit j of `bits` rounds it up.
DEVICE uint initial_row(uint j, uint batch, ulong bits) {
  if (batch < K) return j % batch;
  const uint last = K > 1u ? K - 1u : 1u;
  return (uint)((ulong)j * (batch - 1u) / last) + (uint)(bits >> j & 1u);
}

// Sums VALUES values over a warp: lane l gets the sum of value l / LANES_PER_VALUE.
DEVICE REAL warp_sums(LOCAL(REAL) v, uint lane_in_warp) {
  // The loop bounds are constants, so that the values stay in registers.
  UNROLL for (uint turn = 1u; turn <= 5u; turn++) {
    const uint half = VALUES >> turn, mask = half * LANES_PER_VALUE;
    const bool upper = (lane_in_warp & mask) != 0u;
    UNROLL for (uint i = 0u; i < VALUES / 2u; i++) {
      if (i >= half) continue;
      const REAL kept = upper ? v[i + half] : v[i], given = upper ? v[i] : v[i + half];
      v[i] = kept + SHUFFLE_XOR(given, mask);
    }
  }
  UNROLL for (uint mask = LANES_PER_VALUE / 2u; mask > 0u; mask >>= 1) v[0] += SHUFFLE_XOR(v[0], mask);
  return v[0];
}

// Responsibilities, (B, K).
DEVICE void e_step(EXCHANGED(const REAL) x, EXCHANGED(const REAL) means, EXCHANGED(const REAL) precisions, EXCHANGED(const REAL) logs,
                   EXCHANGED(const REAL) weights, uint batch, EXCHANGED(REAL) gamma, GLOBAL(REAL) record, uint lane) {
  const uint lane_in_warp = lane % WARP, number = lane_in_warp / LANES_PER_VALUE, j = number % PADDED;
  const REAL prior = j < K ? log(larger(WEIGHT_FLOOR, weights[j])) : (REAL)0;
  SERIAL for (uint first = lane / WARP * SAMPLES; first < batch; first += WARPS * SAMPLES) {
    REAL v[VALUES];
    UNROLL for (uint i = 0u; i < VALUES; i++) v[i] = 0;
    SERIAL for (uint d = lane_in_warp; d < WIDTH; d += WARP) {
      REAL row[SAMPLES];
      UNROLL for (uint s = 0u; s < SAMPLES; s++) row[s] = x[least(first + s, batch - 1u) * WIDTH + d];
      UNROLL for (uint i = 0u; i < K; i++) {
        const REAL m = means[i * WIDTH + d], p = precisions[i * WIDTH + d], log_ = logs[i * WIDTH + d];
        UNROLL for (uint s = 0u; s < SAMPLES; s++) {
          const REAL e = row[s] - m;
          v[s * PADDED + i] += fma(e * p, e, log_);
        }
      }
    }
    const REAL sum = warp_sums(v, lane_in_warp);
    const REAL mine = j < K ? prior - (REAL)0.5 * sum : LOWEST;
    REAL largest = mine;
    UNROLL for (uint mask = PADDED / 2u; mask > 0u; mask >>= 1) largest = larger(largest, SHUFFLE_XOR(largest, mask * LANES_PER_VALUE));
    const REAL e = j < K ? exp_normal(mine - largest) : (REAL)0;
    REAL total = e;
    UNROLL for (uint mask = PADDED / 2u; mask > 0u; mask >>= 1) total += SHUFFLE_XOR(total, mask * LANES_PER_VALUE);
    const uint b = first + number / PADDED;
    if (lane_in_warp % LANES_PER_VALUE == 0u && j < K && b < batch) {
      gamma[b * K + j] = e / total;
      record[b * K + j] = e / total;
    }
  }
}

KERNEL(fit, INPUT(0, REAL, x0), INPUT(1, REAL, x1), INPUT(2, REAL, x2), OUTPUT(3, REAL, weights0), OUTPUT(4, REAL, weights1),
       OUTPUT(5, REAL, weights2), OUTPUT(6, REAL, means0), OUTPUT(7, REAL, means1), OUTPUT(8, REAL, means2), OUTPUT(9, REAL, variances0),
       OUTPUT(10, REAL, variances1), OUTPUT(11, REAL, variances2), OUTPUT(12, REAL, gamma0), OUTPUT(13, REAL, gamma1),
       OUTPUT(14, REAL, gamma2), OUTPUT(15, REAL, mass0), OUTPUT(16, REAL, mass1), OUTPUT(17, REAL, mass2), OUTPUT(18, REAL, all_kept),
       VALUE(19, uint, batch), VALUE(20, uint, steps), VALUE(21, ulong, bits), VALUE(22, REAL, floor_)) {
  GLOBAL(REAL) kept = all_kept + (ulong)GROUP * KEPT_SIZE;
#if FITS
  SHARED(REAL, memory, ROWS * (WIDTH + K) + 4u * CELLS + WIDTH + 2u * K);
  EXCHANGED(REAL) x = memory;
#else
  EXCHANGED(REAL) x = all_kept + (ulong)GROUPS * KEPT_SIZE + (ulong)GROUP * (batch * (WIDTH + K) + 4u * CELLS + WIDTH + 2u * K);
#endif
  EXCHANGED(REAL) gamma = x + STORED_ROWS * WIDTH;
  EXCHANGED(REAL) means = gamma + STORED_ROWS * K;
  EXCHANGED(REAL) raws = means + CELLS;
  EXCHANGED(REAL) precisions = raws + CELLS;
  EXCHANGED(REAL) logs = precisions + CELLS;
  EXCHANGED(REAL) centre = logs + CELLS;
  EXCHANGED(REAL) weights = centre + WIDTH;
  EXCHANGED(REAL) totals = weights + K;
  // The record of the current step.
  GLOBAL(REAL) record = kept + (ulong)batch * WIDTH;
  GLOBAL(const REAL) given = OF_MIXTURE(x);
  for (uint t = LANE; t < batch * WIDTH; t += LANES) x[t] = given[t];
  EXCHANGE_BARRIER();
  for (uint d = LANE; d < WIDTH; d += LANES) {
    REAL mean = 0;
    for (uint b = 0u; b < batch; b++) mean += x[b * WIDTH + d];
    mean /= (REAL)batch;
    centre[d] = mean;
    REAL variance = 0;
    for (uint b = 0u; b < batch; b++) {
      const REAL v = x[b * WIDTH + d] - mean;
      x[b * WIDTH + d] = v;
      kept[b * WIDTH + d] = v;
      variance = fma(v, v, variance);
    }
    variance /= (REAL)batch;
    const REAL held = larger(floor_, variance);
    for (uint j = 0u; j < K; j++) {
      const uint t = j * WIDTH + d;
      const REAL mean = x[initial_row(j, batch, bits) * WIDTH + d];
      means[t] = mean;
      raws[t] = variance;
      precisions[t] = 1 / held;
      logs[t] = log(held);
      record[t] = mean;
      record[CELLS + t] = variance;
      record[2u * CELLS + t] = 1 / held;
    }
  }
  for (uint j = LANE; j < K; j += LANES) {
    weights[j] = 1 / (REAL)K;
    record[3u * CELLS + j] = 1 / (REAL)K;
    record[3u * CELLS + K + j] = (REAL)batch / (REAL)K;
  }
  EXCHANGE_BARRIER();
  SERIAL for (uint step = 0u;; step++) {
    e_step(x, means, precisions, logs, weights, batch, gamma, record + (3u * CELLS + 2u * K), LANE);
    EXCHANGE_BARRIER();
    if (step == steps) break;
    record = record + STEP_SIZE;
    // Means, variances, precisions and logarithms; one lane for each component and coordinate.
    for (uint t = LANE; t < CELLS; t += LANES) {
      const uint j = t / WIDTH, d = t % WIDTH;
      REAL mass = 0, mean = 0;
      for (uint b = 0u; b < batch; b++) {
        const REAL g = gamma[b * K + j];
        mass += g;
        mean = fma(g, x[b * WIDTH + d], mean);
      }
      const REAL n = larger(MASS_FLOOR, mass);
      mean /= n;
      // About the mean: the difference of squares would cancel. Where the mass was floored they differ by mu^2 (1 - s / n).
      REAL raw = 0;
      for (uint b = 0u; b < batch; b++) {
        const REAL e = x[b * WIDTH + d] - mean;
        raw = fma(gamma[b * K + j] * e, e, raw);
      }
      raw = raw / n + mean * mean * (1 - mass / n);
      const REAL held = larger(floor_, raw), precision = 1 / held;
      means[t] = mean;
      raws[t] = raw;
      precisions[t] = precision;
      logs[t] = log(held);
      record[t] = mean;
      record[CELLS + t] = raw;
      record[2u * CELLS + t] = precision;
      if (d == 0u) {
        weights[j] = n / (REAL)batch;
        record[3u * CELLS + j] = n / (REAL)batch;
        record[3u * CELLS + K + j] = mass;
      }
    }
    EXCHANGE_BARRIER();
  }
  GLOBAL(REAL) to_means = OF_MIXTURE(means);
  GLOBAL(REAL) to_variances = OF_MIXTURE(variances);
  GLOBAL(REAL) to_weights = OF_MIXTURE(weights);
  GLOBAL(REAL) to_gamma = OF_MIXTURE(gamma);
  GLOBAL(REAL) to_mass = OF_MIXTURE(mass);
  for (uint t = LANE; t < CELLS; t += LANES) {
    to_means[t] = means[t] + centre[t % WIDTH];
    to_variances[t] = larger(floor_, raws[t]);
  }
  for (uint j = LANE; j < K; j += LANES) to_weights[j] = weights[j];
  for (uint t = LANE; t < batch * K; t += LANES) to_gamma[t] = gamma[t];
  for (uint j = LANE / WARP; j < K; j += WARPS) {
    REAL total = 0;
    for (uint b = LANE % WARP; b < batch; b += WARP) total += gamma[b * K + j];
    total = warp_sum(total);
    if (LANE % WARP == 0u) totals[j] = total / (REAL)batch;
  }
  EXCHANGE_BARRIER();
  for (uint j = LANE; j < K; j += LANES) {
    REAL all = 0;
    for (uint i = 0u; i < K; i++) all += totals[i];
    to_mass[j] = totals[j] / all;
    kept[KEPT_SIZE - K + j] = totals[j] / all;
  }
}

// The gradient of the data, given that of the results; the bits of `bits` from 32 on say which results have one, three for each kind.
// `gradient` (2, K, d) is that of means and variances, `d_logits` that of the log-densities and `d_gamma_step` that of responsibilities,
// (B, K).
KERNEL(fit_backward, INPUT(0, REAL, weights0), INPUT(1, REAL, weights1), INPUT(2, REAL, weights2), INPUT(3, REAL, means0),
       INPUT(4, REAL, means1), INPUT(5, REAL, means2), INPUT(6, REAL, variances0), INPUT(7, REAL, variances1), INPUT(8, REAL, variances2),
       INPUT(9, REAL, gamma0), INPUT(10, REAL, gamma1), INPUT(11, REAL, gamma2), INPUT(12, REAL, mass0), INPUT(13, REAL, mass1),
       INPUT(14, REAL, mass2), INPUT(15, REAL, all_kept), OUTPUT(16, REAL, d_data), VALUE(17, uint, batch), VALUE(18, uint, steps),
       VALUE(19, ulong, bits), VALUE(20, REAL, floor_)) {
  const uint numbers = batch * WIDTH, pairs = batch * K;
  GLOBAL(const REAL) kept = all_kept + (ulong)GROUP * KEPT_SIZE;
#if FITS
  SHARED(REAL, memory, ROWS * (2u * WIDTH + 5u * K) + 5u * CELLS + 3u * K);
  EXCHANGED(REAL) x = memory;
#else
  EXCHANGED(REAL) x = d_data + (ulong)GROUPS * numbers + (ulong)GROUP * (batch * (2u * WIDTH + 5u * K) + 5u * CELLS + 3u * K);
#endif
  EXCHANGED(REAL) dx = x + STORED_ROWS * WIDTH;
  EXCHANGED(REAL) gamma = dx + STORED_ROWS * WIDTH;
  EXCHANGED(REAL) before = gamma + STORED_ROWS * K;
  EXCHANGED(REAL) scaled = before + STORED_ROWS * K;
  EXCHANGED(REAL) d_logits = scaled + STORED_ROWS * K;
  EXCHANGED(REAL) d_gamma_step = d_logits + STORED_ROWS * K;
  EXCHANGED(REAL) means = d_gamma_step + STORED_ROWS * K;
  EXCHANGED(REAL) raws = means + CELLS;
  EXCHANGED(REAL) precisions = raws + CELLS;
  EXCHANGED(REAL) gradient = precisions + CELLS;
  EXCHANGED(REAL) d_weights_step = gradient + 2u * CELLS;
  EXCHANGED(REAL) constants = d_weights_step + K;
  EXCHANGED(REAL) masses = constants + K;
  GLOBAL(const REAL) record = kept + (numbers + (ulong)steps * STEP_SIZE);
  GLOBAL(const REAL) d_weights = OF_MIXTURE(weights);
  GLOBAL(const REAL) d_means = OF_MIXTURE(means);
  GLOBAL(const REAL) d_variances = OF_MIXTURE(variances);
  GLOBAL(const REAL) d_gamma = OF_MIXTURE(gamma);
  GLOBAL(const REAL) d_mass = OF_MIXTURE(mass);
  GLOBAL(const REAL) shared_out = kept + (KEPT_SIZE - K);
  const uint given_bits = (uint)(bits >> (32u + GROUP));
  const bool has_weights = (given_bits & 1u) != 0u, has_means = (given_bits >> 3 & 1u) != 0u, has_variances = (given_bits >> 6 & 1u) != 0u;
  const bool has_gamma = (given_bits >> 9 & 1u) != 0u, has_mass = (given_bits >> 12 & 1u) != 0u;
  const uint lane_in_warp = LANE % WARP;
  for (uint t = LANE; t < numbers; t += LANES) {
    x[t] = kept[t];
    dx[t] = 0;
  }
  for (uint t = LANE; t < pairs; t += LANES) {
    REAL g = has_gamma ? d_gamma[t] : (REAL)0;
    if (has_mass) {
      // Masses sum to 1 before the division already, because responsibilities do.
      REAL mean = 0;
      UNROLL for (uint j = 0u; j < K; j++) mean = fma(d_mass[j], shared_out[j], mean);
      g += (d_mass[t % K] - mean) / (REAL)batch;
    }
    d_gamma_step[t] = g;
    gamma[t] = record[3u * CELLS + 2u * K + t];
  }
  for (uint j = LANE; j < K; j += LANES) constants[j] = 0;
  EXCHANGE_BARRIER();
  SERIAL for (uint step = steps;; step--) {
    for (uint t = LANE; t < 3u * CELLS; t += LANES) means[t] = record[t];
    for (uint j = LANE; j < K; j += LANES) masses[j] = record[3u * CELLS + K + j];
    for (uint t = LANE; t < pairs; t += LANES) {
      const uint own_j = t % K, row = t - own_j;
      REAL mean = 0;
      UNROLL for (uint j = 0u; j < K; j++) mean = fma(gamma[row + j], d_gamma_step[row + j] + constants[j], mean);
      d_logits[t] = gamma[t] * (d_gamma_step[t] + constants[own_j] - mean);
      // The responsibilities from which the parameters of this step were computed.
      if (step > 0u) {
        const REAL g = kept[numbers + (ulong)(step - 1u) * STEP_SIZE + 3u * CELLS + 2u * K + t];
        before[t] = g;
        scaled[t] = g / larger(MASS_FLOOR, record[3u * CELLS + K + own_j]);
      } else {
        scaled[t] = 0;
      }
    }
    EXCHANGE_BARRIER();
    // Through the E-step to means, variances and weights.
    for (uint t = LANE; t < CELLS; t += LANES) {
      const uint j = t / WIDTH, d = t % WIDTH;
      const REAL p = precisions[t], m = means[t];
      REAL to_m = step == steps && has_means ? d_means[t] : (REAL)0;
      REAL to_v = step == steps && has_variances ? d_variances[t] : (REAL)0, to_w = 0;
      for (uint b = 0u; b < batch; b++) {
        const REAL s = d_logits[b * K + j], e = (x[b * WIDTH + d] - m) * p;
        to_m = fma(s, e, to_m);
        to_v = fma((REAL)0.5 * s, fma(e, e, -p), to_v);
        to_w += s;
      }
      gradient[t] = to_m;
      // Variances at their floor pass no gradient.
      gradient[CELLS + t] = raws[t] >= floor_ ? to_v : (REAL)0;
      if (d == 0u) {
        const REAL w = record[3u * CELLS + j];
        d_weights_step[j] = (step == steps && has_weights ? d_weights[j] : (REAL)0) + (w >= WEIGHT_FLOOR ? to_w / w : (REAL)0);
      }
    }
    EXCHANGE_BARRIER();
    // To the data, through the E-step and the M-step before it; and to the responsibilities of that M-step.
    SERIAL for (uint first = LANE / WARP * SAMPLES; first < batch; first += WARPS * SAMPLES) {
      REAL v[VALUES];
      UNROLL for (uint i = 0u; i < VALUES; i++) v[i] = 0;
      SERIAL for (uint d = lane_in_warp; d < WIDTH; d += WARP) {
        REAL row[SAMPLES], sum[SAMPLES];
        UNROLL for (uint s = 0u; s < SAMPLES; s++) {
          const uint at = least(first + s, batch - 1u) * WIDTH + d;
          row[s] = x[at];
          sum[s] = dx[at];
        }
        UNROLL for (uint j = 0u; j < K; j++) {
          const uint t = j * WIDTH + d;
          const REAL m = means[t], p = precisions[t], to_m = gradient[t], to_v = gradient[CELLS + t];
          UNROLL for (uint s = 0u; s < SAMPLES; s++) {
            const uint at = least(first + s, batch - 1u) * K + j;
            const REAL e = row[s] - m, along = fma(to_v, e, to_m);
            sum[s] = fma(-d_logits[at] * e, p, sum[s]);
            sum[s] = fma(scaled[at], fma(to_v, e, along), sum[s]);
            v[s * PADDED + j] = fma(e, along, v[s * PADDED + j]);
          }
        }
        UNROLL for (uint s = 0u; s < SAMPLES; s++)
          if (first + s < batch) dx[(first + s) * WIDTH + d] = sum[s];
      }
      const REAL sum = warp_sums(v, lane_in_warp);
      const uint number = lane_in_warp / LANES_PER_VALUE, j = number % PADDED, b = first + number / PADDED;
      if (lane_in_warp % LANES_PER_VALUE == 0u && j < K && b < batch) d_gamma_step[b * K + j] = sum / larger(MASS_FLOOR, masses[j]);
    }
    for (uint j = LANE / WARP; j < K; j += WARPS) {
      const REAL mass = masses[j], n = larger(MASS_FLOOR, mass);
      // At the floor n does not move: means and variances are plain weighted sums.
      const bool held = mass < MASS_FLOOR;
      REAL sum = 0;
      for (uint d = lane_in_warp; d < WIDTH; d += WARP) {
        const uint t = j * WIDTH + d;
        const REAL m = means[t], to_m = gradient[t], to_v = gradient[CELLS + t];
        sum += held ? to_m * m - to_v * m * m : -to_v * raws[t];
      }
      sum = warp_sum(sum);
      if (lane_in_warp == 0u) constants[j] = sum / n + (held ? (REAL)0 : d_weights_step[j] / (REAL)batch);
    }
    EXCHANGE_BARRIER();
    if (step == 0u) break;
    EXCHANGED(REAL) other = gamma;
    gamma = before;
    before = other;
    record = kept + (numbers + (ulong)(step - 1u) * STEP_SIZE);
  }
  // Through the initialisation; the centre needs no gradient, because a shift of the data shifts the fit.
  for (uint d = LANE; d < WIDTH; d += LANES) {
    REAL total = 0;
    for (uint j = 0u; j < K; j++) {
      dx[initial_row(j, batch, bits) * WIDTH + d] += gradient[j * WIDTH + d];
      total += gradient[CELLS + j * WIDTH + d] * (2 / (REAL)batch);
    }
    means[d] = total;
  }
  EXCHANGE_BARRIER();
  for (uint t = LANE; t < numbers; t += LANES) d_data[(ulong)GROUP * numbers + t] = fma(means[t % WIDTH], x[t], dx[t]);
}
