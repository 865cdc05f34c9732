// Padded rows as a ring of three, and one of padding alone; and the codes of 64 channels at once.
#pragma once

#include "tile.h"

struct Ring {
  explicit Ring(const Conv& conv)
      : c(conv), row_bytes((c.w + 2) * kC), bytes(4 * row_bytes, static_cast<uint8_t>(c.zero)) {}

  // Row y's window rows, for tiles whose offsets start at the left padding.
  void rows_of(int64_t y, const uint8_t** rows) {
    for (; next < std::min(c.h, y + 2); ++next) {
      std::memcpy(&bytes[next % 3 * row_bytes + kC], c.x + next * c.w * kC, c.w * kC);
    }
    for (int64_t ky = 0; ky < 3; ++ky) {
      const int64_t from = y + ky - 1;
      rows[ky] = &bytes[(from < 0 || from >= c.h ? 3 : from % 3) * row_bytes];
    }
  }
  const Conv& c;
  int64_t row_bytes, next = 0;
  std::vector<uint8_t> bytes;
};

// 64 channels of a pixel. Packing saturates at 0.
INLINE __m512i pixel_codes(const Conv& c, const int32_t* sums) {
  __m512i level[4];
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) {
    const __m512 value = scaled(c, _mm512_load_si512(sums + 16 * v), 16 * v);
    level[v] = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_set1_ps(255), value));
  }
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_epi32(order,
                                  _mm512_packus_epi16(_mm512_packs_epi32(level[0], level[1]),
                                                      _mm512_packs_epi32(level[2], level[3])));
}
