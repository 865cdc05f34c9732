#pragma once

#include <cstdint>

#include "cpu/half.h"
#include "ptqsr/isa.h"

// The inner loops of uniform quantization, one set of them per instruction set (see subset.h).
namespace ptqsr::cpu {

// Levels lowest .. lowest + levels - 1, times step. |lowest| and levels at most 2^20.
struct UniformGrid {
  float step;
  int32_t lowest, levels;
};

struct UniformLoops {
  // y = clamp(rint(x / step)) * step, half to even, a true division. NaN stays; no -0.
  void (*quantize)(const float* x, int64_t count, const UniformGrid& grid, float* y);
  // clamp(rint(x / step)) - lowest, at most 256 levels. NaN gives 0.
  void (*encode)(const float* x, int64_t count, const UniformGrid& grid, uint8_t* out);
  void (*encode_halves)(const Half* x, int64_t count, const UniformGrid& grid, uint8_t* out);
};

extern const UniformLoops kUniformPortable;
extern const UniformLoops kUniformAvx2;
extern const UniformLoops kUniformAvx512;

const UniformLoops& uniform_loops(Isa isa);

}  // namespace ptqsr::cpu
