#include "ptqsr/subset.h"

#include "bindings/bindings.h"

namespace ptqsr::bindings {
namespace {

ActivationShape shape(int64_t n, int64_t c, int64_t pixels, bool channels_last) {
  return {n, c, pixels, channels_last ? Layout::channels_last : Layout::nchw};
}

void subset_fake_quant(std::uintptr_t x, std::uintptr_t y, std::uintptr_t points,
                       std::uintptr_t nonnegative, std::uintptr_t mean, std::uintptr_t scale,
                       int64_t n, int64_t c, int64_t pixels, bool channels_last, int64_t levels,
                       int32_t denominator, const std::string& isa, int threads) {
  const SubsetFakeQuant args{pointer<const float>(x),
                             pointer<float>(y),
                             pointer<const int32_t>(points),
                             pointer<const uint8_t>(nonnegative),
                             pointer<float>(mean),
                             pointer<float>(scale),
                             shape(n, c, pixels, channels_last),
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

void channel_stats(std::uintptr_t x, std::uintptr_t mean, std::uintptr_t low, std::uintptr_t high,
                   int64_t n, int64_t c, int64_t pixels, bool channels_last, const std::string& isa,
                   int threads) {
  const ChannelStats args{pointer<const float>(x), pointer<float>(mean), pointer<float>(low),
                          pointer<float>(high), shape(n, c, pixels, channels_last)};
  const Isa chosen = isa_named(isa);
  Status status;
  {
    py::gil_scoped_release release;
    status = ptqsr::channel_stats(args, chosen, threads);
  }
  check(status, "channel_stats");
}

void normalisation(std::uintptr_t mean, std::uintptr_t low, std::uintptr_t high,
                   std::uintptr_t nonnegative, std::uintptr_t out_mean, std::uintptr_t out_scale,
                   int64_t n, int64_t c) {
  ptqsr::normalisation({pointer<const float>(mean), pointer<const float>(low),
                        pointer<const float>(high), pointer<const uint8_t>(nonnegative),
                        pointer<float>(out_mean), pointer<float>(out_scale), n, c});
}

void subset_encode(std::uintptr_t x, std::uintptr_t out, std::uintptr_t points, std::uintptr_t mean,
                   std::uintptr_t scale, int64_t n, int64_t c, int64_t pixels, bool channels_last,
                   int64_t levels, int32_t denominator, int bits, const std::string& isa,
                   int threads) {
  const SubsetEncode args{pointer<const float>(x),
                          pointer<uint8_t>(out),
                          pointer<const int32_t>(points),
                          pointer<const float>(mean),
                          pointer<const float>(scale),
                          shape(n, c, pixels, channels_last),
                          levels,
                          denominator,
                          bits};
  const Isa chosen = isa_named(isa);
  Status status;
  {
    py::gil_scoped_release release;
    status = ptqsr::subset_encode(args, chosen, threads);
  }
  check(status, bits == 0 ? "subset_encode" : "subset_encode_packed");
}

void subset_decode(std::uintptr_t in, std::uintptr_t y, std::uintptr_t points, std::uintptr_t mean,
                   std::uintptr_t scale, int64_t n, int64_t c, int64_t pixels, bool channels_last,
                   int64_t levels, int32_t denominator, int bits, int threads) {
  const SubsetDecode args{pointer<const uint8_t>(in),
                          pointer<float>(y),
                          pointer<const int32_t>(points),
                          pointer<const float>(mean),
                          pointer<const float>(scale),
                          shape(n, c, pixels, channels_last),
                          levels,
                          denominator,
                          bits};
  Status status;
  {
    py::gil_scoped_release release;
    status = ptqsr::subset_decode(args, threads);
  }
  check(status, bits == 0 ? "subset_decode" : "subset_decode_packed");
}

}  // namespace

void bind_subset(py::module_& m) {
  m.def("channel_stats", &channel_stats);
  m.def("normalisation", &normalisation);
  m.def("subset_decode", &subset_decode);
  m.def("subset_encode", &subset_encode);
  m.def("subset_fake_quant", &subset_fake_quant);
}

}  // namespace ptqsr::bindings
