// Some pixels of a row times 16 kVectors channels, whose sums stay in registers: 6 x 64 takes 24 of
// them, 4 more the weights of a word, 1 the word of a pixel. The last tile of a row is narrower.
#pragma once

#include "conv.h"

INLINE void dot(__m512i& acc, __m512i x, __m512i w) {
#if defined(INTRINSIC)
  acc = _mm512_dpbusd_epi32(acc, x, w);
#else
  asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(x), "v"(w));
#endif
}

// acc += `count` words of the pixels' windows; w and x go on.
template <int kPixels, int kVectors>
INLINE void add_words(__m512i (&acc)[kPixels][kVectors], const int8_t*& w, const uint8_t*& x,
                      int64_t count) {
  for (const uint8_t* end = x + 4 * count; x < end; x += 4, w += 256) {
    __m512i weights[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) weights[v] = _mm512_load_si512(w + 64 * v);
#if defined(PREFETCH)
    _mm_prefetch(reinterpret_cast<const char*>(w + PREFETCH), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(w + PREFETCH + 64), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(w + PREFETCH + 128), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(w + PREFETCH + 192), _MM_HINT_T0);
#endif
#pragma GCC unroll 16
    for (int i = 0; i < kPixels; ++i) {
      int32_t four;
      std::memcpy(&four, x + i * kC, sizeof four);
      const __m512i value = _mm512_set1_epi32(four);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) dot(acc[i][v], value, weights[v]);
    }
  }
}

// rows: where the three rows of the first pixel's window begin.
template <int kPixels, int kVectors>
INLINE void add_rows(__m512i (&acc)[kPixels][kVectors], const uint8_t* const* rows, int64_t offset,
                     const int8_t* w, const int32_t* start) {
#pragma GCC unroll 16
  for (int i = 0; i < kPixels; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) acc[i][v] = _mm512_load_si512(start + 16 * v);
  }
  for (int ky = 0; ky < 3; ++ky) {
    const uint8_t* x = rows[ky] + offset;
    add_words(acc, w, x, 3 * kPixelWords);
  }
}

// sums[kPixels][64], of the first 16 kVectors channels from `start` on.
template <int kPixels, int kVectors>
__attribute__((noinline)) void tile(const uint8_t* const* rows, int64_t offset, const int8_t* w,
                                    const int32_t* start, int32_t* sums) {
  __m512i acc[kPixels][kVectors];
  add_rows(acc, rows, offset, w, start);
#pragma GCC unroll 16
  for (int i = 0; i < kPixels; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) _mm512_store_si512(sums + i * kC + 16 * v, acc[i][v]);
  }
}

// Calls body<pixels of the tile>(x) for all tiles of a row: kMost pixels, the last ones fewer.
template <int kMost, class Body>
INLINE void for_tiles(int64_t width, const Body& body) {
  int64_t x = 0;
  for (; x + kMost <= width; x += kMost) body(x, std::integral_constant<int, kMost>());
  for (; x + 4 <= width; x += 4) body(x, std::integral_constant<int, 4>());
  for (; x < width; ++x) body(x, std::integral_constant<int, 1>());
}
