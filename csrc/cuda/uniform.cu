// Uniform quantization, 16 bytes of x a thread. Every thread reads the grid for itself: it lies on
// the device, and the host would have to wait for it.
#include "cuda/simt.h"
#include "cuda/vector.h"

namespace ptqsr::cuda {
namespace {

constexpr int kThreads = 256;

struct Levels {
  float step, low, high;

  // x / step between the ends, which are integers: so it may be rounded later. NaN stays.
  DEVICE float between(float x) const {
    const float v = x / step;
    if (v < low) return low;
    return v > high ? high : v;
  }
};

template <class T>
struct ToValue {
  using Result = T;
  DEVICE static Result of(const Levels& levels, float x) {
    return from_float<T>(rintf(levels.between(x)) * levels.step + 0.0f);  // -0 becomes 0
  }
};
template <class T>
struct ToCode {
  using Result = uint8_t;
  DEVICE static Result of(const Levels& levels, float x) {
    const float v = levels.between(x);
    return v == v ? static_cast<uint8_t>(static_cast<int>(rintf(v) - levels.low)) : 0;
  }
};

template <class T, class To>
struct OfValues {
  static constexpr int kThreads = cuda::kThreads, kVector = values_in_16<T>;
  using Result = typename To::Result;
  struct Args {
    const T* x;
    Result* out;
    int64_t count;
    const float* step;
    const int32_t* lowest;
    int bits;
    bool aligned;
  };
  DEVICE static void run(const Args& a) {
    const int64_t i = (block_x() * kThreads + thread()) * kVector, left = a.count - i;
    if (left <= 0) return;
    const int64_t lowest = *a.lowest;
    const Levels levels{*a.step, static_cast<float>(lowest),
                        static_cast<float>(lowest + (1 << a.bits) - 1)};
    const bool whole = a.aligned && left >= kVector;
    float v[kVector];
    whole ? load<T, kVector, true>(v, a.x + i, left) : load<T, kVector, false>(v, a.x + i, left);
    Result found[kVector];
    UNROLL
    for (int k = 0; k < kVector; ++k) found[k] = To::of(levels, v[k]);
    whole ? store<Result, kVector, true>(a.out + i, found, left)
          : store<Result, kVector, false>(a.out + i, found, left);
  }
};

template <class T, template <class> class To>
Status map(const UniformMap& args, void* out, Stream stream) {
  using Kernel = OfValues<T, To<T>>;
  if (args.count > kMaxElements) return Status::too_large;
  constexpr int64_t kInBlock = kThreads * Kernel::kVector;
  const auto address = reinterpret_cast<uintptr_t>(args.x) | reinterpret_cast<uintptr_t>(out);
  return launch<Kernel>({(args.count + kInBlock - 1) / kInBlock}, 0, stream,
                        {static_cast<const T*>(args.x), static_cast<typename Kernel::Result*>(out),
                         args.count, args.step, args.lowest, args.bits, address % 16 == 0});
}

template <template <class> class To>
Status map(const UniformMap& args, void* out, Stream stream) {
  switch (args.number) {
    case Number::float32:
      return map<float, To>(args, out, stream);
    case Number::float16:
      return map<Half, To>(args, out, stream);
    case Number::bfloat16:
      return map<BFloat, To>(args, out, stream);
  }
  return Status::ok;
}

}  // namespace

Status uniform_fake_quant(const UniformMap& args, void* y, Stream stream) {
  return map<ToValue>(args, y, stream);
}

Status uniform_encode(const UniformMap& args, uint8_t* codes, Stream stream) {
  return map<ToCode>(args, codes, stream);
}

}  // namespace ptqsr::cuda
