// Subset quantization for given statistics: every value's point, in one pass over memory.
//
// A block keeps what it needs of its channels in shared memory: thresholds, points, mean, ratio and
// unit. Values that lie beside each other are found together, each by a binary search.
#include "cuda/mesh.h"
#include "cuda/simt.h"
#include "cuda/vector.h"
#include "ptqsr/packing.h"

namespace ptqsr::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kPlanePart = 8192;       // values of a plane that a block takes
constexpr int kPixelsPerThread = 16;       // channels_last
constexpr int64_t kTables = 40 << 10;      // bytes: so many channels does a block take
constexpr int64_t kMostTables = 64 << 10;  // what every processor gives a block

// The threshold between two points: half-integers, those <= 0 one float lower (0: -2^-126), so that
// u > t sends ties to the smaller magnitude, and at 0 to the positive point.
DEVICE float threshold(int32_t below, int32_t above) {
  const float t = static_cast<float>(static_cast<int64_t>(below) + above) * 0.5f;
  if (t > 0) return t;
  if (t == 0) return -0x1p-126f;
  uint32_t bits;
  memcpy(&bits, &t, sizeof bits);
  ++bits;  // away from zero
  float lower;
  memcpy(&lower, &bits, sizeof lower);
  return lower;
}

// Of some channels, in shared memory: [channel][levels - 1], [channel][levels], then three numbers.
struct Tables {
  float *thresholds, *points, *mean, *ratio, *unit;
  int levels, top;  // top: the largest power of two below `levels`

  // An odd stride, so that channels lie in different banks.
  HOST_DEVICE static int64_t stride(int64_t levels) { return levels | 1; }
  HOST_DEVICE static int64_t bytes(int64_t channels, int64_t levels) {
    return channels * (2 * stride(levels) + 3) * static_cast<int64_t>(sizeof(float));
  }

  DEVICE Tables(unsigned char* memory, int channels, int64_t levels_) : levels(levels_), top(1) {
    thresholds = reinterpret_cast<float*>(memory);
    points = thresholds + channels * stride(levels);
    mean = points + channels * stride(levels);
    ratio = mean + channels;
    unit = ratio + channels;
    while (2 * top < levels) top *= 2;
  }

  // By all threads, for channels first .. first + count - 1 of a sample; others do no harm.
  DEVICE void fill(const int32_t* of, const float* means, const float* scales, int32_t denominator,
                   int64_t first, int count) {
    const auto d = static_cast<float>(denominator);
    const int64_t size = static_cast<int64_t>(count) * levels;
    for (int64_t i = thread(); i < size; i += kThreads) {
      const int64_t c = i / levels, level = i % levels;
      const int32_t* here = of + (first + c) * levels + level;
      points[c * stride(levels) + level] = static_cast<float>(here[0]);
      if (level + 1 < levels) thresholds[c * stride(levels) + level] = threshold(here[0], here[1]);
    }
    for (int c = thread(); c < count; c += kThreads) {
      const float scale = scales[first + c];
      mean[c] = means[first + c];
      ratio[c] = scale == 0 ? 0.0f : d / scale;
      unit[c] = scale / d;
    }
    synchronize();
  }

  // The index of the point of x; 0 for NaN.
  DEVICE int find(float x, int c) const {
    const float u = (x - mean[c]) * ratio[c];
    const float* t = thresholds + c * stride(levels);
    int code = 0;
    for (int step = top; step > 0; step /= 2) {
      if (code + step < levels && u > t[code + step - 1]) code += step;
    }
    return code;
  }
  DEVICE float point(int code, int c) const { return points[c * stride(levels) + code]; }
};

// ---- what becomes of a value

template <class T>
struct ToPoint {
  using Result = int8_t;
  DEVICE static Result of(const Tables& tables, float x, int c) {
    return static_cast<int8_t>(tables.point(tables.find(x, c), c));
  }
};
template <class T>
struct ToIndex {
  using Result = uint8_t;
  DEVICE static Result of(const Tables& tables, float x, int c) {
    return static_cast<uint8_t>(tables.find(x, c));
  }
};
template <class T>
struct ToValue {
  using Result = T;
  DEVICE static Result of(const Tables& tables, float x, int c) {
    return from_float<T>(tables.point(tables.find(x, c), c) * tables.unit[c] + tables.mean[c]);
  }
};

template <class R>
struct MapArgs {
  const void* x;
  R* out;
  const int32_t* points;
  const float *mean, *scale;
  int64_t c, pixels, levels, parts, slices;
  int32_t denominator;
  int columns, rows;
};

template <class T, class To, bool kWhole>
struct OfPlanes {
  static constexpr int kThreads = cuda::kThreads, kVector = values_in_16<T>;
  using Result = typename To::Result;
  using Args = MapArgs<Result>;
  DEVICE static void run(const Args& a) {
    const int64_t plane = block_x() / a.parts, part = block_x() % a.parts;
    const int64_t left = a.pixels - part * kPlanePart, at = plane * a.pixels + part * kPlanePart;
    Tables tables(shared_memory(), 1, a.levels);
    const int64_t channel = plane % a.c, sample = plane / a.c;
    tables.fill(a.points, a.mean + sample * a.c, a.scale + sample * a.c, a.denominator, channel, 1);
    const T* x = static_cast<const T*>(a.x) + at;
    for (int64_t i = thread() * kVector; i < kPlanePart && i < left; i += kThreads * kVector) {
      float v[kVector];
      Result found[kVector];
      load<T, kVector, kWhole>(v, x + i, left - i);
      UNROLL
      for (int k = 0; k < kVector; ++k) found[k] = To::of(tables, v[k], 0);
      store<Result, kVector, kWhole>(a.out + at + i, found, left - i);
    }
  }
};

template <class T, class To, bool kWhole>
struct OfPixels {
  static constexpr int kThreads = cuda::kThreads, kVector = values_in_16<T>;
  using Result = typename To::Result;
  using Args = MapArgs<Result>;
  DEVICE static void run(const Args& a) {
    const int64_t slice = block_x() % a.slices, part = block_x() / a.slices % a.parts;
    const int64_t sample = block_x() / a.slices / a.parts;
    const int channels = a.columns * kVector;
    const int64_t first = slice * channels, left = a.c - first;
    Tables tables(shared_memory(), channels, a.levels);
    tables.fill(a.points, a.mean + sample * a.c, a.scale + sample * a.c, a.denominator, first,
                left < channels ? static_cast<int>(left) : channels);
    const int column = thread() % a.columns * kVector, row = thread() / a.columns;
    if (column >= left) return;
    for (int r = 0; r < kPixelsPerThread; ++r) {
      const int64_t pixel = (part * kPixelsPerThread + r) * a.rows + row;
      if (pixel >= a.pixels) return;
      const int64_t at = (sample * a.pixels + pixel) * a.c + first + column;
      float v[kVector];
      Result found[kVector];
      load<T, kVector, kWhole>(v, static_cast<const T*>(a.x) + at, left - column);
      UNROLL
      for (int k = 0; k < kVector; ++k) {
        found[k] = column + k < left ? To::of(tables, v[k], column + k) : Result{};
      }
      store<Result, kVector, kWhole>(a.out + at, found, left - column);
    }
  }
};

template <class T, class To, bool kWhole>
Status map(const SubsetMap& args, typename To::Result* out, Stream stream) {
  const ActivationShape& s = args.shape;
  MapArgs<typename To::Result> a{
      args.x,      out, args.points, args.mean,        args.scale, s.c, s.pixels,
      args.levels, 0,   1,           args.denominator, 1,          1};
  if (s.layout == Layout::nchw) {
    const int64_t shared = Tables::bytes(1, args.levels);
    if (shared > kMostTables) return Status::not_taken;
    a.parts = (s.pixels + kPlanePart - 1) / kPlanePart;
    return launch<OfPlanes<T, To, kWhole>>({s.n * s.c * a.parts}, shared, stream, a);
  }
  const Mesh mesh(s.c, values_in_16<T>, kThreads, kTables / Tables::bytes(1, args.levels));
  const int64_t shared = Tables::bytes(mesh.columns * values_in_16<T>, args.levels);
  if (shared > kMostTables) return Status::not_taken;
  const int64_t pixels = static_cast<int64_t>(mesh.rows) * kPixelsPerThread;
  a.parts = (s.pixels + pixels - 1) / pixels;
  a.slices = mesh.slices;
  a.columns = mesh.columns;
  a.rows = mesh.rows;
  return launch<OfPixels<T, To, kWhole>>({s.n * a.parts * mesh.slices}, shared, stream, a);
}

template <class T, template <class> class To>
Status map(const SubsetMap& args, void* out, Stream stream) {
  using Result = typename To<T>::Result;
  const ActivationShape& s = args.shape;
  if (s.n * s.c * s.pixels > kMaxElements) return Status::too_large;
  const int64_t row = s.layout == Layout::nchw ? s.pixels : s.c;
  const auto address = reinterpret_cast<uintptr_t>(args.x) | reinterpret_cast<uintptr_t>(out);
  const bool whole = address % 16 == 0 && row % values_in_16<T> == 0;
  auto* to = static_cast<Result*>(out);
  return whole ? map<T, To<T>, true>(args, to, stream) : map<T, To<T>, false>(args, to, stream);
}

template <template <class> class To>
Status map(const SubsetMap& args, void* out, Stream stream) {
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

struct Normalise {
  static constexpr int kThreads = cuda::kThreads;
  using Args = NormalisationArgs;
  DEVICE static void run(const Args& a) {
    const int64_t i = block_x() * kThreads + thread();
    if (i >= a.n * a.c) return;
    const float low = a.low[i], high = a.high[i];
    float mean = a.mean[i], scale = NAN;
    if (low > -0x1p120f && high < 0x1p120f && mean == mean) {
      if (low == high) mean = low;
      if (a.nonnegative[i % a.c] != 0) mean = 0;
      const float up = high - mean, down = mean - low;
      scale = up > down ? up : down;
      if (scale < 0x1p-100f) scale = 0;
    } else {
      mean = NAN;
    }
    a.out_mean[i] = mean;
    a.out_scale[i] = scale;
  }
};

struct Decode {
  static constexpr int kThreads = cuda::kThreads;
  struct Args {
    const int8_t* k;
    float* y;
    const float *mean, *scale;
    int64_t c, pixels, count;
    float denominator;
    bool channels_last;
  };
  DEVICE static void run(const Args& a) {
    const int64_t i = block_x() * kThreads + thread();
    if (i >= a.count) return;
    const int64_t at =
        a.channels_last ? i / (a.pixels * a.c) * a.c + i % a.c : i / a.pixels;  // [n][c]
    a.y[i] = static_cast<float>(a.k[i]) * (a.scale[at] / a.denominator) + a.mean[at];
  }
};

// The same of packed indices: [n][pixel][row], channels last.
struct DecodePacked {
  static constexpr int kThreads = cuda::kThreads;
  struct Args {
    const uint8_t* packed;
    float* y;
    const int32_t* points;
    const float *mean, *scale;
    int64_t c, pixels, count, row;
    int levels, bits;
    float denominator;
  };
  DEVICE static void run(const Args& a) {
    const int64_t i = block_x() * kThreads + thread();
    if (i >= a.count) return;
    const int64_t channel = i % a.c, pixel = i / a.c, bit = channel * a.bits;
    const uint8_t* from = a.packed + pixel * a.row + bit / 8;
    const int shift = static_cast<int>(bit % 8);
    uint32_t code = from[0];
    if (shift + a.bits > 8) code |= static_cast<uint32_t>(from[1]) << 8;
    code = code >> shift & ((1u << a.bits) - 1);
    const int level = static_cast<int>(code) < a.levels ? static_cast<int>(code) : a.levels - 1;
    const auto k = static_cast<float>(a.points[channel * a.levels + level]);
    const int64_t at = pixel / a.pixels * a.c + channel;  // [n][c]
    a.y[i] = k * (a.scale[at] / a.denominator) + a.mean[at];
  }
};

}  // namespace

Status subset_encode(const SubsetMap& args, int8_t* out, Stream stream) {
  return map<ToPoint>(args, out, stream);
}

Status subset_indices(const SubsetMap& args, uint8_t* out, Stream stream) {
  return map<ToIndex>(args, out, stream);
}

Status subset_quantize(const SubsetMap& args, void* out, Stream stream) {
  return map<ToValue>(args, out, stream);
}

Status normalisation(const NormalisationArgs& args, Stream stream) {
  return launch<Normalise>({(args.n * args.c + kThreads - 1) / kThreads}, 0, stream, args);
}

Status subset_decode(const int8_t* k, const ActivationShape& s, int32_t denominator,
                     const float* mean, const float* scale, float* y, Stream stream) {
  const int64_t count = s.n * s.c * s.pixels;
  if (count > kMaxElements) return Status::too_large;
  return launch<Decode>({(count + kThreads - 1) / kThreads}, 0, stream,
                        {k, y, mean, scale, s.c, s.pixels, count, static_cast<float>(denominator),
                         s.layout == Layout::channels_last});
}

Status subset_decode_packed(const PackedSubset& args, float* y, Stream stream) {
  const int64_t count = args.n * args.c * args.pixels;
  if (count > kMaxElements) return Status::too_large;
  return launch<DecodePacked>(
      {(count + kThreads - 1) / kThreads}, 0, stream,
      {args.packed, y, args.points, args.mean, args.scale, args.c, args.pixels, count,
       packed_bytes(args.c, args.bits), static_cast<int>(args.levels), args.bits,
       static_cast<float>(args.denominator)});
}

}  // namespace ptqsr::cuda
