// y = x W^T + b, rectified and dropped out, in one launch: for inner sizes of some hundred, where a library's product is mostly
// launches. A group has a tile of y.

// Words of a row of the tile.
#define WORDS (SIDE / 32u)

KERNEL(affine, INPUT(0, REAL, x), INPUT(1, REAL, weight), INPUT(2, REAL, bias), OUTPUT(3, REAL, y), VALUE(4, uint, rows), VALUE(5, uint, m),
       VALUE(6, uint, width), VALUE(7, REAL, scale), VALUE(8, uint, below), CHACHA_KEY(9, 10, 11, 12, 13)) {
  SHARED(REAL, x_table, PAIR_ROOM);
  SHARED(REAL, y_table, PAIR_ROOM);
#if DROPOUT
  // 32 choices a word.
  SHARED(uint, kept, WORDS * SIDE);
#endif
  REAL cells[EACH * EACH];
  const uint tiles = (m + SIDE - 1u) / SIDE, first = GROUP / tiles * SIDE, second = GROUP % tiles * SIDE;
  pair_products(x, first, rows, weight, second, m, width, x_table, y_table, LANE, cells);
#if DROPOUT
  if (LANE < WORDS * SIDE) {
    const ulong number = (ulong)(first + LANE / WORDS) * m + second + LANE % WORDS * 32u;
    kept[LANE] = kept_bits(key0, key1, key2, key3, stream, number, below);
  }
  BARRIER();
#endif
  UNROLL for (uint a = 0u; a < EACH; a++) {
    const uint row = row_of(LANE, a);
    UNROLL for (uint b = 0u; b < EACH; b++) {
      const uint column = column_of(LANE, b), i = first + row, j = second + column;
      if (i >= rows || j >= m) continue;
      REAL v = cells[a * EACH + b];
#if BIASED
      v += bias[j];
#endif
#if GATED
      if (v < 0) v = 0;
#endif
#if DROPOUT
      v = (kept[WORDS * row + column / 32u] >> (column % 32u) & 1u) != 0u ? v * scale : (REAL)0;
#endif
      y[(ulong)i * m + j] = v;
    }
  }
}
