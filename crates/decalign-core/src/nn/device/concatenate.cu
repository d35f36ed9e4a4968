// Scaled tables one after the other along time, with dropout: y[b, at + t] = scale x[b, t], what is kept of it. A group has a part of
// a sample, of `size` numbers in x and `whole` in y; a warp 32 CHUNKS of them.

KERNEL(place, INPUT(0, REAL, x), OUTPUT(1, REAL, y), VALUE(2, uint, parts), VALUE(3, ulong, size), VALUE(4, ulong, whole), VALUE(5, ulong, at),
       VALUE(6, REAL, scale), VALUE(7, uint, below), CHACHA_KEY(8, 9, 10, 11, 12)) {
  const uint lane = LANE % WARP;
  const ulong sample = GROUP / parts, first = ((ulong)(GROUP % parts) * (LANES / WARP) + LANE / WARP) * CHUNKS * WARP;
  const ulong to = sample * whole + at;
  uint mine = 0xffffffffu;
  if (below <= 0xffffu && first < size && lane < CHUNKS) mine = kept_bits(key0, key1, key2, key3, stream, to + first + (ulong)lane * WARP, below);
  for (uint r = 0u; r < CHUNKS; r++) {
    const uint bits = SHUFFLE(mine, r);
    const ulong i = first + (ulong)r * WARP + lane;
    if (i < size) y[to + i] = (bits >> lane & 1u) != 0u ? x[sample * size + i] * scale : (REAL)0;
  }
}

// The gradient of `place`, written or added.
KERNEL(place_back, INPUT(0, REAL, g), OUTPUT(1, REAL, dx), VALUE(2, uint, parts), VALUE(3, ulong, size), VALUE(4, ulong, whole),
       VALUE(5, ulong, at), VALUE(6, REAL, scale), VALUE(7, uint, add), VALUE(8, uint, below), CHACHA_KEY(9, 10, 11, 12, 13)) {
  const uint lane = LANE % WARP;
  const ulong sample = GROUP / parts, first = ((ulong)(GROUP % parts) * (LANES / WARP) + LANE / WARP) * CHUNKS * WARP;
  const ulong to = sample * whole + at;
  uint mine = 0xffffffffu;
  if (below <= 0xffffu && first < size && lane < CHUNKS) mine = kept_bits(key0, key1, key2, key3, stream, to + first + (ulong)lane * WARP, below);
  for (uint r = 0u; r < CHUNKS; r++) {
    const uint bits = SHUFFLE(mine, r);
    const ulong i = first + (ulong)r * WARP + lane;
    if (i < size) {
      const REAL v = (bits >> lane & 1u) != 0u ? g[to + i] * scale : (REAL)0;
      dx[sample * size + i] = add != 0u ? dx[sample * size + i] + v : v;
    }
  }
}
