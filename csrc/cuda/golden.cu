// Integer convolutions as their definitions have them, a thread for every sum: the models that
// faster kernels are checked against. Sums wrap around as int32 does.
//
//   x       [n][h][w][c]
//   weight  [o][kh][kw][c / groups]
//   y       [n][out_h][out_w][o]
#include "cuda/simt.h"

namespace ptqsr::cuda {
namespace {

constexpr int kThreads = 256;

template <class X>
struct Multiply {
  using Input = X;
  using Weight = int8_t;
  DEVICE uint32_t product(X x, int8_t weight) const {
    return static_cast<uint32_t>(int32_t{x} * weight);
  }
};

// Codes as ptqsr/cuda.h has them.
template <class W>
struct ShiftAndAdd {
  using Input = int32_t;
  using Weight = W;
  const int32_t* shifts;  // [words][elements]
  int64_t words, elements;
  int bits;  // of an index
  DEVICE uint32_t product(int32_t code, W weight) const {
    auto rest = static_cast<uint32_t>(code);
    uint32_t sum = 0;
    for (int64_t word = 0; word < words; ++word, rest >>= bits) {
      const int64_t index = rest & ((1u << bits) - 1);
      if (index >= elements) continue;
      const int32_t shift = shifts[word * elements + index];
      // -1: the element 0. What is shifted by 32 and more has left the sum.
      if (shift >= 0 && shift < 32) sum += static_cast<uint32_t>(int32_t{weight}) << shift;
    }
    return (rest & 1) != 0 ? 0 - sum : sum;
  }
};

template <class How>
struct Sums {
  static constexpr int kThreads = cuda::kThreads;
  struct Args {
    ConvShape shape;
    const typename How::Input* x;
    const typename How::Weight* weight;
    int32_t* y;
    int64_t count;
    How how;
  };
  DEVICE static void run(const Args& a) {
    const int64_t i = block_x() * kThreads + thread();
    if (i >= a.count) return;
    const ConvShape& s = a.shape;
    const int64_t o = i % s.o, column = i / s.o % s.out_w, row = i / s.o / s.out_w % s.out_h;
    const int64_t sample = i / s.o / s.out_w / s.out_h, channels = s.c / s.groups;
    const auto* x = a.x + sample * s.h * s.w * s.c + o / (s.o / s.groups) * channels;
    const auto* weight = a.weight + o * s.kh * s.kw * channels;
    uint32_t sum = 0;
    for (int64_t u = 0; u < s.kh; ++u) {
      const int64_t from_row = row * s.stride_h - s.padding_h + u * s.dilation_h;
      if (from_row < 0 || from_row >= s.h) continue;
      for (int64_t v = 0; v < s.kw; ++v) {
        const int64_t from_column = column * s.stride_w - s.padding_w + v * s.dilation_w;
        if (from_column < 0 || from_column >= s.w) continue;
        const auto* pixel = x + (from_row * s.w + from_column) * s.c;
        const auto* tap = weight + (u * s.kw + v) * channels;
        for (int64_t c = 0; c < channels; ++c) sum += a.how.product(pixel[c], tap[c]);
      }
    }
    a.y[i] = static_cast<int32_t>(sum);
  }
};

template <class How>
Status sums(const ConvShape& s, const void* x, const void* weight, int32_t* y, const How& how,
            Stream stream) {
  const int64_t count = s.n * s.out_h * s.out_w * s.o, weights = s.o * s.kh * s.kw * s.c / s.groups;
  if (count > kMaxElements || s.n * s.h * s.w * s.c > kMaxElements || weights > kMaxElements) {
    return Status::too_large;
  }
  return launch<Sums<How>>({(count + kThreads - 1) / kThreads}, 0, stream,
                           {s, static_cast<const typename How::Input*>(x),
                            static_cast<const typename How::Weight*>(weight), y, count, how});
}

}  // namespace

Status int_conv2d(const IntConv& args, Stream stream) {
  const auto run = [&](auto how) {
    return sums(args.shape, args.k, args.weight, args.y, how, stream);
  };
  return args.is_signed ? run(Multiply<int8_t>{}) : run(Multiply<uint8_t>{});
}

Status shift_add_conv2d(const ShiftAddConv& args, Stream stream) {
  int bits = 0;
  while (int64_t{1} << bits < args.elements) ++bits;
  const auto run = [&](auto how) {
    return sums(args.shape, args.codes, args.weight, args.y, how, stream);
  };
  if (args.wide) return run(ShiftAndAdd<int16_t>{args.shifts, args.words, args.elements, bits});
  return run(ShiftAndAdd<int8_t>{args.shifts, args.words, args.elements, bits});
}

}  // namespace ptqsr::cuda
