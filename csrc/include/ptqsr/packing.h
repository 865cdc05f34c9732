#pragma once

#include <cstdint>

#include "ptqsr/status.h"

namespace ptqsr {

// Bytes of a row of `count` codes.
constexpr int64_t packed_bytes(int64_t count, int bits) { return (count * bits + 7) / 8; }

// Codes of 2 to 8 bits without gaps, least significant bit first; every row starts at a byte, and
// the bits left of its last byte are 0.
//
//   bits = 3   byte 0                    byte 1
//              b b a a a  ..  bit 0 = a0 | d d c c c ...
//   code i of a row is bits 3 i .. 3 i + 2 of the row, bit j of which is bit j % 8 of byte j / 8
//
//   codes   uint8 [rows][count]
//   packed  uint8 [rows][packed_bytes(count, bits)]
Status pack_codes(const uint8_t* codes, int64_t rows, int64_t count, int bits, uint8_t* packed,
                  int threads);
Status unpack_codes(const uint8_t* packed, int64_t rows, int64_t count, int bits, uint8_t* codes,
                    int threads);

}  // namespace ptqsr
