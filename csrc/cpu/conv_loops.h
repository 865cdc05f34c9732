// The loops of conv.h, written once and compiled once for every instruction set.
//
// Included by conv_portable.cpp, conv_avx2.cpp, conv_avx512.cpp and conv_avx512_vnni.cpp alone.

#include "cpu/conv.h"
#include "cpu/conv_store.h"
#include "cpu/conv_tiles.h"
#include "cpu/vectors.h"

namespace ptqsr::cpu {
namespace {

// ---- weights

typedef int16_t SVec __attribute__((vector_size(2 * kLanes)));
typedef int8_t CVec __attribute__((vector_size(kLanes)));

// levels * step * scales, each product rounded; of the first `count`, the others 0.
INLINE Vec folded(const int16_t* levels, float step, const float* scales, int64_t count) {
  const bool whole = count >= kLanes;
  const SVec l = whole ? load_as<SVec>(levels) : load_part_as<SVec>(levels, count);
  return __builtin_convertvector(l, Vec) * step * (whole ? load(scales) : load_part(scales, count));
}

float largest_folded(const int16_t* levels, float step, const float* scales, int64_t count) {
  Vec largest{};
  for (int64_t i = 0; i < count; i += kLanes) {
    const Vec m = folded(levels + i, step, scales + i, count - i);
    largest = larger(largest, larger(m, -m));
  }
  float result = 0;
  for (int i = 0; i < kLanes; ++i) result = largest[i] > result ? largest[i] : result;
  return result;
}

void refold(const int16_t* levels, float step, const float* scales, float out, int64_t count,
            int8_t* weight) {
  for (int64_t i = 0; i < count; i += kLanes) {
    const Vec m = folded(levels + i, step, scales + i, count - i);
    const IVec w = rounded(smaller(larger(m / out, all(-127.0f)), all(127.0f)));
    store_part_as(weight + i, count - i < kLanes ? count - i : kLanes,
                  __builtin_convertvector(w, CVec));
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
    any_tile<Tile>,
#if defined(PTQSR_SUMMED)
    {any_tile<OneWordTile>, any_tile<TwoWordTile>, any_tile<FourWordTile>},
#else
    {},
#endif
#if defined(PTQSR_NARROW)
    any_tile<NarrowTile>,
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
