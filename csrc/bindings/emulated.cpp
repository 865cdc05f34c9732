#include <stdexcept>

#include "bindings/bindings.h"
#include "cuda/simt.h"
#include "emulated/faults.h"

namespace ptqsr::bindings {
namespace {

void reverse(std::uintptr_t x, std::uintptr_t y, int64_t blocks, const std::string& fault) {
  for (int i = 0; i < emulated::kFaultCount; ++i) {
    if (fault != emulated::kFaultNames[i]) continue;
    const Status status = emulated::reverse(pointer<const int32_t>(x), pointer<int32_t>(y), blocks,
                                            static_cast<emulated::Fault>(i));
    if (status != Status::ok) throw std::runtime_error(cuda::last_error());
    return;
  }
  throw std::invalid_argument("no fault " + fault);
}

}  // namespace
}  // namespace ptqsr::bindings

// The kernels of csrc/cuda on the host, for tests: ptqsr._emulated has the functions of
// ptqsr._native.cuda, for tensors in the host's memory.
PYBIND11_MODULE(_emulated, m) {
  using namespace ptqsr;
  bindings::bind_cuda(m);
  m.def(
      "emulate",
      [](uint64_t seed, int architecture, const std::string& schedule, bool races) {
        const int64_t shared = architecture < 80 ? 64 << 10 : 99 << 10;
        for (int i = 0; i < cuda::kScheduleCount; ++i) {
          if (schedule != cuda::kScheduleNames[i]) continue;
          const auto one = static_cast<cuda::Schedule>(i);
          return cuda::set_emulation({seed, architecture, shared, one, races});
        }
        throw std::invalid_argument("no schedule " + schedule);
      },
      bindings::py::arg("seed"), bindings::py::arg("architecture"),
      bindings::py::arg("schedule") = "drawn", bindings::py::arg("races") = true,
      "Say in what order threads run from here on, what compute capability kernels see, "
      "and whether to look for races.");
#if defined(PTQSR_FINDS_RACES)
  m.attr("finds_races") = true;
#else
  m.attr("finds_races") = false;
#endif
  m.def("architecture", [] { return cuda::emulation().architecture; });
  m.def("reverse", &bindings::reverse);
}
