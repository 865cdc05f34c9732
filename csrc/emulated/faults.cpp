#include "emulated/faults.h"

#include "cuda/simt.h"

namespace ptqsr::emulated {
namespace {

using namespace ptqsr::cuda;  // NOLINT: this is a kernel

// By way of shared memory, copied ahead 4 values a thread.
struct Reverse {
  static constexpr int kThreads = 64;
  struct Args {
    const int32_t* x;
    int32_t* y;
    Fault fault;
  };
  DEVICE static void run(const Args& a) {
    auto* shared = reinterpret_cast<int32_t*>(shared_memory());
    const int64_t first = block_x() * kThreads;
    const int i = thread();
    if (i % 4 == 0) copy_ahead(shared + i, a.x + first + i, true);
    copies_end();
    if (a.fault != Fault::missing_wait) copies_wait<0>();
    if (a.fault == Fault::barrier_of_some && i < 32) return;
    if (a.fault != Fault::missing_barrier) synchronize();
    int from = kThreads - 1 - i;
    if (a.fault == Fault::wrong_index) from = (kThreads - i) % kThreads;
    if (a.fault == Fault::beyond_shared) from = kThreads + i;
    int32_t value = shared[from];
    if (a.fault == Fault::parted_warp && i % 2 == 0) value = shuffle(value, lane());
    if (a.fault == Fault::parted_warp && i % 2 == 1) ballot(true);
    a.y[first + i + (a.fault == Fault::beyond_global ? kThreads : 0)] = value;
  }
};

}  // namespace

Status reverse(const int32_t* x, int32_t* y, int64_t blocks, Fault fault) {
  return launch<Reverse>({blocks}, Reverse::kThreads * sizeof(int32_t), nullptr, {x, y, fault});
}

}  // namespace ptqsr::emulated
