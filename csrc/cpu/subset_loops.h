// The loops of subset.h, written once over the compiler's vectors and compiled once for every
// instruction set, whose registers are 16, 8 or 4 floats wide.
//
// Included by subset_portable.cpp, subset_avx2.cpp and subset_avx512.cpp alone.

#include "cpu/subset.h"
#include "cpu/subset_bytes.h"
#include "cpu/vectors.h"

namespace ptqsr::cpu {
namespace {

constexpr int kRun = 128;   // float32 additions in a row before a sum goes on in float64
constexpr int kUnroll = 4;  // vectors in flight, which hides the latency of what is done
constexpr int kSums = 64;   // partial sums of a plane, however wide a vector is

// ---- statistics

struct Extremes {
  Vec sum, lo, hi;
};

INLINE void take(Extremes& e, Vec x) {
  e.sum += x;
  e.lo = x < e.lo ? x : e.lo;
  e.hi = x > e.hi ? x : e.hi;
}

void plane_statistics(const float* x, int64_t pixels, double* sum, float* lo, float* hi) {
  double sums[kSums] = {};
  constexpr int kVectors = kSums / kLanes;
  Extremes e[kVectors];
  for (Extremes& one : e) one = {Vec{}, all(x[0]), all(x[0])};
  int64_t p = 0;
  while (p + kSums <= pixels) {
    const int64_t left = (pixels - p) / kSums;
    const int64_t stop = p + (left < kRun ? left : kRun) * kSums;
    for (; p < stop; p += kSums) {
      for (int i = 0; i < kVectors; ++i) take(e[i], load(x + p + i * kLanes));
    }
    for (int i = 0; i < kVectors; ++i) {
      for (int lane = 0; lane < kLanes; ++lane) sums[i * kLanes + lane] += e[i].sum[lane];
      e[i].sum = Vec{};
    }
  }
  for (int i = 0; i < kVectors; ++i) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const float l = e[i].lo[lane], h = e[i].hi[lane];
      if (i + lane == 0 || l < *lo) *lo = l;
      if (i + lane == 0 || h > *hi) *hi = h;
    }
  }
  *sum = 0;
  for (double lane : sums) *sum += lane;
  for (; p < pixels; ++p) {
    *sum += x[p];
    if (x[p] < *lo) *lo = x[p];
    if (x[p] > *hi) *hi = x[p];
  }
}

// kBlocks neighbouring vectors of channels, whose sums stay in registers.
template <int kBlocks>
INLINE void strip_statistics(const float* x, int64_t pixels, int64_t c, double* sum, float* lo,
                             float* hi) {
  Extremes e[kBlocks];
  for (int b = 0; b < kBlocks; ++b) {
    e[b] = {Vec{}, load(lo + b * kLanes), load(hi + b * kLanes)};
  }
  for (int64_t p = 0; p < pixels; ++p) {
    for (int b = 0; b < kBlocks; ++b) take(e[b], load(x + p * c + b * kLanes));
  }
  for (int b = 0; b < kBlocks; ++b) {
    store(lo + b * kLanes, e[b].lo);
    store(hi + b * kLanes, e[b].hi);
    for (int lane = 0; lane < kLanes; ++lane) sum[b * kLanes + lane] += e[b].sum[lane];
  }
}

void pixel_statistics(const float* x, int64_t pixels, int64_t c, double* sum, float* lo,
                      float* hi) {
  for (int64_t i = 0; i < c; ++i) {
    sum[i] = 0;
    lo[i] = hi[i] = x[i];
  }
  for (int64_t start = 0; start < pixels; start += kRun) {
    const int64_t run = pixels - start < kRun ? pixels - start : kRun;
    const float* strip = x + start * c;
    int64_t i = 0;
    for (; i + 4 * kLanes <= c; i += 4 * kLanes) {
      strip_statistics<4>(strip + i, run, c, sum + i, lo + i, hi + i);
    }
    for (; i + kLanes <= c; i += kLanes) {
      strip_statistics<1>(strip + i, run, c, sum + i, lo + i, hi + i);
    }
    for (; i < c; ++i) {
      float total = 0;
      for (int64_t p = 0; p < run; ++p) {
        const float v = strip[p * c + i];
        total += v;
        if (v < lo[i]) lo[i] = v;
        if (v > hi[i]) hi[i] = v;
      }
      sum[i] += total;
    }
  }
}

// ---- the point of a normalised value
//
// A finder turns kCount vectors of u into vectors of points, in place. In `Plane` order all lanes
// belong to one channel, in `Pixels` order lane i to channel c + i.

enum class Order { plane, pixels };

template <Order order>
struct Compare {
  const SubsetTables& t;

  template <int kCount>
  INLINE void find(Vec (&u)[kCount], int64_t c) const {
    Vec k[kCount];
    for (Vec& one : k) one = value(c, 0);
    for (int64_t i = 0; i + 1 < t.levels; ++i) {
      const Vec threshold = order == Order::plane ? all(t.thresholds[c * (t.levels - 1) + i])
                                                  : load(t.thresholds_t + i * t.padded + c);
      const Vec above = value(c, i + 1);
      for (int j = 0; j < kCount; ++j) k[j] = u[j] > threshold ? above : k[j];
    }
    for (int j = 0; j < kCount; ++j) u[j] = k[j];
  }

  INLINE Vec value(int64_t c, int64_t i) const {
    return order == Order::plane ? all(t.values[c * t.levels + i])
                                 : load(t.values_t + i * t.padded + c);
  }
};

template <Order order>
struct Table {
  const SubsetTables& t;

  template <int kCount>
  INLINE void find(Vec (&u)[kCount], int64_t c) const {
    const int32_t size = 4 * t.denominator;
    IVec base = IVec{} + 2 * t.denominator;
    if (order == Order::pixels) {
      // Padding lanes, beyond the last channel, read the last channel's table.
      for (int lane = 0; lane < kLanes; ++lane) {
        base[lane] += static_cast<int32_t>((c + lane < t.c ? lane : t.c - 1 - c) * size);
      }
    }
    for (Vec& one : u) one = gather(t.lookup + c * size, half_steps(one) + base);
  }

  // The largest integer i for which a threshold at i/2 would lie below u: u > t for t > 0,
  // u >= t for t <= 0, but u > -2^-126 for t = 0.
  INLINE IVec half_steps(Vec u) const {
    const float limit = 2.0f * static_cast<float>(t.denominator);
    Vec v = u + u;
    v = v >= -limit ? v : all(-limit);  // NaN too
    v = v <= limit ? v : all(limit);
    const IVec i = __builtin_convertvector(v, IVec);  // towards zero
    const Vec f = __builtin_convertvector(i, Vec);
    const IVec down = (v > 0.0f) ? (f == v) : ((f > v) & (v <= -0x1p-125f));
    return i + down;  // a mask is -1 where it holds
  }

  static INLINE Vec gather(const float* table, IVec index) {
#if defined(__AVX512F__)
    // Masked with all lanes on: the plain form starts from an undefined register, which warns.
    return reinterpret_cast<Vec>(_mm512_mask_i32gather_ps(
        _mm512_setzero_ps(), 0xFFFF, reinterpret_cast<__m512i>(index), table, sizeof(float)));
#elif defined(__AVX2__)
    return reinterpret_cast<Vec>(
        _mm256_i32gather_ps(table, reinterpret_cast<__m256i>(index), sizeof(float)));
#else
    Vec v;
    for (int lane = 0; lane < kLanes; ++lane) v[lane] = table[index[lane]];
    return v;
#endif
  }
};

template <Order order>
struct Bisect {
  const SubsetTables& t;

  template <int kCount>
  INLINE void find(Vec (&u)[kCount], int64_t c) const {
    for (Vec& one : u) {
      for (int lane = 0; lane < kLanes; ++lane) {
        int64_t channel = order == Order::plane ? c : c + lane;
        if (channel >= t.c) channel = t.c - 1;
        const float* thresholds = t.thresholds + channel * (t.levels - 1);
        int64_t low = 0, high = t.levels - 1;
        while (low < high) {
          const int64_t middle = (low + high) / 2;
          if (one[lane] > thresholds[middle]) {
            low = middle + 1;
          } else {
            high = middle;
          }
        }
        one[lane] = t.values[channel * t.levels + low];
      }
    }
  }
};

#if defined(__AVX512F__)
// Binary search among up to 16 levels of one channel in registers: in every step each lane picks
// the threshold to compare with by a permutation. `step` 8, 4, 2, 1: its table is the thresholds
// moved down by step - 1, so that the code found so far is the index.
struct Permute16 {
  __m512 table8, table4, table2, table1, values;

  Permute16(const SubsetTables& t, int64_t c) {
    // Plain loops: one level has no thresholds, whose null address memcpy may not be given.
    float padded[32], points[16];
    const float* thresholds = t.thresholds + c * (t.levels - 1);
    for (int64_t k = 0; k < 32; ++k) padded[k] = k < t.levels - 1 ? thresholds[k] : INFINITY;
    for (int64_t k = 0; k < 16; ++k) points[k] = k < t.levels ? t.values[c * t.levels + k] : 0;
    table8 = _mm512_set1_ps(padded[7]);
    table4 = _mm512_loadu_ps(padded + 3);
    table2 = _mm512_loadu_ps(padded + 1);
    table1 = _mm512_loadu_ps(padded);
    values = _mm512_loadu_ps(points);
  }

  static INLINE __m512i step(__m512 u, __m512 threshold, __m512i code, int width) {
    const __mmask16 above = _mm512_cmp_ps_mask(u, threshold, _CMP_GT_OQ);
    return _mm512_mask_add_epi32(code, above, code, _mm512_set1_epi32(width));
  }

  template <int kCount>
  INLINE void find(Vec (&u)[kCount], int64_t) const {
    for (Vec& one : u) {
      const __m512 x = reinterpret_cast<__m512>(one);
      __m512i code = step(x, table8, _mm512_setzero_si512(), 8);
      code = step(x, _mm512_permutexvar_ps(code, table4), code, 4);
      code = step(x, _mm512_permutexvar_ps(code, table2), code, 2);
      code = step(x, _mm512_permutexvar_ps(code, table1), code, 1);
      one = reinterpret_cast<Vec>(_mm512_permutexvar_ps(code, values));
    }
  }
};
#endif

// ---- quantization

template <int kCount, class Finder>
INLINE void quantize(Vec (&x)[kCount], const Finder& finder, int64_t c, Vec mean, Vec ratio,
                     Vec unit) {
  for (Vec& one : x) one = (one - mean) * ratio;
  finder.find(x, c);
  for (Vec& one : x) one = one * unit + mean;
}

template <class Finder>
void plane(const float* x, float* y, int64_t pixels, int64_t c, const SampleScales& s,
           const Finder& finder) {
  const Vec mean = all(s.mean[c]), ratio = all(s.ratio[c]), unit = all(s.unit[c]);
  int64_t p = 0;
  for (; p + kUnroll * kLanes <= pixels; p += kUnroll * kLanes) {
    Vec v[kUnroll];
    for (int i = 0; i < kUnroll; ++i) v[i] = load(x + p + i * kLanes);
    quantize(v, finder, c, mean, ratio, unit);
    for (int i = 0; i < kUnroll; ++i) store(y + p + i * kLanes, v[i]);
  }
  for (; p < pixels; p += kLanes) {
    const int64_t count = pixels - p < kLanes ? pixels - p : kLanes;
    Vec v[1] = {load_part(x + p, count)};
    quantize(v, finder, c, mean, ratio, unit);
    store_part(y + p, count, v[0]);
  }
}

// `kCount` pixels, all channels.
template <int kCount, class Finder>
INLINE void pixel_group(const float* x, float* y, const SubsetTables& t, const SampleScales& s,
                        const Finder& finder) {
  for (int64_t c = 0; c < t.c; c += kLanes) {
    const int64_t count = t.c - c < kLanes ? t.c - c : kLanes;
    Vec v[kCount];
    for (int i = 0; i < kCount; ++i) {
      const float* from = x + i * t.c + c;
      v[i] = count == kLanes ? load(from) : load_part(from, count);
    }
    quantize(v, finder, c, load(s.mean + c), load(s.ratio + c), load(s.unit + c));
    for (int i = 0; i < kCount; ++i) {
      float* to = y + i * t.c + c;
      if (count == kLanes) {
        store(to, v[i]);
      } else {
        store_part(to, count, v[i]);
      }
    }
  }
}

template <class Finder>
void pixels_last(const float* x, float* y, int64_t pixels, const SubsetTables& t,
                 const SampleScales& s, const Finder& finder) {
  int64_t p = 0;
  for (; p + kUnroll <= pixels; p += kUnroll) {
    pixel_group<kUnroll>(x + p * t.c, y + p * t.c, t, s, finder);
  }
  for (; p < pixels; ++p) pixel_group<1>(x + p * t.c, y + p * t.c, t, s, finder);
}

void quantize_plane(const float* x, float* y, int64_t pixels, int64_t c, const SubsetTables& t,
                    const SampleScales& s) {
  if (t.bytes.search != ByteSearch::none) {
    return bytes_of_plane(x, pixels, c, t, s, ToFloats{y, s.mean, s.unit});
  }
#if defined(__AVX512F__)
  if (t.levels <= 16) return plane(x, y, pixels, c, s, Permute16(t, c));
#endif
  switch (t.search) {
    case Search::compare:
      return plane(x, y, pixels, c, s, Compare<Order::plane>{t});
    case Search::table:
      return plane(x, y, pixels, c, s, Table<Order::plane>{t});
    case Search::bisect:
      return plane(x, y, pixels, c, s, Bisect<Order::plane>{t});
  }
}

void quantize_pixels(const float* x, float* y, int64_t pixels, const SubsetTables& t,
                     const SampleScales& s) {
  if (t.bytes.search != ByteSearch::none) {
    return bytes_of_pixels(x, pixels, t, s, ToFloats{y, s.mean, s.unit});
  }
  switch (t.search) {
    case Search::compare:
      return pixels_last(x, y, pixels, t, s, Compare<Order::pixels>{t});
    case Search::table:
      return pixels_last(x, y, pixels, t, s, Table<Order::pixels>{t});
    case Search::bisect:
      return pixels_last(x, y, pixels, t, s, Bisect<Order::pixels>{t});
  }
}

constexpr int64_t kCompareLevels = kLanes == 16 ? 16 : 8;
constexpr int64_t kStepLevels = kLanes == 4 ? 32 : 64;
constexpr int64_t kFloatPlaneLevels = kLanes;  // at 16, Permute16

constexpr SubsetLoops kLoops = {
    kLanes,           kCompareLevels,       kStepLevels,        kFloatPlaneLevels,
    plane_statistics, pixel_statistics,     quantize_plane,     quantize_pixels,
    encode_plane,     encode_pixels<float>, encode_pixels<Half>};

}  // namespace
}  // namespace ptqsr::cpu
