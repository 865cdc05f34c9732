#ifdef PTQSR_CUDA
#include "ptqsr/device.h"
#endif
#include "bindings/bindings.h"

namespace ptqsr::bindings {
namespace {

// None where the CUDA half was not built.
py::object query_cuda() {
#ifdef PTQSR_CUDA
  cuda::Query query;
  {
    py::gil_scoped_release release;
    query = cuda::query();
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

// Why no GPU runs this build's kernels, without touching any; empty where nothing is in the way.
std::string cuda_problem() {
#ifdef PTQSR_CUDA
  return cuda::driver_problem();
#else
  return "built without CUDA";
#endif
}

std::uintptr_t new_stream() {
#ifdef PTQSR_CUDA
  return reinterpret_cast<std::uintptr_t>(cuda::new_stream());
#else
  return 0;
#endif
}

}  // namespace

void bind_device(py::module_& m) {
  m.def("query_cuda", &query_cuda);
  m.def("cuda_problem", &cuda_problem);
  m.def("new_stream", &new_stream);
}

}  // namespace ptqsr::bindings
