// Dropout as in dropout.rs, bit for bit: a warp CHUNKS blocks of the generator, 32 elements each.

KERNEL(dropout, INPUT(0, REAL, x), OUTPUT(1, REAL, y), VALUE(2, ulong, n), VALUE(3, REAL, scale), VALUE(4, uint, below),
       CHACHA_KEY(5, 6, 7, 8, 9)) {
  const uint lane = LANE % WARP;
  const ulong block = ((ulong)GROUP * (LANES / WARP) + LANE / WARP) * CHUNKS;
  uint mine = 0u;
  if (lane < CHUNKS) mine = chosen_bits(key0, key1, key2, key3, stream, block + lane, below);
  for (uint r = 0; r < CHUNKS; r++) {
    const uint bits = SHUFFLE(mine, r);
    const ulong i = (block + r) * WARP + lane;
    if (i < n) y[i] = (bits >> lane & 1u) != 0u ? x[i] * scale : (REAL)0;
  }
}
