// Codes of 2 to 8 bits, packed without gaps: a thread takes 32 of a row, which are as many words as
// a code has bits.
//
//   codes   [row][count]         8 words a thread, of 4 codes each
//   packed  [row][packed_bytes]  kBits words a thread
#include "cuda/simt.h"
#include "ptqsr/packing.h"

namespace ptqsr::cuda {
namespace {

constexpr int kThreads = 256, kCodes = 32;

// Words of `there` bytes from `from` on, and zeros after them.
template <int kCount>
DEVICE void read(uint32_t (&words)[kCount], const uint8_t* from, int64_t there) {
  const bool whole = there >= 4 * kCount && reinterpret_cast<uintptr_t>(from) % 4 == 0;
  UNROLL
  for (int i = 0; i < kCount; ++i) {
    if (whole) {
      words[i] = reinterpret_cast<const uint32_t*>(from)[i];
      continue;
    }
    words[i] = 0;
    UNROLL
    for (int b = 0; b < 4; ++b) {
      if (4 * i + b < there) words[i] |= static_cast<uint32_t>(from[4 * i + b]) << (8 * b);
    }
  }
}

// The first `count` bytes of words, to `to` and on.
template <int kCount>
DEVICE void write(uint8_t* to, const uint32_t (&words)[kCount], int64_t count) {
  const bool whole = count >= 4 * kCount && reinterpret_cast<uintptr_t>(to) % 4 == 0;
  UNROLL
  for (int i = 0; i < kCount; ++i) {
    if (whole) {
      reinterpret_cast<uint32_t*>(to)[i] = words[i];
      continue;
    }
    UNROLL
    for (int b = 0; b < 4; ++b) {
      if (4 * i + b < count) to[4 * i + b] = static_cast<uint8_t>(words[i] >> (8 * b));
    }
  }
}

template <int kBits>
struct Packing {
  DEVICE static void convert(uint32_t (&packed)[kBits], const uint32_t (&codes)[kCodes / 4]) {
    UNROLL
    for (int i = 0; i < kBits; ++i) packed[i] = 0;
    UNROLL
    for (int i = 0; i < kCodes; ++i) {
      const uint32_t code = codes[i / 4] >> (8 * (i % 4)) & ((1u << kBits) - 1);
      const int word = i * kBits / 32, bit = i * kBits % 32;
      packed[word] |= code << bit;
      if (bit + kBits > 32) packed[word + 1] |= code >> (32 - bit);
    }
  }
};

template <int kBits>
struct Unpacking {
  DEVICE static void convert(uint32_t (&codes)[kCodes / 4], const uint32_t (&packed)[kBits]) {
    UNROLL
    for (int i = 0; i < kCodes / 4; ++i) codes[i] = 0;
    UNROLL
    for (int i = 0; i < kCodes; ++i) {
      const int word = i * kBits / 32, bit = i * kBits % 32;
      uint32_t code = packed[word] >> bit;
      if (bit + kBits > 32) code |= packed[word + 1] << (32 - bit);
      codes[i / 4] |= (code & ((1u << kBits) - 1)) << (8 * (i % 4));
    }
  }
};

// Rows of `in` bytes to rows of `out`, kIn words of a row to kOut by a thread.
template <class How, int kIn, int kOut>
struct OfRows {
  static constexpr int kThreads = cuda::kThreads;
  struct Args {
    const uint8_t* from;
    uint8_t* to;
    int64_t rows, stretches, in, out;
  };
  DEVICE static void run(const Args& a) {
    const int64_t i = block_x() * kThreads + thread();
    if (i >= a.rows * a.stretches) return;
    const int64_t row = i / a.stretches, stretch = i % a.stretches;
    const int64_t start = stretch * 4 * kIn, place = stretch * 4 * kOut;
    uint32_t given[kIn], found[kOut];
    read(given, a.from + row * a.in + start, a.in - start);
    How::convert(found, given);
    write(a.to + row * a.out + place, found, a.out - place);
  }
};

using Function = Status (*)(const uint8_t* from, int64_t rows, int64_t count, uint8_t* to,
                            Stream stream);

template <int kBits, bool kPack>
Status run(const uint8_t* from, int64_t rows, int64_t count, uint8_t* to, Stream stream) {
  if (rows * count > kMaxElements) return Status::too_large;
  if (count * kBits % 8 == 0) {  // no bits are left between rows: they are one
    count *= rows;
    rows = 1;
  }
  const int64_t stretches = (count + kCodes - 1) / kCodes, bytes = packed_bytes(count, kBits);
  const Grid grid{(rows * stretches + kThreads - 1) / kThreads};
  if constexpr (kPack) {
    return launch<OfRows<Packing<kBits>, kCodes / 4, kBits>>(
        grid, 0, stream, {from, to, rows, stretches, count, bytes});
  } else {
    return launch<OfRows<Unpacking<kBits>, kBits, kCodes / 4>>(
        grid, 0, stream, {from, to, rows, stretches, bytes, count});
  }
}

template <bool kPack>
constexpr Function kFunctions[] = {run<2, kPack>, run<3, kPack>, run<4, kPack>, run<5, kPack>,
                                   run<6, kPack>, run<7, kPack>, run<8, kPack>};

}  // namespace

Status pack_codes(const uint8_t* codes, int64_t rows, int64_t count, int bits, uint8_t* packed,
                  Stream stream) {
  return kFunctions<true>[bits - 2](codes, rows, count, packed, stream);
}

Status unpack_codes(const uint8_t* packed, int64_t rows, int64_t count, int bits, uint8_t* codes,
                    Stream stream) {
  return kFunctions<false>[bits - 2](packed, rows, count, codes, stream);
}

}  // namespace ptqsr::cuda
