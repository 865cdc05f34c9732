#include "ptqsr/selection.h"

#include "bindings/bindings.h"

namespace ptqsr::bindings {
namespace {

void optimal_points(std::uintptr_t weights, std::uintptr_t positions, std::uintptr_t integers,
                    std::uintptr_t index, std::uintptr_t loss, int64_t channels, int64_t bins,
                    int64_t size, int64_t count, int64_t denominator, int threads) {
  const OptimalPoints args{pointer<const double>(weights),
                           pointer<const double>(positions),
                           pointer<const int64_t>(integers),
                           pointer<int64_t>(index),
                           pointer<double>(loss),
                           channels,
                           bins,
                           size,
                           count,
                           denominator};
  Status status;
  {
    py::gil_scoped_release release;
    status = ptqsr::optimal_points(args, threads);
  }
  check(status, "optimal_points");
}

}  // namespace

void bind_selection(py::module_& m) { m.def("optimal_points", &optimal_points); }

}  // namespace ptqsr::bindings
