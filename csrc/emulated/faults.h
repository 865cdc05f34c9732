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
  parted_kinds,
  barrier_of_some,
  too_deep,
  // Of a kernel whose teams wait for themselves.
  teams,
  missing_team_barrier,
  half_a_team,
  different_counts,
  absent_team,
  no_such_barrier,
  parts_of_warps,
  too_many_threads,
  // Of a kernel that uses two buffers in turn.
  rounds,
  overwritten_buffer,
  count
};
constexpr const char* kFaultNames[] = {"none",
                                       "wrong_index",
                                       "missing_barrier",
                                       "beyond_shared",
                                       "beyond_global",
                                       "missing_wait",
                                       "parted_warp",
                                       "parted_kinds",
                                       "barrier_of_some",
                                       "too_deep",
                                       "teams",
                                       "missing_team_barrier",
                                       "half_a_team",
                                       "different_counts",
                                       "absent_team",
                                       "no_such_barrier",
                                       "parts_of_warps",
                                       "too_many_threads",
                                       "rounds",
                                       "overwritten_buffer"};
constexpr int kFaultCount = static_cast<int>(Fault::count);
static_assert(sizeof kFaultNames / sizeof *kFaultNames == kFaultCount);

// y = x reversed within every 64 values of an even number of blocks of these, by a kernel with one
// fault or none, so that tests can show that the emulation finds it.
Status reverse(const int32_t* x, int32_t* y, int64_t blocks, Fault fault);

}  // namespace ptqsr::emulated
