#include "ptqsr/histogram.h"

#include <algorithm>

#include "cpu/parallel.h"

namespace ptqsr {
namespace {

constexpr int64_t kBlock = 512;  // values whose bins are found before any is counted

// Of `count` values, at most kBlock. A value clamped first ends in the bin that it would after;
// NaN, which a sound plane has not, in the first.
void find_bins(const float* __restrict x, int64_t count, float mean, float ratio, float offset,
               float bins_per_step, float last, int32_t* __restrict bins) {
  for (int64_t i = 0; i < count; ++i) {
    float position = ((x[i] - mean) * ratio + offset) * bins_per_step;
    position = position > 0 ? position : 0;
    position = position < last ? position : last;
    bins[i] = static_cast<int32_t>(position);
  }
}

void count_plane(const ChannelHistogram& args, int64_t n, int64_t c, int64_t* counts) {
  const float mean = args.mean[n * args.c + c], ratio = args.ratio[n * args.c + c];
  if (!(ratio > 0)) return;
  const float* x = args.x + (n * args.c + c) * args.pixels;
  const float d = static_cast<float>(args.denominator);
  const int64_t last = 2 * static_cast<int64_t>(args.denominator) * args.bins_per_step - 1;
  int32_t bins[kBlock];
  for (int64_t start = 0; start < args.pixels; start += kBlock) {
    const int64_t count = std::min(kBlock, args.pixels - start);
    find_bins(x + start, count, mean, ratio, d, static_cast<float>(args.bins_per_step),
              static_cast<float>(last), bins);
    for (int64_t i = 0; i < count; ++i) ++counts[bins[i]];
  }
}

}  // namespace

Status channel_histogram(const ChannelHistogram& args, int threads) {
  const int64_t bins = 2 * static_cast<int64_t>(args.denominator) * args.bins_per_step;
  // A channel's row of counts belongs to one task.
  cpu::parallel_for(args.c, threads, [&](int64_t c) {
    for (int64_t n = 0; n < args.n; ++n) count_plane(args, n, c, args.counts + c * bins);
  });
  return Status::ok;
}

}  // namespace ptqsr
