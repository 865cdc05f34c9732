// How the threads of a block share the pixels of a channels_last tensor.
#pragma once

#include "cuda/simt.h"

namespace ptqsr::cuda {

// `columns` threads beside each other, each with some neighbouring channels, and `rows` below each
// other; `slices` blocks take the channels together.
struct Mesh {
  int columns = 1, rows;
  int64_t slices;

  // At most `widest` channels a block.
  Mesh(int64_t channels, int vector, int threads, int64_t widest) {
    const int64_t wanted = (channels + vector - 1) / vector;
    while (columns < wanted && columns < threads && 2 * columns * vector <= widest) columns *= 2;
    rows = threads / columns;
    slices = (wanted + columns - 1) / columns;
  }
};

}  // namespace ptqsr::cuda
