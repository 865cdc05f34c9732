#include "cpu/conv_statistics.h"

#include <algorithm>
#include <cmath>

#include "ptqsr/subset.h"

namespace ptqsr::cpu {

ConvStatistics::ConvStatistics(const QuantConv& args, const BlockList& list, int64_t bands)
    : args_(args),
      list_(list),
      rows_(args.shape.out_h),
      lanes_(static_cast<int64_t>(list.channels.size())),
      bands_(bands) {
  if (!wanted()) return;
  const int64_t rows = args.shape.n * rows_ * lanes_, of_bands = args.shape.n * bands_ * lanes_;
  if (moments()) {
    means_.resize(rows);
    squares_.resize(rows);
    return;
  }
  sums_.resize(rows);
  lows_.assign(of_bands, INFINITY);
  highs_.assign(of_bands, -INFINITY);
}

void ConvStatistics::begin_row(int64_t sample, int64_t band, const Block& block, Segment& segment,
                               TileOutput* out) {
  if (!wanted()) return;
  out->sum = segment.sum.data() + block.first;
  std::fill_n(out->sum, out->lanes, 0.0f);
  if (moments()) {
    out->shift = segment.shift.data() + block.first;
    out->squares = segment.squares.data() + block.first;
    std::fill_n(out->squares, out->lanes, 0.0f);
    return;
  }
  const int64_t at = (sample * bands_ + band) * lanes_ + block.first;
  out->low = lows_.data() + at;
  out->high = highs_.data() + at;
}

void ConvStatistics::end_segment(int64_t sample, int64_t y, int64_t left, int64_t size,
                                 const Block& block, Segment& segment) {
  if (!wanted()) return;
  const int64_t at = (sample * rows_ + y) * lanes_ + block.first, lanes = block.channels;
  float *sum = segment.sum.data() + block.first, *squares = segment.squares.data() + block.first;
  if (moments()) {
    const float* shift = segment.shift.data() + block.first;
    const Moments row{means_.data() + at, squares_.data() + at};
    const Moments here{segment.mean.data(), segment.around.data()};
    (left == 0 ? row : here).set(lanes, size, shift, sum, squares);
    if (left > 0) {
      row.take(lanes, static_cast<double>(left), here.mean, here.squares,
               static_cast<double>(size));
    }
    std::fill_n(squares, lanes, 0.0f);
  } else {
    for (int64_t i = 0; i < lanes; ++i) sums_[at + i] += sum[i];
  }
  std::fill_n(sum, lanes, 0.0f);
}

void ConvStatistics::finish() const {
  for (int64_t n = 0; wanted() && n < args_.shape.n; ++n) {
    moments() ? finish_moments(n) : finish_extremes(n);
  }
}

void ConvStatistics::finish_moments(int64_t sample) const {
  const int64_t channels = args_.shape.o / (args_.shuffle * args_.shuffle);
  const double width = static_cast<double>(args_.shape.out_w), all = width * rows_;
  std::vector<double> means(channels), squares(channels), counts(channels);
  for (const Block& block : list_.blocks) {
    std::vector<double> mean(block.channels), square(block.channels);
    const Moments of_block{mean.data(), square.data()};
    for (int64_t y = 0; y < rows_; ++y) {
      const int64_t at = (sample * rows_ + y) * lanes_ + block.first;
      of_block.take(block.channels, width * y, &means_[at], &squares_[at], width);
    }
    // A pixel shuffle brings several blocks to a channel.
    for (int64_t i = 0; i < block.channels; ++i) {
      const int64_t c = block.to + i;
      Moments{&means[c], &squares[c]}.take(1, counts[c], &mean[i], &square[i], all);
      counts[c] += all;
    }
  }
  for (int64_t c = 0; c < channels; ++c) {
    args_.mean[sample * channels + c] = static_cast<float>(means[c]);
    args_.deviation[sample * channels + c] = deviation_of(squares[c], counts[c]);
  }
}

void ConvStatistics::finish_extremes(int64_t sample) const {
  const int64_t square = args_.shuffle * args_.shuffle, channels = args_.shape.o / square;
  const double pixels = static_cast<double>(rows_ * args_.shape.out_w * square);
  std::vector<double> total(channels);
  float *mean = args_.mean + sample * channels, *low = args_.low + sample * channels,
        *high = args_.high + sample * channels;
  std::fill_n(low, channels, INFINITY);
  std::fill_n(high, channels, -INFINITY);
  const auto for_lanes = [&](const auto& body) {
    for (const Block& block : list_.blocks) {
      for (int64_t i = 0; i < block.channels; ++i) body(block.first + i, block.to + i);
    }
  };
  for (int64_t y = 0; y < rows_; ++y) {
    const double* sums = sums_.data() + (sample * rows_ + y) * lanes_;
    for_lanes([&](int64_t lane, int64_t c) { total[c] += sums[lane]; });
  }
  for (int64_t b = 0; b < bands_; ++b) {
    const int64_t at = (sample * bands_ + b) * lanes_;
    for_lanes([&](int64_t lane, int64_t c) {
      low[c] = std::min(low[c], lows_[at + lane]);
      high[c] = std::max(high[c], highs_[at + lane]);
    });
  }
  for (int64_t c = 0; c < channels; ++c) {
    mean[c] = static_cast<float>(total[c] / pixels);
    if (!sound(mean[c], low[c], high[c])) mean[c] = low[c] = high[c] = NAN;
  }
}

}  // namespace ptqsr::cpu
