// The loops of conv.h that make results of sums.
//
// Included by conv_loops.h alone.
#pragma once

#include "cpu/conv.h"
#include "cpu/conv_tiles.h"
#include "cpu/vectors.h"

namespace ptqsr::cpu {
namespace {

typedef uint8_t BVec __attribute__((vector_size(kLanes)));  // a byte for each of a vector's lanes

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
// What is added up of what is stored.
enum class Wanted { nothing, extremes, moments };

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
template <bool kLeaky, Rest kRest, Wanted kWanted, Result kResult, bool kWhole>
INLINE void vector(const TileOutput& out, int64_t lane, int64_t count) {
  // Copies, since y might alias the tables for all that the compiler knows.
  const Vec scale = load_as<Vec>(out.scale + lane), rest_scale = all(out.residual_scale);
  // Floors that follow each other are one.
  const bool joined = kRest == Rest::nothing && !kLeaky && out.floor > out.last_floor;
  const Vec floor = all(out.floor), last_floor = all(joined ? out.floor : out.last_floor);
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
  Vec sum{}, low{}, high{}, shift{}, squares{};
  const bool begins = out.begins;
  if (kWanted != Wanted::nothing) sum = load_as<Vec>(out.sum + lane);
  if (kWanted == Wanted::extremes) {
    low = load_as<Vec>(out.low + lane);
    high = load_as<Vec>(out.high + lane);
  }
  if (kWanted == Wanted::moments) {
    if (!begins) shift = load_as<Vec>(out.shift + lane);
    squares = load_as<Vec>(out.squares + lane);
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
      const HVec half = narrowed(v);
      put<kWhole>(static_cast<Half*>(y) + at, count, half);
      if (kWanted != Wanted::nothing) v = widened(half);
    } else {
      put<kWhole>(static_cast<float*>(y) + at, count, v);
    }
    if (kWanted == Wanted::extremes) {
      sum += v;
      low = smaller(v, low);
      high = larger(v, high);
    }
    if (kWanted == Wanted::moments) {
      if (begins && i == 0) shift = v;
      const Vec apart = v - shift;
      sum += apart;
      squares += apart * apart;
    }
  }
  if (kWanted != Wanted::nothing) store_as(out.sum + lane, sum);
  if (kWanted == Wanted::extremes) {
    store_as(out.low + lane, low);
    store_as(out.high + lane, high);
  }
  if (kWanted == Wanted::moments) {
    store_as(out.shift + lane, shift);
    store_as(out.squares + lane, squares);
  }
}

template <bool kLeaky, Rest kRest, Wanted kWanted, Result kResult>
void vectors(const TileOutput& out) {
  int64_t lane = 0;
  for (; lane + kLanes <= out.channels; lane += kLanes) {
    vector<kLeaky, kRest, kWanted, kResult, true>(out, lane, kLanes);
  }
  if (lane < out.channels) {
    vector<kLeaky, kRest, kWanted, kResult, false>(out, lane, out.channels - lane);
  }
}

template <bool kLeaky, Wanted kWanted, Result kResult>
void with_rest(const TileOutput& out) {
  if (out.residual == nullptr) return vectors<kLeaky, Rest::nothing, kWanted, kResult>(out);
  switch (out.residual_storage) {
    case Storage::floats:
      return vectors<kLeaky, Rest::floats, kWanted, kResult>(out);
    case Storage::halves:
      return vectors<kLeaky, Rest::halves, kWanted, kResult>(out);
    case Storage::codes:
      return vectors<kLeaky, Rest::codes, kWanted, kResult>(out);
  }
}

template <Wanted kWanted, Result kResult>
void with_slope(const TileOutput& out) {
  out.leaky ? with_rest<true, kWanted, kResult>(out) : with_rest<false, kWanted, kResult>(out);
}

template <Result kResult>
void store_numbers(const TileOutput& out) {
  if (out.sum == nullptr) return with_slope<Wanted::nothing, kResult>(out);
  out.squares == nullptr ? with_slope<Wanted::extremes, kResult>(out)
                         : with_slope<Wanted::moments, kResult>(out);
}

#if defined(__AVX2__)
// Levels of a pixel, less `lowest`, as bytes in their order. Packing saturates: at 0, which is the
// lowest level.
#if defined(__AVX512F__)
INLINE void store_levels(void* to, const IVec (&v)[kMaxVectors], Packed lowest) {
  const __m512i codes =
      _mm512_packus_epi16(minus16(pack32(v[0], v[1]), lowest), minus16(pack32(v[2], v[3]), lowest));
  store_as(to, in_order(reinterpret_cast<Bytes>(codes)));
}
#else
INLINE void store_levels(void* to, const IVec (&v)[kMaxVectors], Packed lowest) {
  const Packed words = minus16(pack32(v[0], v[1]), lowest);
  const __m256i codes = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(words, words),
                                                    _mm256_setr_epi32(0, 4, 1, 5, 0, 4, 1, 5));
  store_as(to, _mm256_castsi256_si128(codes));
}
#endif

// As vector() for a block of kMaxVectors whole vectors: pixel by pixel. Without `kFloors` the
// lowest level is no lower than the floors.
template <bool kLeaky, Rest kRest, bool kFloors>
void pixels_of_codes(TileOutput out) {  // a copy, since y might alias it
  const Vec floor = all(out.floor), last_floor = all(out.last_floor);
  const Vec highest = all(out.highest), rest_scale = all(out.residual_scale);
  const Packed lowest = all16(out.lowest_level);
  for (int64_t i = 0; i < out.pixels; ++i, out.acc += kMaxVectors * kLanes, out.at += out.step) {
    const float* terms = out.terms + out.classes[i] * out.terms_stride;
    IVec levels[kMaxVectors];
#pragma GCC unroll 4
    for (int s = 0; s < kMaxVectors; ++s) {
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
    store_levels(static_cast<uint8_t*>(out.y) + out.at, levels, lowest);
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
#if defined(__AVX2__)
  if (out.channels == kMaxVectors * kLanes && out.window_sums == nullptr) {
    return out.leaky ? whole_codes<true>(out) : whole_codes<false>(out);
  }
#endif
  with_slope<Wanted::nothing, Result::codes>(out);
}

}  // namespace
}  // namespace ptqsr::cpu
