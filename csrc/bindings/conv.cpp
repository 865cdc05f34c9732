#include "ptqsr/conv.h"

#include <stdexcept>
#include <vector>

#include "bindings/bindings.h"

namespace ptqsr::bindings {
namespace {

// A dictionary, since a convolution has some forty arguments; ptqsr/ops/cpu/conv.py makes it.
class Arguments {
 public:
  explicit Arguments(const py::dict& values) : values_(values) {}

  template <class T>
  T get(const char* name) const {
    return values_[name].cast<T>();
  }

  // Null where the tensor is absent.
  template <class T>
  T* tensor(const char* name) const {
    return values_.contains(name) ? pointer<T>(get<std::uintptr_t>(name)) : nullptr;
  }

  std::vector<UniformInput> uniforms(const char* name) const {
    std::vector<UniformInput> found;
    if (!values_.contains(name)) return found;
    for (const auto& [step, lowest, levels] : get<std::vector<Quantizer>>(name)) {
      found.push_back({step, lowest, levels});
    }
    return found;
  }
  UniformInput uniform(const char* name) const {
    if (!values_.contains(name)) return {};
    const auto [step, lowest, levels] = get<Quantizer>(name);
    return {step, lowest, levels};
  }

 private:
  using Quantizer = std::tuple<float, int32_t, int32_t>;

  const py::dict& values_;
};

void quant_conv2d(const char* operation, const py::dict& values, const std::string& isa,
                  int threads) {
  const Arguments a(values);
  const auto s = a.get<std::vector<int64_t>>("shape");
  if (s.size() != 16) throw std::invalid_argument("shape has 16 numbers");
  QuantConv args{};
  args.shape = {s[0], s[1], s[2],  s[3],  s[4],  s[5],  s[6],  s[7],
                s[8], s[9], s[10], s[11], s[12], s[13], s[14], s[15]};
  std::vector<ConvPart> parts;
  for (const auto& [data, channels, storage] :
       a.get<std::vector<std::tuple<std::uintptr_t, int64_t, int>>>("parts")) {
    parts.push_back({pointer<const void>(data), channels, static_cast<Storage>(storage)});
  }
  args.parts = parts.data();
  args.part_count = static_cast<int64_t>(parts.size());
  args.encoding = static_cast<Encoding>(a.get<int>("encoding"));
  if (args.encoding == Encoding::subset) {
    args.subset = {a.tensor<const int32_t>("points"), a.get<int64_t>("levels"),
                   a.get<int32_t>("denominator"), a.tensor<const float>("mean"),
                   a.tensor<const float>("scale")};
  }
  const std::vector<UniformInput> quantizers = a.uniforms("uniforms");
  args.uniform = quantizers.data();
  args.uniforms = static_cast<int64_t>(quantizers.size());
  args.weight_levels = a.tensor<const int16_t>("weight_levels");
  args.weight_step = a.tensor<const float>("weight_step");
  args.bias = a.tensor<const float>("bias");
  args.activation = static_cast<Activation>(a.get<int>("activation"));
  args.slope = a.tensor<const float>("slope");
  args.slopes = a.get<int64_t>("slopes");
  args.residual = a.tensor<const void>("residual");
  args.residual_storage = static_cast<Storage>(a.get<int>("residual_storage"));
  args.residual_uniform = a.uniform("residual_uniform");
  args.last = static_cast<Activation>(a.get<int>("last"));
  args.shuffle = a.get<int64_t>("shuffle");
  args.output = static_cast<Output>(a.get<int>("output"));
  args.y = a.tensor<void>("y");
  args.requantized = a.uniform("requantized");
  args.mean = a.tensor<float>("out_mean");
  args.low = a.tensor<float>("out_low");
  args.high = a.tensor<float>("out_high");
  args.deviation = a.tensor<float>("out_deviation");
  const Isa chosen = isa_named(isa);
  Status status;
  {
    py::gil_scoped_release release;
    status = ptqsr::quant_conv2d(args, chosen, threads);
  }
  check(status, operation);
}

void refold_weights(std::uintptr_t levels, std::uintptr_t step, std::uintptr_t scale,
                    std::uintptr_t weight, std::uintptr_t out_scale, int64_t n, int64_t o,
                    int64_t c, int64_t taps, int64_t groups, const std::string& isa, int threads) {
  const Refold args{n,
                    o,
                    c,
                    taps,
                    groups,
                    pointer<const int16_t>(levels),
                    pointer<const float>(step),
                    pointer<const float>(scale),
                    pointer<int8_t>(weight),
                    pointer<float>(out_scale)};
  const Isa chosen = isa_named(isa);
  Status status;
  {
    py::gil_scoped_release release;
    status = ptqsr::refold_weights(args, chosen, threads);
  }
  check(status, "refold_weights");
}

}  // namespace

void bind_conv(py::module_& m) {
  m.def("quant_conv2d", &quant_conv2d);
  m.def("refold_weights", &refold_weights);
}

}  // namespace ptqsr::bindings
