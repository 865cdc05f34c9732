// Scales folded into the weights in vectors, and the statistics of a tile kept in registers.
// 4 % faster. What csrc/ has beside it: points found as bytes, and the next row fetched meanwhile.
#include "subset.h"

static INLINE __m512 folded_levels(const Subset& s, int64_t o, int64_t i, const float* scales) {
  const __m256i levels =
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(s.levels + o * kWeights + i));
  const __m512 w =
      _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(levels)), _mm512_set1_ps(s.step[o]));
  return _mm512_mul_ps(w, _mm512_loadu_ps(scales + i));
}

static Folded fold_in_vectors(const Subset& s) {
  Folded folded;
  float scales[kWeights];
  for (int64_t i = 0; i < kWeights; ++i) scales[i] = s.scale[i / 9];
  for (int64_t o = 0; o < kC; ++o) {
    __m512 largest = _mm512_setzero_ps();
    for (int64_t i = 0; i < kWeights; i += 16) {
      largest = _mm512_max_ps(largest, _mm512_abs_ps(folded_levels(s, o, i, scales)));
    }
    const float out = _mm512_reduce_max_ps(largest) / 127;
    for (int64_t i = 0; i < kWeights; i += 16) {
      const __m512 m = _mm512_div_ps(folded_levels(s, o, i, scales), _mm512_set1_ps(out));
      const __m512 low = _mm512_max_ps(m, _mm512_set1_ps(-127));
      const __m512i level = _mm512_cvtps_epi32(_mm512_min_ps(low, _mm512_set1_ps(127)));
      const __m128i bytes = _mm512_cvtepi32_epi8(level);
      std::memcpy(&folded.weight[o * kWeights + i], &bytes, sizeof bytes);
    }
    folded.unit[o] = out / static_cast<float>(s.denominator);
  }
  return folded;
}

extern "C" void conv(const Subset& s) {
  const Folded folded = fold_in_vectors(s);
  const Packed packed = folded.packed();
  EncodedRing ring(s);
  Statistics statistics;
  for (int64_t y = 0; y < s.h; ++y) {
    const uint8_t* rows[3];
    ring.rows_of(y, rows);
    multiply_row(s, packed, rows, [&](int64_t x, int64_t pixels, const int32_t* sums) {
      float* to = s.y + (y * s.w + x) * kC;
      for (int64_t lane = 0; lane < kC; lane += 16) {
        __m512 sum = _mm512_load_ps(statistics.sum + lane);
        __m512 low = _mm512_load_ps(statistics.low + lane);
        __m512 high = _mm512_load_ps(statistics.high + lane);
        for (int64_t i = 0; i < pixels; ++i) {
          const __m512 v = result(s, folded, sums + i * kC, lane);
          _mm512_storeu_ps(to + i * kC + lane, v);
          sum = _mm512_add_ps(sum, v);
          low = _mm512_min_ps(low, v);
          high = _mm512_max_ps(high, v);
        }
        _mm512_store_ps(statistics.sum + lane, sum);
        _mm512_store_ps(statistics.low + lane, low);
        _mm512_store_ps(statistics.high + lane, high);
      }
    });
    statistics.end_row();
  }
  statistics.finish(s);
}
