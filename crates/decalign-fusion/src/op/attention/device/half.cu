// Attention of 16-bit numbers on tensor cores, added up in 32 bits; forward and backward (Dao, 2023), without weights kept.
//
// A warp holds 16 rows, a group of four warps 64; rows of the other side go through shared memory, TILE at a time, and BACK_TILE on the way back. What a warp multiplies
// by is read as tables of 8 by 8; the sums of one product, rounded, are the left side of the next where they lie. Logits count in base 2.
// As in attention.cu nothing is added up by two groups.
//
// q and k are (B, L, H HEAD) and (B, S, H HEAD), v and out (.., H VALUE_HEAD), with heads of a multiple of 16. Groups count blocks of rows
// fastest, then heads, then samples.

#define ROWS (LANES / 2u)
#define PITCH (HEAD + 8u)
#define VALUE_PITCH (VALUE_HEAD + 8u)
#define WORDS ((TILE + 31u) / 32u)
#define BACK_WORDS ((BACK_TILE + 31u) / 32u)

// Where this lane is: its warp's first row, and the place in tables.
#define PLACE                                                                                                        \
  const uint head = GROUP / blocks % heads, sample = GROUP / blocks / heads;                                         \
  const uint block = GROUP % blocks * ROWS, warp = LANE / WARP, lane = LANE % WARP, g = lane / 4u, t = lane % 4u;    \
  const uint row = block + warp * 16u + g;                                                                           \
  const uint width = heads * HEAD, value_width = heads * VALUE_HEAD

// Rows g and g + 8 of this warp as the left side of products; those behind the end are 0.
DEVICE void load_rows(GLOBAL(const HALF) x, ulong base, uint row, uint count, uint width, uint size, uint t, LOCAL(uint) out) {
  UNROLL for (uint k = 0u; k < size / 16u; k++)
    UNROLL for (uint i = 0u; i < 4u; i++) {
      const uint r = row + i % 2u * 8u;
      out[4u * k + i] = r < count ? load_two(x, base + (ulong)r * width + k * 16u + i / 2u * 8u + 2u * t) : 0u;
    }
}

// The same back, times a factor.
DEVICE void store_rows(GLOBAL(HALF) x, ulong base, uint row, uint count, uint width, uint size, uint t, float factor, float second,
                       LOCAL(const float) sums) {
  UNROLL for (uint j = 0u; j < size / 8u; j++) {
    const uint column = 8u * j + 2u * t;
    if (row < count) store_two(x, base + (ulong)row * width + column, packed(sums[4u * j] * factor, sums[4u * j + 1u] * factor));
    if (row + 8u < count)
      store_two(x, base + (ulong)(row + 8u) * width + column, packed(sums[4u * j + 2u] * second, sums[4u * j + 3u] * second));
  }
}

// A tile's rows from `first` on into shared memory; rows behind the end are 0.
DEVICE void load_tile(uint rows, GLOBAL(const HALF) x, ulong base, uint first, uint count, uint width, uint size, uint pitch,
                      SHARED_POINTER(HALF) tile) {
  const uint each = size / 8u;
  for (uint i = LANE; i < rows * each; i += LANES) {
    const uint r = i / each, place = r * pitch + i % each * 8u;
    if (first + r < count)
      copy_eight(x, base + (ulong)(first + r) * width + i % each * 8u, tile, place);
    else
      clear_eight(tile, place);
  }
}

// x[j] = rows times the tile's rows 8 j .. 8 j + 7.
DEVICE void by_rows(uint rows, LOCAL(const uint) mine, SHARED_POINTER(const HALF) tile, uint size, uint pitch, uint lane, LOCAL(float) x) {
  UNROLL for (uint i = 0u; i < rows / 2u; i++) x[i] = 0.0f;
  UNROLL for (uint k = 0u; k < size / 16u; k++)
    UNROLL for (uint j = 0u; j < rows / 8u; j += 2u) {
      uint b[4];
      load_tables(tile, (8u * (j + lane / 16u) + lane % 8u) * pitch + 16u * k + lane / 8u % 2u * 8u, b);
      multiply_add(x + 4u * j, mine + 4u * k, b[0], b[1]);
      multiply_add(x + 4u * j + 4u, mine + 4u * k, b[2], b[3]);
    }
}

// sums += w times the tile, w being as `by_rows` gives it.
DEVICE void add_rows(uint rows, LOCAL(const float) w, SHARED_POINTER(const HALF) tile, uint size, uint pitch, uint lane, LOCAL(float) sums) {
  UNROLL for (uint k = 0u; k < rows / 16u; k++) {
    uint a[4];
    UNROLL for (uint i = 0u; i < 4u; i++) a[i] = packed(w[8u * k + 2u * i], w[8u * k + 2u * i + 1u]);
    UNROLL for (uint j = 0u; j < size / 8u; j += 2u) {
      uint b[4];
      load_tables_turned(tile, (16u * k + lane / 8u % 2u * 8u + lane % 8u) * pitch + 8u * (j + lane / 16u), b);
      multiply_add(sums + 4u * j, a, b[0], b[1]);
      multiply_add(sums + 4u * j + 4u, a, b[2], b[3]);
    }
  }
}

// Over the four lanes of a row.
DEVICE float row_sum(float x) {
  x += SHUFFLE_XOR(x, 1u);
  return x + SHUFFLE_XOR(x, 2u);
}
DEVICE float row_max(float x) {
  x = fmax(x, SHUFFLE_XOR(x, 1u));
  return fmax(x, SHUFFLE_XOR(x, 2u));
}

// Whether query i sees key j of its sample.
#if MASKED
#define SEEN(i, j) ((j) < keys && (causal == 0u || (j) <= (i)) && mask[(ulong)sample * keys + (j)] != 0)
#else
#define SEEN(i, j) ((j) < keys && (causal == 0u || (j) <= (i)))
#endif

// Whether all queries from `query` on see all keys before `end`: then none is asked one by one.
#define ALL_SEEN(query, end) (MASKED == 0u && (end) <= keys && (causal == 0u || (end) <= (query) + 1u))

#define DROPPED_BITS(query, first)                                                                                     \
  kept_bits(key0, key1, key2, key3, child_stream(stream, sample), ((ulong)head * queries + (query)) * keys + (first), below)

// Which weights of rows g (0) and g + 8 (1) stay, of the tile at `first`: each of the four lanes of a row draws a word.
#if DROPOUT
#define KEPT_WORDS(words, first)                                                                                       \
  uint kept[2][words];                                                                                                 \
  {                                                                                                                    \
    const uint drawn = DROPPED_BITS(row + t / words % 2u * 8u, (first) + t % words * 32u);                             \
    UNROLL for (uint w = 0u; w < 2u * words; w++) kept[w / words][w % words] = SHUFFLE(drawn, lane - t + w);           \
  }
#define KEPT(i, column) ((kept[i][(column) / 32u] >> ((column) % 32u) & 1u) != 0u)
#define MADE_UP(x) ((x) * make_up)
#else
#define MADE_UP(x) (x)
#define KEPT_WORDS(words, first)
#define KEPT(i, column) true
#endif

// `mask` is (B, S), one number where there is none; `logs`, (B, H, L), are of the sums of weights.
KERNEL(forward, INPUT(0, HALF, q), INPUT(1, HALF, k), INPUT(2, HALF, v), INPUT(3, REAL, mask), OUTPUT(4, HALF, out), OUTPUT(5, REAL, logs),
       VALUE(6, uint, heads), VALUE(7, uint, queries), VALUE(8, uint, keys), VALUE(9, uint, causal), VALUE(10, REAL, scale),
       VALUE(11, REAL, make_up), VALUE(12, uint, below), CHACHA_KEY(13, 14, 15, 16, 17)) {
  SHARED(HALF, key_tile, TILE * PITCH);
  SHARED(HALF, value_tile, TILE * VALUE_PITCH);
  const uint blocks = (queries + ROWS - 1u) / ROWS;
  PLACE;
  const ulong key_base = (ulong)sample * keys * width + head * HEAD, value_base = (ulong)sample * keys * value_width + head * VALUE_HEAD;
  uint mine[HEAD / 4u];
  load_rows(q, (ulong)sample * queries * width + head * HEAD, row, queries, width, HEAD, t, mine);
  float sums[VALUE_HEAD / 2u], largest[2] = {LOWEST, LOWEST}, base[2] = {LOWEST, LOWEST}, total[2] = {0.0f, 0.0f};
  UNROLL for (uint i = 0u; i < VALUE_HEAD / 2u; i++) sums[i] = 0.0f;
  const uint end = causal == 0u ? keys : least(keys, block + ROWS);
  SERIAL for (uint first = 0u; first < end; first += TILE) {
    BARRIER();
    load_tile(TILE, k, key_base, first, keys, width, HEAD, PITCH, key_tile);
    load_tile(TILE, v, value_base, first, keys, value_width, VALUE_HEAD, VALUE_PITCH, value_tile);
    BARRIER();
    float x[TILE / 2u];
    by_rows(TILE, mine, key_tile, HEAD, PITCH, lane, x);
    if (!ALL_SEEN(block, first + TILE)) {
      UNROLL for (uint j = 0u; j < TILE / 2u; j++)
        if (!SEEN(row + j / 2u % 2u * 8u, first + j / 4u * 8u + 2u * t + j % 2u)) x[j] = LOWEST;
    }
    float most[2] = {largest[0], largest[1]}, from[2];
    UNROLL for (uint j = 0u; j < TILE / 2u; j++) most[j / 2u % 2u] = fmax(most[j / 2u % 2u], x[j]);
    UNROLL for (uint i = 0u; i < 2u; i++) {
      most[i] = row_max(most[i]);
      // Of two rounded numbers: the same largest logit shrinks nothing, however many tiles follow.
      const float next = most[i] > LOWEST ? most[i] * scale : LOWEST, shrink = exp2_normal(base[i] - next);
      largest[i] = most[i];
      base[i] = next;
      // Where nothing was seen yet, weights are 0.
      from[i] = next > LOWEST ? next : 0.0f;
      total[i] *= shrink;
      UNROLL for (uint j = 0u; j < VALUE_HEAD / 8u; j++) sums[4u * j + 2u * i] *= shrink, sums[4u * j + 2u * i + 1u] *= shrink;
    }
    KEPT_WORDS(WORDS, first);
    UNROLL for (uint j = 0u; j < TILE / 2u; j++) {
      const uint i = j / 2u % 2u;
      const float weight = exp2_normal(fma(x[j], scale, -from[i]));
      total[i] += weight;
      x[j] = KEPT(i, j / 4u * 8u + 2u * t + j % 2u) ? weight : 0.0f;
    }
    add_rows(TILE, x, value_tile, VALUE_HEAD, VALUE_PITCH, lane, sums);
  }
  // A row that sees nothing gives zeros.
  float share[2];
  UNROLL for (uint i = 0u; i < 2u; i++) {
    total[i] = row_sum(total[i]);
    share[i] = total[i] > 0.0f ? make_up / total[i] : 0.0f;
    const float log_total = total[i] > 0.0f ? base[i] + log2(total[i]) : -LOWEST;
    if (t == 0u && row + i * 8u < queries) logs[((ulong)sample * heads + head) * queries + row + i * 8u] = log_total;
  }
  store_rows(out, (ulong)sample * queries * value_width + head * VALUE_HEAD, row, queries, value_width, VALUE_HEAD, t, share[0], share[1], sums);
}

// With p the weights and ds = p (keep <g, v> - off): dq = scale ds k. `offs`, (B, H, L), are <g, out>. `scale` has
// the log2 e of logits, `slope_scale` has not.
KERNEL(back_queries, INPUT(0, HALF, q), INPUT(1, HALF, k), INPUT(2, HALF, v), INPUT(3, REAL, mask), INPUT(4, HALF, given), INPUT(5, REAL, logs),
       INPUT(6, HALF, out), OUTPUT(7, HALF, dq), OUTPUT(8, REAL, offs), VALUE(9, REAL, slope_scale), VALUE(10, uint, heads),
       VALUE(11, uint, queries), VALUE(12, uint, keys), VALUE(13, uint, causal), VALUE(14, REAL, scale), VALUE(15, REAL, make_up),
       VALUE(16, uint, below), CHACHA_KEY(17, 18, 19, 20, 21)) {
  SHARED(HALF, key_tile, BACK_TILE * PITCH);
  SHARED(HALF, value_tile, BACK_TILE * VALUE_PITCH);
  const uint blocks = (queries + ROWS - 1u) / ROWS;
  PLACE;
  const ulong key_base = (ulong)sample * keys * width + head * HEAD, value_base = (ulong)sample * keys * value_width + head * VALUE_HEAD;
  const ulong query_base = (ulong)sample * queries * width + head * HEAD;
  const ulong given_base = (ulong)sample * queries * value_width + head * VALUE_HEAD;
  uint mine[HEAD / 4u], slopes_of[VALUE_HEAD / 4u];
  load_rows(q, query_base, row, queries, width, HEAD, t, mine);
  load_rows(given, given_base, row, queries, value_width, VALUE_HEAD, t, slopes_of);
  float off[2] = {0.0f, 0.0f}, log_total[2];
  {
    uint seen[VALUE_HEAD / 4u];
    load_rows(out, given_base, row, queries, value_width, VALUE_HEAD, t, seen);
    UNROLL for (uint i = 0u; i < VALUE_HEAD / 4u; i++) {
      off[i % 2u] = fma(widened(slopes_of[i]), widened(seen[i]), off[i % 2u]);
      off[i % 2u] = fma(widened(slopes_of[i] >> 16), widened(seen[i] >> 16), off[i % 2u]);
    }
  }
  UNROLL for (uint i = 0u; i < 2u; i++) {
    const uint r = row + i * 8u;
    const ulong place = ((ulong)sample * heads + head) * queries + r;
    off[i] = row_sum(off[i]);
    log_total[i] = r < queries ? logs[place] : -LOWEST;
    if (t == 0u && r < queries) offs[place] = off[i];
  }
  float sums[HEAD / 2u];
  UNROLL for (uint i = 0u; i < HEAD / 2u; i++) sums[i] = 0.0f;
  const uint end = causal == 0u ? keys : least(keys, block + ROWS);
  SERIAL for (uint first = 0u; first < end; first += BACK_TILE) {
    BARRIER();
    load_tile(BACK_TILE, k, key_base, first, keys, width, HEAD, PITCH, key_tile);
    load_tile(BACK_TILE, v, value_base, first, keys, value_width, VALUE_HEAD, VALUE_PITCH, value_tile);
    BARRIER();
    float x[BACK_TILE / 2u], along[BACK_TILE / 2u];
    by_rows(BACK_TILE, mine, key_tile, HEAD, PITCH, lane, x);
    by_rows(BACK_TILE, slopes_of, value_tile, VALUE_HEAD, VALUE_PITCH, lane, along);
    if (!ALL_SEEN(block, first + BACK_TILE)) {
      UNROLL for (uint j = 0u; j < BACK_TILE / 2u; j++)
        if (!SEEN(row + j / 2u % 2u * 8u, first + j / 4u * 8u + 2u * t + j % 2u)) x[j] = LOWEST;
    }
    KEPT_WORDS(BACK_WORDS, first);
    UNROLL for (uint j = 0u; j < BACK_TILE / 2u; j++) {
      const uint i = j / 2u % 2u;
      const float weight = exp2_normal(fma(x[j], scale, -log_total[i]));
      x[j] = weight * ((KEPT(i, j / 4u * 8u + 2u * t + j % 2u) ? MADE_UP(along[j]) : 0.0f) - off[i]);
    }
    add_rows(BACK_TILE, x, key_tile, HEAD, PITCH, lane, sums);
  }
  store_rows(dq, query_base, row, queries, width, HEAD, t, slope_scale, slope_scale, sums);
}

// dv = keep p g and dk = scale ds q: rows are keys, queries go through shared memory.
KERNEL(back_keys, INPUT(0, HALF, q), INPUT(1, HALF, k), INPUT(2, HALF, v), INPUT(3, REAL, mask), INPUT(4, HALF, given), INPUT(5, REAL, logs),
       INPUT(6, REAL, offs), OUTPUT(7, HALF, dk), OUTPUT(8, HALF, dv), VALUE(9, REAL, slope_scale), VALUE(10, uint, heads),
       VALUE(11, uint, queries), VALUE(12, uint, keys), VALUE(13, uint, causal), VALUE(14, REAL, scale), VALUE(15, REAL, make_up),
       VALUE(16, uint, below), CHACHA_KEY(17, 18, 19, 20, 21)) {
  SHARED(HALF, query_tile, BACK_TILE * PITCH);
  SHARED(HALF, given_tile, BACK_TILE * VALUE_PITCH);
  SHARED(REAL, log_tile, BACK_TILE);
  SHARED(REAL, off_tile, BACK_TILE);
#if DROPOUT
  SHARED(uint, kept_tile, BACK_TILE * 2u);
#endif
  const uint blocks = (keys + ROWS - 1u) / ROWS;
  PLACE;
  const ulong key_base = (ulong)sample * keys * width + head * HEAD, value_base = (ulong)sample * keys * value_width + head * VALUE_HEAD;
  const ulong query_base = (ulong)sample * queries * width + head * HEAD;
  const ulong given_base = (ulong)sample * queries * value_width + head * VALUE_HEAD;
  const ulong log_base = ((ulong)sample * heads + head) * queries;
  uint mine[HEAD / 4u], value[VALUE_HEAD / 4u];
  load_rows(k, key_base, row, keys, width, HEAD, t, mine);
  load_rows(v, value_base, row, keys, value_width, VALUE_HEAD, t, value);
  float to_key[HEAD / 2u], to_value[VALUE_HEAD / 2u];
  UNROLL for (uint i = 0u; i < HEAD / 2u; i++) to_key[i] = 0.0f;
  UNROLL for (uint i = 0u; i < VALUE_HEAD / 2u; i++) to_value[i] = 0.0f;
  // Queries before the group's keys see none of them.
  const uint start = causal == 0u ? 0u : block / BACK_TILE * BACK_TILE;
  SERIAL for (uint first = start; first < queries; first += BACK_TILE) {
    BARRIER();
    load_tile(BACK_TILE, q, query_base, first, queries, width, HEAD, PITCH, query_tile);
    load_tile(BACK_TILE, given, given_base, first, queries, value_width, VALUE_HEAD, VALUE_PITCH, given_tile);
    for (uint i = LANE; i < BACK_TILE; i += LANES) {
      log_tile[i] = first + i < queries ? logs[log_base + first + i] : -LOWEST;
      off_tile[i] = first + i < queries ? offs[log_base + first + i] : 0.0f;
    }
#if DROPOUT
    for (uint i = LANE; i < BACK_TILE * 2u; i += LANES) kept_tile[i] = DROPPED_BITS(first + i / 2u, block + i % 2u * 32u);
#endif
    BARRIER();
    float x[BACK_TILE / 2u], along[BACK_TILE / 2u];
    by_rows(BACK_TILE, mine, query_tile, HEAD, PITCH, lane, x);
    by_rows(BACK_TILE, value, given_tile, VALUE_HEAD, VALUE_PITCH, lane, along);
    if (!ALL_SEEN(first, block + ROWS)) {
      UNROLL for (uint j = 0u; j < BACK_TILE / 2u; j++)
        if (!SEEN(first + j / 4u * 8u + 2u * t + j % 2u, row + j / 2u % 2u * 8u)) x[j] = LOWEST;
    }
    UNROLL for (uint j = 0u; j < BACK_TILE / 2u; j++) {
      const uint column = j / 4u * 8u + 2u * t + j % 2u;
      const float weight = exp2_normal(fma(x[j], scale, -log_tile[column]));
#if DROPOUT
      const uint bit = warp * 16u + g + j / 2u % 2u * 8u;
      const bool stays = (kept_tile[column * 2u + bit / 32u] >> (bit % 32u) & 1u) != 0u;
#else
      const bool stays = true;
#endif
      x[j] = stays ? MADE_UP(weight) : 0.0f;
      along[j] = weight * ((stays ? MADE_UP(along[j]) : 0.0f) - off_tile[column]);
    }
    add_rows(BACK_TILE, x, given_tile, VALUE_HEAD, VALUE_PITCH, lane, to_value);
    add_rows(BACK_TILE, along, query_tile, HEAD, PITCH, lane, to_key);
  }
  store_rows(dk, key_base, row, keys, width, HEAD, t, slope_scale, slope_scale, to_key);
  store_rows(dv, value_base, row, keys, value_width, VALUE_HEAD, t, 1.0f, 1.0f, to_value);
}
