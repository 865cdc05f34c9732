#include "ptqsr/uniform.h"

#include "bindings/bindings.h"
#include "ptqsr/moments.h"

namespace ptqsr::bindings {
namespace {

void uniform_fake_quant(std::uintptr_t x, std::uintptr_t y, int64_t count, float step,
                        int32_t lowest, int32_t levels, const std::string& isa, int threads) {
  const Uniform args{pointer<const float>(x), count, step, lowest, levels};
  const Isa chosen = isa_named(isa);
  Status status;
  {
    py::gil_scoped_release release;
    status = ptqsr::uniform_fake_quant(args, pointer<float>(y), chosen, threads);
  }
  check(status, "uniform_fake_quant");
}

void uniform_encode(std::uintptr_t x, std::uintptr_t out, int64_t count, float step, int32_t lowest,
                    int32_t levels, const std::string& isa, int threads) {
  const Uniform args{pointer<const float>(x), count, step, lowest, levels};
  const Isa chosen = isa_named(isa);
  Status status;
  {
    py::gil_scoped_release release;
    status = ptqsr::uniform_encode(args, pointer<uint8_t>(out), chosen, threads);
  }
  check(status, "uniform_encode");
}

void channel_moments(std::uintptr_t x, std::uintptr_t mean, std::uintptr_t deviation, int64_t n,
                     int64_t c, int64_t pixels, bool channels_last, const std::string& isa,
                     int threads) {
  const ChannelMoments args{pointer<const float>(x),
                            pointer<float>(mean),
                            pointer<float>(deviation),
                            {n, c, pixels, channels_last ? Layout::channels_last : Layout::nchw}};
  const Isa chosen = isa_named(isa);
  Status status;
  {
    py::gil_scoped_release release;
    status = ptqsr::channel_moments(args, chosen, threads);
  }
  check(status, "channel_moments");
}

}  // namespace

void bind_uniform(py::module_& m) {
  m.def("uniform_fake_quant", &uniform_fake_quant);
  m.def("uniform_encode", &uniform_encode);
  m.def("channel_moments", &channel_moments);
}

}  // namespace ptqsr::bindings
