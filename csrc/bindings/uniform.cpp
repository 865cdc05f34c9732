#include "ptqsr/uniform.h"

#include "bindings/bindings.h"

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

}  // namespace

void bind_uniform(py::module_& m) {
  m.def("uniform_fake_quant", &uniform_fake_quant);
  m.def("uniform_encode", &uniform_encode);
}

}  // namespace ptqsr::bindings
