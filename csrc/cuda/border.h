// The classes of rows (or columns) of a picture by what of a window lies beyond it: those before
// `first` and those from `last` on have one each, all between the same.
#pragma once

#include "cuda/simt.h"

namespace ptqsr::cuda {

HOST_DEVICE int first_beyond(const Border& b) { return b.first > b.last ? b.first : b.last; }
HOST_DEVICE int classes_of(const Border& b) { return b.first + 1 + b.size - first_beyond(b); }
HOST_DEVICE int class_of(const Border& b, int at) {
  if (at < b.first) return at;
  return at < b.last ? b.first : b.first + 1 + at - first_beyond(b);
}
// A row of the class.
HOST_DEVICE int row_of(const Border& b, int number) {
  return number <= b.first ? number : first_beyond(b) + number - b.first - 1;
}

}  // namespace ptqsr::cuda
