// Mean, low and high of every sample and channel, in two launches: parts, then what they make.
//
// The order of all sums follows from the shape alone. A thread adds at most kRun values in float32
// before a sum goes on in float64; in contiguous layout a part is kPlanePart neighbouring pixels of
// a plane, in channels_last kThreads * kRun values of some pixels.
#include "cuda/mesh.h"
#include "cuda/reduce.h"
#include "cuda/simt.h"
#include "cuda/vector.h"

namespace ptqsr::cuda {
namespace {

constexpr int kThreads = 256, kRun = 32;
constexpr int64_t kPlanePart = kThreads * kRun;

int values_in_16_of(Number number) { return number == Number::float32 ? 4 : 8; }

int64_t parts_of(const ActivationShape& s, Number number) {
  const Mesh mesh(s.c, values_in_16_of(number), kThreads, s.c);
  const int64_t size = s.layout == Layout::nchw ? kPlanePart : mesh.rows * kRun;
  return (s.pixels + size - 1) / size;
}

template <class T, bool kWhole>
struct PlaneParts {
  static constexpr int kThreads = cuda::kThreads, kVector = values_in_16<T>;
  struct Args {
    const T* x;
    Extent* parts;  // [plane][part]
    int64_t pixels, count;
  };
  DEVICE static void run(const Args& a) {
    const int64_t plane = block_x() / a.count, part = block_x() % a.count;
    const int64_t left = a.pixels - part * kPlanePart;
    const T* x = a.x + plane * a.pixels + part * kPlanePart;
    float sum = 0, low = INFINITY, high = -INFINITY;
    for (int64_t i = thread() * kVector; i < kPlanePart && i < left; i += kThreads * kVector) {
      float v[kVector];
      load<T, kVector, kWhole>(v, x + i, left - i);
      UNROLL
      for (int k = 0; k < kVector; ++k) {
        if (i + k >= left) continue;
        sum += v[k];
        if (v[k] < low) low = v[k];
        if (v[k] > high) high = v[k];
      }
    }
    auto* shared = reinterpret_cast<Extent*>(shared_memory());
    const Extent all = over_block<kThreads>({sum, low, high}, shared);
    if (thread() == 0) a.parts[block_x()] = all;
  }
};

template <class T, bool kWhole>
struct PixelParts {
  static constexpr int kThreads = cuda::kThreads, kVector = values_in_16<T>;
  struct Args {
    const T* x;
    Extent* parts;  // [n][part][c]
    int64_t c, pixels, count, slices;
    int columns, rows;
  };
  DEVICE static void run(const Args& a) {
    const int64_t slice = block_x() % a.slices, part = block_x() / a.slices % a.count;
    const int64_t sample = block_x() / a.slices / a.count;
    const int column = thread() % a.columns, row = thread() / a.columns;
    const int64_t first = (slice * a.columns + column) * kVector, left = a.c - first;
    const int64_t top = part * a.rows * kRun;
    const T* x = a.x + sample * a.pixels * a.c + first;
    float sum[kVector] = {}, low[kVector], high[kVector];
    UNROLL
    for (int k = 0; k < kVector; ++k) {
      low[k] = INFINITY;
      high[k] = -INFINITY;
    }
    for (int r = 0; r < kRun && left > 0; ++r) {
      const int64_t pixel = top + r * a.rows + row;
      if (pixel >= a.pixels) break;
      float v[kVector];
      load<T, kVector, kWhole>(v, x + pixel * a.c, left);
      UNROLL
      for (int k = 0; k < kVector; ++k) {
        sum[k] += v[k];
        if (v[k] < low[k]) low[k] = v[k];
        if (v[k] > high[k]) high[k] = v[k];
      }
    }
    // [row][channel of the slice]
    auto* shared = reinterpret_cast<Extent*>(shared_memory());
    const int channels = a.columns * kVector;
    UNROLL
    for (int k = 0; k < kVector; ++k) {
      shared[row * channels + column * kVector + k] = {sum[k], low[k], high[k]};
    }
    synchronize();
    for (int i = thread(); i < channels; i += kThreads) {
      const int64_t channel = slice * channels + i;
      if (channel >= a.c) continue;
      Extent all = shared[i];
      for (int r = 1; r < a.rows; ++r) take(all, shared[r * channels + i]);
      a.parts[(sample * a.count + part) * a.c + channel] = all;
    }
  }
};

// A warp for each sample and channel.
struct Whole {
  static constexpr int kThreads = cuda::kThreads;
  struct Args {
    const Extent* parts;
    float *mean, *low, *high;
    int64_t n, c, count, pixels;
    bool channels_last;
  };
  DEVICE static void run(const Args& a) {
    const int64_t i = block_x() * (kThreads / kWarp) + warp();
    if (i >= a.n * a.c) return;
    const int64_t step = a.channels_last ? a.c : 1;
    const Extent* parts =
        a.parts + (a.channels_last ? i / a.c * a.count * a.c + i % a.c : i * a.count);
    Extent all = nothing();
    for (int64_t p = lane(); p < a.count; p += kWarp) take(all, parts[p * step]);
    all = over_warp(all);
    if (lane() != 0) return;
    float mean = static_cast<float>(all.sum / static_cast<double>(a.pixels));
    if (all.low == all.high && mean == mean) mean = all.low;
    const bool sound = all.low > -0x1p120f && all.high < 0x1p120f && mean == mean;
    a.mean[i] = sound ? mean : NAN;
    a.low[i] = sound ? all.low : NAN;
    a.high[i] = sound ? all.high : NAN;
  }
};

template <class T, bool kWhole>
Status parts(const ChannelStats& args, int64_t count, Stream stream) {
  const ActivationShape& s = args.shape;
  const auto* x = static_cast<const T*>(args.x);
  auto* to = static_cast<Extent*>(args.workspace);
  if (s.layout == Layout::nchw) {
    constexpr int64_t kShared = kThreads / kWarp * sizeof(Extent);
    return launch<PlaneParts<T, kWhole>>({s.n * s.c * count}, kShared, stream,
                                         {x, to, s.pixels, count});
  }
  const Mesh mesh(s.c, values_in_16<T>, kThreads, s.c);
  constexpr int64_t kShared = kThreads * values_in_16<T> * sizeof(Extent);
  return launch<PixelParts<T, kWhole>>(
      {s.n * count * mesh.slices}, kShared, stream,
      {x, to, s.c, s.pixels, count, mesh.slices, mesh.columns, mesh.rows});
}

template <class T>
Status parts(const ChannelStats& args, int64_t count, Stream stream) {
  const int64_t row = args.shape.layout == Layout::nchw ? args.shape.pixels : args.shape.c;
  const bool whole = reinterpret_cast<uintptr_t>(args.x) % 16 == 0 && row % values_in_16<T> == 0;
  return whole ? parts<T, true>(args, count, stream) : parts<T, false>(args, count, stream);
}

}  // namespace

int64_t statistics_workspace(const ActivationShape& shape, Number number) {
  return shape.n * shape.c * parts_of(shape, number) * static_cast<int64_t>(sizeof(Extent));
}

Status channel_stats(const ChannelStats& args, Stream stream) {
  const ActivationShape& s = args.shape;
  if (s.n * s.c == 0) return Status::ok;
  if (s.n * s.c * s.pixels > kMaxElements) return Status::too_large;
  const int64_t count = parts_of(s, args.number);
  Status status = Status::ok;
  switch (args.number) {
    case Number::float32:
      status = parts<float>(args, count, stream);
      break;
    case Number::float16:
      status = parts<Half>(args, count, stream);
      break;
    case Number::bfloat16:
      status = parts<BFloat>(args, count, stream);
      break;
  }
  if (status != Status::ok) return status;
  constexpr int64_t kInBlock = kThreads / kWarp;
  return launch<Whole>({(s.n * s.c + kInBlock - 1) / kInBlock}, 0, stream,
                       {static_cast<const Extent*>(args.workspace), args.mean, args.low, args.high,
                        s.n, s.c, count, s.pixels, s.layout == Layout::channels_last});
}

}  // namespace ptqsr::cuda
