// Products of a warp on tensor cores, whatever the processor's instructions:
//
//   operands   before 8.0          8.0 to 8.9     9.0
//   8 bits     4 x m8n8k16         m16n8k32       m16n8k32
//   4 bits     4 x m8n8k32         m16n8k64       none: ptxas takes 4-bit operands apart in every
//                                                 product; whoever multiplies makes them 8 bits
//                                                 once
//
// A tile is A [16 rows][32 bytes] by B [8 columns][32 bytes], both along K. Of a fragment a lane
// has the 4 bytes from 4 (lane % 4) on of every 16: of A in rows lane / 4 and 8 more, {row, row +
// 8} x {first 16 bytes, last 16}; of B in column lane / 4. Of C [16][8] it has columns 2 (lane % 4)
// and the next, in row lane / 4, then 8 rows below.
#pragma once

#include "cuda/simt.h"
#include "cuda/vector.h"

namespace ptqsr::cuda {

enum class Operand { s8, u8, s4, u4 };  // A; B is signed, of as many bits

template <Operand kA>
constexpr bool four_bits = kA == Operand::s4 || kA == Operand::u4;

// Whether 4-bit operands must be made bytes first.
DEVICE bool unpacks() { return architecture() >= 90; }

template <Operand kA>
DEVICE void multiply_rows(int32_t& c0, int32_t& c1, uint32_t a, uint32_t b) {
  if constexpr (kA == Operand::s8) mma_8x8x16_s8(c0, c1, a, b);
  if constexpr (kA == Operand::u8) mma_8x8x16_u8(c0, c1, a, b);
  if constexpr (kA == Operand::s4) mma_8x8x32_s4(c0, c1, a, b);
  if constexpr (kA == Operand::u4) mma_8x8x32_u4(c0, c1, a, b);
}

// c += a b, of a tile.
template <Operand kA>
DEVICE void multiply(int32_t (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  if (architecture() >= 80) {
    if constexpr (kA == Operand::s8) mma_16x8x32_s8(c, a, b);
    if constexpr (kA == Operand::u8) mma_16x8x32_u8(c, a, b);
    if constexpr (kA == Operand::s4) mma_16x8x64_s4(c, a, b);
    if constexpr (kA == Operand::u4) mma_16x8x64_u4(c, a, b);
    return;
  }
  multiply_rows<kA>(c[0], c[1], a[0], b[0]);
  multiply_rows<kA>(c[2], c[3], a[1], b[0]);
  multiply_rows<kA>(c[0], c[1], a[2], b[1]);
  multiply_rows<kA>(c[2], c[3], a[3], b[1]);
}

// Operands in shared memory: rows of 64 or 32 bytes, in which 16 bytes lie where no 8 rows that are
// read together meet in a bank.
constexpr int kSlab = 64;
template <int kRow = kSlab>
DEVICE int slab_offset(int row, int sixteen) {
  static_assert(kRow == 64 || kRow == 32);
  return row * kRow + ((sixteen ^ (row >> (kRow == 64 ? 1 : 2) & (kRow / 16 - 1))) << 4);
}

// 32 codes of 4 bits as bytes, 16 times as large, which need no sign extension: codes 0, 2, ..
// become one piece of a row and 1, 3, .. the next. Any order will do that is the same for A and B.
DEVICE void store_apart(unsigned char* slab, int row, int piece, const Sixteen& codes) {
  Sixteen low, high;
  UNROLL
  for (int w = 0; w < 4; ++w) {
    low.words[w] = codes.words[w] << 4 & 0xF0F0F0F0u;
    high.words[w] = codes.words[w] & 0xF0F0F0F0u;
  }
  *reinterpret_cast<Sixteen*>(slab + slab_offset(row, 2 * piece)) = low;
  *reinterpret_cast<Sixteen*>(slab + slab_offset(row, 2 * piece + 1)) = high;
}

// A's fragment of rows first .. first + 15, of 32 bytes from 32 * half on.
DEVICE void load_a(uint32_t (&a)[4], const unsigned char* slab, int first, int half) {
  load_matrices(a, slab + slab_offset(first + lane() % 16, 2 * half + lane() / 16));
}
// B's fragments of columns first .. first + 7, and the next 8.
template <int kRow = kSlab>
DEVICE void load_b(uint32_t (&b)[4], const unsigned char* slab, int first, int half) {
  const int column = first + lane() % 8 + lane() / 16 * 8;
  load_matrices(b, slab + slab_offset<kRow>(column, 2 * half + lane() / 8 % 2));
}

}  // namespace ptqsr::cuda
