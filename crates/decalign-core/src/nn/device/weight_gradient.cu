// Gradients of weights and biases of up to six linear layers: g^T x and the sums of g. A group computes a tile of SIDE x SIDE of g^T x over
// `chunk` rows; `add_partials` adds up the chunks in order.

// Reads DEPTH rows from `first` and SIDE columns from `column`, 0 beyond the table. A lane reads FETCHED numbers of a row.
DEVICE void fetch_rows(GLOBAL(const REAL) x, uint first, uint last, uint width, uint column, uint lane, LOCAL(REAL) next) {
  const uint row = first + lane / (SIDE / FETCHED), j = column + lane % (SIDE / FETCHED) * FETCHED;
  const ulong at = (ulong)row * width + j;
#if ALIGNED
  UNROLL for (uint i = 0u; i < FETCHED; i++) next[i] = 0;
  if (row < last && j < width) { LOAD_VECTOR(x, at, FETCHED, next) }
#else
  UNROLL for (uint i = 0u; i < FETCHED; i++) next[i] = row < last && j + i < width ? x[at + i] : (REAL)0;
#endif
}

DEVICE void store_rows(LOCAL(const REAL) next, uint lane, SHARED_POINTER(REAL) table) {
  const uint to = lane / (SIDE / FETCHED) * SIDE_PITCH + lane % (SIDE / FETCHED) * FETCHED;
  UNROLL for (uint i = 0u; i < FETCHED; i++) table[to + i] = next[i];
}

// partials[layer][chunk] is (m, n) of products and m sums.
KERNEL(weight_gradient, INPUT(0, REAL, x0), INPUT(1, REAL, x1), INPUT(2, REAL, x2), INPUT(3, REAL, x3), INPUT(4, REAL, x4), INPUT(5, REAL, x5),
       INPUT(6, REAL, g0), INPUT(7, REAL, g1), INPUT(8, REAL, g2), INPUT(9, REAL, g3), INPUT(10, REAL, g4), INPUT(11, REAL, g5),
       OUTPUT(12, REAL, partials), VALUE(13, uint, rows), VALUE(14, uint, m), VALUE(15, uint, n), VALUE(16, uint, chunk),
       VALUE(17, ulong, size)) {
  SHARED(REAL, g_table, PAIR_ROOM);
  SHARED(REAL, x_table, PAIR_ROOM);
  const uint across = (n + SIDE - 1u) / SIDE, tiles = across * ((m + SIDE - 1u) / SIDE);
  const uint chunks = (rows + chunk - 1u) / chunk, part = GROUP / tiles;
  const uint i_first = GROUP % tiles / across * SIDE, j_first = GROUP % tiles % across * SIDE;
  const uint first = part % chunks * chunk, last = least(rows, first + chunk);
  GLOBAL(const REAL) x = PICK_6(part / chunks, x);
  GLOBAL(const REAL) g = PICK_6(part / chunks, g);
  REAL sums[EACH * EACH], totals[EACH], g_next[FETCHED], x_next[FETCHED];
  UNROLL for (uint c = 0u; c < EACH * EACH; c++) sums[c] = 0;
  UNROLL for (uint a = 0u; a < EACH; a++) totals[a] = 0;
  fetch_rows(g, first, last, m, i_first, LANE, g_next);
  fetch_rows(x, first, last, n, j_first, LANE, x_next);
  uint half_ = 0u;
  SERIAL for (uint row = first; row < last; row += DEPTH) {
    store_rows(g_next, LANE, g_table + half_);
    store_rows(x_next, LANE, x_table + half_);
    BARRIER();
    fetch_rows(g, row + DEPTH, last, m, i_first, LANE, g_next);
    fetch_rows(x, row + DEPTH, last, n, j_first, LANE, x_next);
    const SHARED_POINTER(REAL) u_at = g_table + (half_ + row_of(LANE, 0u));
    const SHARED_POINTER(REAL) v_at = x_table + (half_ + column_of(LANE, 0u));
    UNROLL for (uint k = 0u; k < DEPTH; k++) {
      REAL u[EACH], v[EACH];
      UNROLL for (uint a = 0u; a < EACH; a++) u[a] = u_at[k * SIDE_PITCH + row_of(0u, a)];
      UNROLL for (uint b = 0u; b < EACH; b++) v[b] = v_at[k * SIDE_PITCH + column_of(0u, b)];
      UNROLL for (uint a = 0u; a < EACH; a++) {
        totals[a] += u[a];
        UNROLL for (uint b = 0u; b < EACH; b++) sums[a * EACH + b] = fma(u[a], v[b], sums[a * EACH + b]);
      }
    }
    half_ = DEPTH * SIDE_PITCH - half_;
  }
  const ulong to = (ulong)part * size;
  UNROLL for (uint a = 0u; a < EACH; a++) {
    const uint i = i_first + row_of(LANE, a);
    UNROLL for (uint b = 0u; b < EACH; b++) {
      const uint j = j_first + column_of(LANE, b);
      if (i < m && j < n) partials[to + (ulong)i * n + j] = sums[a * EACH + b];
    }
    if (LANE % 16u == 0u && j_first == 0u && i < m) partials[to + (ulong)m * n + i] = totals[a];
  }
}

// Adds up the `count` partial sums of a layer, `size` numbers each: products into its weight from row `at` on, sums of g into its bias. Both
// have `total` rows; where they are fresh, all other rows are set to zero. `biased` is 1 to write sums of g, 2 to write zeros, 0 to leave the
// bias. `groups` is the number of groups a layer.
KERNEL(add_partials, INPUT(0, REAL, partials), INOUT(1, REAL, w0), INOUT(2, REAL, w1), INOUT(3, REAL, w2), INOUT(4, REAL, w3), INOUT(5, REAL, w4),
       INOUT(6, REAL, w5), INOUT(7, REAL, b0), INOUT(8, REAL, b1), INOUT(9, REAL, b2), INOUT(10, REAL, b3), INOUT(11, REAL, b4),
       INOUT(12, REAL, b5), VALUE(13, uint, count), VALUE(14, uint, m), VALUE(15, uint, n), VALUE(16, ulong, size), VALUE(17, uint, at),
       VALUE(18, uint, total), VALUE(19, uint, fresh), VALUE(20, uint, biased), VALUE(21, uint, groups)) {
  const uint layer = GROUP / groups;
  const uint before = fresh != 0u ? at : 0u, rows = fresh != 0u ? total : m;
  const ulong t = (ulong)(GROUP % groups) * LANES + LANE, cells = (ulong)rows * n;
  const bool of_bias = t >= cells;
  const ulong row = of_bias ? t - cells : t / n;
  if (row >= rows || (of_bias && biased == 0u)) return;
  const uint column = of_bias ? 0u : (uint)(t % n);
  REAL sum = 0;
  if (row >= before && row - before < m && !(of_bias && biased == 2u)) {
    const ulong from = (ulong)layer * count * size + (of_bias ? (ulong)m * n + row - before : (row - before) * n + column);
    for (uint c = 0u; c < count; c++) sum += partials[from + (ulong)c * size];
  }
  const ulong to = row + at - before;
  GLOBAL(REAL) weight = PICK_6(layer, w);
  GLOBAL(REAL) bias = PICK_6(layer, b);
  if (of_bias) bias[to] = sum;
  else weight[to * n + column] = sum;
}
