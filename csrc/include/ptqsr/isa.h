#pragma once

namespace ptqsr {

// Instruction sets for which the CPU kernels exist, each including the ones before it.
enum class Isa { portable, avx2, avx512, avx512_vnni };

constexpr const char* kIsaNames[] = {"portable", "avx2", "avx512", "avx512_vnni"};
constexpr int kIsaCount = 4;

// Whether this build has kernels for `isa` and this processor and system run them.
bool isa_available(Isa isa);

}  // namespace ptqsr
