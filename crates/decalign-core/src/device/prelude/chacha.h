// ChaCha8 (Bernstein, 2008), the generator of decalign_core::random, and what dropout keeps by it.

#define CHACHA_KEY(i0, i1, i2, i3, i4)                                             \
  VALUE(i0, ulong, key0), VALUE(i1, ulong, key1), VALUE(i2, ulong, key2), VALUE(i3, ulong, key3), VALUE(i4, ulong, stream)

#define ROTATED(x, n) (((x) << n) | ((x) >> (32 - n)))
#define QUARTER_ROUND(a, b, c, d)                                                 \
  x[a] += x[b]; x[d] ^= x[a]; x[d] = ROTATED(x[d], 16);                           \
  x[c] += x[d]; x[b] ^= x[c]; x[b] = ROTATED(x[b], 12);                           \
  x[a] += x[b]; x[d] ^= x[a]; x[d] = ROTATED(x[d], 8);                            \
  x[c] += x[d]; x[b] ^= x[c]; x[b] = ROTATED(x[b], 7);

// One bit each for the choices 32 block .. 32 block + 31 of a stream: whether the number is below `below`, of 2^16.
DEVICE uint chosen_bits(ulong key0, ulong key1, ulong key2, ulong key3, ulong stream, ulong block, uint below) {
  const uint start[16] = {0x61707865u, 0x3320646eu, 0x79622d32u, 0x6b206574u,
                          (uint)key0, (uint)(key0 >> 32), (uint)key1, (uint)(key1 >> 32),
                          (uint)key2, (uint)(key2 >> 32), (uint)key3, (uint)(key3 >> 32),
                          (uint)block, (uint)(block >> 32), (uint)stream, (uint)(stream >> 32)};
  uint x[16];
  UNROLL for (int i = 0; i < 16; i++) x[i] = start[i];
  UNROLL for (int round = 0; round < 4; round++) {
    QUARTER_ROUND(0, 4, 8, 12) QUARTER_ROUND(1, 5, 9, 13) QUARTER_ROUND(2, 6, 10, 14) QUARTER_ROUND(3, 7, 11, 15)
    QUARTER_ROUND(0, 5, 10, 15) QUARTER_ROUND(1, 6, 11, 12) QUARTER_ROUND(2, 7, 8, 13) QUARTER_ROUND(3, 4, 9, 14)
  }
  uint bits = 0u;
  UNROLL for (int i = 0; i < 16; i++) {
    const uint word = x[i] + start[i];
    bits |= (uint)((word & 0xffffu) < below) << (2 * i);
    bits |= (uint)((word >> 16) < below) << (2 * i + 1);
  }
  return bits;
}

// Bits of 32 choices from any place, of two blocks.
DEVICE uint joined_bits(uint low, uint high, uint offset) {
  return offset == 0u ? low : (low >> offset) | (high << (32u - offset));
}

// One bit each for the choices number .. number + 31 of a stream.
DEVICE uint kept_bits(ulong key0, ulong key1, ulong key2, ulong key3, ulong stream, ulong number, uint below) {
  const ulong block = number / 32u;
  const uint offset = (uint)(number % 32u);
  const uint low = chosen_bits(key0, key1, key2, key3, stream, block, below);
  if (offset == 0u) return low;
  return joined_bits(low, chosen_bits(key0, key1, key2, key3, stream, block + 1u, below), offset);
}

// The stream decalign_core::random::Stream::child gives.
DEVICE ulong child_stream(ulong stream, ulong number) {
  ulong z = stream ^ ((number + 1u) * 0x9e3779b97f4a7c15ul);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ul;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebul;
  return z ^ (z >> 31);
}
