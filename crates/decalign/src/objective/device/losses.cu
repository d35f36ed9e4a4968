// Task losses and sums of scalars in one group of lanes: the loops of task.rs.

// Over the group: every lane gets the result.
DEVICE REAL group_sum(REAL x, SHARED_POINTER(REAL) partial, uint lane) {
  x = warp_sum(x);
  // The sum before may still be read.
  BARRIER();
  if (lane % WARP == 0u) partial[lane / WARP] = x;
  BARRIER();
  REAL total = 0;
  for (uint w = 0u; w < LANES / WARP; w++) total += partial[w];
  return total;
}

// -1, 0 or 1; NaN stays.
DEVICE REAL sign_of(REAL x) { return x > 0 ? (REAL)1 : x < 0 ? (REAL)-1 : x; }

// log(1 + x) for x in [0, 1] without loss of digits near 0 (Kahan).
DEVICE REAL log_of_one_and(REAL x) {
  const REAL u = 1 + x;
  return u == 1 ? x : x * (log(u) / (u - 1));
}

// `kind`: 0 absolute, 1 squared, 2 smooth-L1 with `beta`.
KERNEL(regression, INPUT(0, REAL, prediction), INPUT(1, REAL, labels), OUTPUT(2, REAL, value), OUTPUT(3, REAL, slopes),
       VALUE(4, uint, n), VALUE(5, uint, kind), VALUE(6, REAL, beta)) {
  SHARED(REAL, partial, LANES / WARP);
  REAL sum = 0;
  for (uint i = LANE; i < n; i += LANES) {
    const REAL e = prediction[i] - labels[i], size = fabs(e);
    REAL loss = size, slope = sign_of(e);
    if (kind == 1u) {
      loss = e * e;
      slope = 2 * e;
    } else if (kind == 2u) {
      const bool near = size < beta;
      loss = near ? (REAL)0.5 * e * e / beta : size - (REAL)0.5 * beta;
      slope = near ? e / beta : slope;
    }
    sum += loss;
    slopes[i] = slope / (REAL)n;
  }
  sum = group_sum(sum, partial, LANE);
  if (LANE == 0u) value[0] = sum / (REAL)n;
}

KERNEL(sign_loss, INPUT(0, REAL, prediction), INPUT(1, REAL, labels), OUTPUT(2, REAL, value), OUTPUT(3, REAL, slopes), VALUE(4, uint, n)) {
  SHARED(REAL, partial, LANES / WARP);
  REAL count = 0;
  for (uint i = LANE; i < n; i += LANES) count += labels[i] != 0 ? (REAL)1 : (REAL)0;
  count = larger(group_sum(count, partial, LANE), (REAL)1);
  REAL sum = 0;
  for (uint i = LANE; i < n; i += LANES) {
    const REAL x = prediction[i], target = labels[i] > 0 ? (REAL)1 : (REAL)0;
    const bool counts = labels[i] != 0;
    const REAL loss = (x > 0 ? x : (REAL)0) - x * target + log_of_one_and(exp(-fabs(x)));
    sum += counts ? loss : (REAL)0;
    slopes[i] = counts ? (1 / (1 + exp(-x)) - target) / count : (REAL)0;
  }
  sum = group_sum(sum, partial, LANE);
  if (LANE == 0u) value[0] = sum / count;
}

// What a sample of this class weighs; NaN where there is no such class. `weights` is read only where `weighted`.
DEVICE REAL weight_of(REAL label, GLOBAL(const REAL) weights, uint weighted, uint classes) {
  if (!(label >= 0 && label < (REAL)classes)) return sqrt((REAL)-1);
  return weighted != 0u ? weights[(uint)label] : (REAL)1;
}

// A row a lane: there are few classes.
KERNEL(cross_entropy, INPUT(0, REAL, logits), INPUT(1, REAL, labels), INPUT(2, REAL, weights), OUTPUT(3, REAL, value),
       OUTPUT(4, REAL, slopes), VALUE(5, uint, batch), VALUE(6, uint, classes), VALUE(7, uint, weighted)) {
  SHARED(REAL, partial, LANES / WARP);
  REAL total = 0;
  for (uint i = LANE; i < batch; i += LANES) total += weight_of(labels[i], weights, weighted, classes);
  total = group_sum(total, partial, LANE);
  total = total <= 0 ? (REAL)1 : total;
  REAL sum = 0;
  for (uint i = LANE; i < batch; i += LANES) {
    const ulong at = (ulong)i * classes;
    const REAL label = labels[i], scale = weight_of(label, weights, weighted, classes) / total;
    REAL largest = logits[at], mass = 0, chosen = 0;
    for (uint c = 1u; c < classes; c++) largest = larger(largest, logits[at + c]);
    for (uint c = 0u; c < classes; c++) {
      const REAL shifted = logits[at + c] - largest;
      mass += exp(shifted);
      chosen = (REAL)c <= label ? shifted : chosen;
    }
    sum -= scale * (chosen - log(mass));
    for (uint c = 0u; c < classes; c++) {
      const bool own = (REAL)c <= label && (REAL)(c + 1u) > label;
      slopes[at + c] = scale * (exp(logits[at + c] - largest) / mass - (own ? (REAL)1 : (REAL)0));
    }
  }
  sum = group_sum(sum, partial, LANE);
  if (LANE == 0u) value[0] = sum;
}

// sum_i w_i x_i of eight scalars; a weight of 0 leaves its scalar out, be it infinite.
#define TERM(x, w) (w != 0 ? w * x[0] : (REAL)0)
KERNEL(weighted_sum, INPUT(0, REAL, x0), INPUT(1, REAL, x1), INPUT(2, REAL, x2), INPUT(3, REAL, x3), INPUT(4, REAL, x4),
       INPUT(5, REAL, x5), INPUT(6, REAL, x6), INPUT(7, REAL, x7), OUTPUT(8, REAL, sum), VALUE(9, REAL, w0), VALUE(10, REAL, w1),
       VALUE(11, REAL, w2), VALUE(12, REAL, w3), VALUE(13, REAL, w4), VALUE(14, REAL, w5), VALUE(15, REAL, w6), VALUE(16, REAL, w7)) {
  if (LANE == 0u)
    sum[0] = TERM(x0, w0) + TERM(x1, w1) + TERM(x2, w2) + TERM(x3, w3) + TERM(x4, w4) + TERM(x5, w5) + TERM(x6, w6) + TERM(x7, w7);
}

KERNEL(weighted_sum_back, INPUT(0, REAL, outer), OUTPUT(1, REAL, slopes), VALUE(2, REAL, w0), VALUE(3, REAL, w1), VALUE(4, REAL, w2),
       VALUE(5, REAL, w3), VALUE(6, REAL, w4), VALUE(7, REAL, w5), VALUE(8, REAL, w6), VALUE(9, REAL, w7)) {
  const REAL w = LANE == 0u ? w0 : LANE == 1u ? w1 : LANE == 2u ? w2 : LANE == 3u ? w3 : LANE == 4u ? w4 : LANE == 5u ? w5
                 : LANE == 6u ? w6 : w7;
  if (LANE < 8u) slopes[LANE] = w * outer[0];
}

// Up to eight scalars beside one another, from place `first`.
KERNEL(stack, INPUT(0, REAL, x0), INPUT(1, REAL, x1), INPUT(2, REAL, x2), INPUT(3, REAL, x3), INPUT(4, REAL, x4), INPUT(5, REAL, x5),
       INPUT(6, REAL, x6), INPUT(7, REAL, x7), OUTPUT(8, REAL, all), VALUE(9, uint, first), VALUE(10, uint, count)) {
  const REAL x = LANE == 0u ? x0[0] : LANE == 1u ? x1[0] : LANE == 2u ? x2[0] : LANE == 3u ? x3[0] : LANE == 4u ? x4[0]
                 : LANE == 5u ? x5[0] : LANE == 6u ? x6[0] : x7[0];
  if (LANE < count) all[first + LANE] = x;
}
