// What the versions share: the problem, the encoding of a stretch of pixels, the weights' scales.
// The tile is that of uniform_conv2d; what differs is what stands around it.
#pragma once

#include <cmath>

#include "../uniform_conv2d/tile.h"

// A 3x3 convolution with padding 1 and ReLU of floats to floats, [h][w][64], subset-quantized with
// means of 0; and the mean, low and high of every channel of the result.
struct Subset {
  const float* x;
  const float *thresholds, *ratio;  // [15][64]; [64], denominator / scale
  const int8_t* points;             // [16][64]
  const int16_t* levels;            // [64][64][3][3]
  const float *step, *scale, *bias;
  float *y, *mean, *low, *high;
  int64_t h, w;
  int32_t denominator;
};

constexpr int64_t kWeights = 9 * kC;  // of an output channel
constexpr uint8_t kZero = 128;        // the byte of point 0

// Points + 128, through all thresholds.
inline void encode(const Subset& s, const float* x, int64_t pixels, uint8_t* codes) {
  for (int64_t lane = 0; lane < kC; lane += 16) {
    const __m512 ratio = _mm512_loadu_ps(s.ratio + lane);
    __m512 thresholds[15];
    __m512i steps[16];
    for (int64_t k = 0; k < 16; ++k) {
      for (int64_t i = 0; i < 16; ++i) {
        const int32_t below = k == 0 ? -kZero : s.points[(k - 1) * kC + lane + i];
        reinterpret_cast<int32_t*>(&steps[k])[i] = s.points[k * kC + lane + i] - below;
      }
      if (k > 0) thresholds[k - 1] = _mm512_loadu_ps(s.thresholds + (k - 1) * kC + lane);
    }
    for (int64_t p = 0; p < pixels; ++p) {
      const __m512 u = _mm512_mul_ps(_mm512_loadu_ps(x + p * kC + lane), ratio);
      __m512i code = steps[0];
#pragma GCC unroll 15
      for (int k = 1; k < 16; ++k) {
        const __mmask16 above = _mm512_cmp_ps_mask(u, thresholds[k - 1], _CMP_GT_OQ);
        code = _mm512_mask_add_epi32(code, above, code, steps[k]);
      }
      const __m128i bytes = _mm512_cvtepi32_epi8(code);
      std::memcpy(codes + p * kC + lane, &bytes, sizeof bytes);
    }
  }
}

// Weights with the input's scales folded in, again in 8 bits, and what the sums are worth.
struct Folded {
  std::vector<int8_t> weight = std::vector<int8_t>(kC * kWeights);
  float unit[kC];

  Packed packed() const { return Packed(Conv{nullptr, weight.data(), {}, {}, {}, 0, 0, kZero}); }
};

inline Folded fold(const Subset& s) {
  Folded folded;
  for (int64_t o = 0; o < kC; ++o) {
    const int16_t* levels = s.levels + o * kWeights;
    float largest = 0;
    for (int64_t i = 0; i < kWeights; ++i) {
      const float w = static_cast<float>(levels[i]) * s.step[o];
      largest = std::max(largest, std::fabs(w * s.scale[i / 9]));
    }
    const float out = largest / 127;
    for (int64_t i = 0; i < kWeights; ++i) {
      const float w = static_cast<float>(levels[i]) * s.step[o];
      const float level = __builtin_rintf(w * s.scale[i / 9] / out);
      folded.weight[o * kWeights + i] =
          static_cast<int8_t>(std::min(std::max(level, -127.0f), 127.0f));
    }
    folded.unit[o] = out / static_cast<float>(s.denominator);
  }
  return folded;
}

INLINE __m512 result(const Subset& s, const Folded& folded, const int32_t* sums, int64_t lane) {
  const __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_loadu_si512(sums + lane)),
                                 _mm512_loadu_ps(folded.unit + lane));
  return _mm512_max_ps(_mm512_setzero_ps(), _mm512_add_ps(v, _mm512_loadu_ps(s.bias + lane)));
}

// Sums in float32 over a row, then in float64.
struct Statistics {
  Statistics() {
    std::fill_n(low, kC, INFINITY);
    std::fill_n(high, kC, -INFINITY);
  }
  INLINE void take(int64_t lane, __m512 v) {
    _mm512_store_ps(sum + lane, _mm512_add_ps(_mm512_load_ps(sum + lane), v));
    _mm512_store_ps(low + lane, _mm512_min_ps(_mm512_load_ps(low + lane), v));
    _mm512_store_ps(high + lane, _mm512_max_ps(_mm512_load_ps(high + lane), v));
  }
  void end_row() {
    for (int64_t o = 0; o < kC; ++o) total[o] += sum[o];
    std::fill_n(sum, kC, 0.0f);
  }
  void finish(const Subset& s) {
    for (int64_t o = 0; o < kC; ++o) {
      s.mean[o] = static_cast<float>(total[o] / static_cast<double>(s.h * s.w));
      s.low[o] = low[o];
      s.high[o] = high[o];
    }
  }
  alignas(64) float sum[kC] = {};
  alignas(64) float low[kC], high[kC];
  double total[kC] = {};
};

// A row of results, and of a band of input rows, tile by tile: `epilogue(x, pixels, sums)`.
template <class Epilogue>
INLINE void multiply_row(const Subset& s, const Packed& packed, const uint8_t* const* rows,
                         const Epilogue& epilogue) {
  alignas(64) int32_t sums[6 * kC];
  for_tiles<6>(s.w, [&](int64_t x, auto pixels) {
    tile<pixels, 4>(rows, x * kC, packed.words, packed.start, sums);
    epilogue(x, static_cast<int64_t>(pixels), sums);
  });
}

// Results and their statistics, in one go.
INLINE void finish_tile(const Subset& s, const Folded& folded, int64_t pixels, const int32_t* sums,
                        float* to, Statistics& statistics) {
  for (int64_t lane = 0; lane < kC; lane += 16) {
    for (int64_t i = 0; i < pixels; ++i) {
      const __m512 v = result(s, folded, sums + i * kC, lane);
      _mm512_storeu_ps(to + i * kC + lane, v);
      statistics.take(lane, v);
    }
  }
}

// The whole picture encoded, with a border.
struct Encoded {
  explicit Encoded(const Subset& s) : width(s.w + 2), bytes((s.h + 2) * width * kC, kZero) {
    for (int64_t y = 0; y < s.h; ++y) {
      encode(s, s.x + y * s.w * kC, s.w, &bytes[((y + 1) * width + 1) * kC]);
    }
  }
  void rows_of(int64_t y, const uint8_t** rows) const {
    for (int64_t ky = 0; ky < 3; ++ky) rows[ky] = &bytes[(y + ky) * width * kC];
  }
  int64_t width;
  std::vector<uint8_t> bytes;
};

// Rows encoded into a ring of three, and one of padding alone.
struct EncodedRing {
  explicit EncodedRing(const Subset& subset)
      : s(subset), row_bytes((s.w + 2) * kC), bytes(4 * row_bytes, kZero) {}
  void rows_of(int64_t y, const uint8_t** rows) {
    for (; next < std::min(s.h, y + 2); ++next) {
      encode(s, s.x + next * s.w * kC, s.w, &bytes[next % 3 * row_bytes + kC]);
    }
    for (int64_t ky = 0; ky < 3; ++ky) {
      const int64_t from = y + ky - 1;
      rows[ky] = &bytes[(from < 0 || from >= s.h ? 3 : from % 3) * row_bytes];
    }
  }
  const Subset& s;
  int64_t row_bytes, next = 0;
  std::vector<uint8_t> bytes;
};
