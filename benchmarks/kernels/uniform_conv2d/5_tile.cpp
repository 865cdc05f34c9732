// A tile of 6 pixels x 64 channels: a word of weights is loaded once for 6 pixels.
// Gains nothing: GCC 12 keeps some of the sums in memory.
#define INTRINSIC
#include "tiled.h"

extern "C" void conv(const Conv& c) { tiled(c); }
