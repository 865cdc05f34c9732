// C [M][N] = A [M][K] B [N][K], integers of 8 or 4 bits on tensor cores, with what follows fused.
//
// A block makes kM x kN results, a warp 32 x 64 of them in registers, from slabs of 64 bytes along
// K that lie in shared memory. How slabs get there:
//
//   8.0 and newer     copied ahead, kStages of them in flight
//   7.5               through registers, the next one loaded while this one is multiplied
//   9.0, 4 bits       as 7.5, and taken apart on the way: v & 0xF0 and v << 4 are 16 times the
//   codes,
//                     so that sums are 256 times too large
#include "cuda/mma.h"
#include "cuda/simt.h"
#include "cuda/vector.h"

namespace ptqsr::cuda {
namespace {

constexpr int kThreads = 256, kM = 128, kN = 128, kStages = 3;
constexpr int kStageBytes = (kM + kN) * kSlab;
constexpr int kWarpM = 32, kWarpN = 64, kWarpsN = kN / kWarpN;

// The rows of A or B that a block reads.
struct Rows {
  const unsigned char* from;  // of the first row
  int64_t left;               // rows that exist
  int64_t bytes;              // of one, along K
};

// kRows x kPieces pieces of 16 bytes, shared out among the threads.
template <int kRows, int kPieces>
struct Pieces {
  static constexpr int kCount = kRows * kPieces / kThreads;
  DEVICE static int row(int i) { return (thread() + i * kThreads) / kPieces; }
  DEVICE static int piece(int i) { return (thread() + i * kThreads) % kPieces; }

  DEVICE static bool there(const Rows& rows, int64_t k, int i) {
    return row(i) < rows.left && k + piece(i) * 16 < rows.bytes;
  }
  DEVICE static const unsigned char* source(const Rows& rows, int64_t k, int i) {
    return rows.from + row(i) * rows.bytes + k + piece(i) * 16;
  }
  // Asks for a slab from byte k on.
  DEVICE static void copy(unsigned char* slab, const Rows& rows, int64_t k) {
    UNROLL
    for (int i = 0; i < kCount; ++i) {
      const bool is = there(rows, k, i);
      copy_ahead(slab + slab_offset(row(i), piece(i)), is ? source(rows, k, i) : rows.from, is);
    }
  }
  DEVICE static void fetch(Sixteen* registers, const Rows& rows, int64_t k) {
    UNROLL
    for (int i = 0; i < kCount; ++i) {
      registers[i] =
          there(rows, k, i) ? *reinterpret_cast<const Sixteen*>(source(rows, k, i)) : Sixteen{};
    }
  }
  DEVICE static void put(unsigned char* slab, const Sixteen* registers) {
    UNROLL
    for (int i = 0; i < kCount; ++i) {
      *reinterpret_cast<Sixteen*>(slab + slab_offset(row(i), piece(i))) = registers[i];
    }
  }
  DEVICE static void put_apart(unsigned char* slab, const Sixteen* registers) {
    UNROLL
    for (int i = 0; i < kCount; ++i) {
      store_apart(slab, row(i), piece(i), registers[i]);
    }
  }
};

// A warp's results.
struct Sums {
  int32_t c[kWarpM / 16][kWarpN / 8][4];

  template <Operand kA>
  DEVICE void add(const unsigned char* a_slab, const unsigned char* b_slab) {
    const int first_row = warp() / kWarpsN * kWarpM, first_column = warp() % kWarpsN * kWarpN;
    UNROLL
    for (int half = 0; half < 2; ++half) {
      uint32_t a[kWarpM / 16][4];
      UNROLL
      for (int i = 0; i < kWarpM / 16; ++i) load_a(a[i], a_slab, first_row + 16 * i, half);
      UNROLL
      for (int j = 0; j < kWarpN / 8; j += 2) {
        uint32_t b[4];
        load_b(b, b_slab, first_column + 8 * j, half);
        const uint32_t first[2] = {b[0], b[1]}, second[2] = {b[2], b[3]};
        UNROLL
        for (int i = 0; i < kWarpM / 16; ++i) {
          multiply<kA>(c[i][j], a[i], first);
          multiply<kA>(c[i][j + 1], a[i], second);
        }
      }
    }
  }
};

template <Operand kA>
DEVICE void sum_ahead(Sums& sums, const Rows& a, const Rows& b, unsigned char* shared) {
  const int64_t count = (a.bytes + kSlab - 1) / kSlab;
  const auto ask = [&](int64_t number) {
    unsigned char* stage = shared + number % kStages * kStageBytes;
    if (number < count) {
      Pieces<kM, kSlab / 16>::copy(stage, a, number * kSlab);
      Pieces<kN, kSlab / 16>::copy(stage + kM * kSlab, b, number * kSlab);
    }
    copies_end();  // also where there is none, so that groups and slabs go together
  };
  for (int s = 0; s < kStages - 1; ++s) ask(s);
  for (int64_t number = 0; number < count; ++number) {
    copies_wait<kStages - 2>();
    // Also: all have done with the slab before this one, whose place the next is copied to.
    synchronize();
    ask(number + kStages - 1);
    const unsigned char* stage = shared + number % kStages * kStageBytes;
    sums.add<kA>(stage, stage + kM * kSlab);
  }
  copies_wait<0>();
}

// kApart: 4 bits become 8 in shared memory, where operands are kBytes.
template <Operand kBytes, bool kApart>
DEVICE void sum_by_registers(Sums& sums, const Rows& a, const Rows& b, unsigned char* shared) {
  constexpr int kStep = kApart ? kSlab / 2 : kSlab;
  using PiecesA = Pieces<kM, kStep / 16>;
  using PiecesB = Pieces<kN, kStep / 16>;
  const int64_t count = (a.bytes + kStep - 1) / kStep;
  Sixteen from_a[PiecesA::kCount], from_b[PiecesB::kCount];
  const auto put = [&](int64_t number) {
    unsigned char* stage = shared + number % 2 * kStageBytes;
    if constexpr (kApart) {
      PiecesA::put_apart(stage, from_a);
      PiecesB::put_apart(stage + kM * kSlab, from_b);
    } else {
      PiecesA::put(stage, from_a);
      PiecesB::put(stage + kM * kSlab, from_b);
    }
    synchronize();
  };
  PiecesA::fetch(from_a, a, 0);
  PiecesB::fetch(from_b, b, 0);
  put(0);
  for (int64_t number = 0; number < count; ++number) {
    const bool more = number + 1 < count;
    if (more) {
      PiecesA::fetch(from_a, a, (number + 1) * kStep);
      PiecesB::fetch(from_b, b, (number + 1) * kStep);
    }
    const unsigned char* stage = shared + number % 2 * kStageBytes;
    sums.add<kBytes>(stage, stage + kM * kSlab);
    if (more) put(number + 1);
  }
}

// Two neighbouring results of a row, as asked for.
struct Finish {
  GemmEpilogue e;
  int64_t n;
  int shift;  // by which sums are too large

  DEVICE float value(int32_t sum, int64_t column) const {
    float v = static_cast<float>(sum);
    if (e.scale != nullptr) v = v * e.scale[column];
    if (e.bias != nullptr) v = v + e.bias[column];
    return e.relu && !(v > 0) && v == v ? 0.0f : v;
  }
  DEVICE void store(int32_t sum, int64_t row, int64_t column) const {
    if (column >= n) return;
    sum >>= shift;
    const int64_t at = row * n + column;
    switch (e.output) {
      case GemmOutput::int32:
        static_cast<int32_t*>(e.c)[at] = sum;
        return;
      case GemmOutput::float32:
        static_cast<float*>(e.c)[at] = value(sum, column);
        return;
      case GemmOutput::float16:
        static_cast<Half*>(e.c)[at] = from_float<Half>(value(sum, column));
        return;
      case GemmOutput::int8:
      case GemmOutput::uint8: {
        const int lowest = e.output == GemmOutput::int8 ? -128 : 0, highest = lowest + 255;
        // Limits are whole numbers, so that they may come first; NaN becomes the lowest.
        float v = value(sum, column);
        v = v > static_cast<float>(lowest) ? v : static_cast<float>(lowest);
        v = v < static_cast<float>(highest) ? v : static_cast<float>(highest);
        static_cast<uint8_t*>(e.c)[at] = static_cast<uint8_t>(round_to_int(v));
        return;
      }
    }
  }
};

template <Operand kA>
struct Multiply {
  static constexpr int kThreads = cuda::kThreads;
  struct Args {
    const unsigned char *a, *b;
    int64_t m, n, bytes;  // bytes: of a row, along K
    int64_t columns;      // blocks side by side
    GemmEpilogue epilogue;
  };
  DEVICE static void run(const Args& args) {
    constexpr bool kFour = four_bits<kA>;
    constexpr Operand kBytes = kA == Operand::u4 || kA == Operand::u8 ? Operand::u8 : Operand::s8;
    const int64_t top = block_x() / args.columns * kM, left = block_x() % args.columns * kN;
    const Rows a{args.a + top * args.bytes, args.m - top, args.bytes};
    const Rows b{args.b + left * args.bytes, args.n - left, args.bytes};
    Sums sums{};
    Finish finish{args.epilogue, args.n, 0};
    if (kFour && unpacks()) {
      if constexpr (kFour) sum_by_registers<kBytes, true>(sums, a, b, shared_memory());
      finish.shift = 8;
    } else if (architecture() >= 80) {
      sum_ahead<kA>(sums, a, b, shared_memory());
    } else {
      sum_by_registers<kA, false>(sums, a, b, shared_memory());
    }
    const int64_t first = top + warp() / kWarpsN * kWarpM + lane() / 4;
    const int64_t column = left + warp() % kWarpsN * kWarpN + lane() % 4 * 2;
    UNROLL
    for (int i = 0; i < kWarpM / 16; ++i) {
      UNROLL
      for (int lower = 0; lower < 2; ++lower) {
        const int64_t row = first + 16 * i + 8 * lower;
        if (row >= args.m) continue;
        UNROLL
        for (int j = 0; j < kWarpN / 8; ++j) {
          finish.store(sums.c[i][j][2 * lower], row, column + 8 * j);
          finish.store(sums.c[i][j][2 * lower + 1], row, column + 8 * j + 1);
        }
      }
    }
  }
};

template <Operand kA>
Status multiply(const Gemm& args, Stream stream) {
  const int64_t bytes = args.bits == 4 ? args.k / 2 : args.k;
  const int64_t rows = (args.m + kM - 1) / kM, columns = (args.n + kN - 1) / kN;
  return launch<Multiply<kA>>(
      {rows * columns}, kStages * kStageBytes, stream,
      {static_cast<const unsigned char*>(args.a), static_cast<const unsigned char*>(args.b), args.m,
       args.n, bytes, columns, args.epilogue});
}

}  // namespace

Status gemm(const Gemm& args, Stream stream) {
  if (args.m * args.n > kMaxElements || args.m * args.k > kMaxElements ||
      args.n * args.k > kMaxElements) {
    return Status::too_large;
  }
  if (args.bits == 4) {
    return args.signed_a ? multiply<Operand::s4>(args, stream)
                         : multiply<Operand::u4>(args, stream);
  }
  return args.signed_a ? multiply<Operand::s8>(args, stream) : multiply<Operand::u8>(args, stream);
}

}  // namespace ptqsr::cuda
