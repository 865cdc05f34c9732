#pragma once

#include <cstdint>
#include <vector>

#include "cpu/conv.h"
#include "cpu/conv_weights.h"
#include "ptqsr/conv.h"

namespace ptqsr::cpu {

// Pixels of a row whose values are added in float32 before their sum goes on in float64, the same
// for every instruction set. Whole tiles of 6, 8, 12 and 16.
constexpr int64_t kSegment = 96;

// Mean of a convolution's results by sample and channel, with extremes or deviation, if wanted.
//
// Rows are added up apart and put together in order, so that nothing depends on the bands.
class ConvStatistics {
 public:
  ConvStatistics(const QuantConv& args, const BlockList& list, int64_t bands);

  // Where a worker adds up a segment of a row. [lanes]
  struct Segment {
    explicit Segment(const BlockList& list)
        : sum(list.channels.size()), shift(sum.size()), squares(sum.size()) {}
    std::vector<float> sum;
    // Of values less the first one, so that the sum of their squares is at most kSegment + 1 times
    // that of their squared distances from the mean, however far all of them are from 0.
    std::vector<float> shift, squares;
  };
  // Says where the tiles of a block's row add up.
  void begin_row(int64_t sample, int64_t band, const Block& block, Segment& segment,
                 TileOutput* out);
  // Takes what they have added since, of `size` results from column `left` on.
  void end_segment(int64_t sample, int64_t y, int64_t left, int64_t size, const Block& block,
                   Segment& segment);
  void finish() const;

 private:
  bool wanted() const { return args_.mean != nullptr; }
  bool moments() const { return args_.deviation != nullptr; }
  void finish_extremes(int64_t sample) const;
  void finish_moments(int64_t sample) const;

  const QuantConv& args_;
  const BlockList& list_;
  int64_t rows_, segments_, lanes_, bands_;
  std::vector<double> sums_;         // [n][row][lanes]
  std::vector<float> lows_, highs_;  // [n][band][lanes]
  // Or of every segment the mean, and the sum of squared distances from it.
  std::vector<double> means_, squares_;  // [n][row][segment][lanes]
};

}  // namespace ptqsr::cpu
