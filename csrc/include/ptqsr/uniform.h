#pragma once

#include <cstdint>

#include "ptqsr/isa.h"
#include "ptqsr/status.h"

namespace ptqsr {

// Uniform quantization of `count` values to levels lowest .. lowest + levels - 1, times step.
//
//   step > 0, |lowest| <= 2^20, 1 <= levels <= 256
//
// level = clamp(rint(x / step)), a true division, half to even.
struct Uniform {
  const float* x;
  int64_t count;
  float step;
  int32_t lowest, levels;
};

// y = level * step, in which 0 has no sign; NaN stays.
Status uniform_fake_quant(const Uniform& args, float* y, Isa isa, int threads);

// out = level - lowest; NaN gives 0.
Status uniform_encode(const Uniform& args, uint8_t* out, Isa isa, int threads);

}  // namespace ptqsr
