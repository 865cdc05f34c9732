#include "cpu/subset_loops.h"

namespace ptqsr::cpu {
const SubsetLoops kSubsetPortable = kLoops;
}
