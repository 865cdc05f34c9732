#pragma once

#include <pybind11/pybind11.h>

namespace ptqsr::emulated {

// A kernel that reverses rows within a block, right and with one fault each, so that tests can show
// that the emulation finds them.
void bind_faults(pybind11::module_& m);

}  // namespace ptqsr::emulated
