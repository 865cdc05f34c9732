#pragma once

#include <cstdint>
#include <functional>

namespace ptqsr::cpu {

// Run task(0) .. task(count - 1) on up to `threads` threads, the caller's among them, and return
// when all are done. Tasks may run in any order; the pool may be used by several threads at once,
// and by the child of a fork. `task` runs in FloatMode and must not throw.
void parallel_for(int64_t count, int threads, const std::function<void(int64_t)>& task);

}  // namespace ptqsr::cpu
