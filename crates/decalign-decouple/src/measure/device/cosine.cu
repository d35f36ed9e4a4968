// Squared cosines between the rows of two tables: the loops of cosine.rs, a row a group.

DEVICE REAL floored(REAL norm) { return norm > (REAL)1e-8 || norm != norm ? norm : (REAL)1e-8; }

// `angles`: of every row the cosine and both norms before their floor.
KERNEL(angles_of_rows, INPUT(0, REAL, s), INPUT(1, REAL, c), OUTPUT(2, REAL, angles), VALUE(3, uint, size)) {
  SHARED(REAL, partial, LANES / WARP);
  const ulong at = (ulong)GROUP * size;
  REAL product = 0, first = 0, second = 0;
  for (uint i = LANE; i < size; i += LANES) {
    const REAL u = s[at + i], v = c[at + i];
    product = fma(u, v, product);
    first = fma(u, u, first);
    second = fma(v, v, second);
  }
  product = group_sum(product, partial, LANE);
  first = sqrt(group_sum(first, partial, LANE));
  second = sqrt(group_sum(second, partial, LANE));
  if (LANE == 0u) {
    angles[3 * (ulong)GROUP] = product / floored(first) / floored(second);
    angles[3 * (ulong)GROUP + 1] = first;
    angles[3 * (ulong)GROUP + 2] = second;
  }
}

KERNEL(mean_square, INPUT(0, REAL, angles), OUTPUT(1, REAL, value), VALUE(2, uint, batch)) {
  SHARED(REAL, partial, LANES / WARP);
  REAL sum = 0;
  for (uint i = LANE; i < batch; i += LANES) sum = fma(angles[3 * (ulong)i], angles[3 * (ulong)i], sum);
  sum = group_sum(sum, partial, LANE);
  if (LANE == 0u) value[0] = sum / (REAL)batch;
}

// d cos / d s = c / (|s| |c|) - cos s / |s|^2, the second term where the norm is free of its floor.
KERNEL(cosine_back, INPUT(0, REAL, s), INPUT(1, REAL, c), INPUT(2, REAL, angles), INPUT(3, REAL, outer), OUTPUT(4, REAL, ds),
       OUTPUT(5, REAL, dc), VALUE(6, uint, batch), VALUE(7, uint, size)) {
  const ulong at = (ulong)GROUP * size;
  const REAL cosine = angles[3 * (ulong)GROUP];
  const REAL raw_s = angles[3 * (ulong)GROUP + 1], raw_c = angles[3 * (ulong)GROUP + 2];
  const REAL norm_s = floored(raw_s), norm_c = floored(raw_c);
  const REAL slope = outer[0] * 2 / (REAL)batch * cosine;
  const REAL across = slope / norm_s / norm_c;
  const REAL along_s = raw_s > (REAL)1e-8 ? slope * cosine / norm_s / norm_s : (REAL)0;
  const REAL along_c = raw_c > (REAL)1e-8 ? slope * cosine / norm_c / norm_c : (REAL)0;
  for (uint i = LANE; i < size; i += LANES) {
    const REAL u = s[at + i], v = c[at + i];
    ds[at + i] = across * v - along_s * u;
    dc[at + i] = across * u - along_c * v;
  }
}
