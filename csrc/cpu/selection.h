#pragma once

#include <cstdint>
#include <vector>

#include "ptqsr/selection.h"

namespace ptqsr::cpu {

// What all channels share: where the grid's half-steps lie among the bins.
class HalfSteps {
 public:
  explicit HalfSteps(const OptimalPoints& args);

  int64_t count() const { return static_cast<int64_t>(start_.size()); }
  // The first bin at or right of half-step i, whose position is i / 2 - denominator.
  int64_t start(int64_t i) const { return start_[i]; }
  // The half-step midway between values i and j of the set; i = j: at the value.
  int64_t middle(int64_t i, int64_t j) const { return offset_[i] + offset_[j]; }

 private:
  std::vector<int64_t> start_;
  std::vector<int64_t> offset_;  // [size], integer + denominator
};

// One thread's workspace: chooses the points of one channel after the other.
class ChannelSolver {
 public:
  ChannelSolver(const OptimalPoints& args, const HalfSteps& half_steps);

  void solve(int64_t channel);

 private:
  // Weight, weight * x, weight * x^2 and the number of occupied bins left of a half-step.
  struct Moments {
    double m0, m1, m2;
    int64_t occupied;
  };

  void sum_up(const double* weights);
  // Loss of what lies between two half-steps, all of it sent to the value `to`.
  double loss(int64_t from_half_step, int64_t to_half_step, double to) const;
  void fill_between();
  void shortest_path(int64_t* path);
  // Takes out of `path` what no weight goes to; returns how many points are left.
  int64_t drop_unused(int64_t* path) const;
  void add_best(int64_t* path, int64_t length);
  double path_loss(const int64_t* path) const;

  const OptimalPoints& args_;
  const HalfSteps& half_steps_;
  std::vector<double> values_;       // [size], the set's integers
  std::vector<Moments> moments_;     // [half-steps]
  std::vector<double> below_;        // [size]
  std::vector<double> above_;        // [size]
  std::vector<double> between_;      // [size][size], of which j > i is used
  std::vector<double> best_, next_;  // [size]
  std::vector<int64_t> came_from_;   // [count - 1][size]
};

}  // namespace ptqsr::cpu
