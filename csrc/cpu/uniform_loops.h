// The loops of uniform.h, compiled once for every instruction set.
//
// Included by uniform_portable.cpp, uniform_avx2.cpp and uniform_avx512.cpp alone.

#include "cpu/uniform.h"
#include "cpu/vectors.h"

namespace ptqsr::cpu {
namespace {

// Added to |v| < 2^22, it leaves v rounded to an integer, half to even, in the low bits.
constexpr float kRounder = 0x1.8p23f;

// x / step between the ends, which are integers: so it may be rounded later. NaN stays.
INLINE Vec clamped(Vec x, Vec step, float low, float high) {
  Vec v = x / step;
  v = low > v ? all(low) : v;
  return high < v ? all(high) : v;
}

INLINE Vec quantized(Vec x, Vec step, float low, float high) {
  return ((clamped(x, step, low, high) + kRounder) - kRounder) * step;
}

void quantize(const float* x, int64_t count, const UniformGrid& grid, float* y) {
  const float low = static_cast<float>(grid.lowest);
  const float high = static_cast<float>(grid.lowest + grid.levels - 1);
  const Vec step = all(grid.step);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(y + i, quantized(load(x + i), step, low, high));
  if (i < count) {
    store_part(y + i, count - i, quantized(load_part(x + i, count - i), step, low, high));
  }
}

// The lanes' levels - lowest; NaN gives 0.
INLINE IVec level(Vec x, Vec step, float low, float high, IVec first) {
  Vec v = x / step;
  v = v > low ? v : all(low);
  v = v < high ? v : all(high);
  return reinterpret_cast<IVec>(v + kRounder) - first;
}

template <class T>
void encode(const T* x, int64_t count, const UniformGrid& grid, uint8_t* out) {
  const float low = static_cast<float>(grid.lowest);
  const float high = static_cast<float>(grid.lowest + grid.levels - 1);
  const Vec step = all(grid.step);
  // The bits of kRounder + lowest; 128 more, since packing saturates to signed bytes.
  const IVec first = reinterpret_cast<IVec>(all(low) + kRounder) + 128;
  const Unsigned flip = Unsigned{} + static_cast<uint8_t>(0x80);
  for (int64_t i = 0; i < count; i += kBytes) {
    const int64_t left = count - i;
    IVec v[4];
    for (int s = 0; s < 4; ++s) {
      const T* from = x + i + s * kLanes;
      const int64_t rest = left - s * kLanes;
      const Vec value = rest >= kLanes ? load(from) : rest > 0 ? load_part(from, rest) : Vec{};
      v[s] = level(value, step, low, high, first);
    }
    const Bytes packed = pack16(pack32(v[0], v[1]), pack32(v[2], v[3]));
    const Unsigned codes = reinterpret_cast<Unsigned>(in_order(packed)) ^ flip;
    memcpy(out + i, &codes, left < kBytes ? left : kBytes);
  }
}

constexpr UniformLoops kLoops = {quantize, encode<float>, encode<Half>};

}  // namespace
}  // namespace ptqsr::cpu
