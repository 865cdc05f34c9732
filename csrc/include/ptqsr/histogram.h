#pragma once

#include <cstdint>

#include "ptqsr/status.h"

namespace ptqsr {

// Counts of normalised values, all buffers owned by the caller.
//
//   x            float32 [n][c][pixels]
//   mean, ratio  float32 [n][c], ratio = denominator / scale; a ratio that is not above 0 leaves
//                its plane out
//   counts       int64 [c][bins], bins = 2 * denominator * bins_per_step; added to
struct ChannelHistogram {
  const float* x;
  const float* mean;
  const float* ratio;
  int64_t* counts;
  int64_t n, c, pixels;
  int32_t denominator, bins_per_step;
};

// bin = trunc(((x - mean) * ratio + denominator) * bins_per_step), clamped, each step one
// correctly rounded float32 operation. Integers add up in any order: the result depends on neither
// `threads` nor how the samples were divided among calls.
Status channel_histogram(const ChannelHistogram& args, int threads);

}  // namespace ptqsr
