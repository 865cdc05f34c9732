#include "cpu/subset_loops.h"

namespace ptqsr::cpu {
const SubsetLoops kSubsetAvx512 = kLoops;
}
