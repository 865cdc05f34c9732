#include "cpu/uniform_loops.h"

namespace ptqsr::cpu {
const UniformLoops kUniformPortable = kLoops;
}
