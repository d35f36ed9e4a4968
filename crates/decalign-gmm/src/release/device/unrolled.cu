// A fixed number of EM steps and their gradient: step.rs and back.rs on a device. A group a mixture, all steps of it in one launch.
//
// K components of WIDTH coordinates, a batch of up to ROWS samples. What lanes pass on lies in shared memory where it fits (FITS), else
// in global memory. Of a mixture `kept` has the centred data, of every step (means, raw variances, precisions), (3, K, d), weights and
// masses, (2, K), and responsibilities, (B, K); and the shares of the prototypes, (K). What is nearby without shared memory follows those
// of all mixtures.

#define WARPS (LANES / WARP)
#define CELLS (K * WIDTH)
// Of ABREAST samples a warp finds a number for each component at a time; components count PADDED, a power of two.
#define NUMBERS (ABREAST * PADDED)
#define APART (WARP / NUMBERS)
#define MASS_FLOOR ((REAL)1e-6)
#define WEIGHT_FLOOR ((REAL)1e-8)
#define CHOSEN(x) (GROUP == 0u ? x##0 : GROUP == 1u ? x##1 : x##2)
#define STEP_SIZE (3u * CELLS + 2u * K + batch * K)
#define KEPT_SIZE ((ulong)batch * WIDTH + (ulong)(steps + 1u) * STEP_SIZE + K)

#if FITS
#define NEARBY(type) SHARED_POINTER(type)
#define MEET() BARRIER()
#define HEIGHT ROWS
#else
#define NEARBY(type) GLOBAL(type)
#define MEET() BARRIER_GLOBAL()
#define HEIGHT batch
#endif

// The row that component j starts from: bits say where it is rounded up.
DEVICE uint start_of(uint j, uint batch, ulong bits) {
  if (batch < K) return j % batch;
  const uint last = K > 1u ? K - 1u : 1u;
  return (uint)((ulong)j * (batch - 1u) / last) + (uint)(bits >> j & 1u);
}

// The sums over a warp of NUMBERS numbers: lane l gets that of number l / APART.
DEVICE REAL sums_of(LOCAL(REAL) v, uint own) {
  // With bounds that do not depend on one another, so that the numbers stay in registers.
  UNROLL for (uint turn = 1u; turn <= 5u; turn++) {
    const uint half = NUMBERS >> turn, mask = half * APART;
    const bool upper = (own & mask) != 0u;
    UNROLL for (uint i = 0u; i < NUMBERS / 2u; i++) {
      if (i >= half) continue;
      const REAL kept = upper ? v[i + half] : v[i], given = upper ? v[i] : v[i + half];
      v[i] = kept + SHUFFLE_XOR(given, mask);
    }
  }
  UNROLL for (uint mask = APART / 2u; mask > 0u; mask >>= 1) v[0] += SHUFFLE_XOR(v[0], mask);
  return v[0];
}

// Responsibilities, (B, K).
DEVICE void expect(NEARBY(const REAL) x, NEARBY(const REAL) means, NEARBY(const REAL) precisions, NEARBY(const REAL) logs,
                   NEARBY(const REAL) weights, uint batch, NEARBY(REAL) gamma, GLOBAL(REAL) past, uint lane) {
  const uint own = lane % WARP, number = own / APART, j = number % PADDED;
  const REAL prior = j < K ? log(larger(WEIGHT_FLOOR, weights[j])) : (REAL)0;
  SERIAL for (uint first = lane / WARP * ABREAST; first < batch; first += WARPS * ABREAST) {
    REAL v[NUMBERS];
    UNROLL for (uint i = 0u; i < NUMBERS; i++) v[i] = 0;
    SERIAL for (uint d = own; d < WIDTH; d += WARP) {
      REAL row[ABREAST];
      UNROLL for (uint s = 0u; s < ABREAST; s++) row[s] = x[least(first + s, batch - 1u) * WIDTH + d];
      UNROLL for (uint i = 0u; i < K; i++) {
        const REAL m = means[i * WIDTH + d], p = precisions[i * WIDTH + d], log_ = logs[i * WIDTH + d];
        UNROLL for (uint s = 0u; s < ABREAST; s++) {
          const REAL e = row[s] - m;
          v[s * PADDED + i] += fma(e * p, e, log_);
        }
      }
    }
    const REAL sum = sums_of(v, own);
    const REAL mine = j < K ? prior - (REAL)0.5 * sum : LOWEST;
    REAL largest = mine;
    UNROLL for (uint mask = PADDED / 2u; mask > 0u; mask >>= 1) largest = larger(largest, SHUFFLE_XOR(largest, mask * APART));
    const REAL e = j < K ? exp_normal(mine - largest) : (REAL)0;
    REAL total = e;
    UNROLL for (uint mask = PADDED / 2u; mask > 0u; mask >>= 1) total += SHUFFLE_XOR(total, mask * APART);
    const uint b = first + number / PADDED;
    if (own % APART == 0u && j < K && b < batch) {
      gamma[b * K + j] = e / total;
      past[b * K + j] = e / total;
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
  NEARBY(REAL) x = memory;
#else
  NEARBY(REAL) x = all_kept + (ulong)GROUPS * KEPT_SIZE + (ulong)GROUP * (batch * (WIDTH + K) + 4u * CELLS + WIDTH + 2u * K);
#endif
  NEARBY(REAL) gamma = x + HEIGHT * WIDTH;
  NEARBY(REAL) means = gamma + HEIGHT * K;
  NEARBY(REAL) raws = means + CELLS;
  NEARBY(REAL) precisions = raws + CELLS;
  NEARBY(REAL) logs = precisions + CELLS;
  NEARBY(REAL) centre = logs + CELLS;
  NEARBY(REAL) weights = centre + WIDTH;
  NEARBY(REAL) totals = weights + K;
  // Of the step at hand.
  GLOBAL(REAL) past = kept + (ulong)batch * WIDTH;
  GLOBAL(const REAL) given = CHOSEN(x);
  for (uint t = LANE; t < batch * WIDTH; t += LANES) x[t] = given[t];
  MEET();
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
      const REAL mean = x[start_of(j, batch, bits) * WIDTH + d];
      means[t] = mean;
      raws[t] = variance;
      precisions[t] = 1 / held;
      logs[t] = log(held);
      past[t] = mean;
      past[CELLS + t] = variance;
      past[2u * CELLS + t] = 1 / held;
    }
  }
  for (uint j = LANE; j < K; j += LANES) {
    weights[j] = 1 / (REAL)K;
    past[3u * CELLS + j] = 1 / (REAL)K;
    past[3u * CELLS + K + j] = (REAL)batch / (REAL)K;
  }
  MEET();
  SERIAL for (uint step = 0u;; step++) {
    expect(x, means, precisions, logs, weights, batch, gamma, past + (3u * CELLS + 2u * K), LANE);
    MEET();
    if (step == steps) break;
    past = past + STEP_SIZE;
    // Means, variances and what follows from them; a lane a component and coordinate.
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
      past[t] = mean;
      past[CELLS + t] = raw;
      past[2u * CELLS + t] = precision;
      if (d == 0u) {
        weights[j] = n / (REAL)batch;
        past[3u * CELLS + j] = n / (REAL)batch;
        past[3u * CELLS + K + j] = mass;
      }
    }
    MEET();
  }
  GLOBAL(REAL) to_means = CHOSEN(means);
  GLOBAL(REAL) to_variances = CHOSEN(variances);
  GLOBAL(REAL) to_weights = CHOSEN(weights);
  GLOBAL(REAL) to_gamma = CHOSEN(gamma);
  GLOBAL(REAL) to_mass = CHOSEN(mass);
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
  MEET();
  for (uint j = LANE; j < K; j += LANES) {
    REAL all = 0;
    for (uint i = 0u; i < K; i++) all += totals[i];
    to_mass[j] = totals[j] / all;
    kept[KEPT_SIZE - K + j] = totals[j] / all;
  }
}

// The gradient of the data, given that of the results; `bits` says from 32 on which of these there are, three of a kind. `gradient` (2, K,
// d) is that of means and variances, `slopes` that of the logarithms before a softmax and `towards` that of responsibilities, (B, K).
KERNEL(fit_back, INPUT(0, REAL, weights0), INPUT(1, REAL, weights1), INPUT(2, REAL, weights2), INPUT(3, REAL, means0),
       INPUT(4, REAL, means1), INPUT(5, REAL, means2), INPUT(6, REAL, variances0), INPUT(7, REAL, variances1), INPUT(8, REAL, variances2),
       INPUT(9, REAL, gamma0), INPUT(10, REAL, gamma1), INPUT(11, REAL, gamma2), INPUT(12, REAL, mass0), INPUT(13, REAL, mass1),
       INPUT(14, REAL, mass2), INPUT(15, REAL, all_kept), OUTPUT(16, REAL, d_data), VALUE(17, uint, batch), VALUE(18, uint, steps),
       VALUE(19, ulong, bits), VALUE(20, REAL, floor_)) {
  const uint numbers = batch * WIDTH, pairs = batch * K;
  GLOBAL(const REAL) kept = all_kept + (ulong)GROUP * KEPT_SIZE;
#if FITS
  SHARED(REAL, memory, ROWS * (2u * WIDTH + 5u * K) + 5u * CELLS + 3u * K);
  NEARBY(REAL) x = memory;
#else
  NEARBY(REAL) x = d_data + (ulong)GROUPS * numbers + (ulong)GROUP * (batch * (2u * WIDTH + 5u * K) + 5u * CELLS + 3u * K);
#endif
  NEARBY(REAL) dx = x + HEIGHT * WIDTH;
  NEARBY(REAL) gamma = dx + HEIGHT * WIDTH;
  NEARBY(REAL) before = gamma + HEIGHT * K;
  NEARBY(REAL) scaled = before + HEIGHT * K;
  NEARBY(REAL) slopes = scaled + HEIGHT * K;
  NEARBY(REAL) towards = slopes + HEIGHT * K;
  NEARBY(REAL) means = towards + HEIGHT * K;
  NEARBY(REAL) raws = means + CELLS;
  NEARBY(REAL) precisions = raws + CELLS;
  NEARBY(REAL) gradient = precisions + CELLS;
  NEARBY(REAL) of_weights = gradient + 2u * CELLS;
  NEARBY(REAL) constants = of_weights + K;
  NEARBY(REAL) masses = constants + K;
  GLOBAL(const REAL) past = kept + (numbers + (ulong)steps * STEP_SIZE);
  GLOBAL(const REAL) d_weights = CHOSEN(weights);
  GLOBAL(const REAL) d_means = CHOSEN(means);
  GLOBAL(const REAL) d_variances = CHOSEN(variances);
  GLOBAL(const REAL) d_gamma = CHOSEN(gamma);
  GLOBAL(const REAL) d_mass = CHOSEN(mass);
  GLOBAL(const REAL) shared_out = kept + (KEPT_SIZE - K);
  const uint there = (uint)(bits >> (32u + GROUP));
  const bool has_weights = (there & 1u) != 0u, has_means = (there >> 3 & 1u) != 0u, has_variances = (there >> 6 & 1u) != 0u;
  const bool has_gamma = (there >> 9 & 1u) != 0u, has_mass = (there >> 12 & 1u) != 0u;
  const uint own = LANE % WARP;
  for (uint t = LANE; t < numbers; t += LANES) {
    x[t] = kept[t];
    dx[t] = 0;
  }
  for (uint t = LANE; t < pairs; t += LANES) {
    REAL g = has_gamma ? d_gamma[t] : (REAL)0;
    if (has_mass) {
      // Shares add up to 1 before they are divided by their sum, as responsibilities do.
      REAL mean = 0;
      UNROLL for (uint j = 0u; j < K; j++) mean = fma(d_mass[j], shared_out[j], mean);
      g += (d_mass[t % K] - mean) / (REAL)batch;
    }
    towards[t] = g;
    gamma[t] = past[3u * CELLS + 2u * K + t];
  }
  for (uint j = LANE; j < K; j += LANES) constants[j] = 0;
  MEET();
  SERIAL for (uint step = steps;; step--) {
    for (uint t = LANE; t < 3u * CELLS; t += LANES) means[t] = past[t];
    for (uint j = LANE; j < K; j += LANES) masses[j] = past[3u * CELLS + K + j];
    for (uint t = LANE; t < pairs; t += LANES) {
      const uint own_j = t % K, row = t - own_j;
      REAL mean = 0;
      UNROLL for (uint j = 0u; j < K; j++) mean = fma(gamma[row + j], towards[row + j] + constants[j], mean);
      slopes[t] = gamma[t] * (towards[t] + constants[own_j] - mean);
      // Responsibilities that this step's parameters come from.
      if (step > 0u) {
        const REAL g = kept[numbers + (ulong)(step - 1u) * STEP_SIZE + 3u * CELLS + 2u * K + t];
        before[t] = g;
        scaled[t] = g / larger(MASS_FLOOR, past[3u * CELLS + K + own_j]);
      } else {
        scaled[t] = 0;
      }
    }
    MEET();
    // Through the expectation to means, variances and weights.
    for (uint t = LANE; t < CELLS; t += LANES) {
      const uint j = t / WIDTH, d = t % WIDTH;
      const REAL p = precisions[t], m = means[t];
      REAL to_m = step == steps && has_means ? d_means[t] : (REAL)0;
      REAL to_v = step == steps && has_variances ? d_variances[t] : (REAL)0, to_w = 0;
      for (uint b = 0u; b < batch; b++) {
        const REAL s = slopes[b * K + j], e = (x[b * WIDTH + d] - m) * p;
        to_m = fma(s, e, to_m);
        to_v = fma((REAL)0.5 * s, fma(e, e, -p), to_v);
        to_w += s;
      }
      gradient[t] = to_m;
      // Variances at their floor pass no gradient.
      gradient[CELLS + t] = raws[t] >= floor_ ? to_v : (REAL)0;
      if (d == 0u) {
        const REAL w = past[3u * CELLS + j];
        of_weights[j] = (step == steps && has_weights ? d_weights[j] : (REAL)0) + (w >= WEIGHT_FLOOR ? to_w / w : (REAL)0);
      }
    }
    MEET();
    // To the data, through the expectation and the maximisation before it; and to the responsibilities before that.
    SERIAL for (uint first = LANE / WARP * ABREAST; first < batch; first += WARPS * ABREAST) {
      REAL v[NUMBERS];
      UNROLL for (uint i = 0u; i < NUMBERS; i++) v[i] = 0;
      SERIAL for (uint d = own; d < WIDTH; d += WARP) {
        REAL row[ABREAST], sum[ABREAST];
        UNROLL for (uint s = 0u; s < ABREAST; s++) {
          const uint at = least(first + s, batch - 1u) * WIDTH + d;
          row[s] = x[at];
          sum[s] = dx[at];
        }
        UNROLL for (uint j = 0u; j < K; j++) {
          const uint t = j * WIDTH + d;
          const REAL m = means[t], p = precisions[t], to_m = gradient[t], to_v = gradient[CELLS + t];
          UNROLL for (uint s = 0u; s < ABREAST; s++) {
            const uint at = least(first + s, batch - 1u) * K + j;
            const REAL e = row[s] - m, slope = fma(to_v, e, to_m);
            sum[s] = fma(-slopes[at] * e, p, sum[s]);
            sum[s] = fma(scaled[at], fma(to_v, e, slope), sum[s]);
            v[s * PADDED + j] = fma(e, slope, v[s * PADDED + j]);
          }
        }
        UNROLL for (uint s = 0u; s < ABREAST; s++)
          if (first + s < batch) dx[(first + s) * WIDTH + d] = sum[s];
      }
      const REAL sum = sums_of(v, own);
      const uint number = own / APART, j = number % PADDED, b = first + number / PADDED;
      if (own % APART == 0u && j < K && b < batch) towards[b * K + j] = sum / larger(MASS_FLOOR, masses[j]);
    }
    for (uint j = LANE / WARP; j < K; j += WARPS) {
      const REAL mass = masses[j], n = larger(MASS_FLOOR, mass);
      // At the floor n does not move: means and variances are plain weighted sums.
      const bool held = mass < MASS_FLOOR;
      REAL sum = 0;
      for (uint d = own; d < WIDTH; d += WARP) {
        const uint t = j * WIDTH + d;
        const REAL m = means[t], to_m = gradient[t], to_v = gradient[CELLS + t];
        sum += held ? to_m * m - to_v * m * m : -to_v * raws[t];
      }
      sum = warp_sum(sum);
      if (own == 0u) constants[j] = sum / n + (held ? (REAL)0 : of_weights[j] / (REAL)batch);
    }
    MEET();
    if (step == 0u) break;
    NEARBY(REAL) other = gamma;
    gamma = before;
    before = other;
    past = kept + (numbers + (ulong)(step - 1u) * STEP_SIZE);
  }
  // Through the start; the centre needs no gradient of its own, as the fit moves with the data.
  for (uint d = LANE; d < WIDTH; d += LANES) {
    REAL total = 0;
    for (uint j = 0u; j < K; j++) {
      dx[start_of(j, batch, bits) * WIDTH + d] += gradient[j * WIDTH + d];
      total += gradient[CELLS + j * WIDTH + d] * (2 / (REAL)batch);
    }
    means[d] = total;
  }
  MEET();
  for (uint t = LANE; t < numbers; t += LANES) d_data[(ulong)GROUP * numbers + t] = fma(means[t % WIDTH], x[t], dx[t]);
}
