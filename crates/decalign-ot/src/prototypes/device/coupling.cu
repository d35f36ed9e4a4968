// The cost of a coupling of points (batch, width) to prototypes (k, width): the loops of coupling.rs.

// `variances` are read only where `scaled`.
DEVICE REAL precision_of(GLOBAL(const REAL) variances, ulong at, uint scaled, REAL floor_) {
  if (scaled == 0u) return 1;
  const REAL v = variances[at];
  return 1 / (v >= floor_ ? v : floor_);
}

// What a point and a prototype are apart, by all lanes of a warp.
DEVICE REAL apart(GLOBAL(const REAL) x, ulong point, GLOBAL(const REAL) means, GLOBAL(const REAL) variances, ulong prototype, uint width,
                  uint scaled, REAL floor_, uint lane) {
  REAL sum = 0;
  for (uint i = lane; i < width; i += WARP) {
    const REAL e = x[point + i] - means[prototype + i];
    sum = fma(e * e, precision_of(variances, prototype + i, scaled, floor_), sum);
  }
  return warp_sum(sum);
}

// One group: a cell a warp.
KERNEL(coupling, INPUT(0, REAL, x), INPUT(1, REAL, gamma), INPUT(2, REAL, means), INPUT(3, REAL, variances), OUTPUT(4, REAL, cost),
       VALUE(5, uint, batch), VALUE(6, uint, k), VALUE(7, uint, width), VALUE(8, uint, scaled), VALUE(9, REAL, floor_),
       VALUE(10, REAL, factor)) {
  SHARED(REAL, partial, WARPS);
  const uint warp = LANE / WARP, lane = LANE % WARP;
  const ulong cells = (ulong)batch * k;
  REAL sum = 0;
  for (ulong cell = warp; cell < cells; cell += WARPS)
    sum = fma(gamma[cell], apart(x, cell / k * width, means, variances, cell % k * width, width, scaled, floor_, lane), sum);
  if (lane == 0u) partial[warp] = sum;
  BARRIER();
  if (LANE == 0u) {
    REAL total = 0;
    for (uint w = 0u; w < WARPS; w++) total += partial[w];
    cost[0] = factor * total;
  }
}

// The first `blocks` groups do the numbers of points, then those of prototypes, a lane each; the others the cells, a warp each.
KERNEL(coupling_back, INPUT(0, REAL, x), INPUT(1, REAL, gamma), INPUT(2, REAL, means), INPUT(3, REAL, variances), INPUT(4, REAL, outer),
       OUTPUT(5, REAL, dx), OUTPUT(6, REAL, dgamma), OUTPUT(7, REAL, dmeans), OUTPUT(8, REAL, dvariances), VALUE(9, uint, batch),
       VALUE(10, uint, k), VALUE(11, uint, width), VALUE(12, uint, scaled), VALUE(13, REAL, floor_), VALUE(14, REAL, factor),
       VALUE(15, uint, blocks)) {
  const REAL slope = factor * outer[0];
  if (GROUP >= blocks) {
    const ulong cell = (ulong)(GROUP - blocks) * WARPS + LANE / WARP;
    if (cell >= (ulong)batch * k) return;
    const uint lane = LANE % WARP;
    const REAL distance = apart(x, cell / k * width, means, variances, cell % k * width, width, scaled, floor_, lane);
    if (lane == 0u) dgamma[cell] = slope * distance;
    return;
  }
  const ulong at = (ulong)GROUP * LANES + LANE, points = (ulong)batch * width;
  if (at >= points + (ulong)k * width) return;
  if (at < points) {
    const ulong row = at / width, i = at % width;
    REAL sum = 0;
    for (uint j = 0u; j < k; j++) {
      const ulong other = (ulong)j * width + i;
      sum = fma(gamma[row * k + j] * precision_of(variances, other, scaled, floor_), x[at] - means[other], sum);
    }
    dx[at] = 2 * slope * sum;
    return;
  }
  const ulong own = at - points, row = own / width, i = own % width;
  const REAL precision = precision_of(variances, own, scaled, floor_);
  REAL first = 0, second = 0;
  for (uint b = 0u; b < batch; b++) {
    const REAL weighted = (x[(ulong)b * width + i] - means[own]) * precision, share = gamma[(ulong)b * k + row];
    first = fma(share, weighted, first);
    second = fma(share * weighted, weighted, second);
  }
  dmeans[own] = -2 * slope * first;
  if (scaled != 0u) dvariances[own] = variances[own] < floor_ ? (REAL)0 : -slope * second;
}
