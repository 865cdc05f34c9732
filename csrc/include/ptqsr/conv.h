#pragma once

#include <cstdint>

#include "ptqsr/isa.h"
#include "ptqsr/status.h"

namespace ptqsr {

struct ConvShape {
  int64_t n, c, h, w;  // input; c over all groups
  int64_t o, kh, kw;   // o over all groups
  int64_t stride_h, stride_w;
  int64_t padding_h, padding_w;  // on either side
  int64_t dilation_h, dilation_w;
  int64_t groups;
  int64_t out_h, out_w;  // before a pixel shuffle
};

// What the integers of the input stand for.
enum class Encoding {
  subset,             // points of a universal set: k (s / D) + mu, k in int8
  uniform,            // levels: step * (code + lowest), codes in uint8
  integers,           // themselves, int8
  unsigned_integers,  // themselves, uint8
};

// What a tensor beside the convolution holds.
enum class Storage {
  floats,  // float32
  halves,  // float16
  codes,   // int8 or uint8
};

// A part of the input's channels, dense [n][h][w][channels]: numbers to encode, or codes.
struct ConvPart {
  const void* data;
  int64_t channels;
  Storage storage;
};

struct SubsetInput {
  const int32_t* points;  // [c][levels], ascending
  int64_t levels;
  int32_t denominator;  // up to 127
  const float* mean;    // [n][c]
  const float* scale;   // [n][c]
};

struct UniformInput {
  float step;
  int32_t lowest;  // from -255 to 0
  int32_t levels;  // up to 256
};

inline bool operator==(const UniformInput& a, const UniformInput& b) {
  return a.step == b.step && a.lowest == b.lowest && a.levels == b.levels;
}

enum class Activation { none, relu, leaky };

// What becomes of the sums.
enum class Output {
  floats,  // float32
  halves,  // float16
  codes,   // uint8 of `requantized`
  sums,    // int32, nothing added
};

// A quantized convolution with what follows it, all buffers owned by the caller and dense
// channels_last. Zero padding: of the value 0, whose integer is 0.
//
//   y[n, o, p] = last(activation(sum * a + t) + residual), with integer sums; then a pixel shuffle.
//
// Subset: a = scale'[n][o] / D, weights refolded per sample (DESIGN, section 4); t = bias and what
// the means add, by border class. Uniform: a = step * weight_step[o], t = bias[o]; with
// Output::codes both are divided by requantized.step.
struct QuantConv {
  ConvShape shape;
  const ConvPart* parts;
  int64_t part_count;
  Encoding encoding;
  SubsetInput subset;
  const UniformInput* uniform;  // [uniforms]: 1 for all samples, or n
  int64_t uniforms;

  const int16_t* weight_levels;  // [o][c / groups][kh][kw], in [-255, 255]
  const float* weight_step;      // [o]
  const float* bias;             // [o] or null

  Activation activation;
  const float* slope;    // [slopes], for Activation::leaky
  int64_t slopes;        // 1 or o
  const void* residual;  // laid out as y, or null
  Storage residual_storage;
  UniformInput residual_uniform;  // of codes
  Activation last;                // none or relu
  int64_t shuffle;                // factor, 1 for none

  Output output;
  void* y;
  UniformInput requantized;
  float* mean;  // [n][o / shuffle^2] of y as stored, or null: no statistics
  float* low;   // beside the mean: the least and the largest value,
  float* high;
  float* deviation;  // or the standard deviation; else null
};

// The result depends on shapes and values alone: not on `threads`, `isa` or the other samples.
Status quant_conv2d(const QuantConv& args, Isa isa, int threads);

// refold_weights alone: weight[n][o][c / groups][kh][kw] and scale[n][o] for input scales [n][c].
struct Refold {
  int64_t n, o, c, taps, groups;
  const int16_t* levels;
  const float* step;
  const float* scale;
  int8_t* weight;
  float* out_scale;
};
Status refold_weights(const Refold& args, Isa isa, int threads);

}  // namespace ptqsr
