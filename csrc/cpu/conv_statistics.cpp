#include "cpu/conv_statistics.h"

#include <algorithm>
#include <cmath>

#include "ptqsr/subset.h"

namespace ptqsr::cpu {
namespace {

// Of every lane the mean, and the sum of squared distances from it.
struct Moments {
  double *mean, *squares;

  // Those of `count` values take in those of `more`.
  void take(int64_t lanes, double count, const double* other_mean, const double* other_squares,
            double more) const {
    const double share = more / (count + more);
    for (int64_t i = 0; i < lanes; ++i) {
      const double apart = other_mean[i] - mean[i];
      mean[i] += apart * share;
      squares[i] += other_squares[i] + apart * apart * (count * share);
    }
  }
};

}  // namespace

ConvStatistics::ConvStatistics(const QuantConv& args, const BlockList& list, int64_t bands)
    : args_(args),
      list_(list),
      rows_(args.shape.out_h),
      segments_((args.shape.out_w + kSegment - 1) / kSegment),
      lanes_(static_cast<int64_t>(list.channels.size())),
      bands_(bands) {
  if (!wanted()) return;
  const int64_t rows = args.shape.n * rows_ * lanes_, of_bands = args.shape.n * bands_ * lanes_;
  if (moments()) {
    means_.resize(rows * segments_);
    squares_.resize(rows * segments_);
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
  const int64_t row = sample * rows_ + y, lanes = block.channels;
  float *sum = segment.sum.data() + block.first, *squares = segment.squares.data() + block.first;
  if (moments()) {
    const int64_t at = (row * segments_ + left / kSegment) * lanes_ + block.first;
    for (int64_t i = 0; i < lanes; ++i) {
      const double apart = sum[i] / static_cast<double>(size);
      means_[at + i] = segment.shift[block.first + i] + apart;
      squares_[at + i] = squares[i] - sum[i] * apart;
    }
    std::fill_n(squares, lanes, 0.0f);
  } else {
    for (int64_t i = 0; i < lanes; ++i) sums_[row * lanes_ + block.first + i] += sum[i];
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
  std::vector<double> means(channels), squares(channels), counts(channels);
  for (const Block& block : list_.blocks) {
    std::vector<double> mean(block.channels), square(block.channels);
    double all = 0;
    for (int64_t k = 0; k < rows_ * segments_; ++k) {
      const int64_t at = (sample * rows_ * segments_ + k) * lanes_ + block.first;
      const int64_t size = std::min(kSegment, args_.shape.out_w - k % segments_ * kSegment);
      Moments{mean.data(), square.data()}.take(block.channels, all, &means_[at], &squares_[at],
                                               static_cast<double>(size));
      all += static_cast<double>(size);
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
    // Rounding may leave less than 0; NaN stays.
    const double square = squares[c] < 0 ? 0 : squares[c] / counts[c];
    args_.deviation[sample * channels + c] = static_cast<float>(std::sqrt(square));
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
