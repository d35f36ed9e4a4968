// Costs between diagonal Gaussians: the loops of diagonal.rs. Forward a warp takes a pair,
// backward a lane takes one number of a mean and a variance.

#define SHIFT ((REAL)1e-8)

KERNEL(bures, INPUT(0, REAL, m), INPUT(1, REAL, v), INPUT(2, REAL, m2), INPUT(3, REAL, v2), OUTPUT(4, REAL, cost), VALUE(5, uint, k),
       VALUE(6, uint, l), VALUE(7, uint, width), VALUE(8, REAL, factor)) {
  const ulong pair = (ulong)GROUP * (LANES / WARP) + LANE / WARP;
  if (pair >= (ulong)k * l) return;
  const ulong a = pair / l * width, c = pair % l * width;
  REAL sum = 0;
  for (uint i = LANE % WARP; i < width; i += WARP) {
    const REAL e = m[a + i] - m2[c + i], root = sqrt(fma(v[a + i], v2[c + i], SHIFT));
    sum += fma(e, e, v[a + i] + v2[c + i] - 2 * root);
  }
  sum = warp_sum(sum);
  if (LANE % WARP == 0u) cost[pair] = sum * factor;
}

// Lanes take the numbers of the k Gaussians first, then those of the l others.
KERNEL(bures_backward, INPUT(0, REAL, m), INPUT(1, REAL, v), INPUT(2, REAL, m2), INPUT(3, REAL, v2), INPUT(4, REAL, g), OUTPUT(5, REAL, dm),
       OUTPUT(6, REAL, dv), OUTPUT(7, REAL, dm2), OUTPUT(8, REAL, dv2), VALUE(9, uint, k), VALUE(10, uint, l), VALUE(11, uint, width),
       VALUE(12, REAL, factor)) {
  const ulong at = (ulong)GROUP * LANES + LANE, first = (ulong)k * width;
  if (at >= first + (ulong)l * width) return;
  const bool second = at >= first;
  const ulong own = second ? at - first : at;
  const uint row = (uint)(own / width), i = (uint)(own % width), others = second ? k : l;
  const REAL mean = second ? m2[own] : m[own], variance = second ? v2[own] : v[own];
  REAL to_mean = 0, to_variance = 0;
  for (uint j = 0u; j < others; j++) {
    const ulong other = (ulong)j * width + i;
    const REAL slope = factor * g[second ? (ulong)j * l + row : (ulong)row * l + j];
    const REAL mean2 = second ? m[other] : m2[other], variance2 = second ? v[other] : v2[other];
    to_mean = fma(2 * slope, mean - mean2, to_mean);
    to_variance = fma(slope, 1 - variance2 / sqrt(fma(variance, variance2, SHIFT)), to_variance);
  }
  if (second) {
    dm2[own] = to_mean;
    dv2[own] = to_variance;
  } else {
    dm[own] = to_mean;
    dv[own] = to_variance;
  }
}
