// Attention that does not keep its weights, forward and backward (see tile/ and workspace.rs).
//
// A team of TEAM lanes holds a row: each lane has D of its HEAD elements (VALUE_D of VALUE_HEAD) in registers. Rows of the other side pass
// through shared memory, TILE at a time; all teams read the same row, so that there are no bank conflicts. The softmax is online (Milakov
// and Gimelshein, 2018); the backward pass computes the weights again from the logarithms of their sums (Dao and others, 2022). No sum spans
// two groups: one kernel computes dq, another dk and dv. Narrow heads have SPLIT teams for a row, each with every SPLIT-th row of the other
// side, so that more lanes hide the latency.
//
// q and k are (B, L, H HEAD) and (B, S, H HEAD), v and out (.., H VALUE_HEAD). Groups count blocks of rows fastest, then
// heads, then samples.

#define ROW_LANES (TEAM * SPLIT)
#define ROWS (LANES / ROW_LANES)
#define D ((HEAD + TEAM - 1u) / TEAM)
#define VALUE_D ((VALUE_HEAD + TEAM - 1u) / TEAM)
#define PITCH (D * TEAM)
#define VALUE_PITCH (VALUE_D * TEAM)

// The sum over a team.
DEVICE REAL team_sum(REAL x) {
  UNROLL for (uint mask = TEAM / 2u; mask > 0u; mask >>= 1) x += SHUFFLE_XOR(x, mask);
  return x;
}

// The sum over the teams of a row.
DEVICE REAL split_sum(REAL x) {
  UNROLL for (uint mask = TEAM; mask < ROW_LANES; mask <<= 1) x += SHUFFLE_XOR(x, mask);
  return x;
}

// The elements of a row that one lane holds, padded with 0.
DEVICE void load_row(GLOBAL(const REAL) x, ulong at, uint part, uint size, uint each, REAL scale, LOCAL(REAL) row) {
  UNROLL for (uint i = 0u; i < each; i++) row[i] = part * each + i < size ? x[at + part * each + i] * scale : (REAL)0;
}

// Copies TILE rows from `first` on to shared memory, padded with 0.
DEVICE void load_tile(GLOBAL(const REAL) x, ulong base, uint first, uint count, uint width, uint size, uint pitch, SHARED_POINTER(REAL) tile,
                      uint lane) {
  for (uint t = lane; t < TILE * pitch; t += LANES) {
    const uint r = t / pitch, i = t % pitch;
    tile[t] = first + r < count && i < size ? x[base + (ulong)(first + r) * width + i] : (REAL)0;
  }
}

// Which of 32 weights of a row, from key `first` on, dropout keeps: one bit each.
#if DROPOUT
#define KEPT_BITS(sample, head, query, first)                                                                   \
  kept_bits(key0, key1, key2, key3, child_stream(stream, sample), ((ulong)(head)*queries + (query)) * keys + (first), below)
#else
#define KEPT_BITS(sample, head, query, first) 0xffffffffu
#endif
// The kept weights of the tile at `first`: each team of a row draws the bits of one of SPLIT tiles and shares them with the others.
#if DROPOUT
#define DRAWS uint drawn = 0u
#define TILE_BITS(sample, head, query, first)                                                                          \
  0u;                                                                                                                  \
  if ((first) / TILE % SPLIT == 0u) drawn = KEPT_BITS(sample, head, query, (first) + team * TILE);                     \
  kept = SHUFFLE(drawn, LANE % WARP / ROW_LANES * ROW_LANES + (first) / TILE % SPLIT * TEAM + part)
#else
#define DRAWS
#define TILE_BITS(sample, head, query, first) 0xffffffffu
#endif

// True if query i attends to key j of its sample.
#if MASKED
#define SEEN(i, j) ((j) < keys && (causal == 0u || (j) <= (i)) && mask[(ulong)sample * keys + (j)] != 0)
#else
#define SEEN(i, j) ((j) < keys && (causal == 0u || (j) <= (i)))
#endif

#if BIASED
#define BIAS(i, j) bias[(ulong)sample * bias_sample + (ulong)head * bias_head + (ulong)(i)*bias_query + (ulong)(j)*bias_key]
#else
#define BIAS(i, j) ((REAL)0)
#endif

// The query of a team and its row in registers, and the keys of its head.
#define QUERY_SIDE                                                                                                              \
  const uint blocks = (queries + ROWS - 1u) / ROWS;                                                                             \
  const uint head = GROUP / blocks % heads, sample = GROUP / blocks / heads;                                                    \
  const uint row = GROUP % blocks * ROWS + LANE / ROW_LANES, part = LANE % TEAM, team = LANE / TEAM % SPLIT;                    \
  const uint width = heads * HEAD, value_width = heads * VALUE_HEAD, i = least(row, queries - 1u);                              \
  const ulong key_base = (ulong)sample * keys * width + head * HEAD, value_base = (ulong)sample * keys * value_width + head * VALUE_HEAD; \
  REAL mine[D];                                                                                                                 \
  load_row(q, ((ulong)sample * queries + i) * width + head * HEAD, part, HEAD, D, scale, mine);                                 \
  DRAWS
// The tile of keys and values at `first`, and which of its weights dropout keeps.
#define LOAD_KEYS                                                                                                               \
  BARRIER();                                                                                                                    \
  load_tile(k, key_base, first, keys, width, HEAD, PITCH, key_tile, LANE);                                                      \
  load_tile(v, value_base, first, keys, value_width, VALUE_HEAD, VALUE_PITCH, value_tile, LANE);                                \
  BARRIER();                                                                                                                    \
  uint kept = TILE_BITS(sample, head, i, first);                                                                                \
  const uint count = least(TILE, keys - first)

// `mask` is (B, S); `bias` has the given strides, 0 where it is broadcast. Absent operands have one element.
KERNEL(forward, INPUT(0, REAL, q), INPUT(1, REAL, k), INPUT(2, REAL, v), INPUT(3, REAL, mask), INPUT(4, REAL, bias), OUTPUT(5, REAL, out),
       OUTPUT(6, REAL, logs), VALUE(7, uint, heads), VALUE(8, uint, queries), VALUE(9, uint, keys), VALUE(10, uint, causal),
       VALUE(11, REAL, scale), VALUE(12, uint, bias_sample), VALUE(13, uint, bias_head), VALUE(14, uint, bias_query),
       VALUE(15, uint, bias_key), VALUE(16, REAL, dropout_scale), VALUE(17, uint, below), CHACHA_KEY(18, 19, 20, 21, 22)) {
  SHARED(REAL, key_tile, TILE * PITCH);
  SHARED(REAL, value_tile, TILE * VALUE_PITCH);
  QUERY_SIDE;
  REAL sums[VALUE_D];
  for (uint d = 0u; d < VALUE_D; d++) sums[d] = 0;
  REAL largest = LOWEST, total = 0;
  SERIAL for (uint first = 0u; first < keys; first += TILE) {
    LOAD_KEYS;
    SERIAL for (uint from = 0u; from < count; from += SPLIT) {
      const uint j = from + team;
      REAL logit = 0;
      UNROLL for (uint d = 0u; d < D; d++) logit = fma(mine[d], key_tile[j * PITCH + part * D + d], logit);
      logit = team_sum(logit);
      if (SEEN(i, first + j)) {
        logit += BIAS(i, first + j);
        if (logit > largest) {
          const REAL shrink = exp_normal(largest - logit);
          total *= shrink;
          UNROLL for (uint d = 0u; d < VALUE_D; d++) sums[d] *= shrink;
          largest = logit;
        }
        const REAL e = exp_normal(logit - largest);
        total += e;
        const REAL w = (kept >> j & 1u) != 0u ? e : (REAL)0;
        UNROLL for (uint d = 0u; d < VALUE_D; d++) sums[d] = fma(w, value_tile[j * VALUE_PITCH + part * VALUE_D + d], sums[d]);
      }
    }
  }
  UNROLL for (uint mask = TEAM; mask < ROW_LANES; mask <<= 1) {
    const REAL other = SHUFFLE_XOR(largest, mask), most = larger(largest, other);
    const REAL shrink = exp_normal(largest - most), others = exp_normal(other - most);
    total = total * shrink + SHUFFLE_XOR(total, mask) * others;
    UNROLL for (uint d = 0u; d < VALUE_D; d++) sums[d] = sums[d] * shrink + SHUFFLE_XOR(sums[d], mask) * others;
    largest = most;
  }
  if (row >= queries || team != 0u) return;
  // A query without keys gives zeros.
  const REAL share = total == 0 ? (REAL)0 : dropout_scale / total;
  const ulong at = ((ulong)sample * queries + row) * value_width + head * VALUE_HEAD;
  UNROLL for (uint d = 0u; d < VALUE_D; d++)
    if (part * VALUE_D + d < VALUE_HEAD) out[at + part * VALUE_D + d] = sums[d] * share;
  if (part == 0u) logs[((ulong)sample * heads + head) * queries + row] = total == 0 ? -LOWEST : largest + log(total);
}

// With the weights p, ds = p (keep <g, v> - off) and dq = scale ds k; `d_logits` receives ds if BIAS_GRADIENT. `offs`, (B, H, L), are
// <g, out>, the term that the softmax subtracts.
KERNEL(backward_queries, INPUT(0, REAL, q), INPUT(1, REAL, k), INPUT(2, REAL, v), INPUT(3, REAL, mask), INPUT(4, REAL, bias), INPUT(5, REAL, g),
       INPUT(6, REAL, logs), INPUT(7, REAL, out), OUTPUT(8, REAL, dq), OUTPUT(9, REAL, d_logits), OUTPUT(10, REAL, offs), VALUE(11, uint, heads),
       VALUE(12, uint, queries), VALUE(13, uint, keys), VALUE(14, uint, causal), VALUE(15, REAL, scale), VALUE(16, uint, bias_sample),
       VALUE(17, uint, bias_head), VALUE(18, uint, bias_query), VALUE(19, uint, bias_key), VALUE(20, REAL, dropout_scale), VALUE(21, uint, below),
       CHACHA_KEY(22, 23, 24, 25, 26)) {
  SHARED(REAL, key_tile, TILE * PITCH);
  SHARED(REAL, value_tile, TILE * VALUE_PITCH);
  QUERY_SIDE;
  REAL given[VALUE_D], sums[D];
  load_row(g, ((ulong)sample * queries + i) * value_width + head * VALUE_HEAD, part, VALUE_HEAD, VALUE_D, 1, given);
  for (uint d = 0u; d < D; d++) sums[d] = 0;
  const ulong lane_row = ((ulong)sample * heads + head) * queries + i;
  REAL seen[VALUE_D], off = 0;
  load_row(out, ((ulong)sample * queries + i) * value_width + head * VALUE_HEAD, part, VALUE_HEAD, VALUE_D, 1, seen);
  UNROLL for (uint d = 0u; d < VALUE_D; d++) off = fma(given[d], seen[d], off);
  off = team_sum(off);
  if (part == 0u && team == 0u && row < queries) offs[lane_row] = off;
  const REAL log_total = logs[lane_row];
  SERIAL for (uint first = 0u; first < keys; first += TILE) {
    LOAD_KEYS;
    SERIAL for (uint from = 0u; from < count; from += SPLIT) {
      const uint j = from + team;
      REAL logit = 0, along = 0;
      UNROLL for (uint d = 0u; d < D; d++) logit = fma(mine[d], key_tile[j * PITCH + part * D + d], logit);
      UNROLL for (uint d = 0u; d < VALUE_D; d++) along = fma(given[d], value_tile[j * VALUE_PITCH + part * VALUE_D + d], along);
      logit = team_sum(logit);
      along = team_sum(along);
      REAL d_logit = 0;
      if (SEEN(i, first + j)) {
        const REAL weight = exp_normal(logit + BIAS(i, first + j) - log_total);
        d_logit = weight * (((kept >> j & 1u) != 0u ? along * dropout_scale : (REAL)0) - off);
        UNROLL for (uint d = 0u; d < D; d++) sums[d] = fma(d_logit, key_tile[j * PITCH + part * D + d], sums[d]);
      }
#if BIAS_GRADIENT
      if (part == 0u && row < queries && j < count) d_logits[lane_row * keys + first + j] = d_logit;
#endif
    }
  }
  UNROLL for (uint d = 0u; d < D; d++) sums[d] = split_sum(sums[d]);
  if (row >= queries || team != 0u) return;
  const ulong at = ((ulong)sample * queries + row) * width + head * HEAD;
  UNROLL for (uint d = 0u; d < D; d++)
    if (part * D + d < HEAD) dq[at + part * D + d] = sums[d] * scale;
}

// dv = keep p g and dk = scale ds q: one team for each key, queries pass through shared memory. A group draws the dropout bits of its keys
// once for each query of a tile.
#define WORDS ((ROWS + 31u) / 32u)
KERNEL(backward_keys, INPUT(0, REAL, q), INPUT(1, REAL, k), INPUT(2, REAL, v), INPUT(3, REAL, mask), INPUT(4, REAL, bias), INPUT(5, REAL, g),
       INPUT(6, REAL, logs), INPUT(7, REAL, offs), OUTPUT(8, REAL, dk), OUTPUT(9, REAL, dv), VALUE(10, uint, heads), VALUE(11, uint, queries),
       VALUE(12, uint, keys), VALUE(13, uint, causal), VALUE(14, REAL, scale), VALUE(15, uint, bias_sample), VALUE(16, uint, bias_head),
       VALUE(17, uint, bias_query), VALUE(18, uint, bias_key), VALUE(19, REAL, dropout_scale), VALUE(20, uint, below),
       CHACHA_KEY(21, 22, 23, 24, 25)) {
  SHARED(REAL, query_tile, TILE * PITCH);
  SHARED(REAL, given_tile, TILE * VALUE_PITCH);
  SHARED(REAL, log_tile, TILE);
  SHARED(REAL, off_tile, TILE);
  SHARED(uint, kept_tile, TILE * WORDS);
  const uint blocks = (keys + ROWS - 1u) / ROWS;
  const uint head = GROUP / blocks % heads, sample = GROUP / blocks / heads;
  const uint block = GROUP % blocks * ROWS, lane_row = LANE / ROW_LANES, part = LANE % TEAM, team = LANE / TEAM % SPLIT;
  const uint row = block + lane_row, j = least(row, keys - 1u);
  const uint width = heads * HEAD, value_width = heads * VALUE_HEAD;
  REAL mine[D], value[VALUE_D], to_key[D], to_value[VALUE_D];
  load_row(k, ((ulong)sample * keys + j) * width + head * HEAD, part, HEAD, D, 1, mine);
  load_row(v, ((ulong)sample * keys + j) * value_width + head * VALUE_HEAD, part, VALUE_HEAD, VALUE_D, 1, value);
  for (uint d = 0u; d < D; d++) to_key[d] = 0;
  for (uint d = 0u; d < VALUE_D; d++) to_value[d] = 0;
  const ulong query_base = (ulong)sample * queries * width + head * HEAD;
  const ulong given_base = (ulong)sample * queries * value_width + head * VALUE_HEAD;
  const ulong log_base = ((ulong)sample * heads + head) * queries;
  SERIAL for (uint first = 0u; first < queries; first += TILE) {
    const uint count = least(TILE, queries - first);
    BARRIER();
    load_tile(q, query_base, first, queries, width, HEAD, PITCH, query_tile, LANE);
    load_tile(g, given_base, first, queries, value_width, VALUE_HEAD, VALUE_PITCH, given_tile, LANE);
    for (uint t = LANE; t < count; t += LANES) {
      log_tile[t] = logs[log_base + first + t];
      off_tile[t] = offs[log_base + first + t];
    }
    for (uint t = LANE; t < count * WORDS; t += LANES) kept_tile[t] = KEPT_BITS(sample, head, first + t / WORDS, block + t % WORDS * 32u);
    BARRIER();
    SERIAL for (uint from = 0u; from < count; from += SPLIT) {
      const uint r = from + team, i = first + r;
      REAL logit = 0, along = 0;
      UNROLL for (uint d = 0u; d < D; d++) logit = fma(mine[d], query_tile[r * PITCH + part * D + d], logit);
      UNROLL for (uint d = 0u; d < VALUE_D; d++) along = fma(value[d], given_tile[r * VALUE_PITCH + part * VALUE_D + d], along);
      logit = team_sum(logit);
      along = team_sum(along);
      if (row < keys && r < count && SEEN(i, j)) {
        const REAL weight = exp_normal(fma(logit, scale, BIAS(i, j)) - log_tile[r]);
        const bool stays = (kept_tile[r * WORDS + lane_row / 32u] >> (lane_row % 32u) & 1u) != 0u;
        const REAL kept = stays ? weight * dropout_scale : (REAL)0;
        const REAL d_logit = weight * ((stays ? along * dropout_scale : (REAL)0) - off_tile[r]);
        UNROLL for (uint d = 0u; d < VALUE_D; d++)
          to_value[d] = fma(kept, given_tile[r * VALUE_PITCH + part * VALUE_D + d], to_value[d]);
        UNROLL for (uint d = 0u; d < D; d++) to_key[d] = fma(d_logit, query_tile[r * PITCH + part * D + d], to_key[d]);
      }
    }
  }
  UNROLL for (uint d = 0u; d < D; d++) to_key[d] = split_sum(to_key[d]);
  UNROLL for (uint d = 0u; d < VALUE_D; d++) to_value[d] = split_sum(to_value[d]);
  if (row >= keys || team != 0u) return;
  const ulong at = ((ulong)sample * keys + row) * width + head * HEAD;
  const ulong value_at = ((ulong)sample * keys + row) * value_width + head * VALUE_HEAD;
  UNROLL for (uint d = 0u; d < D; d++)
    if (part * D + d < HEAD) dk[at + part * D + d] = to_key[d] * scale;
  UNROLL for (uint d = 0u; d < VALUE_D; d++)
    if (part * VALUE_D + d < VALUE_HEAD) dv[value_at + part * VALUE_D + d] = to_value[d];
}
