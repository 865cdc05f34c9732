#include "ptqsr/subset.h"

#include "bindings/bindings.h"

namespace ptqsr::bindings {
namespace {

void subset_fake_quant(std::uintptr_t x, std::uintptr_t y, std::uintptr_t points,
                       std::uintptr_t nonnegative, std::uintptr_t mean, std::uintptr_t scale,
                       int64_t n, int64_t c, int64_t pixels, bool channels_last, int64_t levels,
                       int32_t denominator, const std::string& isa, int threads) {
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
    status = ptqsr::subset_fake_quant(args, chosen, threads);
  }
  check(status, "subset_fake_quant");
}

}  // namespace

void bind_subset(py::module_& m) { m.def("subset_fake_quant", &subset_fake_quant); }

}  // namespace ptqsr::bindings
