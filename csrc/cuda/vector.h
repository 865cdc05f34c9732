// Neighbouring values, loaded and stored 16 bytes at a time where they may be.
#pragma once

#include "cuda/simt.h"

namespace ptqsr::cuda {

// 16 bytes of memory.
struct alignas(16) Sixteen {
  uint32_t words[4];
};

template <class T>
constexpr int values_in_16 = static_cast<int>(16 / sizeof(T));

// kCount values from `from` on, those from `there` on 0. `kWhole`: all are there, and 16 bytes of
// them begin at multiples of 16.
template <class T, int kCount, bool kWhole>
DEVICE void load(float (&to)[kCount], const T* from, int64_t there) {
  if constexpr (kWhole) {
    static_assert(kCount % values_in_16<T> == 0);
    UNROLL
    for (int i = 0; i < kCount; i += values_in_16<T>) {
      T part[values_in_16<T>];
      const Sixteen bytes = *reinterpret_cast<const Sixteen*>(from + i);
      memcpy(part, &bytes, sizeof part);
      UNROLL
      for (int k = 0; k < values_in_16<T>; ++k) to[i + k] = to_float(part[k]);
    }
  } else {
    UNROLL
    for (int i = 0; i < kCount; ++i) to[i] = i < there ? to_float(from[i]) : 0.0f;
  }
}

// The first `count` results, to `to` and on. `kWhole`: all of them, and `to` is a multiple of 16,
// or of their size where that is less.
template <class R, int kCount, bool kWhole>
DEVICE void store(R* to, const R (&results)[kCount], int64_t count) {
  constexpr int kBytes = kCount * static_cast<int>(sizeof(R));
  if constexpr (kWhole && kBytes % 16 == 0) {
    Sixteen pieces[kBytes / 16];
    memcpy(pieces, results, kBytes);
    UNROLL
    for (int i = 0; i < kBytes / 16; ++i) reinterpret_cast<Sixteen*>(to)[i] = pieces[i];
  } else if constexpr (kWhole && kBytes % 4 == 0) {
    uint32_t words[kBytes / 4];
    memcpy(words, results, kBytes);
    UNROLL
    for (int i = 0; i < kBytes / 4; ++i) reinterpret_cast<uint32_t*>(to)[i] = words[i];
  } else {
    UNROLL
    for (int k = 0; k < kCount; ++k) {
      if (k < count) to[k] = results[k];
    }
  }
}

}  // namespace ptqsr::cuda
