// Codes are packed and stored 64 channels at once, and windows that do not touch the padding read
// the input where it lies. 2 to 3 % faster, 93 % of the peak.
//
// The trials are this one with one thing changed: REGISTERS +0.4 %, PIPELINED +1.9 %, PREFETCH -0.7
// %, STREAM 0, NARROW -0.6 %. None was worth its code in csrc/.
#include "rows.h"

#if defined(REGISTERS)
// The sums never see memory.
template <int kPixels>
__attribute__((noinline)) void fused(const Conv& c, const uint8_t* const* rows, int64_t offset,
                                     const Packed& packed, uint8_t* to) {
  __m512i acc[kPixels][4];
  add_rows(acc, rows, offset, packed.words, packed.start);
#pragma GCC unroll 16
  for (int i = 0; i < kPixels; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) store_codes(c, acc[i][v], 16 * v, to + i * kC);
  }
}
#elif defined(PIPELINED)
// The tile before is requantized meanwhile, a pixel after every 24 words; a whole one, that is.
struct Before {
  alignas(64) int32_t sums[6 * kC];
  uint8_t* to;
  int64_t step;
};
template <int kPixels>
__attribute__((noinline)) void fused(const Conv& c, const uint8_t* const* rows, int64_t offset,
                                     const Packed& packed, const Before& before, int32_t* sums) {
  __m512i acc[kPixels][4];
#pragma GCC unroll 16
  for (int i = 0; i < kPixels; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) acc[i][v] = _mm512_load_si512(packed.start + 16 * v);
  }
  const int8_t* w = packed.words;
  const int32_t* from = before.sums;
  uint8_t* to = before.to;
  for (int ky = 0; ky < 3; ++ky) {
    const uint8_t* x = rows[ky] + offset;
    for (int half = 0; half < 2; ++half, from += kC, to += before.step) {
      add_words(acc, w, x, 24);
      _mm512_storeu_si512(to, pixel_codes(c, from));
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kPixels; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) _mm512_store_si512(sums + i * kC + 16 * v, acc[i][v]);
  }
}
#endif

extern "C" void conv(const Conv& c) {
  const Packed packed(c);
  const std::vector<uint8_t> padding((c.w + 2) * kC, static_cast<uint8_t>(c.zero));
  std::vector<uint8_t> edges(3 * 8 * kC);
#if defined(NARROW)
  constexpr int kMost = 12;
#else
  constexpr int kMost = 6;
#endif
  edges.resize(3 * (kMost + 2) * kC);
  alignas(64) int32_t sums[kMost * kC];
#if defined(PIPELINED)
  alignas(64) uint8_t nowhere[kC];
  Before tiles[2] = {{{}, nowhere, 0}, {{}, nowhere, 0}};
  int current = 0;
#endif
  for (int64_t y = 0; y < c.h; ++y) {
    const uint8_t* inside[3];
    for (int64_t ky = 0; ky < 3; ++ky) {
      const int64_t from = y + ky - 1;
      inside[ky] = from < 0 || from >= c.h ? padding.data() : c.x + (from * c.w - 1) * kC;
    }
    for_tiles<kMost>(c.w, [&](int64_t x, auto pixels) {
      const uint8_t* rows[3] = {inside[0], inside[1], inside[2]};
      int64_t offset = x * kC;
      if (x == 0 || x + pixels == c.w) {
        const int64_t first = x == 0, last = x + pixels == c.w ? pixels : pixels + 1;
        std::fill(edges.begin(), edges.end(), static_cast<uint8_t>(c.zero));
        for (int64_t ky = 0; ky < 3; ++ky) {
          uint8_t* edge = &edges[ky * (kMost + 2) * kC];
          std::memcpy(edge + first * kC, inside[ky] + (x + first) * kC, (last - first + 1) * kC);
          rows[ky] = edge;
        }
        offset = 0;
      }
      uint8_t* to = c.y + (y * c.w + x) * kC;
#if defined(REGISTERS)
      fused<pixels>(c, rows, offset, packed, to);
#elif defined(PIPELINED)
      fused<pixels>(c, rows, offset, packed, tiles[1 - current], tiles[current].sums);
      if (pixels == 6) {
        tiles[current].to = to;
        tiles[current].step = kC;
      } else {
        for (int64_t i = 0; i < pixels; ++i) {
          _mm512_storeu_si512(to + i * kC, pixel_codes(c, tiles[current].sums + i * kC));
        }
        tiles[current].to = nowhere;
        tiles[current].step = 0;
      }
      current = 1 - current;
#else
#if defined(NARROW)
      tile<pixels, 2>(rows, offset, packed.words, packed.start, sums);
      tile<pixels, 2>(rows, offset, packed.words + 128, packed.start + 32, sums + 32);
#else
      tile<pixels, 4>(rows, offset, packed.words, packed.start, sums);
#endif
      for (int64_t i = 0; i < pixels; ++i) {
        const __m512i codes = pixel_codes(c, sums + i * kC);
#if defined(STREAM)
        _mm512_stream_si512(reinterpret_cast<__m512i*>(to + i * kC), codes);
#else
        _mm512_storeu_si512(to + i * kC, codes);
#endif
      }
#endif
    });
  }
#if defined(PIPELINED)
  const Before& last = tiles[1 - current];
  for (int64_t i = 0; i < 6; ++i) {
    _mm512_storeu_si512(last.to + i * last.step, pixel_codes(c, last.sums + i * kC));
  }
#endif
}
