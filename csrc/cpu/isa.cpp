#include "ptqsr/isa.h"

namespace ptqsr {

bool isa_available(Isa isa) {
  switch (isa) {
    case Isa::portable:
      return true;
#ifdef PTQSR_X86
    // These also ask whether the operating system saves the registers.
    case Isa::avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c");
    case Isa::avx512_vnni:
      return isa_available(Isa::avx512) && __builtin_cpu_supports("avx512vnni");
    case Isa::avx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
    default:
      return false;
  }
}

}  // namespace ptqsr
