// Scaled tables one after the other along time, with dropout: y[b, at + t] = scale x[b, t], what is kept of it. A launch takes one table
// or two; a group has a part of a sample of one of them, of `size` numbers there and `whole` in y; a warp 32 CHUNKS of them.

// What a lane has: of which table, from which number on, where that goes, and which numbers of its warp are kept.
#define SHARE                                                                                                          \
  const uint lane = LANE % WARP;                                                                                       \
  const bool second = GROUP % parts >= parts_of_a;                                                                     \
  const uint part = GROUP % parts - (second ? parts_of_a : 0u);                                                        \
  const ulong sample = GROUP / parts, size = second ? size_b : size_a;                                                 \
  const ulong first = ((ulong)part * (LANES / WARP) + LANE / WARP) * CHUNKS * WARP;                                    \
  const ulong from = sample * size, to = sample * whole + (second ? at_b : at_a);                                      \
  uint mine = 0xffffffffu;                                                                                             \
  if (below <= 0xffffu && first < size && lane < CHUNKS)                                                               \
  mine = kept_bits(key0, key1, key2, key3, stream, to + first + (ulong)lane * WARP, below)

KERNEL(place, INPUT(0, REAL, a), INPUT(1, REAL, b), OUTPUT(2, REAL, y), VALUE(3, uint, parts), VALUE(4, uint, parts_of_a), VALUE(5, ulong, size_a),
       VALUE(6, ulong, size_b), VALUE(7, ulong, at_a), VALUE(8, ulong, at_b), VALUE(9, ulong, whole), VALUE(10, REAL, scale),
       VALUE(11, uint, below), CHACHA_KEY(12, 13, 14, 15, 16)) {
  SHARE;
  for (uint r = 0u; r < CHUNKS; r++) {
    const bool kept = (SHUFFLE(mine, r) >> lane & 1u) != 0u;
    const ulong i = first + (ulong)r * WARP + lane;
    if (i >= size) continue;
    const REAL x = second ? b[from + i] : a[from + i];
    y[to + i] = kept ? x * scale : (REAL)0;
  }
}

// The gradients of `place`, written or added.
KERNEL(place_back, INPUT(0, REAL, g), OUTPUT(1, REAL, da), OUTPUT(2, REAL, db), VALUE(3, uint, parts), VALUE(4, uint, parts_of_a),
       VALUE(5, ulong, size_a), VALUE(6, ulong, size_b), VALUE(7, ulong, at_a), VALUE(8, ulong, at_b), VALUE(9, ulong, whole),
       VALUE(10, REAL, scale), VALUE(11, uint, below), VALUE(12, uint, add), CHACHA_KEY(13, 14, 15, 16, 17)) {
  SHARE;
  for (uint r = 0u; r < CHUNKS; r++) {
    const bool kept = (SHUFFLE(mine, r) >> lane & 1u) != 0u;
    const ulong i = first + (ulong)r * WARP + lane;
    if (i >= size) continue;
    const REAL v = kept ? g[to + i] * scale : (REAL)0;
    if (second)
      db[from + i] = add != 0u ? db[from + i] + v : v;
    else
      da[from + i] = add != 0u ? da[from + i] + v : v;
  }
}
