// What a GPU reaches at most, for benchmarks.gpu: products of tensor cores from registers to
// registers, by the instructions that csrc/cuda/mma.h has for it, and a copy within its memory.
#include "cuda/mma.h"

namespace ptqsr::cuda {
namespace {

constexpr int kThreads = 256, kBlocks = 4;  // blocks: of a multiprocessor, at a time
// Results of a warp, 16 x 8 each: none waits for another.
constexpr int kTiles = 8;

// Of one tile: s8 takes 32 steps along K, s4 64, float16 16.
enum class Kind { s8, s4, float16 };
constexpr int64_t kSteps[] = {32, 64, 16};

DEVICE void multiply_halves(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  UNROLL
  for (int k = 0; k < 2; ++k) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[2 * k]), "r"(a[2 * k + 1]), "r"(b[k]));
  }
#endif
}

template <Kind kKind>
struct Products {
  static constexpr int kThreads = cuda::kThreads;
  using Sum = std::conditional_t<kKind == Kind::float16, float, int32_t>;
  struct Args {
    int64_t rounds;
    Sum* out;  // one number
  };

  // Like a network's operands neither zeros nor all the same; as halves within (-2, 2).
  DEVICE static uint32_t operand(int number) {
    const uint32_t bits = (thread() * 8 + number + 1) * 2654435761u;
    return kKind == Kind::float16 ? bits & 0xBFFFBFFFu : bits;
  }
  DEVICE static void run(const Args& args) {
    const uint32_t a[4] = {operand(0), operand(1), operand(2), operand(3)};
    const uint32_t b[2] = {operand(4), operand(5)};
    Sum c[kTiles][4] = {};
#pragma unroll 4
    for (int64_t round = 0; round < args.rounds; ++round) {
      UNROLL
      for (int t = 0; t < kTiles; ++t) {
        if constexpr (kKind == Kind::s8) multiply<Operand::s8>(c[t], a, b);
        if constexpr (kKind == Kind::s4) {
          if (!unpacks()) multiply<Operand::s4>(c[t], a, b);  // else: nothing to measure
        }
        if constexpr (kKind == Kind::float16) multiply_halves(c[t], a, b);
      }
    }
    Sum sum = 0;
    UNROLL
    for (int t = 0; t < kTiles; ++t) sum += c[t][0] + c[t][1] + c[t][2] + c[t][3];
    if (sum == 1234567) *args.out = sum;  // so that they are needed
  }
};

template <Kind kKind>
bool multiply_for(int64_t rounds, int64_t blocks, void* out, Stream stream) {
  using Sum = typename Products<kKind>::Sum;
  return launch<Products<kKind>>({blocks}, 0, stream, {rounds, static_cast<Sum*>(out)}) ==
         Status::ok;
}

// A thread copies 4 times 16 bytes, all of them asked for before the first is written.
struct Copy {
  static constexpr int kThreads = cuda::kThreads, kPieces = 4;
  struct Args {
    const Sixteen* from;
    Sixteen* to;
    int64_t count;
  };
  DEVICE static void run(const Args& args) {
    const int64_t first = block_x() * kThreads * kPieces + thread();
    Sixteen pieces[kPieces];
    UNROLL
    for (int i = 0; i < kPieces; ++i) {
      if (first + i * kThreads < args.count) pieces[i] = args.from[first + i * kThreads];
    }
    UNROLL
    for (int i = 0; i < kPieces; ++i) {
      if (first + i * kThreads < args.count) args.to[first + i * kThreads] = pieces[i];
    }
  }
};

}  // namespace
}  // namespace ptqsr::cuda

// Launches `rounds` of products and returns how many operations those are, 2 of them a
// multiply-accumulate; -1 for an error. `kind`: 0 s8, 1 s4 (before 9.0), 2 float16 with float32
// sums. `out`: 4 bytes.
extern "C" int64_t ceiling_products(int kind, int64_t rounds, int processors, void* out,
                                    void* stream) {
  using namespace ptqsr::cuda;
  const int64_t blocks = int64_t{kBlocks} * processors;
  const auto run = kind == 0   ? multiply_for<Kind::s8>
                   : kind == 1 ? multiply_for<Kind::s4>
                               : multiply_for<Kind::float16>;
  if (!run(rounds, blocks, out, stream)) return -1;
  return blocks * (kThreads / kWarp) * rounds * kTiles * 2 * 16 * 8 * kSteps[kind];
}

// Copies multiples of 16 bytes; returns them, or -1 for an error.
extern "C" int64_t ceiling_copy(const void* from, void* to, int64_t bytes, void* stream) {
  using namespace ptqsr::cuda;
  constexpr int64_t kBlock = Copy::kThreads * Copy::kPieces;
  const int64_t count = bytes / 16;
  const Copy::Args args{static_cast<const Sixteen*>(from), static_cast<Sixteen*>(to), count};
  const bool ran =
      launch<Copy>({(count + kBlock - 1) / kBlock}, 0, stream, args) == ptqsr::Status::ok;
  return ran ? bytes : -1;
}

extern "C" const char* ceiling_error() {
  static thread_local std::string text;
  text = ptqsr::cuda::last_error();
  return text.c_str();
}
