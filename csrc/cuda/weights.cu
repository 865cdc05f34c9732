// Weights of a convolution for given scales of its input: a block for every kernel of every sample
// finds the largest folded weight, then folds again and rounds. And what a subset convolution adds.
#include "cuda/border.h"
#include "cuda/mma.h"
#include "cuda/moments.h"
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

// One kernel of one sample; all threads take part.
struct Folded {
  const int16_t* levels;  // [c / groups][taps]
  const float* scale;     // of the kernel's channels
  float step, out;
  uint32_t channels, taps, count;

  DEVICE Folded(const Refold& a, int64_t sample, int64_t o)
      : channels(static_cast<uint32_t>(a.c / a.groups)),
        taps(static_cast<uint32_t>(a.taps)),
        count(channels * taps) {
    levels = a.levels + o * count;
    scale = a.scale + sample * a.c + o / (a.o / a.groups) * channels;
    step = a.step[o];
    float largest = 0;
    for (uint32_t i = thread(); i < count; i += kThreads) {
      largest = larger(largest, fabsf(value(i, i / taps)));
    }
    out = largest_of_block(largest, reinterpret_cast<float*>(shared_memory())) / 127.0f;
  }
  DEVICE float value(uint32_t i, uint32_t channel) const {
    return static_cast<float>(levels[i]) * step * scale[channel];
  }
  DEVICE int8_t weight(uint32_t i, uint32_t channel) const {
    int32_t level = 0;
    if (out > 0) level = round_to_int(value(i, channel) / out);
    level = level > 127 ? 127 : level;
    return static_cast<int8_t>(level < -127 ? -127 : level);
  }
};

struct Fold {
  static constexpr int kThreads = cuda::kThreads;
  using Args = Refold;
  DEVICE static void run(const Args& a) {
    const Folded folded(a, block_x() / a.o, block_x() % a.o);
    if (thread() == 0) a.out_scale[block_x()] = folded.out;
    int8_t* weight = a.weight + block_x() * folded.count;
    for (uint32_t i = thread(); i < folded.count; i += kThreads) {
      weight[i] = folded.weight(i, i / folded.taps);
    }
  }
};

// A block for every entry of a table.
struct Tables {
  static constexpr int kThreads = cuda::kThreads;
  using Args = SubsetTables;

  // Shared memory: what the largest needs, then the sums of taps.
  static int64_t shared_bytes(int64_t taps) {
    return kThreads / kWarp * sizeof(float) + taps * static_cast<int64_t>(sizeof(double));
  }

  DEVICE static void run(const Args& a) {
    const auto entry = static_cast<int>(block_x() % a.channels);
    const auto sample = static_cast<int>(block_x() / a.channels);
    const Refold& f = a.fold;
    const auto groups = static_cast<int>(f.groups), kernels = static_cast<int>(f.o) / groups;
    // As csrc/cuda/tensor_conv.cu has them: [group][place of the square][channels, in runs of 16].
    const int in_group = a.channels / groups, group = entry / in_group;
    const int per_place = kernels / a.places, padded = (per_place + 15) / 16 * 16;
    const int place = entry % in_group / padded, channel = entry % in_group % padded;
    const bool there = place < a.places && channel < per_place;
    if (!there) {
      // Their results are nobody's, but must be numbers: they are added up with the others.
      const int classes = classes_of(a.rows) * classes_of(a.columns);
      if (thread() == 0) a.scale[sample * a.channels + entry] = 0;
      for (int k = thread(); k < classes; k += kThreads) {
        a.terms[(static_cast<int64_t>(sample) * classes + k) * a.channels + entry] = 0;
      }
      return pack(a, sample, entry, nullptr);
    }
    const int64_t o = group * kernels + channel * a.places + place;
    const Folded folded(f, sample, o);
    if (thread() == 0) {
      a.scale[sample * a.channels + entry] = folded.out / static_cast<float>(a.denominator);
      if (a.moments.sum != nullptr && place == 0) {
        const int at = (sample * groups + group) * per_place + channel;
        a.moments.sum[at] = 0;
        a.moments.low[at] = INT32_MAX;
        a.moments.high[at] = INT32_MIN;
        if (at == 0) *a.moments.blocks = 0;
      }
    }
    pack(a, sample, entry, &folded);
    terms(a, sample, entry, o, folded);
  }

 private:
  // All of an output channel's weights: [round][tap][its row][64 channels].
  DEVICE static void pack(const Args& a, int sample, int entry, const Folded* folded) {
    const int in_block = entry % 64, taps = a.kh * a.kw;
    const int row = in_block % 16 / 2 * 8 + in_block / 16 * 2 + in_block % 2;
    const int channels = static_cast<int>(a.fold.c / a.fold.groups);
    const int rounds = (channels + kSlab - 1) / kSlab;
    const int64_t block = static_cast<int64_t>(sample) * (a.channels / 64) + entry / 64;
    int8_t* to = a.weights + (block * rounds * taps * 64 + row) * kSlab;
    for (int i = thread(); i < rounds * taps * kSlab; i += kThreads) {
      const int code = i % kSlab, tap = i / kSlab % taps, round = i / kSlab / taps;
      const int channel = round * kSlab + code;
      const bool there = folded != nullptr && channel < channels;
      to[static_cast<int64_t>(i / kSlab) * 64 * kSlab + code] =
          there ? folded->weight(channel * taps + tap, channel) : int8_t{0};
    }
  }

  DEVICE static void terms(const Args& a, int sample, int entry, int64_t o, const Folded& folded) {
    const auto taps = static_cast<int>(folded.taps);
    auto* by_tap = reinterpret_cast<double*>(shared_memory() + kThreads / kWarp * sizeof(float));
    const float* mean = a.mean + (folded.scale - a.fold.scale);
    for (int tap = warp(); tap < taps; tap += kThreads / kWarp) {
      double sum = 0;
      for (uint32_t c = lane(); c < folded.channels; c += kWarp) {
        const float w = static_cast<float>(folded.levels[c * taps + tap]) * folded.step;
        sum += static_cast<double>(mean[c]) * static_cast<double>(w);
      }
      for (int mask = kWarp / 2; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
      if (lane() == 0) by_tap[tap] = sum;
    }
    synchronize();
    const int across = classes_of(a.columns), classes = classes_of(a.rows) * across;
    for (int k = thread(); k < classes; k += kThreads) {
      const int top = row_of(a.rows, k / across) * a.stride_h - a.padding_h;
      const int left = row_of(a.columns, k % across) * a.stride_w - a.padding_w;
      double sum = a.bias != nullptr ? a.bias[o] : 0.0f;
      for (int tap = 0; tap < taps; ++tap) {
        const int y = top + tap / a.kw * a.dilation_h, x = left + tap % a.kw * a.dilation_w;
        if (y >= 0 && y < a.h && x >= 0 && x < a.w) sum += by_tap[tap];
      }
      a.terms[(static_cast<int64_t>(sample) * classes + k) * a.channels + entry] =
          static_cast<float>(sum);
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

Status subset_tables(const SubsetTables& args, Stream stream) {
  const Refold& f = args.fold;
  if (f.n * f.o * (f.c / f.groups) * f.taps > kMaxElements) return Status::too_large;
  return launch<Tables>({f.n * args.channels}, Tables::shared_bytes(f.taps), stream, args);
}

}  // namespace ptqsr::cuda
