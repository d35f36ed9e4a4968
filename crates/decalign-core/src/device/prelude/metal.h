// The kernel language on Metal; see docs/device.md.
#include <metal_stdlib>
using namespace metal;

#define KERNEL(name, ...)                                                      \
  kernel void name(__VA_ARGS__, uint _group [[threadgroup_position_in_grid]],  \
                   uint _groups [[threadgroups_per_grid]],                     \
                   uint _lane [[thread_index_in_threadgroup]])
#define INPUT(i, type, name) device const type *name [[buffer(i)]]
#define OUTPUT(i, type, name) device type *name [[buffer(i)]]
#define INOUT(i, type, name) device type *name [[buffer(i)]]
#define VALUE(i, type, name) constant type &name [[buffer(i)]]
#define DEVICE static inline

#define GLOBAL(type) device type *
#define SHARED_POINTER(type) threadgroup type *
#define LOCAL(type) thread type *
#define SHARED(type, name, count) threadgroup type name[count]

#define GROUP _group
#define GROUPS _groups
#define LANE _lane
#define BARRIER() threadgroup_barrier(mem_flags::mem_threadgroup)
#define BARRIER_GLOBAL() threadgroup_barrier(mem_flags::mem_threadgroup | mem_flags::mem_device)
#define UNROLL _Pragma("clang loop unroll(full)")
#define SERIAL _Pragma("clang loop unroll(disable)")

#define WARP 32u
#define SHUFFLE_XOR(value, mask) simd_shuffle_xor(value, ushort(mask))
#define SHUFFLE(value, lane) simd_shuffle(value, ushort(lane))
#define WARP_ANY(condition) simd_any(condition)
