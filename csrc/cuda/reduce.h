// What kernels do together: sums and extremes over a warp and a block.
#pragma once

#include "cuda/simt.h"

namespace ptqsr::cuda {

// Of some values; beyond a few of them sums are float64.
struct Extent {
  double sum;
  float low, high;
};

DEVICE Extent nothing() { return {0, INFINITY, -INFINITY}; }

DEVICE void take(Extent& e, const Extent& other) {
  e.sum += other.sum;
  if (other.low < e.low) e.low = other.low;
  if (other.high > e.high) e.high = other.high;
}

// The same in every lane; the order of the sum is that of the lanes, paired.
DEVICE Extent over_warp(Extent e) {
  for (int mask = kWarp / 2; mask > 0; mask /= 2) {
    take(e, {shuffle_xor(e.sum, mask), shuffle_xor(e.low, mask), shuffle_xor(e.high, mask)});
  }
  return e;
}

// In thread 0; `shared` has place for one of each warp.
template <int kThreads>
DEVICE Extent over_block(Extent e, Extent* shared) {
  e = over_warp(e);
  if (lane() == 0) shared[warp()] = e;
  synchronize();
  if (thread() == 0) {
    for (int w = 1; w < kThreads / kWarp; ++w) take(e, shared[w]);
  }
  return e;
}

}  // namespace ptqsr::cuda
