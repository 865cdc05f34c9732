#include "ptqsr/subset.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <vector>

#include "cpu/float_mode.h"
#include "cpu/parallel.h"
#include "cpu/subset.h"
#include "cpu/subset_tables.h"

namespace ptqsr {
namespace {

using cpu::Points;
using cpu::Scales;
using cpu::SubsetLoops;
using cpu::SubsetTables;
using cpu::Tables;
using cpu::Wanted;

constexpr int64_t kPixelBlock = 2048;  // pixels in a task of channels_last

// Writes mean and scale of a channel of a sample, and sets them.
void normalise(const SubsetFakeQuant& args, Scales& scales, int64_t n, int64_t c, double sum,
               float lo, float hi) {
  float mean = 0, scale = 0;
  if (!(std::max(std::fabs(lo), std::fabs(hi)) < 0x1p120f) || std::isnan(sum)) {
    mean = scale = NAN;
  } else {
    if (args.nonnegative[c] == 0) {
      mean = lo == hi ? lo : static_cast<float>(sum / static_cast<double>(args.shape.pixels));
    }
    scale = std::max(hi - mean, mean - lo);
    if (scale < 0x1p-100f) scale = 0;
  }
  args.mean[n * args.shape.c + c] = mean;
  args.scale[n * args.shape.c + c] = scale;
  scales.set(n, c, mean, scale);
}

void run_nchw(const SubsetFakeQuant& args, const SubsetLoops& loops, const SubsetTables& tables,
              int threads) {
  const auto& [n, c, pixels, layout] = args.shape;
  Scales scales(n, c, args.denominator);
  // A plane's second pass finds it in the cache.
  cpu::parallel_for(n * c, threads, [&, c = c, pixels = pixels](int64_t plane) {
    const float* x = args.x + plane * pixels;
    double sum;
    float lo, hi;
    loops.plane_statistics(x, pixels, &sum, &lo, &hi);
    normalise(args, scales, plane / c, plane % c, sum, lo, hi);
    loops.quantize_plane(x, args.y + plane * pixels, pixels, plane % c, tables,
                         scales.sample(plane / c));
  });
}

void run_channels_last(const SubsetFakeQuant& args, const SubsetLoops& loops,
                       const SubsetTables& tables, int threads) {
  const auto& [n, c, pixels, layout] = args.shape;
  const int64_t blocks = (pixels + kPixelBlock - 1) / kPixelBlock;
  std::vector<double> sums(n * blocks * c);
  std::vector<float> lows(n * blocks * c), highs(n * blocks * c);
  const auto for_blocks = [&, c = c, pixels = pixels](const auto& body) {
    cpu::parallel_for(n * blocks, threads, [&](int64_t task) {
      const int64_t start = task % blocks * kPixelBlock;
      const int64_t offset = (task / blocks * pixels + start) * c;
      body(task, offset, std::min(kPixelBlock, pixels - start));
    });
  };
  for_blocks([&, c = c](int64_t task, int64_t offset, int64_t count) {
    loops.pixel_statistics(args.x + offset, count, c, sums.data() + task * c,
                           lows.data() + task * c, highs.data() + task * c);
  });
  Scales scales(n, c, args.denominator);
  for (int64_t sample = 0; sample < n; ++sample) {
    for (int64_t channel = 0; channel < c; ++channel) {
      double sum = 0;
      float lo = INFINITY, hi = -INFINITY;
      for (int64_t block = 0; block < blocks; ++block) {
        const int64_t i = (sample * blocks + block) * c + channel;
        sum += sums[i];
        lo = std::min(lo, lows[i]);
        hi = std::max(hi, highs[i]);
      }
      normalise(args, scales, sample, channel, sum, lo, hi);
    }
  }
  for_blocks([&](int64_t task, int64_t offset, int64_t count) {
    loops.quantize_pixels(args.x + offset, args.y + offset, count, tables,
                          scales.sample(task / blocks));
  });
}

}  // namespace

Status subset_fake_quant(const SubsetFakeQuant& args, Isa isa, int threads) {
  const Points points{args.points, args.shape.c, args.levels, args.denominator};
  if (!isa_available(isa)) return Status::isa_not_available;
  if (const Status status = points.check(); status != Status::ok) return status;
  if (args.shape.n * args.shape.c * args.shape.pixels == 0) return Status::ok;
  const cpu::FloatMode ieee;
  try {
    const SubsetLoops& loops = cpu::subset_loops(isa);
    const Tables tables(points, args.shape.layout, loops, Wanted::values,
                        args.shape.n * args.shape.pixels);
    if (args.shape.layout == Layout::nchw) {
      run_nchw(args, loops, tables.view(), threads);
    } else {
      run_channels_last(args, loops, tables.view(), threads);
    }
    return Status::ok;
  } catch (const std::bad_alloc&) {
    return Status::out_of_memory;
  }
}

}  // namespace ptqsr
