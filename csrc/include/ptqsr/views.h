// Non-owning descriptions of tensors. Every tensor is dense; the caller owns all memory.
#pragma once

#include <cstdint>

namespace ptqsr {

enum class Layout {
  kNCHW,  // planes: element (n, c, p) at (n * channels + c) * pixels + p
  kNHWC,  // channels_last: element (n, c, p) at (n * pixels + p) * channels + c
};

// A batch of images; p counts the pixels of an image row by row.
struct ImageShape {
  int64_t batch = 0;
  int64_t channels = 0;
  int64_t pixels = 0;  // height * width
  Layout layout = Layout::kNCHW;
};

}  // namespace ptqsr
