// What the versions share: the problem, and the form that weights and pictures get for them.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

constexpr int64_t kC = 64, kPixelWords = kC / 4, kWords = 9 * kPixelWords;

// A 3x3 convolution with padding 1 of codes to codes of 8 bits, with ReLU, all [h][w][64]:
// y = clamp(rint(sum * scale + terms), 0, 255), where the sum is of (x - zero) * weight.
struct Conv {
  const uint8_t* x;
  const int8_t* weight;  // [64][64][3][3]
  const float *scale, *terms;
  uint8_t* y;
  int64_t h, w;
  int32_t zero;
};

inline uint8_t requantized(const Conv& c, int64_t o, int32_t sum) {
  const float v = static_cast<float>(sum) * c.scale[o] + c.terms[o];
  return static_cast<uint8_t>(__builtin_rintf(std::min(std::max(v, 0.0f), 255.0f)));
}

// For vpdpbusd: [tap][word of 4 input channels][output channel][4], and what sums start from.
struct Packed {
  explicit Packed(const Conv& c) {
    for (int64_t o = 0; o < kC; ++o) {
      int32_t total = 0;
      for (int64_t i = 0; i < kC * 9; ++i) {
        const int64_t channel = i / 9, tap = i % 9, word = tap * kPixelWords + channel / 4;
        words[(word * kC + o) * 4 + channel % 4] = c.weight[o * kC * 9 + i];
        total += c.weight[o * kC * 9 + i];
      }
      start[o] = -c.zero * total;
    }
  }
  alignas(64) int8_t words[kWords * kC * 4];
  alignas(64) int32_t start[kC];
};

// The picture with a border of pixels that stand for 0.
struct Padded {
  explicit Padded(const Conv& c) : bytes((c.h + 2) * (c.w + 2) * kC, static_cast<uint8_t>(c.zero)) {
    for (int64_t y = 0; y < c.h; ++y) {
      std::memcpy(&bytes[((y + 1) * (c.w + 2) + 1) * kC], c.x + y * c.w * kC, c.w * kC);
    }
  }
  std::vector<uint8_t> bytes;
};

#define INLINE inline __attribute__((always_inline))

// 16 channels of a pixel, before they are rounded.
INLINE __m512 scaled(const Conv& c, __m512i sums, int64_t lane) {
  const __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), _mm512_loadu_ps(c.scale + lane));
  return _mm512_add_ps(v, _mm512_loadu_ps(c.terms + lane));
}

INLINE void store_codes(const Conv& c, __m512i sums, int64_t lane, uint8_t* to) {
  const __m512 v = _mm512_max_ps(_mm512_setzero_ps(), scaled(c, sums, lane));
  const __m512i level = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_set1_ps(255), v));
  const __m128i bytes = _mm512_cvtepi32_epi8(level);
  std::memcpy(to + lane, &bytes, sizeof bytes);
}
