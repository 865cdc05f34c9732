#include <stdexcept>
#include <vector>

#include "bindings/bindings.h"

namespace ptqsr::bindings {

Isa isa_named(const std::string& name) {
  for (int i = 0; i < kIsaCount; ++i) {
    if (name == kIsaNames[i]) return static_cast<Isa>(i);
  }
  throw std::invalid_argument("unknown instruction set " + name);
}

namespace {

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (int i = 0; i < kIsaCount; ++i) {
    if (isa_available(static_cast<Isa>(i))) names.emplace_back(kIsaNames[i]);
  }
  return names;
}

}  // namespace
}  // namespace ptqsr::bindings

PYBIND11_MODULE(_native, m) {
  using namespace ptqsr::bindings;
  m.def("available_isas", &available_isas);
  m.attr("compiler") = PTQSR_COMPILER;
  m.attr("cuda_architectures") = PTQSR_CUDA_ARCHITECTURES;
  bind_conv(m);
  bind_device(m);
  bind_histogram(m);
  bind_packing(m);
  bind_selection(m);
  bind_subset(m);
  bind_uniform(m);
#ifdef PTQSR_CUDA
  py::module_ gpu = m.def_submodule("cuda");
  bind_cuda(gpu);
#endif
}
