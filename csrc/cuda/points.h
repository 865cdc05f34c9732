// Points of up to 16 a channel, found in shared memory that is scarce: 34 bytes a channel.
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

  HOST_DEVICE static int bytes(int channels) { return 2 * places(channels) * 16; }

  DEVICE Points(unsigned char* memory, int channels)
      : points_(reinterpret_cast<uint32_t*>(memory)),
        channels_(reinterpret_cast<Sixteen*>(memory) + places(channels)) {}

  // By all of a block's `threads`, for channels first .. first + count - 1 of a sample.
  DEVICE void fill(const SubsetInput& of, int64_t sample, int channels, int first, int count,
                   int threads) {
    const auto levels = static_cast<int>(of.levels);
    for (int c = thread(); c < count; c += threads) {
      const int32_t* from = of.points + static_cast<int64_t>(first + c) * levels;
      // The last as often as there are too few: between equal points nothing is decided.
      const auto point = [&](int i) { return from[i < levels ? i : levels - 1]; };
      for (int quarter = 0; quarter < kMost / 4; ++quarter) {
        uint32_t four = 0;
        for (int i = 0; i < 4; ++i) {
          four |= static_cast<uint32_t>(point(4 * quarter + i) & 0xFF) << 8 * i;
        }
        points_[place(c) * 4 + quarter] = four;
      }
      const auto between = [&](int i) { return static_cast<uint32_t>(point(i) + point(i + 1)); };
      const float scale = of.scale[sample * channels + first + c];
      const float numbers[2] = {of.mean[sample * channels + first + c],
                                scale == 0 ? 0.0f : static_cast<float>(of.denominator) / scale};
      Sixteen channel{{(between(3) & 0xFFFF) | between(7) << 16, between(11), 0, 0}};
      memcpy(channel.words + 2, numbers, sizeof numbers);
      channels_[place(c)] = channel;
    }
  }

  DEVICE uint32_t find(float x, int channel) const {
    const Sixteen of = channels_[place(channel)];
    float numbers[2];  // mean and ratio
    memcpy(numbers, of.words + 2, sizeof numbers);
    const int32_t steps = half_steps((x - numbers[0]) * numbers[1]);
    const auto above = [&](int32_t threshold) { return steps > threshold ? 1 : 0; };
    const int quarter = above(static_cast<int16_t>(of.words[0])) +
                        above(static_cast<int32_t>(of.words[0]) >> 16) +
                        above(static_cast<int32_t>(of.words[1]));
    const uint32_t four = points_[place(channel) * 4 + quarter];
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
    const float twice = fminf(fmaxf(u + u, -1024.0f), 1024.0f);
    const int32_t up = ceil_to_int(twice), down = floor_to_int(twice) + 1;
    return twice > -0x1p-125f ? (up > 1 ? up : 1) : down;
  }

  // So that channels 16 apart, which threads look up together, lie in different banks.
  HOST_DEVICE static int place(int channel) { return channel + channel / 16; }
  HOST_DEVICE static int places(int channels) { return place(channels - 1) + 1; }

  uint32_t* points_;   // [place][quarter], four in each
  Sixteen* channels_;  // [place]: thresholds between quarters, mean, ratio
};

}  // namespace ptqsr::cuda
