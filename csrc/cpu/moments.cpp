#include "ptqsr/moments.h"

#include <algorithm>
#include <new>
#include <vector>

#include "cpu/float_mode.h"
#include "cpu/moments.h"
#include "cpu/parallel.h"
#include "cpu/uniform.h"

namespace ptqsr {
namespace {

using cpu::kSegment;
using cpu::Moments;
using cpu::UniformLoops;

// A plane is looked at as pixels of so many channels, which are put together in the end.
constexpr int64_t kPlaneLanes = 16;
constexpr int64_t kTaskSegments = 16;

// What a task needs besides: of a segment. [lanes]
struct Scratch {
  explicit Scratch(int64_t lanes)
      : shift(lanes), sum(lanes), squares(lanes), mean(lanes), around(lanes) {}
  std::vector<float> shift, sum, squares;
  std::vector<double> mean, around;
};

// Sets `found` to the moments of x[pixels][lanes], at least one pixel.
void of_pixels(const UniformLoops& loops, const float* x, int64_t pixels, int64_t lanes,
               Scratch& scratch, const Moments& found) {
  const Moments here{scratch.mean.data(), scratch.around.data()};
  for (int64_t start = 0; start < pixels; start += kSegment) {
    const int64_t count = std::min(kSegment, pixels - start);
    loops.sum_apart(x + start * lanes, count, lanes, scratch.shift.data(), scratch.sum.data(),
                    scratch.squares.data());
    (start == 0 ? found : here)
        .set(lanes, count, scratch.shift.data(), scratch.sum.data(), scratch.squares.data());
    if (start > 0) {
      found.take(lanes, static_cast<double>(start), here.mean, here.squares,
                 static_cast<double>(count));
    }
  }
}

void of_plane(const UniformLoops& loops, const float* x, int64_t pixels, Scratch& scratch,
              double* mean, double* squares) {
  const Moments all{mean, squares};
  double count = 0, means[kPlaneLanes], around[kPlaneLanes];
  const int64_t rows = pixels / kPlaneLanes, rest = pixels % kPlaneLanes;
  if (rows > 0) of_pixels(loops, x, rows, kPlaneLanes, scratch, {means, around});
  for (int64_t i = 0; i < kPlaneLanes && rows > 0; ++i) {
    all.take(1, count, &means[i], &around[i], static_cast<double>(rows));
    count += static_cast<double>(rows);
  }
  if (rest == 0) return;
  of_pixels(loops, x + rows * kPlaneLanes, rest, 1, scratch, {means, around});
  all.take(1, count, means, around, static_cast<double>(rest));
}

// means, squares: [n][c], 0.
void of_planes(const ChannelMoments& args, const UniformLoops& loops, int threads, double* means,
               double* squares) {
  const ActivationShape& s = args.shape;
  std::vector<Scratch> scratch(s.n * s.c, Scratch(kPlaneLanes));
  cpu::parallel_for(s.n * s.c, threads, [&](int64_t i) {
    of_plane(loops, args.x + i * s.pixels, s.pixels, scratch[i], means + i, squares + i);
  });
}

void of_channels_last(const ChannelMoments& args, const UniformLoops& loops, int threads,
                      double* means, double* squares) {
  const ActivationShape& s = args.shape;
  constexpr int64_t kTask = kTaskSegments * kSegment;
  const int64_t tasks = (s.pixels + kTask - 1) / kTask;
  std::vector<double> mean(s.n * tasks * s.c), square(mean.size());
  std::vector<Scratch> scratch(s.n * tasks, Scratch(s.c));
  cpu::parallel_for(s.n * tasks, threads, [&](int64_t i) {
    const int64_t sample = i / tasks, start = i % tasks * kTask;
    of_pixels(loops, args.x + (sample * s.pixels + start) * s.c, std::min(kTask, s.pixels - start),
              s.c, scratch[i], {mean.data() + i * s.c, square.data() + i * s.c});
  });
  for (int64_t i = 0; i < s.n * tasks; ++i) {
    const int64_t sample = i / tasks, start = i % tasks * kTask;
    const Moments all{means + sample * s.c, squares + sample * s.c};
    all.take(s.c, static_cast<double>(start), mean.data() + i * s.c, square.data() + i * s.c,
             static_cast<double>(std::min(kTask, s.pixels - start)));
  }
}

}  // namespace

Status channel_moments(const ChannelMoments& args, Isa isa, int threads) {
  if (!isa_available(isa)) return Status::isa_not_available;
  const ActivationShape& s = args.shape;
  const int64_t channels = s.n * s.c;
  std::fill_n(args.mean, channels, 0.0f);
  std::fill_n(args.deviation, channels, 0.0f);
  if (channels * s.pixels == 0) return Status::ok;
  const cpu::FloatMode ieee;
  try {
    std::vector<double> means(channels), squares(channels);
    const UniformLoops& loops = cpu::uniform_loops(isa);
    const auto find = s.layout == Layout::nchw ? of_planes : of_channels_last;
    find(args, loops, threads, means.data(), squares.data());
    for (int64_t i = 0; i < channels; ++i) {
      args.mean[i] = static_cast<float>(means[i]);
      args.deviation[i] = cpu::deviation_of(squares[i], static_cast<double>(s.pixels));
    }
    return Status::ok;
  } catch (const std::bad_alloc&) {
    return Status::out_of_memory;
  }
}

}  // namespace ptqsr
