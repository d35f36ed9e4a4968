// Matrix products where a device's library has none to write into given memory: out = x y^T, or added to it.
KERNEL(product, INPUT(0, REAL, x), INPUT(1, REAL, y), OUTPUT(2, REAL, out), VALUE(3, uint, n), VALUE(4, uint, m), VALUE(5, uint, width),
       VALUE(6, ulong, at), VALUE(7, uint, add)) {
  SHARED(REAL, x_table, PAIR_ROOM);
  SHARED(REAL, y_table, PAIR_ROOM);
  REAL cells[EACH * EACH];
  const uint tiles = (m + SIDE - 1u) / SIDE, first = GROUP / tiles * SIDE, second = GROUP % tiles * SIDE;
  pair_products(x, first, n, y, second, m, width, x_table, y_table, LANE, cells);
  UNROLL for (uint a = 0u; a < EACH; a++) {
    UNROLL for (uint b = 0u; b < EACH; b++) {
      const uint i = first + row_of(LANE, a), j = second + column_of(LANE, b);
      const ulong place = at + (ulong)i * m + j;
      if (i < n && j < m) out[place] = add != 0u ? out[place] + cells[a * EACH + b] : cells[a * EACH + b];
    }
  }
}
