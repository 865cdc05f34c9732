#pragma once

#include <cstdint>

namespace ptqsr {

// Order of an activation in memory. Both name a dense tensor of shape [n, c, h * w].
enum class Layout {
  nchw,           // [n][c][pixel]
  channels_last,  // [n][pixel][c]
};

struct ActivationShape {
  int64_t n, c, pixels;
  Layout layout;
};

}  // namespace ptqsr
