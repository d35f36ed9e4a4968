// Dropout, residual connection and layer norm (see residual_norm.rs). A warp holds a row of WIDTH elements in registers: lane l has elements
// l, l + 32, ...

#define EACH ((WIDTH + WARP - 1u) / WARP)
#define KEPT(bits) ((bits) >> lane & 1u) != 0u

// Bit `lane` of word e: whether dropout keeps element e * 32 + lane of a row. All lanes of the warp must call it.
#if DROPOUT
#define ROW_BITS(row)                                                                                       \
  uint mine = 0u;                                                                                           \
  if (lane < EACH) mine = kept_bits(key0, key1, key2, key3, stream, (ulong)(row) * WIDTH + lane * WARP, below)
#define BITS(e) SHUFFLE(mine, e)
#else
#define ROW_BITS(row)
#define BITS(e) 0xffffffffu
#endif

// `normal` are the rows before weight and bias, `scales` the reciprocal deviations.
KERNEL(residual_norm, INPUT(0, REAL, x), INPUT(1, REAL, residual), INPUT(2, REAL, weight), INPUT(3, REAL, bias), OUTPUT(4, REAL, y),
       OUTPUT(5, REAL, normal), OUTPUT(6, REAL, scales), VALUE(7, uint, rows), VALUE(8, REAL, epsilon), VALUE(9, REAL, dropout_scale),
       VALUE(10, uint, below), CHACHA_KEY(11, 12, 13, 14, 15)) {
  const uint row = GROUP * WARPS + LANE / WARP, lane = LANE % WARP;
  if (row >= rows) return;
  const ulong at = (ulong)row * WIDTH;
  REAL values[EACH], sum = 0;
  ROW_BITS(row);
  UNROLL for (uint e = 0u; e < EACH; e++) {
    const uint i = e * WARP + lane, bits = BITS(e);
    values[e] = 0;
    if (i < WIDTH) values[e] = residual[at + i] + (KEPT(bits) ? x[at + i] * dropout_scale : (REAL)0);
    sum += values[e];
  }
  const REAL mean = warp_sum(sum) / (REAL)WIDTH;
  REAL squares = 0;
  UNROLL for (uint e = 0u; e < EACH; e++) {
    values[e] = e * WARP + lane < WIDTH ? values[e] - mean : (REAL)0;
    squares = fma(values[e], values[e], squares);
  }
  const REAL scale = 1 / sqrt(warp_sum(squares) / (REAL)WIDTH + epsilon);
  UNROLL for (uint e = 0u; e < EACH; e++) {
    const uint i = e * WARP + lane;
    if (i < WIDTH) {
      normal[at + i] = values[e] * scale;
      y[at + i] = fma(values[e] * scale, weight[i], bias[i]);
    }
  }
  if (lane == 0u) scales[row] = scale;
}

// With the normalised row n, its scale s and u = g weight: ds = s (u - mean(u) - n mean(u n)), and dx is ds after dropout. A warp processes
// every WARPS-th row of its group; `partial_sums` (groups, 2, WIDTH) are the sums of g n and of g of a group. With `terms` = 2 the gradient
// is g + rest.
KERNEL(backward, INPUT(0, REAL, normal), INPUT(1, REAL, scales), INPUT(2, REAL, weight), INPUT(3, REAL, g), INPUT(4, REAL, rest), OUTPUT(5, REAL, ds),
       OUTPUT(6, REAL, dx), OUTPUT(7, REAL, partial_sums), VALUE(8, uint, terms), VALUE(9, uint, rows), VALUE(10, REAL, dropout_scale), VALUE(11, uint, below),
       CHACHA_KEY(12, 13, 14, 15, 16)) {
  SHARED(REAL, partial, 2 * WIDTH * WARPS);
  const uint warp = LANE / WARP, lane = LANE % WARP;
  REAL dw[EACH], db[EACH];
  UNROLL for (uint e = 0u; e < EACH; e++) dw[e] = db[e] = 0;
  const uint last = least(rows, (GROUP + 1u) * CHUNK);
  for (uint row = GROUP * CHUNK + warp; row < last; row += WARPS) {
    const ulong at = (ulong)row * WIDTH;
    REAL n[EACH], u[EACH], average = 0, along = 0;
    UNROLL for (uint e = 0u; e < EACH; e++) {
      const uint i = e * WARP + lane;
      n[e] = u[e] = 0;
      if (i < WIDTH) {
        const REAL v = terms == 2u ? g[at + i] + rest[at + i] : g[at + i];
        n[e] = normal[at + i];
        u[e] = v * weight[i];
        dw[e] = fma(v, n[e], dw[e]);
        db[e] += v;
      }
      average += u[e];
      along = fma(u[e], n[e], along);
    }
    average = warp_sum(average) / (REAL)WIDTH;
    along = warp_sum(along) / (REAL)WIDTH;
    const REAL scale = scales[row];
    ROW_BITS(row);
    UNROLL for (uint e = 0u; e < EACH; e++) {
      const uint i = e * WARP + lane, bits = BITS(e);
      const REAL v = scale * fma(-along, n[e], u[e] - average);
      if (i < WIDTH) {
        ds[at + i] = v;
#if DROPOUT
        dx[at + i] = KEPT(bits) ? v * dropout_scale : (REAL)0;
#endif
      }
    }
  }
  UNROLL for (uint e = 0u; e < EACH; e++) {
    const uint i = e * WARP + lane;
    if (i < WIDTH) {
      partial[warp * 2u * WIDTH + i] = dw[e];
      partial[warp * 2u * WIDTH + WIDTH + i] = db[e];
    }
  }
  BARRIER();
  for (uint i = LANE; i < 2u * WIDTH; i += LANES) {
    REAL sum = partial[i];
    for (uint w = 1u; w < WARPS; w++) sum += partial[w * 2u * WIDTH + i];
    partial_sums[(ulong)GROUP * 2u * WIDTH + i] = sum;
  }
}
