// What kernels ask of the processor that runs them: threads, barriers, exchange within a warp,
// copies that run ahead, products on tensor cores.
//
// Kernels are written over this layer alone, and compiled twice: by nvcc for GPUs (simt_cuda.h),
// and by a C++ compiler for tests (simt_host.h), where a fiber stands for every thread.
//
//   struct Scale {
//     static constexpr int kThreads = 256;
//     struct Args { const float* x; float* y; int64_t count; };
//     DEVICE static void run(const Args& args);
//   };
//   return launch<Scale>({blocks}, shared_bytes, stream, Scale::Args{x, y, count});
//
// A kernel allocates nothing and does not wait for the host. Operations of a warp are made by all
// of the 32 lanes together.
#pragma once

#include <stdint.h>

#include "ptqsr/cuda.h"

namespace ptqsr::cuda {

constexpr int kWarp = 32;

struct Grid {
  int64_t x = 1, y = 1;
};

}  // namespace ptqsr::cuda

#if defined(__CUDACC__)
#include "cuda/simt_cuda.h"
#else
#include "cuda/simt_host.h"
#endif
