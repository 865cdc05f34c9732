#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/selection.h"

namespace ptqsr::cpu {

// After m steps best_[j] is the smallest loss of everything left of value j with m + 1 points, the
// last of them j. Point m has at least m values to its left and count - 1 - m to its right, so
// only that band is ever on a path. Of equal losses the first counts.
void ChannelSolver::shortest_path(int64_t* path) {
  const int64_t size = args_.size, spare = size - args_.count;
  best_ = below_;
  for (int64_t m = 1; m < args_.count; ++m) {
    int64_t* __restrict from = came_from_.data() + (m - 1) * size;
    double* __restrict next = next_.data();
    std::fill(from, from + size, 0);
    std::fill(next, next + size, std::numeric_limits<double>::infinity());
    for (int64_t i = m - 1; i < m + spare; ++i) {
      const double so_far = best_[i];
      const double* __restrict step = between_.data() + i * size;
      for (int64_t j = i + 1; j <= m + spare; ++j) {
        const double total = so_far + step[j];
        const bool better = total < next[j];
        next[j] = better ? total : next[j];
        from[j] = better ? i : from[j];
      }
    }
    best_.swap(next_);
  }
  int64_t last = args_.count - 1;
  for (int64_t j = last + 1; j < size; ++j) {
    if (best_[j] + above_[j] < best_[last] + above_[last]) last = j;
  }
  for (int64_t m = args_.count - 1; m >= 0; --m) {
    path[m] = last;
    if (m > 0) last = came_from_[(m - 1) * size + last];
  }
}

int64_t ChannelSolver::drop_unused(int64_t* path) const {
  int64_t kept = 0, before = 0;
  for (int64_t m = 0; m < args_.count; ++m) {
    const int64_t point = path[m];
    const int64_t border =
        m + 1 < args_.count ? half_steps_.middle(point, path[m + 1]) : half_steps_.count();
    const int64_t occupied = moments_[border].occupied;
    if (occupied != before) path[kept++] = point;
    before = occupied;
  }
  return kept;
}

void ChannelSolver::add_best(int64_t* path, int64_t length) {
  double lowest = std::numeric_limits<double>::infinity();
  int64_t chosen = -1, place = 0;
  // The loss of a path is summed from left to right, so what lies left of a place is summed once.
  double left = 0;
  for (int64_t gap = 0; gap <= length; ++gap) {
    const int64_t before = gap > 0 ? path[gap - 1] : -1;
    const int64_t after = gap < length ? path[gap] : args_.size;
    if (gap == 1) left = below_[before];
    if (gap > 1) left += between_[path[gap - 2] * args_.size + before];
    for (int64_t f = before + 1; f < after; ++f) {
      double sum = gap > 0 ? left + between_[before * args_.size + f] : below_[f];
      if (gap < length) sum += between_[f * args_.size + after];
      for (int64_t i = gap; i + 1 < length; ++i) {
        sum += between_[path[i] * args_.size + path[i + 1]];
      }
      sum += above_[gap < length ? path[length - 1] : f];
      const double size = std::fabs(values_[f]);
      const double rival = chosen < 0 ? 0 : std::fabs(values_[chosen]);
      if (chosen < 0 || sum < lowest ||
          (sum == lowest && (size < rival || (size == rival && values_[f] > 0)))) {
        lowest = sum;
        chosen = f;
        place = gap;
      }
    }
  }
  std::copy_backward(path + place, path + length, path + length + 1);
  path[place] = chosen;
}

double ChannelSolver::path_loss(const int64_t* path) const {
  double sum = below_[path[0]];
  for (int64_t m = 0; m + 1 < args_.count; ++m) sum += between_[path[m] * args_.size + path[m + 1]];
  return sum + above_[path[args_.count - 1]];
}

}  // namespace ptqsr::cpu
