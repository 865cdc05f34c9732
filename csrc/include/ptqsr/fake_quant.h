// Subset fake quantization (DESIGN.md section 1) on the CPU.
#pragma once

#include <cstdint>

#include "ptqsr/cpu.h"
#include "ptqsr/status.h"
#include "ptqsr/views.h"

namespace ptqsr::cpu {

// Half-integer thresholds and the points themselves are exact in float32 up to here.
inline constexpr int64_t kMaxDenominator = int64_t{1} << 22;

struct SubsetFakeQuantArgs {
  ImageShape shape;
  const float* x = nullptr;           // [N, C, pixels] in shape.layout
  const int32_t* points = nullptr;    // [C, levels], each row strictly ascending, |k| <= denominator
  const bool* nonnegative = nullptr;  // [C]: the mean is not subtracted
  int64_t levels = 0;
  int64_t denominator = 0;
  float* y = nullptr;      // like x; must not overlap it
  float* mean = nullptr;   // [N, C]
  float* scale = nullptr;  // [N, C]
};

// Quantizes each channel of each sample to its points, with statistics taken on the fly.
//
// Given mean and scale, y is bit-identical to the Python reference. The mean keeps contract 1 and
// depends on shape and layout alone: not on `threads`, `isa`, or the rest of the batch.
// A channel of a sample that holds NaN or infinity, or whose range exceeds float32, becomes NaN,
// with NaN as its mean and scale. An empty channel (pixels = 0) has mean 0 and scale 0.
Status subset_fake_quant(const SubsetFakeQuantArgs& args, Isa isa, int threads);

}  // namespace ptqsr::cpu
