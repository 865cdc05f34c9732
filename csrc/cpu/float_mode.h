// Contract 2 allows no flush to zero, and torch.set_flush_denormal may have asked for it.
#pragma once

#ifdef PTQSR_X86
#include <xmmintrin.h>
#endif

namespace ptqsr::cpu {

// IEEE arithmetic for the calling thread while it lives.
class ScopedIeeeMode {
 public:
#ifdef PTQSR_X86
  ScopedIeeeMode() : saved_(_mm_getcsr()) { _mm_setcsr(kDefault); }
  ~ScopedIeeeMode() { _mm_setcsr(saved_); }
#else
  ScopedIeeeMode() = default;
  ~ScopedIeeeMode() {}
#endif
  ScopedIeeeMode(const ScopedIeeeMode&) = delete;
  ScopedIeeeMode& operator=(const ScopedIeeeMode&) = delete;

#ifdef PTQSR_X86
 private:
  static constexpr unsigned kDefault = 0x1F80;  // all exceptions masked, to nearest, no FTZ, no DAZ
  unsigned saved_;
#endif
};

}  // namespace ptqsr::cpu
