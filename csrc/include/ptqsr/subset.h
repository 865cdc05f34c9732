#pragma once

#include <cstdint>

#include "ptqsr/isa.h"
#include "ptqsr/status.h"
#include "ptqsr/views.h"

namespace ptqsr {

// Subset fake quantization (DFSQ, Eqs. 1-4), all buffers owned by the caller.
//
//   x, y         float32, `shape`; y may not overlap x
//   points       int32 [c][levels], ascending, in units of 1 / denominator
//   nonnegative  uint8 [c], 1 where the channel keeps mean 0
//   mean, scale  float32 [n][c], written
struct SubsetFakeQuant {
  const float* x;
  float* y;
  const int32_t* points;
  const uint8_t* nonnegative;
  float* mean;
  float* scale;
  ActivationShape shape;
  int64_t levels;
  int32_t denominator;
};

// For every sample and channel: mu = mean (0 if non-negative), s = max|x - mu|, and then, each
// step one correctly rounded float32 operation, r = D / s, u = (x - mu) * r, k = the point of u,
// y = k * (s / D) + mu. A code is the number of thresholds with u > t.
//
// The result depends on shape and layout alone: not on `threads`, `isa` or the other samples.
// A sum is made of float32 partial sums of at most 128 values (nchw: pixels that are equal modulo
// 64; channels_last: pixels in a row), which are added up in float64 in a fixed order.
//
// A channel in which some |x| >= 2^120 or NaN comes out as NaN, with mean and scale NaN.
Status subset_fake_quant(const SubsetFakeQuant& args, Isa isa, int threads);

// Mean, min and max of every sample and channel of x, float32 [n][c]; DESIGN's contract 1, with the
// sums of SubsetFakeQuant. All three are NaN where some |x| >= 2^120 or NaN, and 0 without pixels.
struct ChannelStats {
  const float* x;
  float* mean;
  float* low;
  float* high;
  ActivationShape shape;
};

Status channel_stats(const ChannelStats& args, Isa isa, int threads);

// SubsetFakeQuant's mean and scale of one channel: mean 0 if `nonnegative`, low if low = high.
struct Normalisation {
  float mean, scale;
};

Normalisation normalisation(float mean, float low, float high, bool nonnegative);

// The same of all channels of all samples: float32 [n][c], nonnegative uint8 [c].
struct NormalisationArgs {
  const float *mean, *low, *high;
  const uint8_t* nonnegative;
  float *out_mean, *out_scale;
  int64_t n, c;
};
void normalisation(const NormalisationArgs& args);

// Whether |x| < 2^120 throughout, without NaN; the statistics of other channels are all NaN.
bool sound(float mean, float low, float high);

// The points that SubsetFakeQuant finds, for given statistics.
//
//   x            float32, `shape`
//   out          bits = 0: the point k, int8, in x's layout
//                bits 2 to 8, channels_last: its index, [n][pixel][ceil(c * bits / 8)] (packing.h)
//   points       int32 [c][levels], ascending, in units of 1 / denominator <= 127
//   mean, scale  float32 [n][c]
//
// A NaN gives the first point.
struct SubsetEncode {
  const float* x;
  uint8_t* out;
  const int32_t* points;
  const float* mean;
  const float* scale;
  ActivationShape shape;
  int64_t levels;
  int32_t denominator;
  int bits;
};

Status subset_encode(const SubsetEncode& args, Isa isa, int threads);

// y = k * (scale / D) + mean, each step rounded, of what subset_encode wrote.
struct SubsetDecode {
  const uint8_t* in;
  float* y;
  const int32_t* points;  // not read where bits = 0
  const float* mean;
  const float* scale;
  ActivationShape shape;
  int64_t levels;
  int32_t denominator;
  int bits;
};

Status subset_decode(const SubsetDecode& args, int threads);

}  // namespace ptqsr
