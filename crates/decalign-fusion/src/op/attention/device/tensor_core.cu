// Attention of 16-bit numbers on tensor cores with sums in f32, forward and backward (Dao, 2023); weights are not kept.
//
// A warp holds FOLD times 16 rows, a group has four warps. Rows of the other side pass through shared memory, TILE at a time (BACKWARD_TILE in
// the backward pass), and the next tile is copied while one is used. Right operands are read as 8 by 8 tables; the rounded sums of one
// product are the left operand of the next, in the same registers. Logits are in base 2. As in scalar.cu no sum spans two groups.
//
// q and k are (B, L, H HEAD) and (B, S, H HEAD), v and out (.., H VALUE_HEAD), with heads of a multiple of 16. Groups count blocks of rows
// fastest, then heads, then samples.

#define WARP_ROWS (16u * FOLD)
#define ROWS (LANES / WARP * WARP_ROWS)
#define PITCH (HEAD + 8u)
#define VALUE_PITCH (VALUE_HEAD + 8u)

// The rows of this lane, LINES of them: `row`, `row + 8`, ...
#define LINES (2u * FOLD)
#define LANE_ROWS                                                                                                      \
  const uint head = GROUP / blocks % heads, sample = GROUP / blocks / heads;                                         \
  const uint block = GROUP % blocks * ROWS, warp = LANE / WARP, lane = LANE % WARP, g = lane / 4u, t = lane % 4u;    \
  const uint row = block + warp * WARP_ROWS + g;                                                                     \
  const uint width = heads * HEAD, value_width = heads * VALUE_HEAD

// A product with a tile of `rows` rows gives a lane rows / 2 elements for each 16 rows of its warp: the line and column of element j.
#define LINE_OF(j, rows) ((j) / ((rows) / 2u) * 2u + (j) / 2u % 2u)
#define COLUMN_OF(j, rows) ((j) % ((rows) / 2u) / 4u * 8u + 2u * t + (j) % 2u)
#define CELLS(rows) (FOLD * (rows) / 2u)

// The rows of this warp as left operand, padded with 0.
DEVICE void load_rows(GLOBAL(const HALF) x, ulong base, uint row, uint count, uint width, uint size, uint t, LOCAL(uint) out) {
  UNROLL for (uint k = 0u; k < FOLD * size / 16u; k++)
    UNROLL for (uint i = 0u; i < 4u; i++) {
      const uint r = row + k / (size / 16u) * 16u + i % 2u * 8u;
      out[4u * k + i] = r < count ? load_two(x, base + (ulong)r * width + k % (size / 16u) * 16u + i / 2u * 8u + 2u * t) : 0u;
    }
}

// Stores the rows of this warp, each line multiplied by its factor.
DEVICE void store_rows(GLOBAL(HALF) x, ulong base, uint row, uint count, uint width, uint size, uint t, LOCAL(const float) factors,
                       LOCAL(const float) sums) {
  UNROLL for (uint j = 0u; j < CELLS(size); j += 2u) {
    const uint line = LINE_OF(j, size), r = row + line * 8u;
    if (r < count) store_two(x, base + (ulong)r * width + COLUMN_OF(j, size), packed(sums[j] * factors[line], sums[j + 1u] * factors[line]));
  }
}

// Starts the copy of the rows of a tile from `first` on to shared memory, padded with 0.
DEVICE void copy_tile(uint rows, GLOBAL(const HALF) x, ulong base, uint first, uint count, uint width, uint size, uint pitch,
                      SHARED_POINTER(HALF) tile, uint at) {
  const uint each = size / 8u;
  for (uint i = LANE; i < rows * each; i += LANES) {
    const uint r = i / each, at_row = at + r * pitch + i % each * 8u;
    if (first + r < count)
      copy_later(x, base + (ulong)(first + r) * width + i % each * 8u, tile, at_row);
    else
      clear_eight(tile, at_row);
  }
}

// x = rows times the transposed rows of the tile.
DEVICE void by_rows(uint rows, LOCAL(const uint) mine, SHARED_POINTER(const HALF) tile, uint at, uint size, uint pitch, uint lane, LOCAL(float) x) {
  UNROLL for (uint i = 0u; i < CELLS(rows); i++) x[i] = 0.0f;
  UNROLL for (uint k = 0u; k < size / 16u; k++)
    UNROLL for (uint j = 0u; j < rows / 8u; j += 2u) {
      uint b[4];
      load_tables(tile, at + (8u * (j + lane / 16u) + lane % 8u) * pitch + 16u * k + lane / 8u % 2u * 8u, b);
      UNROLL for (uint m = 0u; m < FOLD; m++) {
        multiply_add(x + m * rows / 2u + 4u * j, mine + m * size / 4u + 4u * k, b[0], b[1]);
        multiply_add(x + m * rows / 2u + 4u * j + 4u, mine + m * size / 4u + 4u * k, b[2], b[3]);
      }
    }
}

// `by_rows` with the rows of the warp in shared memory too.
DEVICE void by_own(uint rows, SHARED_POINTER(const HALF) own, SHARED_POINTER(const HALF) tile, uint at, uint size, uint pitch, uint lane, LOCAL(float) x) {
  const uint first = LANE / WARP * WARP_ROWS + lane % 16u;
  UNROLL for (uint i = 0u; i < CELLS(rows); i++) x[i] = 0.0f;
  UNROLL for (uint k = 0u; k < size / 16u; k++) {
    uint a[FOLD][4];
    UNROLL for (uint m = 0u; m < FOLD; m++) load_tables(own, (first + 16u * m) * pitch + 16u * k + lane / 16u * 8u, a[m]);
    UNROLL for (uint j = 0u; j < rows / 8u; j += 2u) {
      uint b[4];
      load_tables(tile, at + (8u * (j + lane / 16u) + lane % 8u) * pitch + 16u * k + lane / 8u % 2u * 8u, b);
      UNROLL for (uint m = 0u; m < FOLD; m++) {
        multiply_add(x + m * rows / 2u + 4u * j, a[m], b[0], b[1]);
        multiply_add(x + m * rows / 2u + 4u * j + 4u, a[m], b[2], b[3]);
      }
    }
  }
}

// sums += w times the tile, with w in the layout of `by_rows`.
DEVICE void add_rows(uint rows, LOCAL(const float) w, SHARED_POINTER(const HALF) tile, uint at, uint size, uint pitch, uint lane, LOCAL(float) sums) {
  UNROLL for (uint k = 0u; k < rows / 16u; k++) {
    uint a[FOLD][4];
    UNROLL for (uint i = 0u; i < FOLD * 4u; i++) {
      const uint j = i / 4u * rows / 2u + 8u * k + i % 4u * 2u;
      a[i / 4u][i % 4u] = packed(w[j], w[j + 1u]);
    }
    UNROLL for (uint j = 0u; j < size / 8u; j += 2u) {
      uint b[4];
      load_tables_turned(tile, at + (16u * k + lane / 8u % 2u * 8u + lane % 8u) * pitch + 8u * (j + lane / 16u), b);
      UNROLL for (uint m = 0u; m < FOLD; m++) {
        multiply_add(sums + m * size / 2u + 4u * j, a[m], b[0], b[1]);
        multiply_add(sums + m * size / 2u + 4u * j + 4u, a[m], b[2], b[3]);
      }
    }
  }
}

// True if query i attends to key j of its sample.
#if MASKED
#define SEEN(i, j) ((j) < keys && (causal == 0u || (j) <= (i)) && mask[(ulong)sample * keys + (j)] != 0)
#else
#define SEEN(i, j) ((j) < keys && (causal == 0u || (j) <= (i)))
#endif

// True if all queries from `query` on attend to all keys before `end`, so that no pair needs a test.
#define ALL_SEEN(query, end) (MASKED == 0u && (end) <= keys && (causal == 0u || (end) <= (query) + 1u))

#define DROPPED_BITS(query, first)                                                                                     \
  kept_bits(key0, key1, key2, key3, child_stream(stream, sample), ((ulong)head * queries + (query)) * keys + (first), below)

// The weights of the lines of this lane that dropout keeps in the tile at `first`: the four lanes of a row draw its words in turn.
#if DROPOUT
#define WORDS_OF(rows) (((rows) + 31u) / 32u)
#define KEPT_WORDS(rows, first)                                                                                        \
  uint kept[LINES][WORDS_OF(rows)];                                                                                    \
  UNROLL for (uint c = 0u; c < LINES * WORDS_OF(rows); c += 4u) {                                                      \
    const uint own = (c + t) % (LINES * WORDS_OF(rows));                                                               \
    const uint drawn = DROPPED_BITS(row + own / WORDS_OF(rows) * 8u, (first) + own % WORDS_OF(rows) * 32u);            \
    UNROLL for (uint w = c; w < least(c + 4u, LINES * WORDS_OF(rows)); w++)                                            \
      kept[w / WORDS_OF(rows)][w % WORDS_OF(rows)] = SHUFFLE(drawn, lane - t + w - c);                                 \
  }
#define KEPT(line, column) ((kept[line][(column) / 32u] >> ((column) % 32u) & 1u) != 0u)
#define SCALED(x) ((x) * dropout_scale)
#else
#define SCALED(x) (x)
#define KEPT_WORDS(rows, first)
#define KEPT(line, column) true
#endif

// Sets the logits of pairs that do not attend to LOWEST.
#define HIDE(rows, seen_all, query, key)                                                                               \
  if (!(seen_all)) {                                                                                                   \
    UNROLL for (uint j = 0u; j < CELLS(rows); j++)                                                                     \
      if (!SEEN(query, key)) x[j] = LOWEST;                                                                            \
  }

// `mask` is (B, S), or has one element if absent; `logs`, (B, H, L), are the logarithms (base 2) of the sums of weights.
KERNEL(forward, INPUT(0, HALF, q), INPUT(1, HALF, k), INPUT(2, HALF, v), INPUT(3, REAL, mask), OUTPUT(4, HALF, out), OUTPUT(5, REAL, logs),
       VALUE(6, uint, heads), VALUE(7, uint, queries), VALUE(8, uint, keys), VALUE(9, uint, causal), VALUE(10, REAL, scale),
       VALUE(11, REAL, dropout_scale), VALUE(12, uint, below), CHACHA_KEY(13, 14, 15, 16, 17)) {
  SHARED_LARGE(HALF, tiles, 2u * TILE * (PITCH + VALUE_PITCH));
  const uint blocks = (queries + ROWS - 1u) / ROWS;
  LANE_ROWS;
  const ulong key_base = (ulong)sample * keys * width + head * HEAD, value_base = (ulong)sample * keys * value_width + head * VALUE_HEAD;
  const uint end = causal == 0u ? keys : least(keys, block + ROWS);
  uint stage = 0u;
#define COPY_TILES(first, at)                                                                                          \
  copy_tile(TILE, k, key_base, first, keys, width, HEAD, PITCH, tiles, at);                                             \
  copy_tile(TILE, v, value_base, first, keys, value_width, VALUE_HEAD, VALUE_PITCH, tiles, (at) + TILE * PITCH)
  COPY_TILES(0u, 0u);
  uint mine[FOLD * HEAD / 4u];
  load_rows(q, (ulong)sample * queries * width + head * HEAD, row, queries, width, HEAD, t, mine);
  float sums[CELLS(VALUE_HEAD)], largest[LINES], base[LINES], total[LINES];
  UNROLL for (uint i = 0u; i < CELLS(VALUE_HEAD); i++) sums[i] = 0.0f;
  UNROLL for (uint i = 0u; i < LINES; i++) largest[i] = base[i] = LOWEST, total[i] = 0.0f;
  SERIAL for (uint first = 0u; first < end; first += TILE) {
    const uint at = stage;
    stage = TILE * (PITCH + VALUE_PITCH) - stage;
    wait_for_copies();
    BARRIER();
    if (first + TILE < end) {
      COPY_TILES(first + TILE, stage);
    }
    float x[CELLS(TILE)];
    by_rows(TILE, mine, tiles, at, HEAD, PITCH, lane, x);
    HIDE(TILE, ALL_SEEN(block, first + TILE), row + LINE_OF(j, TILE) * 8u, first + COLUMN_OF(j, TILE));
    float most[LINES], from[LINES];
    UNROLL for (uint i = 0u; i < LINES; i++) most[i] = largest[i];
    UNROLL for (uint j = 0u; j < CELLS(TILE); j++) most[LINE_OF(j, TILE)] = fmax(most[LINE_OF(j, TILE)], x[j]);
    bool grew = false;
    UNROLL for (uint i = 0u; i < LINES; i++) {
      most[i] = row_max(most[i]);
      grew = grew || most[i] > largest[i];
    }
    // If no row of the warp has a larger logit than before, all factors are 1.
    if (WARP_ANY(grew)) {
      float shrink[LINES];
      UNROLL for (uint i = 0u; i < LINES; i++) {
        // The difference of two rounded products, so that an equal largest logit gives a factor of exactly 1.
        const float next = most[i] > LOWEST ? most[i] * scale : LOWEST;
        shrink[i] = exp2_normal(base[i] - next);
        largest[i] = most[i];
        base[i] = next;
        total[i] *= shrink[i];
      }
      UNROLL for (uint j = 0u; j < CELLS(VALUE_HEAD); j++) sums[j] *= shrink[LINE_OF(j, VALUE_HEAD)];
    }
    // Before the first key of a query all weights are 0.
    UNROLL for (uint i = 0u; i < LINES; i++) from[i] = base[i] > LOWEST ? base[i] : 0.0f;
    KEPT_WORDS(TILE, first);
    UNROLL for (uint j = 0u; j < CELLS(TILE); j++) {
      const float weight = exp2_normal(fma(x[j], scale, -from[LINE_OF(j, TILE)]));
      total[LINE_OF(j, TILE)] += weight;
      x[j] = KEPT(LINE_OF(j, TILE), COLUMN_OF(j, TILE)) ? weight : 0.0f;
    }
    add_rows(TILE, x, tiles, at + TILE * PITCH, VALUE_HEAD, VALUE_PITCH, lane, sums);
  }
  // A query without keys gives zeros; one with a NaN logit gives NaN, even if that weight was dropped.
  float share[LINES];
  UNROLL for (uint i = 0u; i < LINES; i++) {
    total[i] = row_sum(total[i]);
    share[i] = total[i] == 0.0f ? 0.0f : dropout_scale / total[i];
    const float log_total = total[i] == 0.0f ? -LOWEST : base[i] + log2(total[i]);
    if (t == 0u && row + i * 8u < queries) logs[((ulong)sample * heads + head) * queries + row + i * 8u] = log_total;
  }
  store_rows(out, (ulong)sample * queries * value_width + head * VALUE_HEAD, row, queries, value_width, VALUE_HEAD, t, share, sums);
}

// With the weights p, ds = p (keep <g, v> - off) and dq = scale ds k. `offs`, (B, H, L), are <g, out>. `scale` includes log2 e, `gradient_scale`
// does not.
KERNEL(backward_queries, INPUT(0, HALF, q), INPUT(1, HALF, k), INPUT(2, HALF, v), INPUT(3, REAL, mask), INPUT(4, HALF, given), INPUT(5, REAL, logs),
       INPUT(6, HALF, out), OUTPUT(7, HALF, dq), OUTPUT(8, REAL, offs), VALUE(9, REAL, gradient_scale), VALUE(10, uint, heads),
       VALUE(11, uint, queries), VALUE(12, uint, keys), VALUE(13, uint, causal), VALUE(14, REAL, scale), VALUE(15, REAL, dropout_scale),
       VALUE(16, uint, below), CHACHA_KEY(17, 18, 19, 20, 21)) {
  SHARED_LARGE(HALF, tiles, 2u * BACKWARD_TILE * (PITCH + VALUE_PITCH));
  const uint blocks = (queries + ROWS - 1u) / ROWS;
  LANE_ROWS;
  const ulong key_base = (ulong)sample * keys * width + head * HEAD, value_base = (ulong)sample * keys * value_width + head * VALUE_HEAD;
  const ulong query_base = (ulong)sample * queries * width + head * HEAD;
  const ulong given_base = (ulong)sample * queries * value_width + head * VALUE_HEAD;
  const uint end = causal == 0u ? keys : least(keys, block + ROWS);
  uint stage = 0u;
#undef COPY_TILES
#define COPY_TILES(first, at)                                                                                          \
  copy_tile(BACKWARD_TILE, k, key_base, first, keys, width, HEAD, PITCH, tiles, at);                                        \
  copy_tile(BACKWARD_TILE, v, value_base, first, keys, value_width, VALUE_HEAD, VALUE_PITCH, tiles, (at) + BACKWARD_TILE * PITCH)
  COPY_TILES(0u, 0u);
  uint mine[FOLD * HEAD / 4u], given_rows[FOLD * VALUE_HEAD / 4u];
  load_rows(q, query_base, row, queries, width, HEAD, t, mine);
  load_rows(given, given_base, row, queries, value_width, VALUE_HEAD, t, given_rows);
  float off[LINES], log_total[LINES], factors[LINES];
  UNROLL for (uint i = 0u; i < LINES; i++) off[i] = 0.0f;
  {
    uint seen[FOLD * VALUE_HEAD / 4u];
    load_rows(out, given_base, row, queries, value_width, VALUE_HEAD, t, seen);
    UNROLL for (uint i = 0u; i < FOLD * VALUE_HEAD / 4u; i++) {
      const uint line = i / (VALUE_HEAD / 4u) * 2u + i % 2u;
      off[line] = fma(widened(given_rows[i]), widened(seen[i]), off[line]);
      off[line] = fma(widened(given_rows[i] >> 16), widened(seen[i] >> 16), off[line]);
    }
  }
  UNROLL for (uint i = 0u; i < LINES; i++) {
    const uint r = row + i * 8u;
    const ulong at_row = ((ulong)sample * heads + head) * queries + r;
    off[i] = row_sum(off[i]);
    log_total[i] = r < queries ? logs[at_row] : -LOWEST;
    if (t == 0u && r < queries) offs[at_row] = off[i];
  }
  float sums[CELLS(HEAD)];
  UNROLL for (uint i = 0u; i < CELLS(HEAD); i++) sums[i] = 0.0f;
  SERIAL for (uint first = 0u; first < end; first += BACKWARD_TILE) {
    const uint at = stage;
    stage = BACKWARD_TILE * (PITCH + VALUE_PITCH) - stage;
    wait_for_copies();
    BARRIER();
    if (first + BACKWARD_TILE < end) {
      COPY_TILES(first + BACKWARD_TILE, stage);
    }
    float x[CELLS(BACKWARD_TILE)], along[CELLS(BACKWARD_TILE)];
    by_rows(BACKWARD_TILE, mine, tiles, at, HEAD, PITCH, lane, x);
    by_rows(BACKWARD_TILE, given_rows, tiles, at + BACKWARD_TILE * PITCH, VALUE_HEAD, VALUE_PITCH, lane, along);
    HIDE(BACKWARD_TILE, ALL_SEEN(block, first + BACKWARD_TILE), row + LINE_OF(j, BACKWARD_TILE) * 8u, first + COLUMN_OF(j, BACKWARD_TILE));
    KEPT_WORDS(BACKWARD_TILE, first);
    UNROLL for (uint j = 0u; j < CELLS(BACKWARD_TILE); j++) {
      const uint line = LINE_OF(j, BACKWARD_TILE);
      const float weight = exp2_normal(fma(x[j], scale, -log_total[line]));
      x[j] = weight * ((KEPT(line, COLUMN_OF(j, BACKWARD_TILE)) ? SCALED(along[j]) : 0.0f) - off[line]);
    }
    add_rows(BACKWARD_TILE, x, tiles, at, HEAD, PITCH, lane, sums);
  }
  UNROLL for (uint i = 0u; i < LINES; i++) factors[i] = gradient_scale;
  store_rows(dq, query_base, row, queries, width, HEAD, t, factors, sums);
}

// dv = keep p g and dk = scale ds q: rows are keys, which stay in shared memory while queries pass through it.
#define OWN_SIZE (ROWS * (PITCH + VALUE_PITCH))
#define KEPT_ROWS (ROWS / 32u)
KERNEL(backward_keys, INPUT(0, HALF, q), INPUT(1, HALF, k), INPUT(2, HALF, v), INPUT(3, REAL, mask), INPUT(4, HALF, given), INPUT(5, REAL, logs),
       INPUT(6, REAL, offs), OUTPUT(7, HALF, dk), OUTPUT(8, HALF, dv), VALUE(9, REAL, gradient_scale), VALUE(10, uint, heads),
       VALUE(11, uint, queries), VALUE(12, uint, keys), VALUE(13, uint, causal), VALUE(14, REAL, scale), VALUE(15, REAL, dropout_scale),
       VALUE(16, uint, below), CHACHA_KEY(17, 18, 19, 20, 21)) {
  SHARED_LARGE(HALF, tiles, OWN_SIZE + 2u * BACKWARD_TILE * (PITCH + VALUE_PITCH));
  SHARED(REAL, log_tile, 2u * BACKWARD_TILE);
  SHARED(REAL, off_tile, 2u * BACKWARD_TILE);
#if DROPOUT
  SHARED(uint, kept_tile, 2u * BACKWARD_TILE * KEPT_ROWS);
#endif
  const uint blocks = (keys + ROWS - 1u) / ROWS;
  LANE_ROWS;
  const ulong key_base = (ulong)sample * keys * width + head * HEAD, value_base = (ulong)sample * keys * value_width + head * VALUE_HEAD;
  const ulong query_base = (ulong)sample * queries * width + head * HEAD;
  const ulong given_base = (ulong)sample * queries * value_width + head * VALUE_HEAD;
  const ulong log_base = ((ulong)sample * heads + head) * queries;
  // Queries before the keys of the group attend to none of them.
  const uint start = causal == 0u ? 0u : block / BACKWARD_TILE * BACKWARD_TILE;
  uint stage = 0u;
#undef COPY_TILES
#define COPY_TILES(first, half_)                                                                                            \
  {                                                                                                                         \
    const uint at = OWN_SIZE + (half_) * BACKWARD_TILE * (PITCH + VALUE_PITCH);                                                 \
    copy_tile(BACKWARD_TILE, q, query_base, first, queries, width, HEAD, PITCH, tiles, at);                                      \
    copy_tile(BACKWARD_TILE, given, given_base, first, queries, value_width, VALUE_HEAD, VALUE_PITCH, tiles, at + BACKWARD_TILE * PITCH); \
    for (uint i = LANE; i < BACKWARD_TILE; i += LANES) {                                                                        \
      const uint to = (half_) * BACKWARD_TILE + i;                                                                              \
      if ((first) + i < queries) {                                                                                          \
        copy_number_later(logs, log_base + (first) + i, log_tile, to);                                                      \
        copy_number_later(offs, log_base + (first) + i, off_tile, to);                                                      \
      } else {                                                                                                              \
        log_tile[to] = -LOWEST;                                                                                             \
        off_tile[to] = 0.0f;                                                                                                \
      }                                                                                                                     \
    }                                                                                                                       \
    DRAW_TILE(first, half_)                                                                                                 \
  }
#if DROPOUT
#define DRAW_TILE(first, half_)                                                                                             \
  for (uint i = LANE; i < BACKWARD_TILE * KEPT_ROWS; i += LANES)                                                                \
    kept_tile[(half_) * BACKWARD_TILE * KEPT_ROWS + i] = DROPPED_BITS((first) + i / KEPT_ROWS, block + i % KEPT_ROWS * 32u);
#else
#define DRAW_TILE(first, half_)
#endif
  copy_tile(ROWS, k, key_base, block, keys, width, HEAD, PITCH, tiles, 0u);
  copy_tile(ROWS, v, value_base, block, keys, value_width, VALUE_HEAD, VALUE_PITCH, tiles, ROWS * PITCH);
  if (start < queries) COPY_TILES(start, 0u);
  float to_key[CELLS(HEAD)], to_value[CELLS(VALUE_HEAD)], factors[LINES];
  UNROLL for (uint i = 0u; i < CELLS(HEAD); i++) to_key[i] = 0.0f;
  UNROLL for (uint i = 0u; i < CELLS(VALUE_HEAD); i++) to_value[i] = 0.0f;
  SERIAL for (uint first = start; first < queries; first += BACKWARD_TILE) {
    const uint half_ = stage, at = OWN_SIZE + half_ * BACKWARD_TILE * (PITCH + VALUE_PITCH);
    stage = 1u - stage;
    wait_for_copies();
    BARRIER();
    if (first + BACKWARD_TILE < queries) COPY_TILES(first + BACKWARD_TILE, stage);
    float x[CELLS(BACKWARD_TILE)], along[CELLS(BACKWARD_TILE)];
    by_own(BACKWARD_TILE, tiles, tiles, at, HEAD, PITCH, lane, x);
    by_own(BACKWARD_TILE, tiles + ROWS * PITCH, tiles, at + BACKWARD_TILE * PITCH, VALUE_HEAD, VALUE_PITCH, lane, along);
    HIDE(BACKWARD_TILE, ALL_SEEN(first, block + ROWS), first + COLUMN_OF(j, BACKWARD_TILE), row + LINE_OF(j, BACKWARD_TILE) * 8u);
    UNROLL for (uint j = 0u; j < CELLS(BACKWARD_TILE); j++) {
      const uint column = half_ * BACKWARD_TILE + COLUMN_OF(j, BACKWARD_TILE);
      const float weight = exp2_normal(fma(x[j], scale, -log_tile[column]));
#if DROPOUT
      const uint bit = warp * WARP_ROWS + g + LINE_OF(j, BACKWARD_TILE) * 8u;
      const bool stays = (kept_tile[column * KEPT_ROWS + bit / 32u] >> (bit % 32u) & 1u) != 0u;
#else
      const bool stays = true;
#endif
      x[j] = stays ? SCALED(weight) : 0.0f;
      along[j] = weight * ((stays ? SCALED(along[j]) : 0.0f) - off_tile[column]);
    }
    add_rows(BACKWARD_TILE, x, tiles, at + BACKWARD_TILE * PITCH, VALUE_HEAD, VALUE_PITCH, lane, to_value);
    add_rows(BACKWARD_TILE, along, tiles, at, HEAD, PITCH, lane, to_key);
  }
  wait_for_copies();
  UNROLL for (uint i = 0u; i < LINES; i++) factors[i] = gradient_scale;
  store_rows(dk, key_base, row, keys, width, HEAD, t, factors, to_key);
  UNROLL for (uint i = 0u; i < LINES; i++) factors[i] = 1.0f;
  store_rows(dv, value_base, row, keys, value_width, VALUE_HEAD, t, factors, to_value);
}
