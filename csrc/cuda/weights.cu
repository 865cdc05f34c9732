// Weights of a convolution for given scales of its input: a block for every kernel of every sample
// finds the largest folded weight, then folds again and rounds.
#include "cuda/simt.h"

namespace ptqsr::cuda {
namespace {

constexpr int kThreads = 128;

// NaN where one of the two is.
DEVICE float larger(float a, float b) { return b > a || b != b ? b : a; }

// Over a block, in every thread; `shared` has place for one of each warp.
DEVICE float largest_of_block(float value, float* shared) {
  for (int mask = kWarp / 2; mask > 0; mask /= 2) {
    value = larger(value, shuffle_xor(value, mask));
  }
  if (lane() == 0) shared[warp()] = value;
  synchronize();
  for (int w = 0; w < kThreads / kWarp; ++w) value = larger(value, shared[w]);
  return value;
}

struct Fold {
  static constexpr int kThreads = cuda::kThreads;
  using Args = Refold;
  DEVICE static void run(const Args& a) {
    const int64_t sample = block_x() / a.o, o = block_x() % a.o, channels = a.c / a.groups;
    const auto taps = static_cast<uint32_t>(a.taps);
    const auto count = static_cast<uint32_t>(channels * a.taps);
    const int16_t* levels = a.levels + o * count;
    const float* scale = a.scale + sample * a.c + o / (a.o / a.groups) * channels;
    const float step = a.step[o];
    const auto folded = [&](uint32_t i) {
      return static_cast<float>(levels[i]) * step * scale[i / taps];
    };
    float largest = 0;
    for (uint32_t i = thread(); i < count; i += kThreads) {
      largest = larger(largest, fabsf(folded(i)));
    }
    const float out = largest_of_block(largest, reinterpret_cast<float*>(shared_memory())) / 127.0f;
    if (thread() == 0) a.out_scale[block_x()] = out;
    int8_t* weight = a.weight + block_x() * count;
    for (uint32_t i = thread(); i < count; i += kThreads) {
      int32_t level = 0;
      if (out > 0) level = round_to_int(folded(i) / out);
      level = level > 127 ? 127 : level;
      weight[i] = static_cast<int8_t>(level < -127 ? -127 : level);
    }
  }
};

}  // namespace

Status refold_weights(const Refold& args, Stream stream) {
  if (args.n * args.o == 0) return Status::ok;
  if (args.n * args.o * (args.c / args.groups) * args.taps > kMaxElements) {
    return Status::too_large;
  }
  return launch<Fold>({args.n * args.o}, kThreads / kWarp * sizeof(float), stream, args);
}

}  // namespace ptqsr::cuda
