#pragma once

#ifdef __SSE__
#include <xmmintrin.h>
#endif

namespace ptqsr::cpu {

// While it lives, the thread computes as IEEE 754 says: round to nearest, no flush to zero. A
// caller may have set otherwise (torch.set_flush_denormal), and a thread of the pool keeps what it
// was started with; the results depend on neither. On x86; elsewhere it changes nothing.
class FloatMode {
 public:
#ifdef __SSE__
  FloatMode() : saved_(_mm_getcsr()) { _mm_setcsr(0x1F80); }  // the processor's default
  ~FloatMode() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
#else
  FloatMode() {}
#endif
  FloatMode(const FloatMode&) = delete;
  FloatMode& operator=(const FloatMode&) = delete;
};

}  // namespace ptqsr::cpu
