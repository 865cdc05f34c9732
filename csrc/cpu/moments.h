#pragma once

#include <cmath>
#include <cstdint>

namespace ptqsr::cpu {

// Values that are added in float32 before their sum goes on in float64, the same for every
// instruction set. Whole tiles of 6, 8, 12 and 16.
constexpr int64_t kSegment = 96;

// Of some values of every lane: their mean, and the sum of their squared distances from it.
//
// In float32 the values of a segment are added less its first one: the sum of their squares is then
// at most kSegment + 1 times that of their squared distances, however far all of them are from 0.
struct Moments {
  double *mean, *squares;  // [lanes]

  // Sets those of segments: of `count` values, their sums and sums of squares less `shift`.
  void set(int64_t lanes, int64_t count, const float* shift, const float* sum,
           const float* square) const {
    const double part = 1 / static_cast<double>(count);
    for (int64_t i = 0; i < lanes; ++i) {
      const double apart = sum[i] * part;
      mean[i] = shift[i] + apart;
      squares[i] = square[i] - sum[i] * apart;
    }
  }
  // Of `count` values and `more` values of another.
  void take(int64_t lanes, double count, const double* other_mean, const double* other_squares,
            double more) const {
    const double share = more / (count + more);
    for (int64_t i = 0; i < lanes; ++i) {
      const double apart = other_mean[i] - mean[i];
      mean[i] += apart * share;
      squares[i] += other_squares[i] + apart * apart * (count * share);
    }
  }
};

// Rounding may leave less than 0; NaN stays.
inline float deviation_of(double squares, double count) {
  return static_cast<float>(std::sqrt(squares < 0 ? 0 : squares / count));
}

}  // namespace ptqsr::cpu
