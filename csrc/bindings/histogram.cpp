#include "ptqsr/histogram.h"

#include "bindings/bindings.h"

namespace ptqsr::bindings {
namespace {

void channel_histogram(std::uintptr_t x, std::uintptr_t mean, std::uintptr_t ratio,
                       std::uintptr_t counts, int64_t n, int64_t c, int64_t pixels,
                       int32_t denominator, int32_t bins_per_step, int threads) {
  const ChannelHistogram args{pointer<const float>(x),
                              pointer<const float>(mean),
                              pointer<const float>(ratio),
                              pointer<int64_t>(counts),
                              n,
                              c,
                              pixels,
                              denominator,
                              bins_per_step};
  Status status;
  {
    py::gil_scoped_release release;
    status = ptqsr::channel_histogram(args, threads);
  }
  check(status, "channel_histogram");
}

}  // namespace

void bind_histogram(py::module_& m) { m.def("channel_histogram", &channel_histogram); }

}  // namespace ptqsr::bindings
