#pragma once

namespace ptqsr {

// Instruction sets for which the CPU kernels exist, each including the ones before it.
enum class Isa { portable, avx2, avx512 };

constexpr const char* kIsaNames[] = {"portable", "avx2", "avx512"};
constexpr int kIsaCount = 3;

// Whether this build has kernels for `isa` and this processor and system run them.
bool isa_available(Isa isa);

}  // namespace ptqsr
