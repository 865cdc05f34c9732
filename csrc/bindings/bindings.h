#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <string>

#include "ptqsr/isa.h"
#include "ptqsr/status.h"

// The folder that knows Python, a file for each family of operations. Tensors arrive as addresses
// and sizes, checked by ptqsr.ops.
namespace ptqsr::bindings {

namespace py = pybind11;

template <class T>
T* pointer(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

// Throws std::invalid_argument for an unknown name.
Isa isa_named(const std::string& name);

// Throws what Python's caller should see, unless all is well.
void check(Status status, const char* operation);

void bind_conv(py::module_& m);
void bind_cuda(py::module_& m);
void bind_device(py::module_& m);
void bind_histogram(py::module_& m);
void bind_packing(py::module_& m);
void bind_selection(py::module_& m);
void bind_subset(py::module_& m);
void bind_uniform(py::module_& m);

}  // namespace ptqsr::bindings
