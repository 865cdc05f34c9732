// The loops of conv.h that multiply: tiles of pixels by blocks of output channels, in registers.
//
// Included by conv_loops.h alone.
#pragma once

#include "cpu/conv.h"
#include "cpu/vectors.h"

namespace ptqsr::cpu {
namespace {

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
struct Tile {
  static void run(const TileInput& in, int32_t* out) {
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
};

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
INLINE Pairs plus16(Pairs a, Pairs b) { return _mm512_add_epi16(a, b); }
#else
typedef __m256i Pairs;
INLINE IVec widened(Pairs a) {
  return reinterpret_cast<IVec>(_mm256_madd_epi16(a, _mm256_set1_epi16(1)));
}
INLINE Pairs plus16(Pairs a, Pairs b) { return _mm256_add_epi16(a, b); }
#endif

typedef Pairs Anywhere __attribute__((aligned(1)));

// Two products in each.
INLINE Pairs products(IVec x, const uint8_t* weights) {
  Pairs made;
  asm("vpmaddubsw %2, %1, %0"
      : "=v"(made)
      : "v"(x), "m"(*reinterpret_cast<const Anywhere*>(weights)));
  return made;
}

// As Tile, of bytes: 16 bits hold the sum of kWords words, which goes on in 32 bits. Weights come
// from memory, since the sums of a tile leave no registers for them.
template <int kVectors, int kPixels, int kWords>
struct SummedTile {
  static constexpr int kStep = kVectors * sizeof(IVec);

  template <int kSummed>
  INLINE static void add(IVec (&acc)[kPixels][kVectors], const TileInput& in, const uint8_t* x,
                         const uint8_t* w) {
#pragma GCC unroll 16
    for (int i = 0; i < kPixels; ++i) {
      Pairs sums[kVectors];
#pragma GCC unroll 4
      for (int k = 0; k < kSummed; ++k) {
        const IVec word = IVec{} + load_as<int32_t>(x + i * in.stride + 4 * k);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
          const Pairs more = products(word, w + k * kStep + v * sizeof(IVec));
          sums[v] = k == 0 ? more : plus16(sums[v], more);
        }
      }
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) acc[i][v] += widened(sums[v]);
    }
  }

  static void run(const TileInput& in, int32_t* out) {
    IVec acc[kPixels][kVectors];
#pragma GCC unroll 16
    for (int i = 0; i < kPixels; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) acc[i][v] = load_as<IVec>(in.start + v * kLanes);
    }
    const uint8_t* w = in.weights;
    for (int64_t r = 0; r < in.count; ++r) {
      const uint8_t* x = in.runs[r].from + in.offset;
      int64_t left = in.runs[r].words;
      for (; left >= kWords; left -= kWords, x += 4 * kWords, w += kWords * kStep) {
        add<kWords>(acc, in, x, w);
      }
      for (; left > 0; --left, x += 4, w += kStep) add<1>(acc, in, x, w);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kPixels; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) store_as(out + (i * kVectors + v) * kLanes, acc[i][v]);
    }
  }
};
template <int kVectors, int kPixels>
using OneWordTile = SummedTile<kVectors, kPixels, 1>;
template <int kVectors, int kPixels>
using TwoWordTile = SummedTile<kVectors, kPixels, 2>;
template <int kVectors, int kPixels>
using FourWordTile = SummedTile<kVectors, kPixels, 4>;
#define PTQSR_SUMMED
#endif

#if defined(__AVX2__) && !defined(__AVX512F__)
// acc += the products of a word, two to a sum. Left to intrinsics, GCC 12 first makes all products
// and then has no registers for the sums.
INLINE void narrow_dot(Pairs& acc, IVec x, Pairs w) {
  Pairs products;
  asm("vpmaddubsw %3, %2, %1\n\tvpaddw %1, %0, %0" : "+v"(acc), "=&v"(products) : "v"(x), "v"(w));
}

// As Tile, in sums of 16 bits, which go on in 32 bits after every `exact_words`.
template <int kVectors, int kPixels>
struct NarrowTile {
  static void run(const TileInput& in, int32_t* out) {
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
};
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

// Loop<kVectors, 1> .. <kVectors, kMaxPixels[kVectors]>, for every kVectors.
template <template <int, int> class Loop>
struct TileTable {
  TileLoop loops[kMaxVectors + 1][kMaxTilePixels + 1] = {};

  constexpr TileTable() { fill<kMaxVectors, kMaxPixels[kMaxVectors]>(); }

  template <int kVectors, int kPixels>
  constexpr void fill() {
    if constexpr (kPixels > 0) {
      loops[kVectors][kPixels] = Loop<kVectors, kPixels>::run;
      fill<kVectors, kPixels - 1>();
    } else if constexpr (kVectors > 1) {
      fill<kVectors - 1, kMaxPixels[kVectors - 1]>();
    }
  }
};

template <template <int, int> class Loop>
void any_tile(int vectors, int pixels, const TileInput& in, int32_t* acc) {
  static constexpr TileTable<Loop> table;
  table.loops[vectors][pixels](in, acc);
}

}  // namespace
}  // namespace ptqsr::cpu
