#pragma once

#include <cstdint>

namespace ptqsr::cpu {

// A row of ptqsr/packing.h. Returns whether all codes are below 2^bits.
bool pack_row(const uint8_t* codes, int64_t count, int bits, uint8_t* packed);
void unpack_row(const uint8_t* packed, int64_t count, int bits, uint8_t* codes);

}  // namespace ptqsr::cpu
