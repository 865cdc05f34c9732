// Sums and extremes of float16 results that many blocks make together, as integers, so that no
// result depends on who comes first: sums in units of 2^-24, the smallest float16, and floats as
// integers of the same order. A value that is no finite number makes the extremes infinite.
#pragma once

#include "cuda/simt.h"

namespace ptqsr::cuda {

constexpr float kMomentsUnit = 0x1p-24f, kMomentsInOne = 0x1p24f;

DEVICE int32_t ordered(float value) {
  int32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits < 0 ? bits ^ 0x7FFFFFFF : bits;
}
DEVICE float from_ordered(int32_t bits) {
  bits = bits < 0 ? bits ^ 0x7FFFFFFF : bits;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

// By all threads of all blocks, after what they added: the last block makes mean, low and high of
// `count` channels of `pixels` values each.
template <int kThreads>
DEVICE void finish_moments(const Moments& m, int32_t* is_last, int64_t blocks, int64_t count,
                           int64_t pixels) {
  synchronize();
  if (thread() == 0) {
    fence();
    *is_last = atomic_add(m.blocks, 1) == static_cast<int32_t>(blocks) - 1;
    fence();
  }
  synchronize();
  if (*is_last == 0) return;
  for (int64_t i = thread(); i < count; i += kThreads) {
    const float low = from_ordered(load_of_blocks(m.low + i));
    const float high = from_ordered(load_of_blocks(m.high + i));
    const auto sum = static_cast<double>(load_of_blocks(m.sum + i));
    const auto mean =
        static_cast<float>(sum * static_cast<double>(kMomentsUnit) / static_cast<double>(pixels));
    const bool sound = low > -INFINITY && high < INFINITY;
    m.mean[i] = sound ? (low == high ? low : mean) : NAN;
    m.least[i] = sound ? low : NAN;
    m.most[i] = sound ? high : NAN;
  }
}

// Of some values.
struct Seen {
  float sum = 0, low = INFINITY, high = -INFINITY;

  DEVICE void take(float value) {
    sum += value;
    const bool sound = fabsf(value) < 65536.0f;
    const float down = sound ? value : -INFINITY, up = sound ? value : INFINITY;
    low = down < low ? down : low;
    high = up > high ? up : high;
  }
  DEVICE void take(const Seen& other) {
    sum += other.sum;
    low = other.low < low ? other.low : low;
    high = other.high > high ? other.high : high;
  }
};

// Number by number, so that none of the two needs an address.
DEVICE Seen either(bool first, const Seen& a, const Seen& b) {
  return {first ? a.sum : b.sum, first ? a.low : b.low, first ? a.high : b.high};
}

// Of both lanes whose numbers differ in `bit`, in each.
DEVICE Seen with_other(Seen mine, const Seen& theirs, int bit) {
  mine.take(
      {shuffle_xor(theirs.sum, bit), shuffle_xor(theirs.low, bit), shuffle_xor(theirs.high, bit)});
  return mine;
}

// Of 2 of 16 channels of which every 4th lane has some pixels, over all of a warp.
struct RunningMoments {
  int64_t sum[2] = {};
  float low[2] = {INFINITY, INFINITY}, high[2] = {-INFINITY, -INFINITY};

  // By all lanes. The order of sums is that of pixels, then of lanes.
  template <int kPixels>
  DEVICE void take(const float (&values)[kPixels][16], const bool (&there)[kPixels]) {
    const bool upper = (lane() & 16) != 0, odd = (lane() & 8) != 0;
    UNROLL
    for (int quad = 0; quad < 4; ++quad) {
      Seen seen[4];
      UNROLL
      for (int p = 0; p < kPixels; ++p) {
        UNROLL
        for (int k = 0; k < 4; ++k) {
          if (there[p]) seen[k].take(values[p][4 * quad + k]);
        }
      }
      // Of 4 channels a lane keeps 2 and gives 2 away, then 1; in the end two lanes have the same.
      Seen two[2], one;
      UNROLL
      for (int k = 0; k < 2; ++k) {
        two[k] = with_other(either(upper, seen[k + 2], seen[k]),
                            either(upper, seen[k], seen[k + 2]), 16);
      }
      one = with_other(either(odd, two[1], two[0]), either(odd, two[0], two[1]), 8);
      one = with_other(one, one, 4);
      if (quad / 2 == (lane() >> 2 & 1)) {
        sum[quad % 2] += round_to_int64(one.sum * kMomentsInOne);
        low[quad % 2] = one.low < low[quad % 2] ? one.low : low[quad % 2];
        high[quad % 2] = one.high > high[quad % 2] ? one.high : high[quad % 2];
      }
    }
  }
  // Of the 16, number i of the lane.
  DEVICE static int channel(int i) {
    return (lane() >> 2 & 1) * 8 + i * 4 + (lane() >> 4 & 1) * 2 + (lane() >> 3 & 1);
  }
};

}  // namespace ptqsr::cuda
