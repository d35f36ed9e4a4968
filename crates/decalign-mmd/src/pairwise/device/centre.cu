// Samples minus their common mean, and squared norms: pooled_samples.rs on a device.

// Sums over the rows of a part, (parts, width).
KERNEL(column_sums, INPUT(0, REAL, x), OUTPUT(1, REAL, sums), VALUE(2, uint, rows), VALUE(3, uint, width), VALUE(4, uint, part)) {
  const uint first = GROUP * part, last = least(rows, first + part);
  for (uint k = LANE; k < width; k += LANES) {
    REAL sum = 0;
    for (uint row = first; row < last; row++) sum += x[(ulong)row * width + k];
    sums[(ulong)GROUP * width + k] = sum;
  }
}

// The mean of every column, a warp each, of sums (parts, width).
KERNEL(mean, INPUT(0, REAL, sums), OUTPUT(1, REAL, means), VALUE(2, uint, parts), VALUE(3, uint, width), VALUE(4, REAL, rows)) {
  const uint k = GROUP * (LANES / WARP) + LANE / WARP;
  REAL sum = 0;
  if (k < width)
    for (uint part = LANE % WARP; part < parts; part += WARP) sum += sums[(ulong)part * width + k];
  sum = warp_sum(sum);
  if (k < width && LANE % WARP == 0u) means[k] = sum / rows;
}

// Rows minus the mean and their squared norms, a warp a row; the largest norm of a group.
KERNEL(centre, INPUT(0, REAL, x), INPUT(1, REAL, means), OUTPUT(2, REAL, centred), OUTPUT(3, REAL, norms), OUTPUT(4, REAL, longest),
       VALUE(5, uint, rows), VALUE(6, uint, width)) {
  SHARED(REAL, partial, LANES / WARP);
  REAL largest = 0;
  SERIAL for (uint row = GROUP * (LANES / WARP) + LANE / WARP; row < rows; row += GROUPS * (LANES / WARP)) {
    REAL norm = 0;
    for (uint k = LANE % WARP; k < width; k += WARP) {
      const REAL v = x[(ulong)row * width + k] - means[k];
      centred[(ulong)row * width + k] = v;
      norm = fma(v, v, norm);
    }
    norm = warp_sum(norm);
    if (LANE % WARP == 0u) norms[row] = norm;
    largest = larger(largest, norm);
  }
  if (LANE % WARP == 0u) partial[LANE / WARP] = largest;
  BARRIER();
  if (LANE > 0u) return;
  UNROLL for (uint w = 0u; w < LANES / WARP; w++) largest = larger(largest, partial[w]);
  longest[GROUP] = largest;
}

// Concatenates up to eight samples; sample i ends before number e_i.
KERNEL(concatenate, INPUT(0, REAL, x0), INPUT(1, REAL, x1), INPUT(2, REAL, x2), INPUT(3, REAL, x3), INPUT(4, REAL, x4), INPUT(5, REAL, x5),
       INPUT(6, REAL, x6), INPUT(7, REAL, x7), OUTPUT(8, REAL, all), VALUE(9, ulong, e0), VALUE(10, ulong, e1), VALUE(11, ulong, e2),
       VALUE(12, ulong, e3), VALUE(13, ulong, e4), VALUE(14, ulong, e5), VALUE(15, ulong, e6), VALUE(16, ulong, e7)) {
  const ulong at = (ulong)GROUP * LANES + LANE;
  if (at >= e7) return;
  all[at] = at < e0   ? x0[at]
            : at < e1 ? x1[at - e0]
            : at < e2 ? x2[at - e1]
            : at < e3 ? x3[at - e2]
            : at < e4 ? x4[at - e3]
            : at < e5 ? x5[at - e4]
            : at < e6 ? x6[at - e5]
                      : x7[at - e6];
}
