// C [M][N] = A [M][K] B [N][K], integers of 8 or 4 bits on tensor cores, with what follows fused.
//
// A block makes kM x kN results, a warp 32 x 64 of them in registers, from slabs of 64 bytes along
// K that lie in shared memory. How slabs get there:
//
//   8.0 and newer     copied ahead, kStages of them in flight
//   7.5               through registers, the next one loaded while this one is multiplied
//   9.0, 4 bits       as 7.5, and taken apart on the way: v & 0xF0 and v << 4 are 16 times the
//                     codes, so that sums are 256 times too large
//
// Of every 64 rows of B the slab has row 16 q + 2 j + i at 8 j + 2 q + i, so that a thread's
// results lie beside each other.
#include "cuda/mma.h"
#include "cuda/simt.h"
#include "cuda/vector.h"

namespace ptqsr::cuda {
namespace {

constexpr int kThreads = 256, kM = 128, kN = 128, kStages = 3;
constexpr int kStageBytes = (kM + kN) * kSlab;
constexpr int kWarpM = 32, kWarpN = 64, kWarpsN = kN / kWarpN;
constexpr int kRun = kWarpN / 4;  // neighbouring results of a thread

// The rows of A or B that a block reads.
struct Rows {
  const unsigned char* from;  // of the first row
  int left;                   // rows that exist
  int bytes;                  // of one, along K
};

// Where a row of A lies in its slab, and a row of B.
DEVICE int place_of_a(int row) { return row; }
DEVICE int place_of_b(int row) {
  const int q = row % 64 / 16, j = row % 16 / 2;
  return row / 64 * 64 + 8 * j + 2 * q + row % 2;
}

// kRows x kPieces pieces of 16 bytes, shared out among the threads.
template <int kRows, int kPieces, int (*kPlace)(int)>
struct Pieces {
  static constexpr int kCount = kRows * kPieces / kThreads;
  DEVICE static int row(int i) { return (thread() + i * kThreads) / kPieces; }
  DEVICE static int piece(int i) { return (thread() + i * kThreads) % kPieces; }

  DEVICE static bool there(const Rows& rows, int k, int i) {
    return row(i) < rows.left && k + piece(i) * 16 < rows.bytes;
  }
  DEVICE static const unsigned char* source(const Rows& rows, int k, int i) {
    return rows.from + row(i) * rows.bytes + k + piece(i) * 16;
  }
  // Asks for a slab from byte k on.
  DEVICE static void copy(unsigned char* slab, const Rows& rows, int k) {
    UNROLL
    for (int i = 0; i < kCount; ++i) {
      const bool is = there(rows, k, i);
      copy_ahead(slab + slab_offset(kPlace(row(i)), piece(i)), is ? source(rows, k, i) : rows.from,
                 is);
    }
  }
  DEVICE static void fetch(Sixteen* registers, const Rows& rows, int k) {
    UNROLL
    for (int i = 0; i < kCount; ++i) {
      registers[i] =
          there(rows, k, i) ? *reinterpret_cast<const Sixteen*>(source(rows, k, i)) : Sixteen{};
    }
  }
  DEVICE static void put(unsigned char* slab, const Sixteen* registers) {
    UNROLL
    for (int i = 0; i < kCount; ++i) {
      *reinterpret_cast<Sixteen*>(slab + slab_offset(kPlace(row(i)), piece(i))) = registers[i];
    }
  }
  DEVICE static void put_apart(unsigned char* slab, const Sixteen* registers) {
    UNROLL
    for (int i = 0; i < kCount; ++i) {
      store_apart(slab, kPlace(row(i)), piece(i), registers[i]);
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
  const int count = (a.bytes + kSlab - 1) / kSlab;
  const auto ask = [&](int number) {
    unsigned char* stage = shared + number % kStages * kStageBytes;
    if (number < count) {
      Pieces<kM, kSlab / 16, place_of_a>::copy(stage, a, number * kSlab);
      Pieces<kN, kSlab / 16, place_of_b>::copy(stage + kM * kSlab, b, number * kSlab);
    }
    copies_end();  // also where there is none, so that groups and slabs go together
  };
  for (int s = 0; s < kStages - 1; ++s) ask(s);
  for (int number = 0; number < count; ++number) {
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
  using PiecesA = Pieces<kM, kStep / 16, place_of_a>;
  using PiecesB = Pieces<kN, kStep / 16, place_of_b>;
  const int count = (a.bytes + kStep - 1) / kStep;
  Sixteen from_a[PiecesA::kCount], from_b[PiecesB::kCount];
  const auto put = [&](int number) {
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
  for (int number = 0; number < count; ++number) {
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

// A run of results, as asked for; of the first `left`.
struct Finish {
  GemmEpilogue e;
  int shift;  // by which sums are too large
  bool vectors;

  DEVICE float value(int32_t sum, int column) const {
    float v = static_cast<float>(sum);
    if (e.scale != nullptr) v = v * e.scale[column];
    if (e.bias != nullptr) v = v + e.bias[column];
    return e.relu && !(v > 0) && v == v ? 0.0f : v;
  }
  template <class T, class Made>
  DEVICE void put(int at, int left, const Made& made) const {
    T results[kRun];
    UNROLL
    for (int i = 0; i < kRun; ++i) results[i] = i < left ? made(i) : T{};
    T* to = static_cast<T*>(e.c) + at;
    if (vectors && left >= kRun) {
      store<T, kRun, true>(to, results, kRun);
    } else {
      store<T, kRun, false>(to, results, left);
    }
  }
  DEVICE void put(const int32_t (&sums)[kRun], int at, int column, int left) const {
    const auto number = [&](int i) { return value(sums[i] >> shift, column + i); };
    switch (e.output) {
      case GemmOutput::int32:
        return put<int32_t>(at, left, [&](int i) { return sums[i] >> shift; });
      case GemmOutput::float32:
        return put<float>(at, left, number);
      case GemmOutput::float16:
        return put<Half>(at, left, [&](int i) { return from_float<Half>(number(i)); });
      case GemmOutput::int8:
      case GemmOutput::uint8: {
        const int lowest = e.output == GemmOutput::int8 ? -128 : 0, highest = lowest + 255;
        return put<uint8_t>(at, left, [&](int i) {
          // Limits are whole numbers, so that they may come first; NaN becomes the lowest.
          float v = number(i);
          v = v > static_cast<float>(lowest) ? v : static_cast<float>(lowest);
          v = v < static_cast<float>(highest) ? v : static_cast<float>(highest);
          return static_cast<uint8_t>(round_to_int(v));
        });
      }
    }
  }
};

template <Operand kA>
struct Multiply {
  static constexpr int kThreads = cuda::kThreads, kBlocks = 2;
  struct Args {
    const unsigned char *a, *b;
    int64_t m, n, bytes;  // bytes: of a row, along K
    int64_t columns;      // blocks side by side
    GemmEpilogue epilogue;
    bool vectors;  // runs of results may be stored 16 bytes at a time
  };
  DEVICE static void run(const Args& args) {
    constexpr bool kFour = four_bits<kA>;
    constexpr Operand kBytes = kA == Operand::u4 || kA == Operand::u8 ? Operand::u8 : Operand::s8;
    // A matrix has fewer than 2^31 elements.
    const int m = static_cast<int>(args.m), n = static_cast<int>(args.n);
    const int bytes = static_cast<int>(args.bytes), columns = static_cast<int>(args.columns);
    const int number = static_cast<int>(block_x());
    const int top = number / columns * kM, left = number % columns * kN;
    const Rows a{args.a + top * bytes, m - top, bytes};
    const Rows b{args.b + left * bytes, n - left, bytes};
    Sums sums{};
    Finish finish{args.epilogue, 0, args.vectors};
    if (kFour && unpacks()) {
      if constexpr (kFour) sum_by_registers<kBytes, true>(sums, a, b, shared_memory());
      finish.shift = 8;
    } else if (architecture() >= 80) {
      sum_ahead<kA>(sums, a, b, shared_memory());
    } else {
      sum_by_registers<kA, false>(sums, a, b, shared_memory());
    }
    const int first = top + warp() / kWarpsN * kWarpM + lane() / 4;
    const int column = left + warp() % kWarpsN * kWarpN + lane() % 4 * kRun;
    UNROLL
    for (int i = 0; i < kWarpM / 16; ++i) {
      UNROLL
      for (int lower = 0; lower < 2; ++lower) {
        const int row = first + 16 * i + 8 * lower;
        if (row >= m || column >= n) continue;
        int32_t run[kRun];
        UNROLL
        for (int k = 0; k < kRun; ++k) run[k] = sums.c[i][k / 2][2 * lower + k % 2];
        finish.put(run, row * n + column, column, n - column);
      }
    }
  }
};

int size_of(GemmOutput output) {
  if (output == GemmOutput::int32 || output == GemmOutput::float32) return 4;
  return output == GemmOutput::float16 ? 2 : 1;
}

template <Operand kA>
Status multiply(const Gemm& args, Stream stream) {
  const int64_t bytes = args.bits == 4 ? args.k / 2 : args.k;
  const int64_t rows = (args.m + kM - 1) / kM, columns = (args.n + kN - 1) / kN;
  const int size = size_of(args.epilogue.output);
  const bool vectors =
      reinterpret_cast<uintptr_t>(args.epilogue.c) % 16 == 0 && args.n * size % 16 == 0;
  Resources device;
  if (const Status status = current_device(&device); status != Status::ok) return status;
  const int stages = device.capability >= 80 ? kStages : 2;
  return launch<Multiply<kA>>(
      {rows * columns}, stages * kStageBytes, stream,
      {static_cast<const unsigned char*>(args.a), static_cast<const unsigned char*>(args.b), args.m,
       args.n, bytes, columns, args.epilogue, vectors});
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
