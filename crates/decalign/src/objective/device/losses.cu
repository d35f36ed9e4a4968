// Task losses in one group of lanes: the loops of task.rs.

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
