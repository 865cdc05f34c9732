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
    int64_t count, blocks;  // of a sample
    const float* step;
    const int32_t *lowest, *levels;
    int bits;
    bool aligned;
  };
  DEVICE static void run(const Args& a) {
    const int64_t sample = block_x() / a.blocks, block = block_x() % a.blocks;
    const int64_t i = (block * kThreads + thread()) * kVector, left = a.count - i;
    if (left <= 0) return;
    const T* x = a.x + sample * a.count + i;
    Result* out = a.out + sample * a.count + i;
    const int64_t lowest = a.lowest[sample];
    const int64_t count = a.levels != nullptr ? a.levels[sample] : 1 << a.bits;
    const Levels levels{a.step[sample], static_cast<float>(lowest),
                        static_cast<float>(lowest + count - 1)};
    const bool whole = a.aligned && left >= kVector;
    float v[kVector];
    whole ? load<T, kVector, true>(v, x, left) : load<T, kVector, false>(v, x, left);
    Result found[kVector];
    UNROLL
    for (int k = 0; k < kVector; ++k) found[k] = To::of(levels, v[k]);
    whole ? store<Result, kVector, true>(out, found, left)
          : store<Result, kVector, false>(out, found, left);
  }
};

template <class T, template <class> class To>
Status map(const UniformMap& args, void* out, Stream stream) {
  using Kernel = OfValues<T, To<T>>;
  if (args.samples * args.count > kMaxElements) return Status::too_large;
  constexpr int64_t kInBlock = kThreads * Kernel::kVector;
  const int64_t blocks = (args.count + kInBlock - 1) / kInBlock;
  const auto address = reinterpret_cast<uintptr_t>(args.x) | reinterpret_cast<uintptr_t>(out);
  const bool apart = args.samples == 1 || args.count % Kernel::kVector == 0;
  return launch<Kernel>(
      {args.samples * blocks}, 0, stream,
      {static_cast<const T*>(args.x), static_cast<typename Kernel::Result*>(out), args.count,
       blocks, args.step, args.lowest, args.levels, args.bits, address % 16 == 0 && apart});
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
