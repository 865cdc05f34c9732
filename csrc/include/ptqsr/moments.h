#pragma once

#include "ptqsr/isa.h"
#include "ptqsr/status.h"
#include "ptqsr/views.h"

namespace ptqsr {

// Mean and standard deviation (over all pixels, not one less) of every sample and channel of x,
// float32 [n][c]; 0 without pixels, NaN where a value is no finite number. Within 2^-10 of the
// deviation's value. The result depends on shape and layout alone: not on `threads` or `isa`.
struct ChannelMoments {
  const float* x;
  float* mean;
  float* deviation;
  ActivationShape shape;
};

Status channel_moments(const ChannelMoments& args, Isa isa, int threads);

}  // namespace ptqsr
