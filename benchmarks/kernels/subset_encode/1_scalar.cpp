// One value at a time, through all thresholds. The compiler is left to find vectors.
//
// Thresholds are [levels - 1][c], points [levels][c]; x and out are [pixels][c], c % 64 == 0.
#include <cstdint>

extern "C" void encode(const float* x, int64_t pixels, int64_t c, const float* thresholds,
                       const int8_t* points, int64_t levels, const float* mean, const float* ratio,
                       int8_t* out) {
  for (int64_t p = 0; p < pixels; ++p) {
    for (int64_t i = 0; i < c; ++i) {
      const float u = (x[p * c + i] - mean[i]) * ratio[i];
      int64_t code = 0;
      while (code + 1 < levels && u > thresholds[code * c + i]) ++code;
      out[p * c + i] = points[code * c + i];
    }
  }
}
