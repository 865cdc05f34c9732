// The instruction sets that the CPU kernels are built for, and those that this machine runs.
#pragma once

namespace ptqsr::cpu {

enum class Isa { kPortable = 0, kAvx2 = 1, kAvx512 = 2 };
inline constexpr int kIsaCount = 3;

const char* isa_name(Isa isa);

// Compiled into this library.
bool isa_built(Isa isa);

// Compiled in, offered by the processor, and its registers saved by the operating system.
// kAvx512 stands for F + BW + DQ + VL (Skylake-X and later).
bool isa_usable(Isa isa);

}  // namespace ptqsr::cpu
