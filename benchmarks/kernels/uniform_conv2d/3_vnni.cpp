// vpdpbusd: four products for each of 16 channels at once, one pixel times 64 channels. The picture
// is copied into a border, so that no window needs a question; zero's part is in `start`.
// 2.3 times as fast as version 2.
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
      int32_t sums[kC];
      for (int v = 0; v < 4; ++v) _mm512_storeu_si512(sums + 16 * v, acc[v]);
      for (int64_t o = 0; o < kC; ++o) c.y[(y * c.w + x) * kC + o] = requantized(c, o, sums[o]);
    }
  }
}
