// The only file that knows Python. Tensors arrive as addresses and sizes, checked by ptqsr.ops.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "ptqsr/isa.h"
#include "ptqsr/subset.h"
#ifdef PTQSR_CUDA
#include "ptqsr/device.h"
#endif

namespace py = pybind11;

namespace {

ptqsr::Isa isa_named(const std::string& name) {
  for (int i = 0; i < ptqsr::kIsaCount; ++i) {
    if (name == ptqsr::kIsaNames[i]) return static_cast<ptqsr::Isa>(i);
  }
  throw std::invalid_argument("unknown instruction set " + name);
}

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (int i = 0; i < ptqsr::kIsaCount; ++i) {
    if (ptqsr::isa_available(static_cast<ptqsr::Isa>(i))) names.emplace_back(ptqsr::kIsaNames[i]);
  }
  return names;
}

template <class T>
T* pointer(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

void subset_fake_quant(std::uintptr_t x, std::uintptr_t y, std::uintptr_t points,
                       std::uintptr_t nonnegative, std::uintptr_t mean, std::uintptr_t scale,
                       int64_t n, int64_t c, int64_t pixels, bool channels_last, int64_t levels,
                       int32_t denominator, const std::string& isa, int threads) {
  using namespace ptqsr;
  const auto layout = channels_last ? Layout::channels_last : Layout::nchw;
  const SubsetFakeQuant args{pointer<const float>(x),
                             pointer<float>(y),
                             pointer<const int32_t>(points),
                             pointer<const uint8_t>(nonnegative),
                             pointer<float>(mean),
                             pointer<float>(scale),
                             {n, c, pixels, layout},
                             levels,
                             denominator};
  const Isa chosen = isa_named(isa);
  Status status;
  {
    py::gil_scoped_release release;
    status = subset_fake_quant(args, chosen, threads);
  }
  if (status == Status::out_of_memory) throw std::bad_alloc();
  if (status != Status::ok) {
    throw std::invalid_argument(std::string("subset_fake_quant: ") + message(status));
  }
}

// None where the CUDA half was not built.
py::object query_cuda() {
#ifdef PTQSR_CUDA
  ptqsr::cuda::Query query;
  {
    py::gil_scoped_release release;
    query = ptqsr::cuda::query();
  }
  py::list devices;
  for (const auto& device : query.devices) {
    py::dict row;
    row["name"] = device.name;
    row["compute_capability"] = std::to_string(device.major) + "." + std::to_string(device.minor);
    row["memory"] = device.memory;
    row["compiled_for"] = device.compiled_for;
    devices.append(row);
  }
  py::dict result;
  result["runtime"] = query.runtime;
  result["driver"] = query.driver;
  result["problem"] = query.problem;
  result["devices"] = devices;
  return std::move(result);
#else
  return py::none();
#endif
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.def("available_isas", &available_isas);
  m.def("query_cuda", &query_cuda);
  m.def("subset_fake_quant", &subset_fake_quant);
  m.attr("compiler") = PTQSR_COMPILER;
  m.attr("cuda_architectures") = PTQSR_CUDA_ARCHITECTURES;
}
