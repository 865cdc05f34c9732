#include "emulated/faults.h"

#include <pybind11/stl.h>

#include <stdexcept>
#include <string>

#include "cuda/simt.h"

namespace ptqsr::emulated {
namespace {

using namespace ptqsr::cuda;  // NOLINT: this is a kernel

enum class Fault {
  none,
  wrong_index,
  missing_barrier,
  beyond_shared,
  beyond_global,
  missing_wait,
  parted_warp,
  barrier_of_some,
};

constexpr const char* kNames[] = {"none",          "wrong_index",    "missing_barrier",
                                  "beyond_shared", "beyond_global",  "missing_wait",
                                  "parted_warp",   "barrier_of_some"};

// y = x reversed within every 64 values, by way of shared memory, 4 values a thread at once.
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

void reverse(std::uintptr_t x, std::uintptr_t y, int64_t blocks, const std::string& fault) {
  for (int i = 0; i < 8; ++i) {
    if (fault != kNames[i]) continue;
    const Status status = launch<Reverse>({blocks}, Reverse::kThreads * sizeof(int32_t), nullptr,
                                          {reinterpret_cast<const int32_t*>(x),
                                           reinterpret_cast<int32_t*>(y), static_cast<Fault>(i)});
    if (status != Status::ok) throw std::runtime_error(last_error());
    return;
  }
  throw std::invalid_argument("no fault " + fault);
}

}  // namespace

void bind_faults(pybind11::module_& m) { m.def("reverse", &reverse); }

}  // namespace ptqsr::emulated
