#include "ptqsr/subset.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <new>
#include <vector>

#include "cpu/float_mode.h"
#include "cpu/packing.h"
#include "cpu/parallel.h"
#include "cpu/subset.h"
#include "cpu/subset_tables.h"
#include "ptqsr/packing.h"

namespace ptqsr {
namespace {

using cpu::Points;
using cpu::Scales;
using cpu::SubsetLoops;
using cpu::SubsetTables;
using cpu::Tables;
using cpu::Wanted;

constexpr int64_t kPixelBlock = 2048;  // pixels in a task of channels_last
constexpr int64_t kCodes = 1 << 14;    // codes that wait to be packed, about

// Sum, min and max of a channel of a sample.
struct Found {
  double sum;
  float low, high;

  // NaN if some value is.
  float mean(int64_t pixels) const {
    return low == high && !std::isnan(sum) ? low
                                           : static_cast<float>(sum / static_cast<double>(pixels));
  }
};

// body(task, sample, first value, pixels) of channels_last, some pixels a task.
template <class Body>
void for_pixels(const ActivationShape& shape, int threads, const Body& body) {
  const int64_t blocks = (shape.pixels + kPixelBlock - 1) / kPixelBlock;
  cpu::parallel_for(shape.n * blocks, threads, [&](int64_t task) {
    const int64_t sample = task / blocks, start = task % blocks * kPixelBlock;
    body(task, sample, (sample * shape.pixels + start) * shape.c,
         std::min(kPixelBlock, shape.pixels - start));
  });
}

// body(sample, channel, first value) of nchw.
template <class Body>
void for_planes(const ActivationShape& shape, int threads, const Body& body) {
  cpu::parallel_for(shape.n * shape.c, threads, [&](int64_t plane) {
    body(plane / shape.c, plane % shape.c, plane * shape.pixels);
  });
}

Found plane_statistics(const SubsetLoops& loops, const float* x, int64_t pixels) {
  Found found;
  loops.plane_statistics(x, pixels, &found.sum, &found.low, &found.high);
  return found;
}

// body(sample, channel, Found) of channels_last.
template <class Body>
void pixel_statistics(const SubsetLoops& loops, const float* x, const ActivationShape& shape,
                      int threads, const Body& body) {
  const int64_t c = shape.c, blocks = (shape.pixels + kPixelBlock - 1) / kPixelBlock;
  std::vector<double> sums(shape.n * blocks * c);
  std::vector<float> lows(shape.n * blocks * c), highs(shape.n * blocks * c);
  for_pixels(shape, threads, [&](int64_t task, int64_t, int64_t start, int64_t pixels) {
    loops.pixel_statistics(x + start, pixels, c, sums.data() + task * c, lows.data() + task * c,
                           highs.data() + task * c);
  });
  for (int64_t sample = 0; sample < shape.n; ++sample) {
    for (int64_t channel = 0; channel < c; ++channel) {
      Found found{0, INFINITY, -INFINITY};
      for (int64_t block = 0; block < blocks; ++block) {
        const int64_t i = (sample * blocks + block) * c + channel;
        found.sum += sums[i];
        found.low = std::min(found.low, lows[i]);
        found.high = std::max(found.high, highs[i]);
      }
      body(sample, channel, found);
    }
  }
}

// Writes mean and scale of a channel of a sample, and sets them.
void normalise(const SubsetFakeQuant& args, Scales& scales, int64_t n, int64_t c,
               const Found& found) {
  const auto [mean, scale] =
      normalisation(found.mean(args.shape.pixels), found.low, found.high, args.nonnegative[c] != 0);
  args.mean[n * args.shape.c + c] = mean;
  args.scale[n * args.shape.c + c] = scale;
  scales.set(n, c, mean, scale);
}

void quantize(const SubsetFakeQuant& args, const SubsetLoops& loops, const SubsetTables& tables,
              int threads) {
  const int64_t pixels = args.shape.pixels;
  Scales scales(args.shape.n, args.shape.c, args.denominator);
  if (args.shape.layout == Layout::nchw) {
    // A plane's second pass finds it in the cache.
    return for_planes(args.shape, threads, [&](int64_t n, int64_t c, int64_t start) {
      normalise(args, scales, n, c, plane_statistics(loops, args.x + start, pixels));
      loops.quantize_plane(args.x + start, args.y + start, pixels, c, tables, scales.sample(n));
    });
  }
  pixel_statistics(
      loops, args.x, args.shape, threads,
      [&](int64_t n, int64_t c, const Found& found) { normalise(args, scales, n, c, found); });
  for_pixels(args.shape, threads, [&](int64_t, int64_t n, int64_t start, int64_t count) {
    loops.quantize_pixels(args.x + start, args.y + start, count, tables, scales.sample(n));
  });
}

// Codes of [n][pixel][c], a few pixels at a time, packed. Throws std::bad_alloc.
void encode_packed(const SubsetEncode& args, const SubsetLoops& loops, const SubsetTables& tables,
                   const Scales& scales, int threads) {
  const int64_t c = args.shape.c, bytes = packed_bytes(c, args.bits);
  const int64_t some = std::max<int64_t>(16, kCodes / c / 16 * 16);
  std::atomic<bool> memory{true};
  for_pixels(args.shape, threads, [&](int64_t, int64_t n, int64_t start, int64_t count) {
    try {
      std::vector<uint8_t> codes(std::min(some, count) * c);
      uint8_t* out = args.out + start / c * bytes;
      for (int64_t p = 0; p < count; p += some) {
        const int64_t pixels = std::min(some, count - p);
        loops.encode_pixels(args.x + start + p * c, pixels, tables, scales.sample(n), 0,
                            codes.data());
        for (int64_t i = 0; i < pixels; ++i, out += bytes) {
          cpu::pack_row(codes.data() + i * c, c, args.bits, out);
        }
      }
    } catch (const std::bad_alloc&) {
      memory = false;
    }
  });
  if (!memory) throw std::bad_alloc();
}

void encode(const SubsetEncode& args, const SubsetLoops& loops, const SubsetTables& tables,
            int threads) {
  const Scales scales(args.mean, args.scale, args.shape.n, args.shape.c, args.denominator);
  if (args.bits != 0) return encode_packed(args, loops, tables, scales, threads);
  if (args.shape.layout == Layout::nchw) {
    return for_planes(args.shape, threads, [&](int64_t n, int64_t c, int64_t start) {
      loops.encode_plane(args.x + start, args.shape.pixels, c, tables, scales.sample(n), 0,
                         args.out + start);
    });
  }
  for_pixels(args.shape, threads, [&](int64_t, int64_t n, int64_t start, int64_t count) {
    loops.encode_pixels(args.x + start, count, tables, scales.sample(n), 0, args.out + start);
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
    quantize(args, loops, tables.view(), threads);
    return Status::ok;
  } catch (const std::bad_alloc&) {
    return Status::out_of_memory;
  }
}

bool sound(float mean, float low, float high) {
  return low > -0x1p120f && high < 0x1p120f && !std::isnan(mean);
}

Normalisation normalisation(float mean, float low, float high, bool nonnegative) {
  if (!sound(mean, low, high)) return {NAN, NAN};
  if (low == high) mean = low;
  if (nonnegative) mean = 0;
  const float scale = std::max(high - mean, mean - low);
  return {mean, scale < 0x1p-100f ? 0 : scale};
}

void normalisation(const NormalisationArgs& args) {
  const cpu::FloatMode ieee;
  for (int64_t i = 0; i < args.n * args.c; ++i) {
    const Normalisation found =
        normalisation(args.mean[i], args.low[i], args.high[i], args.nonnegative[i % args.c] != 0);
    args.out_mean[i] = found.mean;
    args.out_scale[i] = found.scale;
  }
}

Status channel_stats(const ChannelStats& args, Isa isa, int threads) {
  if (!isa_available(isa)) return Status::isa_not_available;
  const ActivationShape& shape = args.shape;
  if (shape.n * shape.c * shape.pixels == 0) return Status::ok;
  const cpu::FloatMode ieee;
  const SubsetLoops& loops = cpu::subset_loops(isa);
  const auto write = [&](int64_t n, int64_t c, const Found& found) {
    const int64_t i = n * shape.c + c;
    const float mean = found.mean(shape.pixels);
    const bool all = sound(mean, found.low, found.high);
    args.mean[i] = all ? mean : NAN;
    args.low[i] = all ? found.low : NAN;
    args.high[i] = all ? found.high : NAN;
  };
  if (shape.layout == Layout::nchw) {
    for_planes(shape, threads, [&](int64_t n, int64_t c, int64_t start) {
      write(n, c, plane_statistics(loops, args.x + start, shape.pixels));
    });
    return Status::ok;
  }
  try {
    pixel_statistics(loops, args.x, shape, threads, write);
    return Status::ok;
  } catch (const std::bad_alloc&) {
    return Status::out_of_memory;
  }
}

Status subset_encode(const SubsetEncode& args, Isa isa, int threads) {
  const Points points{args.points, args.shape.c, args.levels, args.denominator};
  if (!isa_available(isa)) return Status::isa_not_available;
  if (const Status status = points.check(); status != Status::ok) return status;
  if (args.shape.n * args.shape.c * args.shape.pixels == 0) return Status::ok;
  const cpu::FloatMode ieee;
  try {
    const SubsetLoops& loops = cpu::subset_loops(isa);
    const Tables tables(points, args.shape.layout, loops,
                        args.bits == 0 ? Wanted::points : Wanted::codes,
                        args.shape.n * args.shape.pixels);
    encode(args, loops, tables.view(), threads);
    return Status::ok;
  } catch (const std::bad_alloc&) {
    return Status::out_of_memory;
  }
}

Status subset_decode(const SubsetDecode& args, int threads) {
  const auto& [n, c, pixels, layout] = args.shape;
  if (n * c * pixels == 0) return Status::ok;
  const cpu::FloatMode ieee;
  try {
    const Scales scales(args.mean, args.scale, n, c, args.denominator);
    const int8_t* in = reinterpret_cast<const int8_t*>(args.in);
    if (layout == Layout::nchw) {
      for_planes(args.shape, threads, [&, pixels = pixels](int64_t i, int64_t ch, int64_t start) {
        const cpu::SampleScales s = scales.sample(i);
        const float unit = s.unit[ch], mean = s.mean[ch];
        for (int64_t p = 0; p < pixels; ++p) {
          args.y[start + p] = static_cast<float>(in[start + p]) * unit + mean;
        }
      });
      return Status::ok;
    }
    const int64_t bytes = args.bits == 0 ? c : packed_bytes(c, args.bits);
    std::atomic<Status> status{Status::ok};
    for_pixels(args.shape, threads, [&, c = c](int64_t, int64_t i, int64_t start, int64_t count) {
      const cpu::SampleScales s = scales.sample(i);
      try {
        std::vector<uint8_t> codes(args.bits == 0 ? 0 : c);
        std::vector<int8_t> row(args.bits == 0 ? 0 : c);
        for (int64_t p = 0; p < count; ++p) {
          const int64_t from = (start / c + p) * bytes;
          const int8_t* k = in + from;
          if (args.bits != 0) {
            cpu::unpack_row(args.in + from, c, args.bits, codes.data());
            for (int64_t ch = 0; ch < c; ++ch) {
              if (codes[ch] >= args.levels) {
                status = Status::code_out_of_range;
                return;
              }
              row[ch] = static_cast<int8_t>(args.points[ch * args.levels + codes[ch]]);
            }
            k = row.data();
          }
          float* y = args.y + start + p * c;
          for (int64_t ch = 0; ch < c; ++ch) {
            y[ch] = static_cast<float>(k[ch]) * s.unit[ch] + s.mean[ch];
          }
        }
      } catch (const std::bad_alloc&) {
        status = Status::out_of_memory;
      }
    });
    return status;
  } catch (const std::bad_alloc&) {
    return Status::out_of_memory;
  }
}

}  // namespace ptqsr
