#include "cpu/selection.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>

#include "cpu/parallel.h"

namespace ptqsr {
namespace cpu {

HalfSteps::HalfSteps(const OptimalPoints& args) {
  start_.resize(4 * args.denominator + 1);
  int64_t bin = 0;
  for (int64_t i = 0; i < count(); ++i) {
    const double position = static_cast<double>(i - 2 * args.denominator) / 2;
    while (bin < args.bins && args.positions[bin] < position) ++bin;
    start_[i] = bin;
  }
  for (int64_t i = 0; i < args.size; ++i) offset_.push_back(args.integers[i] + args.denominator);
}

ChannelSolver::ChannelSolver(const OptimalPoints& args, const HalfSteps& half_steps)
    : args_(args),
      half_steps_(half_steps),
      values_(args.integers, args.integers + args.size),
      moments_(half_steps.count() + 1),
      below_(args.size),
      above_(args.size),
      between_(args.size * args.size),
      best_(args.size),
      next_(args.size),
      came_from_((args.count - 1) * args.size) {}

void ChannelSolver::solve(int64_t channel) {
  int64_t* path = args_.index + channel * args_.count;
  sum_up(args_.weights + channel * args_.bins);
  fill_between();
  shortest_path(path);
  // The whole set has no other points to offer.
  int64_t length = args_.count < args_.size ? drop_unused(path) : args_.count;
  while (length < args_.count) add_best(path, length++);
  args_.loss[channel] = path_loss(path);
}

// The last entry of `moments_` is the sum of everything.
void ChannelSolver::sum_up(const double* weights) {
  Moments sum{};
  int64_t bin = 0;
  const auto up_to = [&](int64_t stop) {
    for (; bin < stop; ++bin) {
      const double w = weights[bin], x = args_.positions[bin];
      sum.m0 += w;
      sum.m1 += w * x;
      sum.m2 += w * x * x;
      sum.occupied += w != 0;
    }
    return sum;
  };
  for (int64_t i = 0; i < half_steps_.count(); ++i) moments_[i] = up_to(half_steps_.start(i));
  moments_.back() = up_to(args_.bins);
}

double ChannelSolver::loss(int64_t from_half_step, int64_t to_half_step, double to) const {
  const Moments &a = moments_[from_half_step], &b = moments_[to_half_step];
  const double m0 = b.m0 - a.m0, m1 = b.m1 - a.m1, m2 = b.m2 - a.m2;
  const double sum = m2 - 2 * to * m1 + to * to * m0;
  return sum > 0 ? sum : 0;
}

void ChannelSolver::fill_between() {
  const int64_t size = args_.size;
  for (int64_t i = 0; i < size; ++i) {
    const int64_t here = half_steps_.middle(i, i);
    const Moments& first = moments_[here];
    const double v = values_[i];
    // Nothing lies left of the first bin, which is no half-step: its moments are 0.
    const double left = first.m2 - 2 * v * first.m1 + v * v * first.m0;
    below_[i] = left > 0 ? left : 0;
    above_[i] = loss(here, half_steps_.count(), v);
    for (int64_t j = i + 1; j < size; ++j) {
      const int64_t middle = half_steps_.middle(i, j);
      between_[i * size + j] =
          loss(here, middle, v) + loss(middle, half_steps_.middle(j, j), values_[j]);
    }
  }
}

}  // namespace cpu

Status optimal_points(const OptimalPoints& args, int threads) {
  for (int64_t i = 0; i < args.size; ++i) {
    if (std::abs(args.integers[i]) > args.denominator) return Status::points_out_of_range;
    if (i > 0 && args.integers[i] <= args.integers[i - 1]) return Status::points_not_ascending;
  }
  try {
    const cpu::HalfSteps half_steps(args);
    const int64_t workers = std::min<int64_t>(std::max(threads, 1), args.channels);
    std::vector<cpu::ChannelSolver> solvers;
    for (int64_t i = 0; i < workers; ++i) solvers.emplace_back(args, half_steps);
    std::atomic<int64_t> next{0};
    cpu::parallel_for(workers, threads, [&](int64_t worker) {
      for (int64_t c; (c = next.fetch_add(1)) < args.channels;) solvers[worker].solve(c);
    });
    return Status::ok;
  } catch (const std::bad_alloc&) {
    return Status::out_of_memory;
  }
}

}  // namespace ptqsr
