#include "ptqsr/cpu.h"

namespace ptqsr::cpu {

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::kPortable: return "portable";
    case Isa::kAvx2: return "avx2";
    case Isa::kAvx512: return "avx512";
  }
  return "unknown";
}

bool isa_built([[maybe_unused]] Isa isa) {
#ifdef PTQSR_X86
  return true;
#else
  return isa == Isa::kPortable;
#endif
}

bool isa_usable(Isa isa) {
#ifdef PTQSR_X86
  // The compiler's runtime reads cpuid once, and XGETBV for what the operating system saves.
  switch (isa) {
    case Isa::kPortable: return true;
    case Isa::kAvx2: return __builtin_cpu_supports("avx2");
    case Isa::kAvx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  }
  return false;
#else
  return isa == Isa::kPortable;
#endif
}

}  // namespace ptqsr::cpu
