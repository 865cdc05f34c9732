// The definition: one output after the other, 576 products in int32 each.
// 1.4 % of the peak. (Figures in these headers: one core of a Zen 4, GCC 12.2, processor time.)
#include "conv.h"

extern "C" void conv(const Conv& c) {
  for (int64_t y = 0; y < c.h; ++y) {
    for (int64_t x = 0; x < c.w; ++x) {
      for (int64_t o = 0; o < kC; ++o) {
        int32_t sum = 0;
        for (int64_t ky = 0; ky < 3; ++ky) {
          for (int64_t kx = 0; kx < 3; ++kx) {
            const int64_t iy = y + ky - 1, ix = x + kx - 1;
            if (iy < 0 || iy >= c.h || ix < 0 || ix >= c.w) continue;
            for (int64_t i = 0; i < kC; ++i) {
              const int32_t value = c.x[(iy * c.w + ix) * kC + i] - c.zero;
              sum += value * c.weight[(o * kC + i) * 9 + ky * 3 + kx];
            }
          }
        }
        c.y[(y * c.w + x) * kC + o] = requantized(c, o, sum);
      }
    }
  }
}
