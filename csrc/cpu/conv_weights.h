#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

#include "cpu/conv.h"
#include "ptqsr/conv.h"

namespace ptqsr::cpu {

// Smallest and largest, of at least one level.
struct Range {
  int32_t least, most;
};
Range range_of(const int16_t* levels, int64_t count);

// How the operands lie in their words, and which loop multiplies them.
struct Operands {
  // `levels`: of the input, if it is uniform; `ranges`: of each output channel's levels.
  Operands(const QuantConv& args, int32_t levels, const std::vector<Range>& ranges,
           const ConvLoops& loops);
  void (*tile)(int vectors, int pixels, const TileInput& in, int32_t* acc);
  int bytes;            // of one
  bool centred;         // weights are moved to the middle of their range, see PackedWeights
  bool window_sums;     // some weights are moved, so that the sums under a window are wanted
  bool few;             // the lanes are input channels, see ConvLoops
  int64_t exact_words;  // see TileInput

 private:
  void take_small(int32_t codes, int32_t widest, int32_t farthest, const ConvLoops& loops);
};

// A block of output channels that a tile computes at once. They lie next to each other in y.
struct Block {
  int64_t group;
  int vectors;
  int64_t channels;      // that exist
  int64_t first;         // its place in the tables of lanes
  int64_t sub_y, sub_x;  // its pixel in a pixel shuffle's square
  int64_t to;            // its first channel in y
};

// How the output channels are cut into blocks, and where each goes.
struct BlockList {
  BlockList(const QuantConv& args, const ConvLoops& loops);
  std::vector<Block> blocks;
  std::vector<int64_t> channels;  // the output channel of every lane, -1 for padding
};

// Memory whose vectors do not reach from one cache line into the next.
template <class T>
struct LineAllocator {
  using value_type = T;
  static constexpr std::align_val_t kLine{64};
  T* allocate(size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), kLine)); }
  void deallocate(T* from, size_t) { ::operator delete(from, kLine); }
  friend bool operator==(LineAllocator, LineAllocator) { return true; }
  friend bool operator!=(LineAllocator, LineAllocator) { return false; }
};

using OperandBytes = std::vector<uint8_t, LineAllocator<uint8_t>>;

// Weights in the order of the lanes, and what belongs to a lane's weights.
struct PackedWeights {
  OperandBytes words;                // block after block: [words of the window][lanes of the block]
  std::vector<int64_t> block_at;     // bytes
  std::vector<int32_t> zero_points;  // times the sum over the window; empty if all are 0
  std::vector<int32_t> totals;       // of all operands
  std::vector<float> step;           // of subsets, refolded, that of the sample
};

// What else the sums of a sample are made into results by, in the order of the lanes.
struct LaneTables {
  std::vector<int32_t> start;  // what the sums start from
  std::vector<float> scale, slope;
  std::vector<float> terms;  // [classes][lanes]
};

// The distinct sets of taps that lie inside the picture, along one side.
struct BorderClasses {
  BorderClasses(int64_t size, int64_t out, int64_t kernel, int64_t stride, int64_t padding,
                int64_t dilation);
  std::vector<int32_t> of;                   // of every output row or column
  std::vector<std::vector<uint8_t>> inside;  // [class][tap]
};

// `sample` matters for Encoding::subset alone.
PackedWeights pack_weights(const QuantConv& args, const BlockList& list, const ConvLoops& loops,
                           const Operands& operands, int64_t sample);

LaneTables lane_tables(const QuantConv& args, const BlockList& list, const Operands& operands,
                       const PackedWeights& packed, const BorderClasses& rows,
                       const BorderClasses& columns, int64_t sample);

// That of a sample, of Encoding::uniform.
inline const UniformInput& uniform_of(const QuantConv& args, int64_t sample) {
  return args.uniform[args.uniforms == 1 ? 0 : sample];
}

// The value that stands for 0 among the bytes that a sample's rows are encoded to.
int zero_code(const QuantConv& args, int64_t sample);

// The scales s of the input channels that an output channel reads.
struct InputScales {
  InputScales(const float* values, int64_t channels, int64_t taps);
  std::vector<float> of_taps;  // each channel's as often as it has taps
  bool nan;                    // whether one is
};

// m = w^ s; scale = max|m| / 127; weight = rint(m / scale), of the weights of one output channel.
// Returns the scale.
float refold_channel(const ConvLoops& loops, const int16_t* levels, float step,
                     const InputScales& scales, int8_t* weight);

}  // namespace ptqsr::cpu
