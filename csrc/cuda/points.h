// Points of up to 16 a channel, found in shared memory that is scarce: 40 bytes a channel.
//
// Thresholds between points p and p' are p + p' in half-steps. A value first meets those between
// quarters of the points, then those within its quarter, which its four points tell.
#pragma once

#include "cuda/simt.h"
#include "cuda/vector.h"

namespace ptqsr::cuda {

class Points {
 public:
  static constexpr int kMost = 16;

  HOST_DEVICE static int bytes(int channels) { return places(channels) * 16 + channels * 24; }

  DEVICE Points(unsigned char* memory, int channels)
      : points_(memory),
        quarters_(reinterpret_cast<Sixteen*>(memory + places(channels) * 16)),
        mean_(reinterpret_cast<float*>(quarters_ + channels)),
        ratio_(mean_ + channels) {}

  // By all of a block's `threads`, for channels first .. first + count - 1 of a sample.
  DEVICE void fill(const SubsetInput& of, int64_t sample, int channels, int first, int count,
                   int threads) {
    const auto levels = static_cast<int>(of.levels);
    for (int c = thread(); c < count; c += threads) {
      const int32_t* from = of.points + static_cast<int64_t>(first + c) * levels;
      // The last as often as there are too few: between equal points nothing is decided.
      const auto point = [&](int i) { return from[i < levels ? i : levels - 1]; };
      for (int i = 0; i < kMost; ++i) {
        points_[place(c) * 16 + i] = static_cast<unsigned char>(point(i));
      }
      const auto between = [&](int i) { return static_cast<uint32_t>(point(i) + point(i + 1)); };
      quarters_[c] = {between(3), between(7), between(11), 0};
      const float scale = of.scale[sample * channels + first + c];
      mean_[c] = of.mean[sample * channels + first + c];
      ratio_[c] = scale == 0 ? 0.0f : static_cast<float>(of.denominator) / scale;
    }
  }

  DEVICE uint32_t find(float x, int channel) const {
    const float u = (x - mean_[channel]) * ratio_[channel];
    const int32_t steps = half_steps(u);
    const Sixteen of = quarters_[channel];
    const auto above = [&](uint32_t threshold) {
      return steps > static_cast<int32_t>(threshold) ? 1 : 0;
    };
    const int quarter = above(of.words[0]) + above(of.words[1]) + above(of.words[2]);
    uint32_t four;
    memcpy(&four, points_ + place(channel) * 16 + 4 * quarter, 4);
    int32_t p[4];
    UNROLL
    for (int i = 0; i < 4; ++i) p[i] = static_cast<int8_t>(four >> 8 * i);
    const int index = above(p[0] + p[1]) + above(p[1] + p[2]) + above(p[2] + p[3]);
    return four >> 8 * index & 0xFF;
  }

 private:
  // How many half-steps lie below u: ties go to the smaller magnitude, and at 0 up, where what is
  // almost 0 counts too. NaN is below all.
  DEVICE static int32_t half_steps(float u) {
    float twice = u + u;
    twice = twice > -1024.0f ? twice : -1024.0f;
    twice = twice < 1024.0f ? twice : 1024.0f;
    if (twice > 0) return ceil_to_int(twice);
    return twice > -0x1p-125f ? 1 : floor_to_int(twice) + 1;
  }

  // So that the same points of channels 16 apart lie in different banks.
  HOST_DEVICE static int place(int channel) { return channel + channel / 16; }
  HOST_DEVICE static int places(int channels) { return place(channels - 1) + 1; }

  unsigned char* points_;
  Sixteen* quarters_;
  float *mean_, *ratio_;
};

}  // namespace ptqsr::cuda
