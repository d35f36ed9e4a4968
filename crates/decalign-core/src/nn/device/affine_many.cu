// Up to six maps y = x W^T + b of one x in one launch: `affine` whose groups also count maps.

KERNEL(affine_many, INPUT(0, REAL, x), INPUT(1, REAL, w0), INPUT(2, REAL, w1), INPUT(3, REAL, w2), INPUT(4, REAL, w3), INPUT(5, REAL, w4),
       INPUT(6, REAL, w5), INPUT(7, REAL, b0), INPUT(8, REAL, b1), INPUT(9, REAL, b2), INPUT(10, REAL, b3), INPUT(11, REAL, b4),
       INPUT(12, REAL, b5), OUTPUT(13, REAL, y0), OUTPUT(14, REAL, y1), OUTPUT(15, REAL, y2), OUTPUT(16, REAL, y3), OUTPUT(17, REAL, y4),
       OUTPUT(18, REAL, y5), VALUE(19, uint, rows), VALUE(20, uint, m), VALUE(21, uint, width)) {
  SHARED(REAL, x_table, PAIR_ROOM);
  SHARED(REAL, y_table, PAIR_ROOM);
  REAL cells[EACH * EACH];
  const uint across = (m + SIDE - 1u) / SIDE, tiles = across * ((rows + SIDE - 1u) / SIDE), map = GROUP / tiles;
  const uint first = GROUP % tiles / across * SIDE, second = GROUP % tiles % across * SIDE;
  GLOBAL(const REAL) weight = PICK_6(map, w);
  GLOBAL(const REAL) bias = PICK_6(map, b);
  GLOBAL(REAL) y = PICK_6(map, y);
  pair_products(x, first, rows, weight, second, m, width, x_table, y_table, LANE, cells);
  UNROLL for (uint a = 0u; a < EACH; a++) {
    UNROLL for (uint b = 0u; b < EACH; b++) {
      const uint i = first + row_of(LANE, a), j = second + column_of(LANE, b);
      if (i >= rows || j >= m) continue;
#if BIASED
      y[(ulong)i * m + j] = cells[a * EACH + b] + bias[j];
#else
      y[(ulong)i * m + j] = cells[a * EACH + b];
#endif
    }
  }
}
