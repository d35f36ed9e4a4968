// The kernel language on CUDA; see docs/device.md.
#define CUDA
typedef unsigned int uint;
typedef unsigned short ushort;
typedef unsigned char uchar;
typedef unsigned long long ulong;

// Groups that are to fit a multiprocessor at a time: a program may define more.
#ifndef RESIDENT
#define RESIDENT 1
#endif
#define KERNEL(name, ...) extern "C" __global__ void __launch_bounds__(LANES, RESIDENT) name(__VA_ARGS__)
#define INPUT(i, type, name) const type *__restrict__ name
#define OUTPUT(i, type, name) type *__restrict__ name
#define INOUT(i, type, name) type *__restrict__ name
#define VALUE(i, type, name) const type name
#define DEVICE static __device__ __forceinline__ __attribute__((unused))

#define GLOBAL(type) type *
#define SHARED_POINTER(type) type *
#define LOCAL(type) type *
#define SHARED(type, name, count) __shared__ __align__(16) type name[count]
// As much as the launch says.
#define SHARED_LARGE(type, name, count) extern __shared__ __align__(16) type name[]

#define GROUP (blockIdx.x)
#define GROUPS (gridDim.x)
#define LANE (threadIdx.x)
#define BARRIER() __syncthreads()
#define BARRIER_GLOBAL() __syncthreads()
#define UNROLL _Pragma("unroll")
#define SERIAL _Pragma("unroll 1")

#define WARP 32u
#define SHUFFLE_XOR(value, mask) __shfl_xor_sync(0xffffffffu, value, mask)
#define SHUFFLE(value, lane) __shfl_sync(0xffffffffu, value, lane)
#define WARP_ANY(condition) (__any_sync(0xffffffffu, condition) != 0)

// 2^x, but 0 where that is below the normal numbers; exp2 is this and what cares for those.
#if REAL_BITS == 64
#define exp2_normal(x) exp2(x)
#else
DEVICE float exp2_normal(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
#endif

// `count` numbers, a multiple of 16 bytes at an address that is one too.
#if REAL_BITS == 64
#define LOAD_VECTOR(x, at, count, out)                                          \
  UNROLL for (uint _i = 0u; _i < (count); _i += 2u) {                           \
    const double2 _v = *reinterpret_cast<const double2 *>((x) + (at) + _i);     \
    (out)[_i] = _v.x, (out)[_i + 1u] = _v.y;                                    \
  }
#else
#define LOAD_VECTOR(x, at, count, out)                                          \
  UNROLL for (uint _i = 0u; _i < (count); _i += 4u) {                           \
    const float4 _v = *reinterpret_cast<const float4 *>((x) + (at) + _i);       \
    (out)[_i] = _v.x, (out)[_i + 1u] = _v.y;                                    \
    (out)[_i + 2u] = _v.z, (out)[_i + 3u] = _v.w;                               \
  }
#endif
