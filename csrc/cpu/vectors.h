// The compiler's vectors, whose registers are 16, 8 or 4 floats wide, and what the loops of every
// family need of them.
//
// For sources that are compiled once for every instruction set: they include nothing but C headers
// (see subset.h).
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "cpu/half.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace ptqsr::cpu {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif
constexpr int kBytes = 4 * kLanes;  // of a vector
typedef float Vec __attribute__((vector_size(kBytes)));
typedef int32_t IVec __attribute__((vector_size(kBytes)));
typedef int16_t Words __attribute__((vector_size(kBytes)));
typedef int8_t Bytes __attribute__((vector_size(kBytes)));
typedef uint8_t Unsigned __attribute__((vector_size(kBytes)));  // whose sums may wrap

#define INLINE inline __attribute__((always_inline))

INLINE Vec all(float value) { return Vec{} + value; }

// ---- memory

template <class V>
INLINE V load_as(const void* p) {
  V v;
  memcpy(&v, p, sizeof v);
  return v;
}

template <class V>
INLINE void store_as(void* p, V v) {
  memcpy(p, &v, sizeof v);
}

// The first `count` of a vector's kLanes elements, the others 0.
template <class V>
INLINE V load_part_as(const void* p, int64_t count) {
  V v{};
  memcpy(&v, p, count * (sizeof(V) / kLanes));
  return v;
}

template <class V>
INLINE void store_part_as(void* p, int64_t count, V v) {
  memcpy(p, &v, count * (sizeof(V) / kLanes));
}

INLINE Vec load(const float* p) { return load_as<Vec>(p); }
INLINE Vec load_part(const float* p, int64_t count) { return load_part_as<Vec>(p, count); }
INLINE void store(float* p, Vec v) { store_as(p, v); }
INLINE void store_part(float* p, int64_t count, Vec v) { store_part_as(p, count, v); }

// ---- float16

typedef uint16_t HVec __attribute__((vector_size(2 * kLanes)));

#if defined(__AVX512F__)
INLINE Vec widened(HVec h) {
  return reinterpret_cast<Vec>(_mm512_maskz_cvtph_ps(0xFFFF, reinterpret_cast<__m256i>(h)));
}
INLINE HVec narrowed(Vec v) {
  return reinterpret_cast<HVec>(
      _mm512_maskz_cvtps_ph(0xFFFF, reinterpret_cast<__m512>(v), _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(__AVX2__)
INLINE Vec widened(HVec h) {
  return reinterpret_cast<Vec>(_mm256_cvtph_ps(reinterpret_cast<__m128i>(h)));
}
INLINE HVec narrowed(Vec v) {
  return reinterpret_cast<HVec>(
      _mm256_cvtps_ph(reinterpret_cast<__m256>(v), _MM_FROUND_TO_NEAREST_INT));
}
#else
INLINE Vec widened(HVec h) {
  const IVec bits = __builtin_convertvector(h, IVec), rest = (bits & 0x7FFF) << 13;
  // The exponent's bias differs by 112, also for subnormal numbers.
  const IVec finite = reinterpret_cast<IVec>(reinterpret_cast<Vec>(rest) * 0x1p112f);
  const IVec size = rest < (0x7C00 << 13) ? finite : rest | 0x7F800000;
  return reinterpret_cast<Vec>(size | (bits & 0x8000) << 16);
}
// To the nearest, half to even.
INLINE HVec narrowed(Vec v) {
  const IVec bits = reinterpret_cast<IVec>(v), size = bits & 0x7FFFFFFF;
  const IVec normal = (size - (112 << 23) + 0xFFF + (size >> 13 & 1)) >> 13;
  // Beside 1/2 a float's last place is that of a subnormal float16.
  const IVec small = reinterpret_cast<IVec>(reinterpret_cast<Vec>(size) + 0.5f) - 0x3F000000;
  const IVec finite = size < (113 << 23) ? small : normal;
  const IVec half = size > 0x7F800000    ? (IVec{} + 0x7E00)
                    : size >= 0x477FF000 ? (IVec{} + 0x7C00)  // 65520 and more
                                         : finite;
  return __builtin_convertvector(half | (bits >> 16 & 0x8000), HVec);
}
#endif

INLINE Vec load(const Half* p) { return widened(load_as<HVec>(p)); }
INLINE Vec load_part(const Half* p, int64_t count) { return widened(load_part_as<HVec>(p, count)); }

// ---- four vectors of integers as one of bytes
//
// As the processor packs, 16 bytes at a time: byte 16 l + 4 s + i is lane 4 l + i of vector s.
//
//   vector 0  | a0 a1 a2 a3 | a4 ..     vector 1  | b0 b1 b2 b3 | b4 ..   ..
//   packed    | a0 a1 a2 a3 b0 b1 b2 b3 c0 c1 c2 c3 d0 d1 d2 d3 | a4 ..

#if defined(__AVX512BW__)
typedef __m512i Packed;
INLINE Packed pack32(IVec a, IVec b) {
  return _mm512_packs_epi32(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b));
}
INLINE Bytes pack16(Packed a, Packed b) {
  return reinterpret_cast<Bytes>(_mm512_packs_epi16(a, b));
}
INLINE Packed all16(int value) { return _mm512_set1_epi16(static_cast<int16_t>(value)); }
INLINE Packed minus16(Packed a, Packed b) { return _mm512_subs_epi16(a, b); }
// To the order of the vectors: all of the first, all of the second, ..
INLINE Bytes in_order(Bytes v) {
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return reinterpret_cast<Bytes>(_mm512_permutexvar_epi32(order, reinterpret_cast<__m512i>(v)));
}
#elif defined(__AVX2__)
typedef __m256i Packed;
INLINE Packed pack32(IVec a, IVec b) {
  return _mm256_packs_epi32(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b));
}
INLINE Bytes pack16(Packed a, Packed b) {
  return reinterpret_cast<Bytes>(_mm256_packs_epi16(a, b));
}
INLINE Packed all16(int value) { return _mm256_set1_epi16(static_cast<int16_t>(value)); }
INLINE Packed minus16(Packed a, Packed b) { return _mm256_subs_epi16(a, b); }
INLINE Bytes in_order(Bytes v) {
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  return reinterpret_cast<Bytes>(_mm256_permutevar8x32_epi32(reinterpret_cast<__m256i>(v), order));
}
#elif defined(__SSE2__)
typedef __m128i Packed;
INLINE Packed pack32(IVec a, IVec b) {
  return _mm_packs_epi32(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(b));
}
INLINE Bytes pack16(Packed a, Packed b) { return reinterpret_cast<Bytes>(_mm_packs_epi16(a, b)); }
INLINE Packed all16(int value) { return _mm_set1_epi16(static_cast<int16_t>(value)); }
INLINE Packed minus16(Packed a, Packed b) { return _mm_subs_epi16(a, b); }
INLINE Bytes in_order(Bytes v) { return v; }
#else
typedef int16_t Packed __attribute__((vector_size(kBytes)));
INLINE int saturated(int value, int most) {
  return value > most ? most : value < -most - 1 ? -most - 1 : value;
}
INLINE Packed pack32(IVec a, IVec b) {
  Packed v;
  for (int i = 0; i < kLanes; ++i) {
    v[i] = static_cast<int16_t>(saturated(a[i], 32767));
    v[kLanes + i] = static_cast<int16_t>(saturated(b[i], 32767));
  }
  return v;
}
INLINE Bytes pack16(Packed a, Packed b) {
  Bytes v;
  for (int i = 0; i < 2 * kLanes; ++i) {
    v[i] = static_cast<int8_t>(saturated(a[i], 127));
    v[2 * kLanes + i] = static_cast<int8_t>(saturated(b[i], 127));
  }
  return v;
}
INLINE Packed all16(int value) { return Packed{} + static_cast<int16_t>(value); }
INLINE Packed minus16(Packed a, Packed b) {
  Packed v;
  for (int i = 0; i < 2 * kLanes; ++i) {
    v[i] = static_cast<int16_t>(saturated(a[i] - b[i], 32767));
  }
  return v;
}
INLINE Bytes in_order(Bytes v) { return v; }
#endif

// Vector s of what was packed, as floats.
INLINE Vec unpacked(Bytes v, int s) {
#if defined(__AVX512BW__)
  const __m512i top = _mm512_add_epi32(
      _mm512_set1_epi32(s * 0x04000000),
      _mm512_broadcast_i32x4(_mm_set_epi32(0x03808080, 0x02808080, 0x01808080, 0x00808080)));
  const __m512i bytes = _mm512_shuffle_epi8(reinterpret_cast<__m512i>(v), top);
  return reinterpret_cast<Vec>(_mm512_cvtepi32_ps(_mm512_srai_epi32(bytes, 24)));
#elif defined(__AVX2__)
  const __m256i top = _mm256_add_epi32(
      _mm256_set1_epi32(s * 0x04000000),
      _mm256_broadcastsi128_si256(_mm_set_epi32(0x03808080, 0x02808080, 0x01808080, 0x00808080)));
  const __m256i bytes = _mm256_shuffle_epi8(reinterpret_cast<__m256i>(v), top);
  return reinterpret_cast<Vec>(_mm256_cvtepi32_ps(_mm256_srai_epi32(bytes, 24)));
#elif defined(__SSE2__)
  const __m128i b = reinterpret_cast<__m128i>(v);
  const __m128i words = s < 2 ? _mm_unpacklo_epi8(b, b) : _mm_unpackhi_epi8(b, b);
  const __m128i top =
      s % 2 == 0 ? _mm_unpacklo_epi16(words, words) : _mm_unpackhi_epi16(words, words);
  return reinterpret_cast<Vec>(_mm_cvtepi32_ps(_mm_srai_epi32(top, 24)));
#else
  int8_t bytes[kBytes];
  memcpy(bytes, &v, sizeof v);
  IVec k;
  for (int i = 0; i < kLanes; ++i) k[i] = bytes[4 * s + i];
  return __builtin_convertvector(k, Vec);
#endif
}

// ---- bytes compared
//
// In parts of at most 32 bytes: comparing 64 leaves a mask register, which is slower to use.

constexpr int kParts = kBytes > 32 ? 2 : 1;
constexpr int kPartBytes = kBytes / kParts;
typedef int8_t Part __attribute__((vector_size(kPartBytes)));

#if defined(__AVX512BW__)
INLINE void split(Bytes v, Part (&parts)[kParts]) {
  parts[0] = reinterpret_cast<Part>(_mm512_castsi512_si256(reinterpret_cast<__m512i>(v)));
  parts[1] = reinterpret_cast<Part>(_mm512_extracti64x4_epi64(reinterpret_cast<__m512i>(v), 1));
}
INLINE Bytes joined(const Part (&parts)[kParts]) {
  const __m512i low = _mm512_castsi256_si512(reinterpret_cast<__m256i>(parts[0]));
  return reinterpret_cast<Bytes>(_mm512_inserti64x4(low, reinterpret_cast<__m256i>(parts[1]), 1));
}
// k ^ change where v > threshold.
INLINE Part changed_above(Part k, Part v, Part threshold, Part change) {
  const __m256i above =
      _mm256_cmpgt_epi8(reinterpret_cast<__m256i>(v), reinterpret_cast<__m256i>(threshold));
  return reinterpret_cast<Part>(_mm256_ternarylogic_epi64(reinterpret_cast<__m256i>(k), above,
                                                          reinterpret_cast<__m256i>(change), 0x78));
}
#else
INLINE void split(Bytes v, Part (&parts)[kParts]) { parts[0] = v; }
INLINE Bytes joined(const Part (&parts)[kParts]) { return parts[0]; }
INLINE Part changed_above(Part k, Part v, Part threshold, Part change) {
  return k ^ ((v > threshold) & change);
}
#endif

}  // namespace
}  // namespace ptqsr::cpu
