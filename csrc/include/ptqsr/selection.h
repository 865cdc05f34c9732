#pragma once

#include <cstdint>

#include "ptqsr/status.h"

namespace ptqsr {

// The exact choice of quantization points from a universal set, all buffers owned by the caller.
//
//   weights    float64 [channels][bins], finite and non-negative
//   positions  float64 [bins], ascending, in units of the integer grid
//   integers   int64 [size], the universal set, ascending, in [-denominator, denominator]
//   index      int64 [channels][count], written: ascending indices into `integers`
//   loss       float64 [channels], written: in units of (grid step)^2
struct OptimalPoints {
  const double* weights;
  const double* positions;
  const int64_t* integers;
  int64_t* index;
  double* loss;
  int64_t channels, bins, size, count;  // 1 <= count <= size
  int64_t denominator;
};

// For every channel the subset with the smallest loss; points that no weight goes to are chosen
// anew, one by one, by what lowers the loss most (ties: smaller magnitude, then positive).
//
// Bit for bit what ptqsr/points (loss.py, optimal.py, fill.py) computes, on any number of threads.
Status optimal_points(const OptimalPoints& args, int threads);

}  // namespace ptqsr
