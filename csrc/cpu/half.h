#pragma once

#include <stdint.h>

namespace ptqsr::cpu {

// A float16.
struct Half {
  uint16_t bits;
};

}  // namespace ptqsr::cpu
