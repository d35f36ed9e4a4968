// Products of tables of 16-bit numbers by a warp, added up in 32 bits: the tensor cores' m16n8k16, of CUDA from sm_80 on. Where HALF is
// a number's bits, of bfloat16 if BFLOAT is 1 and of binary16 if it is 0.
//
// With g = lane / 4 and t = lane % 4 a lane holds, two numbers a word, the lower one first:
//   a (16, 16): rows g, g + 8 of columns 2t, 2t + 1, then both of columns 2t + 8, 2t + 9
//   b (16, 8):  rows 2t, 2t + 1 of column g, then rows 2t + 8, 2t + 9
//   c (16, 8):  columns 2t, 2t + 1 of row g, then of row g + 8
#define HALF ushort

#ifdef CUDA

// Two numbers rounded to a word.
DEVICE uint packed(float low, float high) {
  uint both;
#if BFLOAT
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
#else
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
#endif
  return both;
}

DEVICE float widened(uint bits) {
  float x;
#if BFLOAT
  x = __uint_as_float(bits << 16);
#else
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"((ushort)bits));
#endif
  return x;
}

// c += a b.
DEVICE void multiply_add(LOCAL(float) c, LOCAL(const uint) a, uint b0, uint b1) {
#if BFLOAT
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

// Four tables of 8 by 8 numbers: lane 8 m + r says where row r of table m starts, a multiple of 16 bytes. Of each a lane gets row g,
// columns 2t and 2t + 1.
DEVICE void load_tables(SHARED_POINTER(const HALF) x, uint at, LOCAL(uint) out) {
  const uint address = (uint)__cvta_generic_to_shared(x + at);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address)
               : "memory");
}

// The same of the tables with rows and columns exchanged.
DEVICE void load_tables_turned(SHARED_POINTER(const HALF) x, uint at, LOCAL(uint) out) {
  const uint address = (uint)__cvta_generic_to_shared(x + at);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address)
               : "memory");
}

// Eight numbers to shared memory, and two from and to global memory; places are multiples of as many.
DEVICE void copy_eight(GLOBAL(const HALF) x, ulong at, SHARED_POINTER(HALF) to, uint place) {
  *reinterpret_cast<uint4 *>(to + place) = *reinterpret_cast<const uint4 *>(x + at);
}
DEVICE void clear_eight(SHARED_POINTER(HALF) to, uint place) { *reinterpret_cast<uint4 *>(to + place) = make_uint4(0u, 0u, 0u, 0u); }
// The same while the lane goes on; it is there once the lane has waited for all that it copied.
DEVICE void copy_later(GLOBAL(const HALF) x, ulong at, SHARED_POINTER(HALF) to, uint place) {
  const uint address = (uint)__cvta_generic_to_shared(to + place);
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(__cvta_generic_to_global(x + at)) : "memory");
}
DEVICE void copy_number_later(GLOBAL(const REAL) x, ulong at, SHARED_POINTER(REAL) to, uint place) {
  const uint address = (uint)__cvta_generic_to_shared(to + place);
  asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(address), "l"(__cvta_generic_to_global(x + at)), "n"(REAL_BITS / 8) : "memory");
}
DEVICE void wait_for_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }
DEVICE uint load_two(GLOBAL(const HALF) x, ulong at) { return *reinterpret_cast<const uint *>(x + at); }
DEVICE void store_two(GLOBAL(HALF) x, ulong at, uint both) { *reinterpret_cast<uint *>(x + at) = both; }

#else // The emulator: the same exchanged lane by lane.

DEVICE uint rounded(float x) {
  uint bits;
  memcpy(&bits, &x, 4);
  const uint sign = bits >> 16 & 0x8000u;
#if BFLOAT
  if (x != x) return 0x7fc0u | sign;
  return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
#else
  const float size = fabs(x);
  if (x != x) return 0x7e00u | sign;
  if (size >= 65520.0f) return 0x7c00u | sign;
  // Rounded to even, as the processor is set to.
  if (size < 0.00006103515625f) return (uint)nearbyintf(size * 16777216.0f) | sign;
  const int power = ilogbf(size);
  return (uint)(power + 14) * 1024u + (uint)nearbyintf(ldexpf(size, 10 - power)) | sign;
#endif
}
DEVICE uint packed(float low, float high) { return rounded(low) | rounded(high) << 16; }

DEVICE float widened(uint bits) {
  bits &= 0xffffu;
#if BFLOAT
  float x;
  bits <<= 16;
  memcpy(&x, &bits, 4);
  return x;
#else
  const uint power = bits >> 10 & 31u, part = bits & 1023u;
  float size = power == 0u ? ldexpf((float)part, -24) : ldexpf((float)(1024u + part), (int)power - 25);
  if (power == 31u) size = part == 0u ? INFINITY : NAN;
  return (bits & 0x8000u) != 0u ? -size : size;
#endif
}

// What a lane brings to a product.
struct Operands {
  uint a[4], b[2];
};

DEVICE void multiply_add(LOCAL(float) c, LOCAL(const uint) a, uint b0, uint b1) {
  const uint lane = LANE % WARP, g = lane / 4u, t = lane % 4u;
  const auto all = emulator::exchange_all(Operands{{a[0], a[1], a[2], a[3]}, {b0, b1}}, __LINE__);
  for (uint from = 0u; from < 4u; from++) {
    const Operands row = all[g * 4u + from];
    for (uint i = 0u; i < 4u; i++) {
      const Operands column = all[(2u * t + i % 2u) * 4u + from];
      for (uint k = 0u; k < 2u; k++) {
        const uint x = row.a[i / 2u + 2u * k], y = column.b[k];
        c[i] += widened(x) * widened(y) + widened(x >> 16) * widened(y >> 16);
      }
    }
  }
}

DEVICE void load_tables(SHARED_POINTER(const HALF) x, uint at, LOCAL(uint) out) {
  const uint lane = LANE % WARP, g = lane / 4u, t = lane % 4u;
  const auto starts = emulator::exchange_all(at, __LINE__);
  for (uint m = 0u; m < 4u; m++) {
    const uint start = starts[8u * m + g];
    out[m] = (uint)x[start + 2u * t] | (uint)x[start + 2u * t + 1u] << 16;
  }
}
DEVICE void load_tables_turned(SHARED_POINTER(const HALF) x, uint at, LOCAL(uint) out) {
  const uint lane = LANE % WARP, g = lane / 4u, t = lane % 4u;
  const auto starts = emulator::exchange_all(at, __LINE__);
  for (uint m = 0u; m < 4u; m++) {
    const uint first = starts[8u * m + 2u * t], second = starts[8u * m + 2u * t + 1u];
    out[m] = (uint)x[first + g] | (uint)x[second + g] << 16;
  }
}

DEVICE void copy_eight(GLOBAL(const HALF) x, ulong at, SHARED_POINTER(HALF) to, uint place) {
  for (uint i = 0u; i < 8u; i++) to[place + i] = x[at + i];
}
// As late as it may be, and the place is taken at once.
DEVICE void copy_later(GLOBAL(const HALF) x, ulong at, SHARED_POINTER(HALF) to, uint place) {
  for (uint i = 0u; i < 8u; i++) {
    to[place + i] = (HALF)0xffffu;
    emulator::later([=]() { to[place + i] = x[at + i]; });
  }
}
DEVICE void copy_number_later(GLOBAL(const REAL) x, ulong at, SHARED_POINTER(REAL) to, uint place) {
  to[place] = (REAL)NAN;
  emulator::later([=]() { to[place] = x[at]; });
}
DEVICE void wait_for_copies() { emulator::catch_up(); }
DEVICE void clear_eight(SHARED_POINTER(HALF) to, uint place) {
  for (uint i = 0u; i < 8u; i++) to[place + i] = (HALF)0;
}
DEVICE uint load_two(GLOBAL(const HALF) x, ulong at) { return (uint)x[at] | (uint)x[at + 1u] << 16; }
DEVICE void store_two(GLOBAL(HALF) x, ulong at, uint both) {
  x[at] = (HALF)(both & 0xffffu);
  x[at + 1u] = (HALF)(both >> 16);
}

#endif

// Over the four lanes that share the rows of c: every lane gets the result.
DEVICE REAL row_sum(REAL x) {
  x += SHUFFLE_XOR(x, 1u);
  return x + SHUFFLE_XOR(x, 2u);
}
DEVICE REAL row_max(REAL x) {
  x = fmax(x, SHUFFLE_XOR(x, 1u));
  return fmax(x, SHUFFLE_XOR(x, 2u));
}
