#include "bindings/bindings.h"
#include "cuda/simt.h"
#include "emulated/faults.h"

// The kernels of csrc/cuda on the host, for tests: ptqsr._emulated has the functions of
// ptqsr._native.cuda, for tensors in the host's memory.
PYBIND11_MODULE(_emulated, m) {
  using namespace ptqsr;
  bindings::bind_cuda(m);
  m.def(
      "emulate", [](uint64_t seed, int architecture) { cuda::set_emulation({seed, architecture}); },
      bindings::py::arg("seed"), bindings::py::arg("architecture"),
      "Say in what order threads run from here on, and what compute capability kernels see.");
  m.def("architecture", [] { return cuda::emulation().architecture; });
  emulated::bind_faults(m);
}
