// The loops of conv.h, written once and compiled once for every instruction set.
//
// Included by conv_portable.cpp, conv_avx2.cpp, conv_avx512.cpp and conv_avx512_vnni.cpp alone.

#include "cpu/conv.h"
#include "cpu/vectors.h"

namespace ptqsr::cpu {
namespace {

typedef uint8_t BVec __attribute__((vector_size(kLanes)));  // a byte for each of a vector's lanes

constexpr float kLargestHalf = 65504;

// ---- sums

// acc += the products of a word of one pixel and the words of kLanes output channels.
INLINE void dot(IVec& acc, IVec x, IVec w) {
#if defined(__AVX512VNNI__)
  // The intrinsic would do, but GCC 12 then keeps some of the sums in memory.
  asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(x), "v"(w));
#elif defined(__AVX512F__)
  acc += reinterpret_cast<IVec>(
      _mm512_madd_epi16(reinterpret_cast<__m512i>(x), reinterpret_cast<__m512i>(w)));
#elif defined(__AVX2__)
  acc += reinterpret_cast<IVec>(
      _mm256_madd_epi16(reinterpret_cast<__m256i>(x), reinterpret_cast<__m256i>(w)));
#else
  acc += (x << 16 >> 16) * (w << 16 >> 16) + (x >> 16) * (w >> 16);
#endif
}

template <int kVectors, int kPixels>
void tile(const TileInput& in, int32_t* out) {
  IVec acc[kPixels][kVectors];
#pragma GCC unroll 16
  for (int i = 0; i < kPixels; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) acc[i][v] = load_as<IVec>(in.start + v * kLanes);
  }
  const uint8_t* w = in.weights;
  for (int64_t r = 0; r < in.count; ++r) {
    const uint8_t* x = in.runs[r].from + in.offset;
    const uint8_t* end = w + in.runs[r].words * kVectors * sizeof(IVec);
    for (; w < end; w += kVectors * sizeof(IVec), x += 4) {
      IVec weights[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) weights[v] = load_as<IVec>(w + v * sizeof(IVec));
#pragma GCC unroll 16
      for (int i = 0; i < kPixels; ++i) {
        const IVec word = IVec{} + load_as<int32_t>(x + i * in.stride);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) dot(acc[i][v], word, weights[v]);
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kPixels; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store_as(out + (i * kVectors + v) * kLanes, acc[i][v]);
  }
}

#if defined(__AVX512F__)
constexpr int kMaxVectors = 4;
constexpr int kMaxPixels[5] = {0, 16, 12, 8, 6};
#else
constexpr int kMaxVectors = 2;
constexpr int kMaxPixels[5] = {0, 8, 6, 0, 0};
#endif

#if defined(__AVX2__) && !defined(__AVX512VNNI__)
#if defined(__AVX512F__)
typedef __m512i Pairs;  // of int16, whose sum belongs to one output channel
INLINE IVec widened(Pairs a) {
  return reinterpret_cast<IVec>(_mm512_madd_epi16(a, _mm512_set1_epi16(1)));
}
#else
typedef __m256i Pairs;
INLINE IVec widened(Pairs a) {
  return reinterpret_cast<IVec>(_mm256_madd_epi16(a, _mm256_set1_epi16(1)));
}
#endif

// acc += the products of a word, two to a sum. Left to intrinsics, GCC 12 first makes all products
// and then has no registers for the sums.
INLINE void narrow_dot(Pairs& acc, IVec x, Pairs w) {
  Pairs products;
  asm("vpmaddubsw %3, %2, %1\n\tvpaddw %1, %0, %0" : "+v"(acc), "=&v"(products) : "v"(x), "v"(w));
}

// As tile, in sums of 16 bits, which go on in 32 bits after every `exact_words`.
template <int kVectors, int kPixels>
void narrow_tile(const TileInput& in, int32_t* out) {
  for (int i = 0; i < kPixels; ++i) {
    memcpy(out + i * kVectors * kLanes, in.start, kVectors * sizeof(IVec));
  }
  const uint8_t* w = in.weights;
  for (int64_t r = 0; r < in.count; ++r) {
    const uint8_t* x = in.runs[r].from + in.offset;
    for (int64_t left = in.runs[r].words; left > 0; left -= in.exact_words) {
      const int64_t words = left < in.exact_words ? left : in.exact_words;
      Pairs acc[kPixels][kVectors] = {};
      for (const uint8_t* end = x + 4 * words; x < end; x += 4, w += kVectors * sizeof(IVec)) {
        Pairs weights[kVectors];
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) weights[v] = load_as<Pairs>(w + v * sizeof(IVec));
#pragma GCC unroll 16
        for (int i = 0; i < kPixels; ++i) {
          const IVec word = IVec{} + load_as<int32_t>(x + i * in.stride);
#pragma GCC unroll 4
          for (int v = 0; v < kVectors; ++v) narrow_dot(acc[i][v], word, weights[v]);
        }
      }
#pragma GCC unroll 16
      for (int i = 0; i < kPixels; ++i) {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
          int32_t* to = out + (i * kVectors + v) * kLanes;
          store_as(to, load_as<IVec>(to) + widened(acc[i][v]));
        }
      }
    }
  }
}
#define PTQSR_NARROW
#endif

#if defined(__AVX512VNNI__)
// The sums of four vectors' lanes, in the four lanes of the result.
INLINE __m128i lane_sums(const IVec (&v)[kFewChannels]) {
  const auto a = reinterpret_cast<__m512i>(v[0]), b = reinterpret_cast<__m512i>(v[1]);
  const auto c = reinterpret_cast<__m512i>(v[2]), d = reinterpret_cast<__m512i>(v[3]);
  const __m512i ab = _mm512_add_epi32(_mm512_maskz_unpacklo_epi32(0xFFFF, a, b),
                                      _mm512_maskz_unpackhi_epi32(0xFFFF, a, b));
  const __m512i cd = _mm512_add_epi32(_mm512_maskz_unpacklo_epi32(0xFFFF, c, d),
                                      _mm512_maskz_unpackhi_epi32(0xFFFF, c, d));
  const __m512i abcd = _mm512_add_epi32(_mm512_maskz_unpacklo_epi64(0xFF, ab, cd),
                                        _mm512_maskz_unpackhi_epi64(0xFF, ab, cd));
  const __m256i half =
      _mm256_add_epi32(_mm512_castsi512_si256(abcd), _mm512_maskz_extracti64x4_epi64(0xF, abcd, 1));
  return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

template <int kPixels>
INLINE void few_pixels(const TileInput& in, int64_t first, int32_t* out) {
  IVec acc[kPixels][kFewChannels] = {};
  const uint8_t* w = in.weights;
  for (int64_t r = 0; r < in.count; ++r) {
    const uint8_t* x = in.runs[r].from + in.offset + first * in.stride;
    const uint8_t* end = x + in.runs[r].words * 4;
    for (; x < end; x += sizeof(IVec), w += kFewChannels * sizeof(IVec)) {
      IVec from[kPixels];
#pragma GCC unroll 4
      for (int i = 0; i < kPixels; ++i) from[i] = load_as<IVec>(x + i * in.stride);
#pragma GCC unroll 4
      for (int o = 0; o < kFewChannels; ++o) {
        const IVec weights = load_as<IVec>(w + o * sizeof(IVec));
#pragma GCC unroll 4
        for (int i = 0; i < kPixels; ++i) dot(acc[i][o], from[i], weights);
      }
    }
  }
  const __m128i start = load_as<__m128i>(in.start);
#pragma GCC unroll 4
  for (int i = 0; i < kPixels; ++i) {
    store_as(out + (first + i) * kLanes, _mm_add_epi32(lane_sums(acc[i]), start));
  }
}

void few_tile(int, int pixels, const TileInput& in, int32_t* out) {
  int64_t i = 0;
  for (; i + 4 <= pixels; i += 4) few_pixels<4>(in, i, out);
  for (; i < pixels; ++i) few_pixels<1>(in, i, out);
}
#define PTQSR_FEW
#endif

using TileLoop = void (*)(const TileInput&, int32_t*);

// Loops<kVectors, 1> .. <kVectors, kMaxPixels[kVectors]>, for every kVectors.
template <bool kNarrow>
struct TileTable {
  TileLoop loops[kMaxVectors + 1][kMaxTilePixels + 1] = {};

  constexpr TileTable() { fill<kMaxVectors, kMaxPixels[kMaxVectors]>(); }

  template <int kVectors, int kPixels>
  constexpr void fill() {
    if constexpr (kPixels > 0) {
#if defined(PTQSR_NARROW)
      if constexpr (kNarrow) {
        loops[kVectors][kPixels] = narrow_tile<kVectors, kPixels>;
      } else {
        loops[kVectors][kPixels] = tile<kVectors, kPixels>;
      }
#else
      loops[kVectors][kPixels] = tile<kVectors, kPixels>;
#endif
      fill<kVectors, kPixels - 1>();
    } else if constexpr (kVectors > 1) {
      fill<kVectors - 1, kMaxPixels[kVectors - 1]>();
    }
  }
};

template <bool kNarrow>
void any_tile(int vectors, int pixels, const TileInput& in, int32_t* acc) {
  static constexpr TileTable<kNarrow> table;
  table.loops[vectors][pixels](in, acc);
}

// ---- what becomes of them

// The larger, or the second where one is NaN; and the smaller likewise.
INLINE Vec larger(Vec a, Vec b) {
#if defined(__AVX512F__)
  return reinterpret_cast<Vec>(
      _mm512_maskz_max_ps(0xFFFF, reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b)));
#elif defined(__AVX2__)
  return reinterpret_cast<Vec>(
      _mm256_max_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b)));
#else
  return a > b ? a : b;
#endif
}

INLINE Vec smaller(Vec a, Vec b) {
#if defined(__AVX512F__)
  return reinterpret_cast<Vec>(
      _mm512_maskz_min_ps(0xFFFF, reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b)));
#elif defined(__AVX2__)
  return reinterpret_cast<Vec>(
      _mm256_min_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b)));
#else
  return a < b ? a : b;
#endif
}

// To the nearest whole number, half to even; |v| < 2^22.
INLINE IVec rounded(Vec v) {
#if defined(__AVX512F__)
  return reinterpret_cast<IVec>(_mm512_maskz_cvtps_epi32(0xFFFF, reinterpret_cast<__m512>(v)));
#elif defined(__AVX2__)
  return reinterpret_cast<IVec>(_mm256_cvtps_epi32(reinterpret_cast<__m256>(v)));
#else
  // Adding 1.5 * 2^23 leaves no place for fractions.
  return __builtin_convertvector((v + 0x1.8p23f) - 0x1.8p23f, IVec);
#endif
}

// GCC 12 takes __builtin_convertvector of bytes apart, one by one.
INLINE IVec widened(BVec bytes) {
#if defined(__AVX512F__)
  return reinterpret_cast<IVec>(
      _mm512_maskz_cvtepu8_epi32(0xFFFF, reinterpret_cast<__m128i>(bytes)));
#elif defined(__AVX2__)
  return reinterpret_cast<IVec>(
      _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(reinterpret_cast<int64_t>(bytes))));
#else
  return __builtin_convertvector(bytes, IVec);
#endif
}

// What is added to a value, and what is stored.
enum class Rest { nothing, floats, halves, codes };
enum class Result { floats, halves, codes };

// `count` values of a residual, not scaled yet.
template <Rest kRest, bool kWhole>
INLINE Vec rest_at(const void* residual, int64_t at, int64_t count, int32_t lowest) {
  if (kRest == Rest::floats) {
    const float* from = static_cast<const float*>(residual) + at;
    return kWhole ? load(from) : load_part(from, count);
  }
  if (kRest == Rest::halves) {
    const Half* from = static_cast<const Half*>(residual) + at;
    return kWhole ? load(from) : load_part(from, count);
  }
  const uint8_t* from = static_cast<const uint8_t*>(residual) + at;
  const BVec bytes = kWhole ? load_as<BVec>(from) : load_part_as<BVec>(from, count);
  return __builtin_convertvector(widened(bytes) + lowest, Vec);
}

template <bool kWhole, class V>
INLINE void put(void* to, int64_t count, V v) {
  kWhole ? store_as(to, v) : store_part_as(to, count, v);
}

// One vector of output channels of all pixels of a tile. `kWhole`: all its channels exist.
template <bool kLeaky, Rest kRest, bool kStatistics, Result kResult, bool kWhole>
INLINE void vector(const TileOutput& out, int64_t lane, int64_t count) {
  // Copies, since y might alias the tables for all that the compiler knows.
  const Vec scale = load_as<Vec>(out.scale + lane), rest_scale = all(out.residual_scale);
  // Floors that follow each other are one; float16 has its own.
  const float end =
      kResult == Result::halves && out.last_floor < -kLargestHalf ? -kLargestHalf : out.last_floor;
  const bool joined = kRest == Rest::nothing && !kLeaky;
  const Vec floor = all(out.floor);
  const Vec last_floor = all(joined && out.floor > end ? out.floor : end);
  const Vec slope = kLeaky ? load_as<Vec>(out.slope + lane) : Vec{};
  const Vec lowest = all(out.lowest), highest = all(out.highest);
  const int64_t pixels = out.pixels, lanes = out.lanes, step = out.step;
  const int32_t *acc = out.acc + lane, *classes = out.classes;
  const int32_t* window_sums = out.window_sums;
  const int32_t residual_lowest = out.residual_lowest, lowest_level = out.lowest_level;
  const int64_t terms_stride = out.terms_stride;
  const float* terms = out.terms + lane;
  const void* residual = out.residual;
  void* y = out.y;
  int64_t at = out.at + lane;
  Vec sum{}, low{}, high{};
  if (kStatistics) {
    sum = load_as<Vec>(out.sum + lane);
    low = load_as<Vec>(out.low + lane);
    high = load_as<Vec>(out.high + lane);
  }
  for (int64_t i = 0; i < pixels; ++i, at += step) {
    IVec sums = load_as<IVec>(acc + i * lanes);
    if (window_sums != nullptr) sums += load_as<IVec>(out.zero_points + lane) * window_sums[i];
    Vec v = __builtin_convertvector(sums, Vec) * scale +
            load_as<Vec>(terms + classes[i] * terms_stride);
    if (kLeaky) v = v < 0.0f ? v * slope : v;
    if (!kLeaky && kRest != Rest::nothing) v = larger(floor, v);
    if (kRest != Rest::nothing) {
      v += rest_at<kRest, kWhole>(residual, at, count, residual_lowest) * rest_scale;
    }
    v = larger(last_floor, v);
    if (kResult == Result::codes) {
      // Limits are whole numbers, so that they may come first; NaN becomes the lowest.
      const IVec level = rounded(smaller(larger(v, lowest), highest));
      put<kWhole>(static_cast<uint8_t*>(y) + at, count,
                  __builtin_convertvector(level - lowest_level, BVec));
    } else if (kResult == Result::halves) {
      // NaN stays.
      const HVec half = narrowed(smaller(all(kLargestHalf), v));
      put<kWhole>(static_cast<Half*>(y) + at, count, half);
      if (kStatistics) v = widened(half);
    } else {
      put<kWhole>(static_cast<float*>(y) + at, count, v);
    }
    if (kStatistics) {
      sum += v;
      low = smaller(v, low);
      high = larger(v, high);
    }
  }
  if (kStatistics) {
    store_as(out.sum + lane, sum);
    store_as(out.low + lane, low);
    store_as(out.high + lane, high);
  }
}

template <bool kLeaky, Rest kRest, bool kStatistics, Result kResult>
void vectors(const TileOutput& out) {
  int64_t lane = 0;
  for (; lane + kLanes <= out.channels; lane += kLanes) {
    vector<kLeaky, kRest, kStatistics, kResult, true>(out, lane, kLanes);
  }
  if (lane < out.channels) {
    vector<kLeaky, kRest, kStatistics, kResult, false>(out, lane, out.channels - lane);
  }
}

template <bool kLeaky, bool kStatistics, Result kResult>
void with_rest(const TileOutput& out) {
  if (out.residual == nullptr) return vectors<kLeaky, Rest::nothing, kStatistics, kResult>(out);
  switch (out.residual_storage) {
    case Storage::floats:
      return vectors<kLeaky, Rest::floats, kStatistics, kResult>(out);
    case Storage::halves:
      return vectors<kLeaky, Rest::halves, kStatistics, kResult>(out);
    case Storage::codes:
      return vectors<kLeaky, Rest::codes, kStatistics, kResult>(out);
  }
}

template <Result kResult>
void store_numbers(const TileOutput& out) {
  if (out.sum != nullptr) {
    return out.leaky ? with_rest<true, true, kResult>(out) : with_rest<false, true, kResult>(out);
  }
  out.leaky ? with_rest<true, false, kResult>(out) : with_rest<false, false, kResult>(out);
}

#if defined(__AVX512F__)
// As vector() for a block of four whole vectors: pixel by pixel, whose codes are one vector of
// bytes. Without `kFloors` the lowest level is no lower than the floors.
template <bool kLeaky, Rest kRest, bool kFloors>
void pixels_of_codes(TileOutput out) {  // a copy, since y might alias it
  const Vec floor = all(out.floor), last_floor = all(out.last_floor);
  const Vec highest = all(out.highest), rest_scale = all(out.residual_scale);
  const Packed lowest = all16(out.lowest_level);
  for (int64_t i = 0; i < out.pixels; ++i, out.acc += 4 * kLanes, out.at += out.step) {
    const float* terms = out.terms + out.classes[i] * out.terms_stride;
    IVec levels[4];
#pragma GCC unroll 4
    for (int s = 0; s < 4; ++s) {
      const int64_t lane = s * kLanes;
      Vec v = __builtin_convertvector(load_as<IVec>(out.acc + lane), Vec) *
                  load_as<Vec>(out.scale + lane) +
              load_as<Vec>(terms + lane);
      if (kLeaky) v = v < 0.0f ? v * load_as<Vec>(out.slope + lane) : v;
      if (kFloors) v = larger(floor, v);
      if (kRest != Rest::nothing) {
        v += rest_at<kRest, true>(out.residual, out.at + lane, kLanes, out.residual_lowest) *
             rest_scale;
      }
      if (kFloors) v = larger(last_floor, v);
      levels[s] = rounded(smaller(highest, v));  // NaN becomes the least integer
    }
    // Packing saturates: at 0, which is the lowest level.
    const __m512i codes = _mm512_packus_epi16(minus16(pack32(levels[0], levels[1]), lowest),
                                              minus16(pack32(levels[2], levels[3]), lowest));
    store_as(static_cast<uint8_t*>(out.y) + out.at, in_order(reinterpret_cast<Bytes>(codes)));
  }
}

template <bool kLeaky, Rest kRest>
void whole_codes(const TileOutput& out) {
  // What is added after the first floor may lead below it.
  const float limit = kRest == Rest::nothing ? out.lowest : -INFINITY;
  const bool floors = out.floor > limit || out.last_floor > out.lowest;
  floors ? pixels_of_codes<kLeaky, kRest, true>(out) : pixels_of_codes<kLeaky, kRest, false>(out);
}

template <bool kLeaky>
void whole_codes(const TileOutput& out) {
  if (out.residual == nullptr) return whole_codes<kLeaky, Rest::nothing>(out);
  switch (out.residual_storage) {
    case Storage::floats:
      return whole_codes<kLeaky, Rest::floats>(out);
    case Storage::halves:
      return whole_codes<kLeaky, Rest::halves>(out);
    case Storage::codes:
      return whole_codes<kLeaky, Rest::codes>(out);
  }
}
#endif

void store_codes(const TileOutput& out) {
#if defined(__AVX512F__)
  if (out.channels == 4 * kLanes && out.window_sums == nullptr) {
    return out.leaky ? whole_codes<true>(out) : whole_codes<false>(out);
  }
#endif
  out.leaky ? with_rest<true, false, Result::codes>(out)
            : with_rest<false, false, Result::codes>(out);
}

// ---- weights

typedef int16_t SVec __attribute__((vector_size(2 * kLanes)));
typedef int8_t CVec __attribute__((vector_size(kLanes)));

INLINE Vec folded(SVec levels, float step, Vec scales) {
  return __builtin_convertvector(levels, Vec) * step * scales;
}

float largest_folded(const int16_t* levels, float step, const float* scales, int64_t count) {
  Vec largest{};
  for (int64_t i = 0; i < count; i += kLanes) {
    const int64_t n = count - i < kLanes ? count - i : kLanes;
    const Vec m = n == kLanes ? folded(load_as<SVec>(levels + i), step, load_as<Vec>(scales + i))
                              : folded(load_part_as<SVec>(levels + i, n), step,
                                       load_part_as<Vec>(scales + i, n));
    largest = larger(largest, larger(m, -m));
  }
  float result = 0;
  for (int i = 0; i < kLanes; ++i) result = largest[i] > result ? largest[i] : result;
  return result;
}

void refold(const int16_t* levels, float step, const float* scales, float out, int64_t count,
            int8_t* weight) {
  for (int64_t i = 0; i < count; i += kLanes) {
    const int64_t n = count - i < kLanes ? count - i : kLanes;
    const Vec m = n == kLanes ? folded(load_as<SVec>(levels + i), step, load_as<Vec>(scales + i))
                              : folded(load_part_as<SVec>(levels + i, n), step,
                                       load_part_as<Vec>(scales + i, n));
    const IVec w = rounded(smaller(larger(m / out, all(-127.0f)), all(127.0f)));
    store_part_as(weight + i, n, __builtin_convertvector(w, CVec));
  }
}

constexpr ConvLoops kLoops = {
#if defined(__AVX512VNNI__)
    1,
#else
    2,
#endif
    kLanes,
    kMaxVectors,
    {kMaxPixels[0], kMaxPixels[1], kMaxPixels[2], kMaxPixels[3], kMaxPixels[4]},
    any_tile<false>,
#if defined(PTQSR_NARROW)
    any_tile<true>,
#else
    nullptr,
#endif
#if defined(PTQSR_FEW)
    few_tile,
#else
    nullptr,
#endif
    store_numbers<Result::floats>,
    store_numbers<Result::halves>,
    store_codes,
    largest_folded,
    refold};

}  // namespace
}  // namespace ptqsr::cpu
