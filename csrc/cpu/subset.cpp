#include "cpu/subset.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <vector>

#include "cpu/float_mode.h"
#include "cpu/parallel.h"
#include "ptqsr/subset.h"

namespace ptqsr {
namespace {

using cpu::kPadding;
using cpu::SampleScales;
using cpu::Search;
using cpu::SubsetLoops;
using cpu::SubsetTables;

constexpr int64_t kPixelBlock = 2048;        // pixels in a task of channels_last
constexpr int32_t kTableDenominator = 4096;  // a table of 64 KiB per channel

Status check_points(const SubsetFakeQuant& args) {
  for (int64_t c = 0; c < args.shape.c; ++c) {
    const int32_t* points = args.points + c * args.levels;
    for (int64_t i = 0; i < args.levels; ++i) {
      if (points[i] < -args.denominator || points[i] > args.denominator) {
        return Status::points_out_of_range;
      }
      if (i > 0 && points[i] <= points[i - 1]) return Status::points_not_ascending;
    }
  }
  return Status::ok;
}

const SubsetLoops& loops_for(Isa isa) {
#ifdef PTQSR_X86
  if (isa >= Isa::avx512) return cpu::kSubsetAvx512;
  if (isa == Isa::avx2) return cpu::kSubsetAvx2;
#endif
  static_cast<void>(isa);
  return cpu::kSubsetPortable;
}

// The threshold between two points: u > t exactly where u is sent to the upper one. Ties go to
// the smaller magnitude, and at 0 to the upper point: t <= 0 lies one float lower.
float threshold(int32_t lower, int32_t upper) {
  const float t = static_cast<float>(static_cast<int64_t>(lower) + upper) * 0.5f;
  if (t > 0) return t;
  return t == 0 ? -0x1p-126f : std::nextafter(t, -INFINITY);
}

// Owns what SubsetTables points to.
class Tables {
 public:
  Tables(const SubsetFakeQuant& args, int64_t compare_levels) {
    const auto& [n, c, pixels, layout] = args.shape;
    const int64_t levels = args.levels, gaps = levels - 1;
    const int64_t padded = (c + kPadding - 1) / kPadding * kPadding;
    thresholds_.resize(c * gaps);
    values_.resize(c * levels);
    for (int64_t i = 0; i < c; ++i) {
      const int32_t* points = args.points + i * levels;
      for (int64_t j = 0; j < levels; ++j) values_[i * levels + j] = static_cast<float>(points[j]);
      for (int64_t j = 0; j < gaps; ++j) {
        thresholds_[i * gaps + j] = threshold(points[j], points[j + 1]);
      }
    }
    Search search = Search::bisect;
    if (levels <= compare_levels) {
      search = Search::compare;
      if (layout == Layout::channels_last) transpose(c, padded, levels);
    } else if (args.denominator <= kTableDenominator && n * pixels >= args.denominator) {
      search = Search::table;
      fill_lookup(c, levels, args.denominator);
    }
    view_ = {c,
             padded,
             levels,
             args.denominator,
             search,
             thresholds_.data(),
             values_.data(),
             thresholds_t_.data(),
             values_t_.data(),
             lookup_.data()};
  }

  const SubsetTables& view() const { return view_; }

 private:
  void transpose(int64_t c, int64_t padded, int64_t levels) {
    thresholds_t_.resize((levels - 1) * padded);
    values_t_.resize(levels * padded);
    for (int64_t i = 0; i < c; ++i) {
      for (int64_t j = 0; j < levels; ++j) values_t_[j * padded + i] = values_[i * levels + j];
      for (int64_t j = 0; j + 1 < levels; ++j) {
        thresholds_t_[j * padded + i] = thresholds_[i * (levels - 1) + j];
      }
    }
  }

  // Entry i + 2D is the point of u for which i/2 is the largest half-integer "below" it, in the
  // sense of threshold(): so a threshold at j/2 counts if j <= i.
  void fill_lookup(int64_t c, int64_t levels, int32_t denominator) {
    const int64_t size = 4 * static_cast<int64_t>(denominator);
    lookup_.resize(c * size);
    for (int64_t channel = 0; channel < c; ++channel) {
      const float* points = values_.data() + channel * levels;
      int64_t code = 0;
      for (int64_t i = -2 * denominator; i < 2 * denominator; ++i) {
        while (code + 1 < levels && points[code] + points[code + 1] <= static_cast<float>(i)) {
          ++code;
        }
        lookup_[channel * size + i + 2 * denominator] = points[code];
      }
    }
  }

  std::vector<float> thresholds_, values_, thresholds_t_, values_t_, lookup_;
  SubsetTables view_;
};

// Mean and scale of every sample and channel, and what follows from them, padded.
class Scales {
 public:
  explicit Scales(const SubsetFakeQuant& args)
      : args_(args), padded_((args.shape.c + kPadding - 1) / kPadding * kPadding) {
    for (auto* table : {&mean_, &ratio_, &unit_}) table->resize(args.shape.n * padded_);
  }

  void set(int64_t n, int64_t c, double sum, float lo, float hi) {
    float mean = 0, scale = 0;
    if (!(std::max(std::fabs(lo), std::fabs(hi)) < 0x1p120f) || std::isnan(sum)) {
      mean = scale = NAN;
    } else {
      if (args_.nonnegative[c] == 0) {
        mean = lo == hi ? lo : static_cast<float>(sum / static_cast<double>(args_.shape.pixels));
      }
      scale = std::max(hi - mean, mean - lo);
      if (scale < 0x1p-100f) scale = 0;
    }
    args_.mean[n * args_.shape.c + c] = mean;
    args_.scale[n * args_.shape.c + c] = scale;
    const float d = static_cast<float>(args_.denominator);
    mean_[n * padded_ + c] = mean;
    ratio_[n * padded_ + c] = scale == 0 ? 0 : d / scale;
    unit_[n * padded_ + c] = scale / d;
  }

  SampleScales sample(int64_t n) const {
    return {mean_.data() + n * padded_, ratio_.data() + n * padded_, unit_.data() + n * padded_};
  }

 private:
  const SubsetFakeQuant& args_;
  int64_t padded_;
  std::vector<float> mean_, ratio_, unit_;
};

void run_nchw(const SubsetFakeQuant& args, const SubsetLoops& loops, const SubsetTables& tables,
              int threads) {
  const auto& [n, c, pixels, layout] = args.shape;
  Scales scales(args);
  // A plane's second pass finds it in the cache.
  cpu::parallel_for(n * c, threads, [&, c = c, pixels = pixels](int64_t plane) {
    const float* x = args.x + plane * pixels;
    double sum;
    float lo, hi;
    loops.plane_statistics(x, pixels, &sum, &lo, &hi);
    scales.set(plane / c, plane % c, sum, lo, hi);
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
  Scales scales(args);
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
      scales.set(sample, channel, sum, lo, hi);
    }
  }
  for_blocks([&](int64_t task, int64_t offset, int64_t count) {
    loops.quantize_pixels(args.x + offset, args.y + offset, count, tables,
                          scales.sample(task / blocks));
  });
}

}  // namespace

Status subset_fake_quant(const SubsetFakeQuant& args, Isa isa, int threads) {
  if (!isa_available(isa)) return Status::isa_not_available;
  if (const Status status = check_points(args); status != Status::ok) return status;
  if (args.shape.n * args.shape.c * args.shape.pixels == 0) return Status::ok;
  const cpu::FloatMode ieee;
  try {
    const SubsetLoops& loops = loops_for(isa);
    const Tables tables(args, loops.compare_levels);
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
