// The supervised contrastive loss, a row a group: the loops of contrastive.rs.
//
// The first launch computes each row's loss and its slopes with respect to the logits, but for the mean over rows; the second
// takes the mean, and the slopes to the rows.

// The group of a label: its class, or where `rounded` its score in [-3, 3], rounded half to even.
DEVICE REAL group_of(REAL label, uint rounded) {
  if (rounded == 0u) return label < 0 ? -floor(-label) : floor(label);
  const REAL y = label < -3 ? (REAL)-3 : label > 3 ? (REAL)3 : label;
  const REAL below = floor(y), rest = y - below;
  const bool even = floor(below * (REAL)0.5) * 2 == below;
  return rest < (REAL)0.5 || (rest == (REAL)0.5 && even) ? below : below + 1;
}

DEVICE REAL norm_of(REAL norm) { return norm > (REAL)1e-12 ? norm : (REAL)1e-12; }

// `logits` (batch, batch) turns into its own gradient. `report` is of each row its norm, its loss, and whether it has a positive.
KERNEL(contrastive, INPUT(0, REAL, x), INPUT(1, REAL, labels), OUTPUT(2, REAL, logits), OUTPUT(3, REAL, report), VALUE(4, uint, batch),
       VALUE(5, uint, width), VALUE(6, REAL, temperature), VALUE(7, uint, rounded)) {
  SHARED(REAL, partial, WARPS);
  const uint warp = LANE / WARP, lane = LANE % WARP;
  const ulong row = (ulong)GROUP * batch, at = (ulong)GROUP * width;
  REAL squares = 0;
  for (uint k = lane; k < width; k += WARP) squares = fma(x[at + k], x[at + k], squares);
  const REAL norm = sqrt(warp_sum(squares));
  for (uint j = warp; j < batch; j += WARPS) {
    const ulong other = (ulong)j * width;
    REAL product = 0;
    squares = 0;
    for (uint k = lane; k < width; k += WARP) {
      const REAL v = x[other + k];
      product = fma(x[at + k], v, product);
      squares = fma(v, v, squares);
    }
    product = warp_sum(product);
    squares = warp_sum(squares);
    if (lane == 0u) logits[row + j] = product / norm_of(norm) / norm_of(sqrt(squares)) / temperature;
  }
  BARRIER_GLOBAL();
  const REAL own = group_of(labels[GROUP], rounded);
  REAL largest = LOWEST, positives = 0;
  for (uint j = LANE; j < batch; j += LANES) {
    largest = larger(largest, logits[row + j]);
    if (j != GROUP && group_of(labels[j], rounded) == own) positives += 1;
  }
  largest = group_max(largest, partial, LANE);
  positives = group_sum(positives, partial, LANE);
  REAL sum = 0;
  for (uint j = LANE; j < batch; j += LANES) sum += j != GROUP ? exp(logits[row + j] - largest) : (REAL)0;
  sum = group_sum(sum, partial, LANE);
  const bool free_ = sum >= (REAL)1e-8;
  const REAL denominator = free_ ? sum : (REAL)1e-8, log_ = log(denominator);
  const REAL each = positives > 0 ? 1 / positives : (REAL)0;
  REAL loss = 0;
  for (uint j = LANE; j < batch; j += LANES) {
    const REAL shifted = logits[row + j] - largest;
    const bool positive = j != GROUP && group_of(labels[j], rounded) == own;
    REAL slope = 0;
    if (positive) {
      loss -= each * (shifted - log_);
      slope -= each;
    }
    if (free_ && j != GROUP && positives > 0) slope += exp(shifted) / denominator;
    logits[row + j] = slope;
  }
  loss = group_sum(loss, partial, LANE);
  if (LANE == 0u) {
    report[3 * (ulong)GROUP] = norm;
    report[3 * (ulong)GROUP + 1] = loss;
    report[3 * (ulong)GROUP + 2] = positives > 0 ? (REAL)1 : (REAL)0;
  }
}

// With h_j = (G_ij + G_ji) / t: dx_i = (sum_j h_j z_j - <sum_j h_j z_j, z_i> z_i) / |x_i|.
KERNEL(contrastive_rows, INPUT(0, REAL, x), INPUT(1, REAL, logits), INPUT(2, REAL, report), OUTPUT(3, REAL, value), OUTPUT(4, REAL, slopes),
       VALUE(5, uint, batch), VALUE(6, uint, width), VALUE(7, REAL, temperature)) {
  SHARED(REAL, partial, WARPS);
  SHARED(REAL, h, LANES);
  const ulong row = (ulong)GROUP * batch, at = (ulong)GROUP * width;
  REAL counted = 0, loss = 0;
  for (uint j = LANE; j < batch; j += LANES) {
    loss += report[3 * (ulong)j + 1];
    counted += report[3 * (ulong)j + 2];
  }
  loss = group_sum(loss, partial, LANE);
  counted = group_sum(counted, partial, LANE);
  const REAL share = counted > 0 ? 1 / counted : (REAL)0;
  if (GROUP == 0u && LANE == 0u) value[0] = counted > 0 ? loss * share : (REAL)0;
  const REAL norm = norm_of(report[3 * (ulong)GROUP]);
  REAL along = 0;
  SERIAL for (uint start = 0u; start < width; start += LANES) {
    const uint k = start + LANE;
    REAL slope = 0;
    SERIAL for (uint first = 0u; first < batch; first += LANES) {
      const uint other = first + LANE, count = least(LANES, batch - first);
      // The ones before may still be read.
      BARRIER();
      if (other < batch)
        h[LANE] = (logits[row + other] + logits[(ulong)other * batch + GROUP]) * share / norm_of(report[3 * (ulong)other]);
      BARRIER();
      if (k < width)
        for (uint j = 0u; j < count; j++) slope = fma(h[j], x[(ulong)(first + j) * width + k], slope);
    }
    if (k < width) {
      slopes[at + k] = slope;
      along = fma(slope, x[at + k] / norm, along);
    }
  }
  along = group_sum(along, partial, LANE);
  // No slope along a row whose norm is at its floor.
  along = report[3 * (ulong)GROUP] > (REAL)1e-12 ? along : (REAL)0;
  const REAL scale = 1 / (norm * temperature);
  for (uint k = LANE; k < width; k += LANES) slopes[at + k] = (slopes[at + k] - along * (x[at + k] / norm)) * scale;
}
