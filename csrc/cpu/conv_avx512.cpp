#include "cpu/conv_loops.h"

namespace ptqsr::cpu {
const ConvLoops kConvAvx512 = kLoops;
}
