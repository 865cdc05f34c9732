// A persistent pool of helper threads, shared by all kernels.
#pragma once

#include <cstdint>

namespace ptqsr::cpu {

// Calls body(context, task, worker) once for every task in [0, tasks), on at most `threads` threads
// of which the caller is one; returns when all are done. worker is in [0, threads): no two running
// calls of one parallel_for share it, so it may index scratch memory.
//
// Which thread takes which task is left open: results must not depend on it. May be called from
// several threads at once, and from within a body. The body must not throw. It runs in IEEE
// arithmetic (round to nearest, denormals kept), whatever mode the caller is in.
using ParallelBody = void (*)(void* context, int64_t task, int worker);
void parallel_for(int threads, int64_t tasks, ParallelBody body, void* context);

template <typename Body>
void parallel_for(int threads, int64_t tasks, Body body) {
  parallel_for(
      threads, tasks,
      [](void* context, int64_t task, int worker) {
        (*static_cast<Body*>(context))(task, worker);
      },
      &body);
}

}  // namespace ptqsr::cpu
