#include "cpu/packing.h"

#include <algorithm>
#include <atomic>

#include "cpu/parallel.h"
#include "ptqsr/packing.h"

namespace ptqsr {
namespace cpu {
namespace {

// Eight codes are `kBits` whole bytes.
template <int kBits>
uint8_t pack_eight(const uint8_t* codes, uint8_t* packed, int64_t bytes) {
  uint64_t word = 0;
  uint8_t together = 0;
  for (int i = 0; i < 8; ++i) {
    word |= static_cast<uint64_t>(codes[i]) << (i * kBits);
    together |= codes[i];
  }
  for (int i = 0; i < bytes; ++i) packed[i] = static_cast<uint8_t>(word >> (8 * i));
  return together;
}

template <int kBits>
void unpack_eight(const uint8_t* packed, int64_t bytes, uint8_t* codes) {
  uint64_t word = 0;
  for (int i = 0; i < bytes; ++i) word |= static_cast<uint64_t>(packed[i]) << (8 * i);
  for (int i = 0; i < 8; ++i) {
    codes[i] = static_cast<uint8_t>(word >> (i * kBits) & ((1 << kBits) - 1));
  }
}

template <int kBits>
bool pack(const uint8_t* codes, int64_t count, uint8_t* packed) {
  uint8_t together = 0;
  int64_t i = 0;
  for (; i + 8 <= count; i += 8, packed += kBits) {
    together |= pack_eight<kBits>(codes + i, packed, kBits);
  }
  if (i < count) {
    uint8_t rest[8] = {};
    std::copy(codes + i, codes + count, rest);
    together |= pack_eight<kBits>(rest, packed, packed_bytes(count - i, kBits));
  }
  return together >> kBits == 0;
}

template <int kBits>
void unpack(const uint8_t* packed, int64_t count, uint8_t* codes) {
  int64_t i = 0;
  for (; i + 8 <= count; i += 8, packed += kBits) unpack_eight<kBits>(packed, kBits, codes + i);
  if (i < count) {
    uint8_t rest[8];
    unpack_eight<kBits>(packed, packed_bytes(count - i, kBits), rest);
    std::copy(rest, rest + (count - i), codes + i);
  }
}

constexpr decltype(&pack<8>) kPack[] = {pack<2>, pack<3>, pack<4>, pack<5>,
                                        pack<6>, pack<7>, pack<8>};
constexpr decltype(&unpack<8>) kUnpack[] = {unpack<2>, unpack<3>, unpack<4>, unpack<5>,
                                            unpack<6>, unpack<7>, unpack<8>};

}  // namespace

bool pack_row(const uint8_t* codes, int64_t count, int bits, uint8_t* packed) {
  return kPack[bits - 2](codes, count, packed);
}

void unpack_row(const uint8_t* packed, int64_t count, int bits, uint8_t* codes) {
  kUnpack[bits - 2](packed, count, codes);
}

}  // namespace cpu

namespace {

// Calls body(row) for all, many rows a task.
template <class Body>
void for_rows(int64_t rows, int64_t count, int threads, const Body& body) {
  const int64_t block = std::max<int64_t>(1, (1 << 16) / std::max<int64_t>(1, count));
  cpu::parallel_for((rows + block - 1) / block, threads, [&](int64_t task) {
    const int64_t stop = std::min(rows, (task + 1) * block);
    for (int64_t row = task * block; row < stop; ++row) body(row);
  });
}

}  // namespace

Status pack_codes(const uint8_t* codes, int64_t rows, int64_t count, int bits, uint8_t* packed,
                  int threads) {
  const int64_t bytes = packed_bytes(count, bits);
  std::atomic<bool> fits{true};
  for_rows(rows, count, threads, [&](int64_t row) {
    if (!cpu::pack_row(codes + row * count, count, bits, packed + row * bytes)) fits = false;
  });
  return fits ? Status::ok : Status::code_out_of_range;
}

Status unpack_codes(const uint8_t* packed, int64_t rows, int64_t count, int bits, uint8_t* codes,
                    int threads) {
  const int64_t bytes = packed_bytes(count, bits);
  for_rows(rows, count, threads, [&](int64_t row) {
    cpu::unpack_row(packed + row * bytes, count, bits, codes + row * count);
  });
  return Status::ok;
}

}  // namespace ptqsr
