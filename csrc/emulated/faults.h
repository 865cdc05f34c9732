#pragma once

#include <cstdint>

#include "ptqsr/status.h"

namespace ptqsr::emulated {

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
constexpr int kFaultCount = 8;
constexpr const char* kFaultNames[] = {"none",          "wrong_index",    "missing_barrier",
                                       "beyond_shared", "beyond_global",  "missing_wait",
                                       "parted_warp",   "barrier_of_some"};

// y = x reversed within every 64 values, by a kernel with one fault or none, so that tests can show
// that the emulation finds it.
Status reverse(const int32_t* x, int32_t* y, int64_t blocks, Fault fault);

}  // namespace ptqsr::emulated
