#pragma once

#include <stdint.h>

#include "ptqsr/conv.h"
#include "ptqsr/isa.h"

// The inner loops of a quantized convolution, one set of them per instruction set.
//
// Sources compiled for an instruction set include C headers only (see subset.h).
//
// Operands come in words of 32 bits: four input channels as u8 times s8 where the processor has
// VNNI, or where both are so small that nothing saturates (4-bit weights, or codes of up to 7
// bits), else two as int16 times int16, which is exact everywhere. A tile is some pixels of a row
// times a block of output channels, whose sums stay in registers.
namespace ptqsr::cpu {

constexpr int kMaxTilePixels = 16;
constexpr int kMaxBlockLanes = 64;
constexpr int kFewChannels = 4;

// A stretch of a window that is in a row both in a padded input row and in the packed weights.
struct Run {
  const uint8_t* from;  // at output pixel 0, group 0
  int64_t words;
};

struct TileInput {
  const Run* runs;
  int64_t count;
  int64_t offset;          // bytes from `from` to the first pixel of the tile, of the block's group
  int64_t stride;          // bytes from a pixel to the next
  const uint8_t* weights;  // [words of all runs][vectors][lanes] words
  const int32_t* start;    // [vectors * lanes], what the sums start from
  int64_t exact_words;     // of narrow_tile: how many words' products 16 bits hold the sum of
};

// What is done to a tile's sums, acc[pixels][vectors * lanes]. Tables are those of the block.
struct TileOutput {
  const int32_t* acc;
  int64_t pixels, lanes, channels;  // lanes: of the block, padded; channels: of them that exist
  const int32_t* window_sums;       // [pixels], or null
  const int32_t* zero_points;       // [lanes], times window_sums
  const float* scale;               // [lanes]
  const float* terms;               // [classes][terms_stride]
  int64_t terms_stride;
  const int32_t* classes;  // [pixels]
  bool leaky;
  const float* slope;       // [lanes], if leaky
  float floor, last_floor;  // 0 for ReLU, else -inf
  int64_t at, step;         // elements from y's start to the first pixel, and from one to the next
  void* y;
  const void* residual;  // added times residual_scale; or null
  Storage residual_storage;
  float residual_scale;
  int32_t residual_lowest;  // added to codes first
  float *sum, *low, *high;  // [lanes] of a run of pixels, or null
  float *shift, *squares;   // or, with sum, of the values less those of the run's first pixel
  bool begins;              // a run
  float lowest, highest;    // of the levels, if codes come out
  int32_t lowest_level;     // as lowest
};

// Of summed_tile: 1, 2 or 4 words.
constexpr int kSummed = 3;

struct ConvLoops {
  int operand_bytes;  // 1 or 2
  int lanes;          // output channels in a vector
  int max_vectors;    // of a block
  int max_pixels[5];  // of a tile, by its vectors
  void (*tile)(int vectors, int pixels, const TileInput& in, int32_t* acc);
  // Of u8 times s8 so small that 16 bits hold the sum of 2^i words; null where it gains nothing.
  void (*summed_tile[kSummed])(int vectors, int pixels, const TileInput& in, int32_t* acc);
  // Of many words, exact_words of TileInput.
  void (*narrow_tile)(int vectors, int pixels, const TileInput& in, int32_t* acc);
  // Of up to kFewChannels output channels and stretches of whole vectors of input channels: the
  // lanes are input channels, and weights [bytes of the runs / vector][kFewChannels] vectors. Any
  // number of pixels up to max_pixels[1]; null where it gains nothing.
  void (*few_tile)(int vectors, int pixels, const TileInput& in, int32_t* acc);
  void (*store_floats)(const TileOutput& out);
  void (*store_halves)(const TileOutput& out);
  void (*store_codes)(const TileOutput& out);
  // max |m|, m = levels * step * scales, each product rounded; no NaN.
  float (*largest_folded)(const int16_t* levels, float step, const float* scales, int64_t count);
  // weight = rint(m / out) within [-127, 127].
  void (*refold)(const int16_t* levels, float step, const float* scales, float out, int64_t count,
                 int8_t* weight);
};

extern const ConvLoops kConvPortable;
extern const ConvLoops kConvAvx2;
extern const ConvLoops kConvAvx512;
extern const ConvLoops kConvAvx512Vnni;

const ConvLoops& conv_loops(Isa isa);

}  // namespace ptqsr::cpu
