#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cpu/conv.h"
#include "cpu/conv_weights.h"
#include "cpu/subset.h"
#include "cpu/uniform.h"
#include "ptqsr/conv.h"

namespace ptqsr::cpu {

// Turns rows of the input into bytes: k + 128, or the unsigned codes. Shared by all threads.
class RowEncoder {
 public:
  RowEncoder(const QuantConv& args, Isa isa);
  ~RowEncoder();
  // Row y of a sample, of one part: out[w][channels of the part].
  void encode(int64_t sample, int64_t y, int64_t part, uint8_t* out) const;

 private:
  struct Subset;
  const QuantConv& args_;
  const SubsetLoops& subset_;
  const UniformLoops& uniform_;
  std::vector<std::unique_ptr<Subset>> subsets_;  // of each part; null if it comes as codes
};

// The input rows that a row of windows looks at, as operands with the padding around them: a ring
// in which every row is encoded once. A group's channels are padded to whole words.
//
//   row = [left padding][w pixels][right padding], pixel = [groups][channels of one, padded]
//
// Where the input is such bytes already it is read in place (`direct`); then only the ends of its
// rows are copied, for the tiles whose windows reach into the padding.
class PaddedRows {
 public:
  // `zero`: the byte that stands for 0 in the samples that it is used for.
  PaddedRows(const QuantConv& args, const RowEncoder& encoder, const Operands& operands, int zero);

  // Windows that begin at input row `top`, of a sample; `top` grows within a sample.
  void move_to(int64_t sample, int64_t top);
  // The stretches of memory that a window consists of; returns how many. Of the padded rows, or,
  // if `direct`, of the input, for windows that lie inside its rows.
  int64_t runs(Run* runs, bool direct) const;
  bool direct() const { return direct_ != nullptr; }
  // Whether `count` windows from output column x on may use the direct runs.
  bool lies_inside(int64_t x, int64_t count) const {
    const int64_t first = x * s_.stride_w - s_.padding_w;
    return direct() && first >= 0 && first + (count - 1) * s_.stride_w + reach_ <= s_.w;
  }
  // sums[groups][out_w]: of all integers in a window.
  void window_sums(int32_t* sums) const;

  int64_t pixel_bytes() const { return pixel_bytes_; }
  int64_t group_bytes() const { return group_bytes_; }

 private:
  // A stretch of a part's channels that stays together in the operands.
  struct Span {
    int64_t from, to, count;
  };
  void fill(int64_t row);
  void place(const uint8_t* codes, int64_t part, uint8_t* row);
  const uint8_t* row(int64_t y, bool direct) const;

  const QuantConv& args_;
  const ConvShape& s_;
  const RowEncoder& encoder_;
  int operand_bytes_, zero_;
  int64_t group_channels_, group_bytes_, pixel_bytes_, row_bytes_;
  int64_t depth_, reach_;  // rows and columns that a window spans
  const uint8_t* direct_ = nullptr;
  int64_t sample_ = -1, top_ = 0, next_ = 0;
  bool sums_wanted_;
  std::vector<uint8_t> ring_;  // depth_ rows, then one of padding alone
  std::vector<uint8_t> codes_;
  std::vector<int32_t> sums_;             // [depth_ + 1][groups][w + 2 padding], likewise
  std::vector<std::vector<Span>> spans_;  // by part
};

}  // namespace ptqsr::cpu
