#include "ptqsr/cuda.h"

#include <array>
#include <iterator>
#include <stdexcept>
#include <vector>

#include "bindings/bindings.h"

// Operations on GPUs, and, in the module of the emulation, the same on the host.
namespace ptqsr::bindings {
namespace {

using Address = std::uintptr_t;

cuda::Number number_named(const std::string& name) {
  if (name == "float32") return cuda::Number::float32;
  if (name == "float16") return cuda::Number::float16;
  if (name == "bfloat16") return cuda::Number::bfloat16;
  throw std::invalid_argument("no number " + name);
}

ActivationShape shape_of(int64_t n, int64_t c, int64_t pixels, bool channels_last) {
  return {n, c, pixels, channels_last ? Layout::channels_last : Layout::nchw};
}

void check_device(Status status, const char* operation) {
  // OverflowError: ptqsr/ops/cuda/kernel.py knows the shapes.
  if (status == Status::too_large) {
    throw std::overflow_error(std::string(operation) + ": " + message(status));
  }
  if (status == Status::device_failed) {
    throw std::runtime_error(std::string(operation) + ": " + cuda::last_error());
  }
  check(status, operation);
}

cuda::Stream stream_at(Address address) { return pointer<void>(address); }

int64_t statistics_workspace(int64_t n, int64_t c, int64_t pixels, bool channels_last,
                             const std::string& number) {
  return cuda::statistics_workspace(shape_of(n, c, pixels, channels_last), number_named(number));
}

void channel_stats(Address x, const std::string& number, int64_t n, int64_t c, int64_t pixels,
                   bool channels_last, Address workspace, Address mean, Address low, Address high,
                   Address stream) {
  const cuda::ChannelStats args{
      pointer<const void>(x),   number_named(number), shape_of(n, c, pixels, channels_last),
      pointer<void>(workspace), pointer<float>(mean), pointer<float>(low),
      pointer<float>(high)};
  check_device(cuda::channel_stats(args, stream_at(stream)), "channel_stats");
}

void normalisation(Address mean, Address low, Address high, Address nonnegative, Address out_mean,
                   Address out_scale, int64_t n, int64_t c, Address stream) {
  const NormalisationArgs args{pointer<const float>(mean),
                               pointer<const float>(low),
                               pointer<const float>(high),
                               pointer<const uint8_t>(nonnegative),
                               pointer<float>(out_mean),
                               pointer<float>(out_scale),
                               n,
                               c};
  check_device(cuda::normalisation(args, stream_at(stream)), "normalisation");
}

// What is written for every value: "point", "index" or "value". Returns whether the kernel takes so
// many levels.
bool subset_map(const std::string& what, Address x, const std::string& number, int64_t n, int64_t c,
                int64_t pixels, bool channels_last, Address points, int64_t levels,
                int32_t denominator, Address mean, Address scale, Address out, Address stream) {
  const cuda::SubsetMap args{pointer<const void>(x),
                             number_named(number),
                             shape_of(n, c, pixels, channels_last),
                             pointer<const int32_t>(points),
                             levels,
                             denominator,
                             pointer<const float>(mean),
                             pointer<const float>(scale)};
  const cuda::Stream on = stream_at(stream);
  const auto taken = [](Status status, const char* operation) {
    if (status == Status::not_taken) return false;
    check_device(status, operation);
    return true;
  };
  if (what == "point") {
    return taken(cuda::subset_encode(args, pointer<int8_t>(out), on), "subset_encode");
  }
  if (what == "index") {
    return taken(cuda::subset_indices(args, pointer<uint8_t>(out), on), "subset_encode_packed");
  }
  if (what == "value") {
    return taken(cuda::subset_quantize(args, pointer<void>(out), on), "subset_fake_quant");
  }
  throw std::invalid_argument("subset_map gives no " + what);
}

void subset_decode(Address k, int64_t n, int64_t c, int64_t pixels, bool channels_last,
                   int32_t denominator, Address mean, Address scale, Address y, Address stream) {
  check_device(
      cuda::subset_decode(pointer<const int8_t>(k), shape_of(n, c, pixels, channels_last),
                          denominator, pointer<const float>(mean), pointer<const float>(scale),
                          pointer<float>(y), stream_at(stream)),
      "subset_decode");
}

void gemm(Address a, Address b, int64_t m, int64_t n, int64_t k, int bits, bool signed_a,
          const std::string& output, Address c, Address scale, Address bias, bool relu,
          Address stream) {
  constexpr const char* kOutputs[] = {"int32", "float32", "float16", "int8", "uint8"};
  for (int i = 0; i < 5; ++i) {
    if (output != kOutputs[i]) continue;
    const cuda::GemmEpilogue epilogue{static_cast<cuda::GemmOutput>(i), pointer<void>(c),
                                      pointer<const float>(scale), pointer<const float>(bias),
                                      relu};
    const cuda::Gemm args{
        pointer<const void>(a), pointer<const void>(b), m, n, k, bits, signed_a, epilogue};
    return check_device(cuda::gemm(args, stream_at(stream)), "gemm");
  }
  throw std::invalid_argument("gemm gives no " + output);
}

// Sizes of tensors that fit the device; larger ones are refused before anything is multiplied.
int size_of(int64_t value) {
  if (value > cuda::kMaxElements) check_device(Status::too_large, "a size");
  if (value < 0) throw std::invalid_argument("a size of " + std::to_string(value));
  return static_cast<int>(value);
}

// What a kernel is given by name.
struct Named {
  const py::dict& values;

  int64_t number(const char* name) const { return values[name].cast<int64_t>(); }
  std::vector<int64_t> numbers(const char* name) const {
    return values[name].cast<std::vector<int64_t>>();
  }
  template <class T>
  T* at(const char* name) const {
    return pointer<T>(values[name].cast<Address>());
  }
  cuda::Border border(const char* name) const {
    const auto sizes = values[name].cast<std::array<int64_t, 3>>();
    return {size_of(sizes[0]), size_of(sizes[1]), size_of(sizes[2])};
  }
};

cuda::Moments moments_of(const Named& given) {
  return {given.at<int64_t>("moments_sum"),  given.at<int32_t>("moments_low"),
          given.at<int32_t>("moments_high"), given.at<int32_t>("moments_blocks"),
          given.at<float>("out_mean"),       given.at<float>("out_low"),
          given.at<float>("out_high")};
}

// A dictionary, since a convolution has some forty arguments; ptqsr/ops/cuda/tensor_conv.py makes
// it. Returns whether the kernel takes the shape.
bool tensor_conv(const py::dict& values) {
  const Named given{values};
  cuda::TensorConv v{};
  v.x = given.at<const unsigned char>("x");
  const auto s = given.numbers("shape");
  int* const sizes[] = {&v.n,          &v.h,        &v.w,         &v.bytes,     &v.group_bytes,
                        &v.groups,     &v.o,        &v.channels,  &v.kh,        &v.kw,
                        &v.stride_h,   &v.stride_w, &v.padding_h, &v.padding_w, &v.dilation_h,
                        &v.dilation_w, &v.out_h,    &v.out_w,     &v.shuffle};
  if (s.size() != std::size(sizes)) throw std::invalid_argument("shape has 19 numbers");
  for (size_t i = 0; i < s.size(); ++i) *sizes[i] = size_of(s[i]);
  v.bits = size_of(given.number("bits"));
  v.row = size_of(given.number("row"));
  v.is_signed = given.number("is_signed") != 0;
  v.encodes = given.number("encodes") != 0;
  v.subset = {given.at<const int32_t>("points"), given.number("levels"),
              static_cast<int32_t>(given.number("denominator")), given.at<const float>("mean"),
              given.at<const float>("in_scale")};
  v.by_sample = given.number("by_sample") != 0;
  v.weights = given.at<const unsigned char>("weights");
  v.lowest = given.at<const int32_t>("lowest");
  v.total = given.at<const int32_t>("total");
  v.zeros = given.at<const int32_t>("zeros");
  v.scale = given.at<const float>("scale");
  v.bias = given.at<const float>("bias");
  v.rows = given.border("rows");
  v.columns = given.border("columns");
  v.slope = given.at<const float>("slope");
  v.activation = static_cast<Activation>(given.number("activation"));
  v.residual = given.at<const void>("residual");
  v.residual_storage = static_cast<Storage>(given.number("residual_storage"));
  v.residual_scale = given.at<const float>("residual_scale");
  v.residual_lowest = given.at<const int32_t>("residual_lowest");
  v.last_relu = given.number("last_relu") != 0;
  v.output = static_cast<Storage>(given.number("output"));
  v.y = given.at<void>("y");
  v.out_lowest = given.at<const int32_t>("out_lowest");
  v.out_levels = size_of(given.number("out_levels"));
  v.moments = moments_of(given);
  for (const void* table : {static_cast<const void*>(v.x), static_cast<const void*>(v.weights),
                            static_cast<const void*>(v.total), static_cast<const void*>(v.zeros),
                            static_cast<const void*>(v.scale), static_cast<const void*>(v.bias),
                            static_cast<const void*>(v.slope)}) {
    if (reinterpret_cast<Address>(table) % 16 != 0) {
      throw std::invalid_argument("a table that does not begin at a multiple of 16 bytes");
    }
  }
  const Status status = cuda::tensor_conv(v, given.at<void>("stream"));
  if (status == Status::not_taken) return false;
  check_device(status, "tensor_conv");
  return true;
}

// Of what ptqsr/ops/cuda/subset_conv.py gives.
void subset_tables(const py::dict& values) {
  const Named given{values};
  cuda::SubsetTables t{};
  const auto s = given.numbers("shape");
  int64_t* const wide[] = {&t.fold.n, &t.fold.o, &t.fold.c, &t.fold.taps, &t.fold.groups};
  int* const sizes[] = {&t.denominator, &t.places,     &t.channels,  &t.h,        &t.w,
                        &t.kh,          &t.kw,         &t.stride_h,  &t.stride_w, &t.padding_h,
                        &t.padding_w,   &t.dilation_h, &t.dilation_w};
  if (s.size() != std::size(wide) + std::size(sizes)) {
    throw std::invalid_argument("shape has 18 numbers");
  }
  for (size_t i = 0; i < std::size(wide); ++i) *wide[i] = s[i];
  for (size_t i = 0; i < std::size(sizes); ++i) *sizes[i] = size_of(s[std::size(wide) + i]);
  t.fold.levels = given.at<const int16_t>("levels");
  t.fold.step = given.at<const float>("step");
  t.fold.scale = given.at<const float>("in_scale");
  t.mean = given.at<const float>("mean");
  t.bias = given.at<const float>("bias");
  t.rows = given.border("rows");
  t.columns = given.border("columns");
  t.weights = given.at<int8_t>("weights");
  t.scale = given.at<float>("scale");
  t.terms = given.at<float>("terms");
  t.moments = moments_of(given);
  check_device(cuda::subset_tables(t, given.at<void>("stream")), "subset_conv2d");
}

void subset_decode_packed(Address packed, int64_t n, int64_t c, int64_t pixels, int bits,
                          Address points, int64_t levels, int32_t denominator, Address mean,
                          Address scale, Address y, Address stream) {
  const cuda::PackedSubset args{pointer<const uint8_t>(packed),
                                n,
                                c,
                                pixels,
                                bits,
                                pointer<const int32_t>(points),
                                levels,
                                denominator,
                                pointer<const float>(mean),
                                pointer<const float>(scale)};
  check_device(cuda::subset_decode_packed(args, pointer<float>(y), stream_at(stream)),
               "subset_decode_packed");
}

void pack_codes(Address codes, Address packed, int64_t rows, int64_t count, int bits,
                Address stream) {
  check_device(cuda::pack_codes(pointer<const uint8_t>(codes), rows, count, bits,
                                pointer<uint8_t>(packed), stream_at(stream)),
               "pack_codes");
}

void unpack_codes(Address packed, Address codes, int64_t rows, int64_t count, int bits,
                  Address stream) {
  check_device(cuda::unpack_codes(pointer<const uint8_t>(packed), rows, count, bits,
                                  pointer<uint8_t>(codes), stream_at(stream)),
               "unpack_codes");
}

// What is written for every value: "value" or "code".
void uniform_map(const std::string& what, Address x, const std::string& number, int64_t samples,
                 int64_t count, Address step, Address lowest, Address levels, int bits, Address out,
                 Address stream) {
  const cuda::UniformMap args{pointer<const void>(x),
                              number_named(number),
                              samples,
                              count,
                              pointer<const float>(step),
                              pointer<const int32_t>(lowest),
                              pointer<const int32_t>(levels),
                              bits};
  const cuda::Stream on = stream_at(stream);
  if (what == "value") {
    check_device(cuda::uniform_fake_quant(args, pointer<void>(out), on), "uniform_fake_quant");
  } else if (what == "code") {
    check_device(cuda::uniform_encode(args, pointer<uint8_t>(out), on), "uniform_encode");
  } else {
    throw std::invalid_argument("uniform_map gives no " + what);
  }
}

void refold_weights(Address levels, Address step, Address scale, Address weight, Address out_scale,
                    int64_t n, int64_t o, int64_t c, int64_t taps, int64_t groups, Address stream) {
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
  check_device(cuda::refold_weights(args, stream_at(stream)), "refold_weights");
}

// In the order of ConvShape's members.
using ConvSizes = std::array<int64_t, 16>;

ConvShape conv_shape_of(const ConvSizes& s) {
  return {s[0], s[1], s[2],  s[3],  s[4],  s[5],  s[6],  s[7],
          s[8], s[9], s[10], s[11], s[12], s[13], s[14], s[15]};
}

void int_conv2d(const ConvSizes& shape, Address k, bool is_signed, Address weight, Address y,
                Address stream) {
  const cuda::IntConv args{conv_shape_of(shape), pointer<const void>(k), is_signed,
                           pointer<const int8_t>(weight), pointer<int32_t>(y)};
  check_device(cuda::int_conv2d(args, stream_at(stream)), "int_conv2d");
}

void shift_add_conv2d(const ConvSizes& shape, Address codes, Address shifts, int64_t words,
                      int64_t elements, Address weight, bool wide, Address y, Address stream) {
  const cuda::ShiftAddConv args{conv_shape_of(shape),
                                pointer<const int32_t>(codes),
                                pointer<const int32_t>(shifts),
                                words,
                                elements,
                                pointer<const void>(weight),
                                wide,
                                pointer<int32_t>(y)};
  check_device(cuda::shift_add_conv2d(args, stream_at(stream)), "shift_add_conv2d");
}

}  // namespace

void bind_cuda(py::module_& m) {
  m.def("statistics_workspace", &statistics_workspace);
  m.def("channel_stats", &channel_stats);
  m.def("normalisation", &normalisation);
  m.def("subset_map", &subset_map);
  m.def("subset_decode", &subset_decode);
  m.def("gemm", &gemm);
  m.def("tensor_conv", &tensor_conv);
  m.def("subset_tables", &subset_tables);
  m.def("subset_decode_packed", &subset_decode_packed);
  m.def("pack_codes", &pack_codes);
  m.def("unpack_codes", &unpack_codes);
  m.def("uniform_map", &uniform_map);
  m.def("refold_weights", &refold_weights);
  m.def("int_conv2d", &int_conv2d);
  m.def("shift_add_conv2d", &shift_add_conv2d);
}

}  // namespace ptqsr::bindings
