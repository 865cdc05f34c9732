// simt.h on GPUs.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <type_traits>

#define DEVICE __device__ __forceinline__
#define HOST_DEVICE __host__ __device__ __forceinline__
#define UNROLL _Pragma("unroll")

namespace ptqsr::cuda {

// Compute capability that this code is compiled for, as 75: a constant, so that what other
// processors would do costs nothing.
DEVICE constexpr int architecture() {
#if defined(__CUDA_ARCH__)
  return __CUDA_ARCH__ / 10;
#else
  return 0;
#endif
}

// ---- threads

DEVICE int thread() { return static_cast<int>(threadIdx.x); }
DEVICE int lane() { return static_cast<int>(threadIdx.x % kWarp); }
DEVICE int warp() { return static_cast<int>(threadIdx.x / kWarp); }
DEVICE int64_t block_x() { return blockIdx.x; }
DEVICE int64_t block_y() { return blockIdx.y; }
DEVICE int64_t blocks_x() { return gridDim.x; }

// Ends the launch with an error.
DEVICE void trap() { __trap(); }

DEVICE void synchronize() { __syncthreads(); }
// Of the `threads` threads, whole warps, that come to barrier `number`, 1 to 15.
DEVICE void synchronize_some(int number, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}
DEVICE void synchronize_warp() { __syncwarp(); }

// All of the shared memory that the launch asked for, aligned to 128 bytes.
DEVICE unsigned char* shared_memory() {
  extern __shared__ __align__(128) unsigned char memory[];
  return memory;
}

// ---- exchange within a warp

template <class T>
DEVICE T shuffle(T value, int from) {
  return __shfl_sync(0xFFFFFFFFu, value, from);
}
template <class T>
DEVICE T shuffle_xor(T value, int mask) {
  return __shfl_xor_sync(0xFFFFFFFFu, value, mask);
}
DEVICE uint32_t ballot(bool value) { return __ballot_sync(0xFFFFFFFFu, value); }

// ---- memory

template <class T>
DEVICE T load_once(const T* from) {  // read by nobody else
  return __ldcs(from);
}
template <class T>
DEVICE void atomic_min(T* to, T value) {
  atomicMin(to, value);
}
template <class T>
DEVICE void atomic_max(T* to, T value) {
  atomicMax(to, value);
}
// What stood there.
DEVICE int32_t atomic_add(int32_t* to, int32_t value) { return atomicAdd(to, value); }
// What this thread has written is there for all before what it writes next.
DEVICE void fence() { __threadfence(); }
// Of what other blocks write.
DEVICE int32_t load_of_blocks(const int32_t* from) { return __ldcg(from); }
DEVICE int64_t load_of_blocks(const int64_t* from) {
  return __ldcg(reinterpret_cast<const long long*>(from));
}
DEVICE void atomic_add(int64_t* to, int64_t value) {
  atomicAdd(reinterpret_cast<unsigned long long*>(to), static_cast<unsigned long long>(value));
}

// 16 bytes from global to shared memory, zeros where not `there`; both addresses are multiples of
// 16. Where the processor copies at once (before sm_80), that is all the same to who waits.
DEVICE void copy_ahead(void* to, const void* from, bool there) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  const int bytes = there ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(bytes)
               : "memory");
#else
  *static_cast<uint4*>(to) = there ? *static_cast<const uint4*>(from) : uint4{};
#endif
}
// Ends a group of copies.
DEVICE void copies_end() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
// Waits until all but the last `kPending` groups of this thread have arrived.
template <int kPending>
DEVICE void copies_wait() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
#endif
}

// ---- numbers

using Half = __half;
using BFloat = __nv_bfloat16;
DEVICE float to_float(float value) { return value; }
DEVICE float to_float(Half value) { return __half2float(value); }
DEVICE float to_float(BFloat value) { return __bfloat162float(value); }
// To nearest, half to even.
template <class T>
DEVICE T from_float(float value);
template <>
DEVICE float from_float<float>(float value) {
  return value;
}
template <>
DEVICE Half from_float<Half>(float value) {
  return __float2half_rn(value);
}
template <>
DEVICE BFloat from_float<BFloat>(float value) {
  return __float2bfloat16_rn(value);
}
DEVICE int32_t round_to_int(float value) { return __float2int_rn(value); }
// Of values within 2^22, by the rounding of an addition: conversions take four times as long.
DEVICE int32_t floor_to_int(float value) {
  return __float_as_int(__fadd_rd(value, 0x1.8p23f)) - 0x4B400000;
}
DEVICE int32_t ceil_to_int(float value) {
  return __float_as_int(__fadd_ru(value, 0x1.8p23f)) - 0x4B400000;
}
DEVICE int64_t round_to_int64(float value) { return __float2ll_rn(value); }

// ---- tensor cores
//
// Four 8 x 16-byte matrices from shared memory, lane i giving the address of row i % 8 of matrix
// i / 8. Of each a lane receives the 4 bytes of row lane / 4 from byte 4 (lane % 4) on.
DEVICE void load_matrices(uint32_t (&to)[4], const void* row) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
}

// c += a b of one warp: A [8 or 16][K], row by row, B [N = 8][K], C [.][8]. See simt_mma.h.
#define PTQSR_MMA(NAME, SHAPE, KIND)                                   \
  DEVICE void NAME(int32_t& c0, int32_t& c1, uint32_t a, uint32_t b) { \
    asm volatile("mma.sync.aligned." SHAPE ".row.col.s32." KIND        \
                 ".s32 {%0,%1}, {%2}, {%3}, {%0,%1};"                  \
                 : "+r"(c0), "+r"(c1)                                  \
                 : "r"(a), "r"(b));                                    \
  }
PTQSR_MMA(mma_8x8x16_s8, "m8n8k16", "s8.s8")
PTQSR_MMA(mma_8x8x16_u8, "m8n8k16", "u8.s8")
PTQSR_MMA(mma_8x8x32_s4, "m8n8k32", "s4.s4")
PTQSR_MMA(mma_8x8x32_u4, "m8n8k32", "u4.s4")
#undef PTQSR_MMA

#define PTQSR_MMA(NAME, SHAPE, KIND)                                                  \
  DEVICE void NAME(int32_t (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) { \
    asm volatile("mma.sync.aligned." SHAPE ".row.col.s32." KIND                       \
                 ".s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"         \
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])                     \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1])); \
  }
PTQSR_MMA(mma_16x8x32_s8, "m16n8k32", "s8.s8")
PTQSR_MMA(mma_16x8x32_u8, "m16n8k32", "u8.s8")
PTQSR_MMA(mma_16x8x64_s4, "m16n8k64", "s4.s4")
PTQSR_MMA(mma_16x8x64_u4, "m16n8k64", "u4.s4")
#undef PTQSR_MMA

// ---- launches

// Blocks of a kernel that a multiprocessor's registers must hold: Kernel::kBlocks, or one; before
// 8.0 one, for shared memory holds no more.
template <class Kernel, class = void>
constexpr int blocks_of = 1;
template <class Kernel>
constexpr int blocks_of<Kernel, std::void_t<decltype(Kernel::kBlocks)>> =
    architecture() >= 80 ? Kernel::kBlocks : 1;

template <class Kernel>
__global__ void __launch_bounds__(Kernel::kThreads, blocks_of<Kernel>)
    entry(const __grid_constant__ typename Kernel::Args args) {
  Kernel::run(args);
}

// Remembers what CUDA says, for last_error().
Status checked(cudaError_t error);

// Of the device that is current.
struct Resources {
  int capability;        // as 75
  int units;             // multiprocessors
  int64_t shared_limit;  // bytes that a block may have
};
Status current_device(Resources* device);

// All that a block may have, so that no launch takes from another's.
template <class Kernel>
Status allow_shared(int64_t bytes) {
  if (bytes <= 48 * 1024) return Status::ok;
  Resources device;
  if (const Status status = current_device(&device); status != Status::ok) return status;
  return checked(cudaFuncSetAttribute(entry<Kernel>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      static_cast<int>(device.shared_limit)));
}

// How many blocks of a kernel the device holds at a time.
template <class Kernel>
Status resident_blocks(int64_t shared_bytes, int64_t* blocks) {
  Resources device;
  if (const Status status = current_device(&device); status != Status::ok) return status;
  if (const Status status = allow_shared<Kernel>(shared_bytes); status != Status::ok) return status;
  int each = 0;
  const Status status = checked(cudaOccupancyMaxActiveBlocksPerMultiprocessor(
      &each, entry<Kernel>, Kernel::kThreads, static_cast<size_t>(shared_bytes)));
  *blocks = static_cast<int64_t>(each) * device.units;
  if (status == Status::ok && each < 1) return checked(cudaErrorLaunchOutOfResources);
  return status;
}

template <class Kernel>
Status launch(const Grid& grid, int64_t shared_bytes, Stream stream,
              const typename Kernel::Args& args) {
  if (grid.x < 1 || grid.y < 1) return Status::ok;
  if (grid.x > INT32_MAX || grid.y > 65535) return Status::too_large;
  if (const Status status = allow_shared<Kernel>(shared_bytes); status != Status::ok) return status;
  const dim3 blocks(static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y));
  entry<Kernel><<<blocks, Kernel::kThreads, static_cast<size_t>(shared_bytes),
                  static_cast<cudaStream_t>(stream)>>>(args);
  return checked(cudaGetLastError());
}

}  // namespace ptqsr::cuda
