// What linear layers do around their matrix products: the loops of linear.rs on a device. Rows have m columns.

KERNEL(add_bias, INPUT(0, REAL, x), INPUT(1, REAL, bias), OUTPUT(2, REAL, y), VALUE(3, ulong, n), VALUE(4, uint, m)) {
  const ulong first = (ulong)GROUP * LANES * 4u + LANE;
  UNROLL for (uint r = 0u; r < 4u; r++) {
    const ulong i = first + r * LANES;
    if (i < n) y[i] = x[i] + bias[i % m];
  }
}

// max(x + bias, 0) and dropout, a warp CHUNKS blocks of 32 as in dropout.cu. NaN stays. `below` of 2^16 and more keeps all.
KERNEL(gate, INPUT(0, REAL, x), INPUT(1, REAL, bias), OUTPUT(2, REAL, y), VALUE(3, ulong, n), VALUE(4, uint, m), VALUE(5, REAL, scale),
       VALUE(6, uint, below), CHACHA_KEY(7, 8, 9, 10, 11)) {
  const uint lane = LANE % WARP;
  const ulong block = ((ulong)GROUP * (LANES / WARP) + LANE / WARP) * CHUNKS;
  uint mine = 0xffffffffu;
  if (below <= 0xffffu && lane < CHUNKS) mine = chosen_bits(key0, key1, key2, key3, stream, block + lane, below);
  for (uint r = 0u; r < CHUNKS; r++) {
    const uint bits = SHUFFLE(mine, r);
    const ulong i = (block + r) * WARP + lane;
    if (i < n) {
      const REAL v = x[i] + bias[i % m];
      y[i] = v < 0 ? (REAL)0 : (bits >> lane & 1u) != 0u ? v * scale : (REAL)0;
    }
  }
}

// Sums of columns: COLUMNS = 8 columns a group, so that narrow tables keep more groups busy; every LANES / 8th row a lane. Lanes of a
// column in a warp are added by shuffles, then the warps: one of them for each column.
#define COLUMNS 8u

DEVICE REAL sum_of_column(REAL sum, SHARED_POINTER(REAL) partial, uint lane) {
  sum += SHUFFLE_XOR(sum, 16u);
  sum += SHUFFLE_XOR(sum, 8u);
  if (lane % WARP < COLUMNS) partial[lane % WARP * (LANES / WARP) + lane / WARP] = sum;
  BARRIER();
  // Warp c now has what the warps found of column c.
  return lane / WARP < COLUMNS && lane % WARP < LANES / WARP ? partial[lane / WARP * (LANES / WARP) + lane % WARP] : (REAL)0;
}

// Of g (rows, m).
KERNEL(sum_columns, INPUT(0, REAL, g), OUTPUT(1, REAL, sums), VALUE(2, uint, rows), VALUE(3, uint, m)) {
  SHARED(REAL, partial, COLUMNS * LANES / WARP);
  const uint column = GROUP * COLUMNS + LANE % COLUMNS;
  REAL sum = 0;
  if (column < m)
    for (uint row = LANE / COLUMNS; row < rows; row += LANES / COLUMNS) sum += g[(ulong)row * m + column];
  sum = warp_sum(sum_of_column(sum, partial, LANE));
  const uint mine = GROUP * COLUMNS + LANE / WARP;
  if (LANE % WARP == 0u && LANE / WARP < COLUMNS && mine < m) sums[mine] = sum;
}

// The gradient behind the gate, and its sums of columns. What came through is positive in y.
KERNEL(gate_back, INPUT(0, REAL, y), INPUT(1, REAL, g), OUTPUT(2, REAL, behind), OUTPUT(3, REAL, sums), VALUE(4, uint, rows),
       VALUE(5, uint, m), VALUE(6, REAL, scale)) {
  SHARED(REAL, partial, COLUMNS * LANES / WARP);
  const uint column = GROUP * COLUMNS + LANE % COLUMNS;
  REAL sum = 0;
  if (column < m)
    for (uint row = LANE / COLUMNS; row < rows; row += LANES / COLUMNS) {
      const ulong i = (ulong)row * m + column;
      const REAL v = y[i] > 0 ? g[i] * scale : (REAL)0;
      behind[i] = v;
      sum += v;
    }
  sum = warp_sum(sum_of_column(sum, partial, LANE));
  const uint mine = GROUP * COLUMNS + LANE / WARP;
  if (LANE % WARP == 0u && LANE / WARP < COLUMNS && mine < m) sums[mine] = sum;
}
