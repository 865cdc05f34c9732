// Convolution of codes on tensor cores.
//
// A block keeps the weights of kN output channels in shared memory and goes from tile to tile of
// kTile x 16 output pixels. Of each it loads the input that all taps look at once, a halo tile:
//
//   halo      [rows][columns][64 bytes of channels], what lies outside the picture is 0
//   weights   [tap][kN][64 bytes of channels]
//
// and a warp multiplies, for every tap, rows of 16 pixels by kWarpN channels. Groups of more than
// 64 bytes of channels are summed in several rounds, each with weights of its own.
//
// Codes stand for level = code + lowest. Outside the picture a level is 0, a code is not: there
// lowest times the weights is left out tap by tap, which the sums of the weights under each tap
// tell.
#include "cuda/mma.h"
#include "cuda/simt.h"
#include "cuda/vector.h"

namespace ptqsr::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp;
constexpr int kN = 64;      // output channels of a block
constexpr int kWidth = 16;  // of a tile
constexpr int kTapBytes = kN * kSlab;

struct Args {
  TensorConv conv;
  int64_t tiles_x, tiles_y;
  int halo_rows, halo_columns, rounds;
  int64_t blocks;  // of kN output channels, of a group
};

// What an output channel's sums meet.
struct Channel {
  float scale, bias, slope;
  int32_t total;
};

// How threads share a tile: kTile rows, of which a warp takes kRows, times kWarpN channels.
template <Operand kA, bool kApart, int kTile, int kRows>
struct Convolve {
  static constexpr int kThreads = cuda::kThreads;
  static constexpr int kWarpsN = kWarps / (kTile / kRows), kWarpN = kN / kWarpsN;
  static constexpr Operand kOperand = !kApart ? kA : kA == Operand::u4 ? Operand::u8 : Operand::s8;
  using Args = cuda::Args;

  DEVICE static void run(const Args& args) {
    // Bytes are right everywhere; where tensor cores take nothing else, 4 bits must not be
    // launched.
    if (four_bits<kA> && !kApart && unpacks()) return trap();
    const TensorConv& v = args.conv;
    unsigned char* weights = shared_memory();
    unsigned char* halo = weights + v.kh * v.kw * kTapBytes;
    const int64_t group = block_y() / args.blocks, block = block_y() % args.blocks;
    const int64_t items = v.n * args.tiles_y * args.tiles_x;
    for (int64_t item = block_x(); item < items; item += blocks_x()) {
      const int64_t x = item % args.tiles_x * kWidth,
                    y = item / args.tiles_x % args.tiles_y * kTile;
      const int64_t sample = item / args.tiles_x / args.tiles_y;
      int32_t sums[kRows][kWarpN / 8][4] = {};
      for (int round = 0; round < args.rounds; ++round) {
        // All have done with what lies there.
        synchronize();
        if (round > 0 || args.rounds > 1 || item == block_x()) {
          load_weights(args, weights, (group * args.blocks + block) * args.rounds + round);
        }
        load_halo(args, halo, sample, group, round, y, x);
        copies_end();
        copies_wait<0>();
        synchronize();
        const int64_t left = v.group_bytes * (kApart ? 2 : 1) - round * kSlab;
        add(args, weights, halo, left > kSlab / 2 ? 2 : 1, sums);
      }
      store(args, sample, group * args.blocks + block, y, x, sums);
    }
  }

 private:
  DEVICE static void load_weights(const Args& args, unsigned char* to, int64_t number) {
    const int pieces = static_cast<int>(args.conv.kh * args.conv.kw) * kTapBytes / 16;
    const unsigned char* from = args.conv.weights + number * pieces * 16;
    for (int i = thread(); i < pieces; i += kThreads) {
      const int row = i / (kSlab / 16), piece = i % (kSlab / 16);
      copy_ahead(to + slab_offset(row, piece), from + static_cast<int64_t>(i) * 16, true);
    }
  }

  DEVICE static void load_halo(const Args& args, unsigned char* to, int64_t sample, int64_t group,
                               int round, int64_t y, int64_t x) {
    const TensorConv& v = args.conv;
    constexpr int kStep = kApart ? kSlab / 2 : kSlab, kPieces = kStep / 16;
    const int count = args.halo_rows * args.halo_columns * kPieces;
    const int64_t left = v.group_bytes - static_cast<int64_t>(round) * kStep;
    for (int i = thread(); i < count; i += kThreads) {
      const int pixel = i / kPieces, piece = i % kPieces;
      const int64_t from_y = y * v.stride_h - v.padding_h + pixel / args.halo_columns;
      const int64_t from_x = x * v.stride_w - v.padding_w + pixel % args.halo_columns;
      const bool there =
          from_y >= 0 && from_y < v.h && from_x >= 0 && from_x < v.w && piece * 16 < left;
      const unsigned char* from = v.x;
      if (there) {
        from += ((sample * v.h + from_y) * v.w + from_x) * v.bytes + group * v.group_bytes +
                round * kStep + piece * 16;
      }
      if constexpr (kApart) {
        const Sixteen codes = there ? *reinterpret_cast<const Sixteen*>(from) : Sixteen{};
        store_apart(to, pixel, piece, codes);
      } else {
        copy_ahead(to + slab_offset(pixel, piece), from, there);
      }
    }
  }

  DEVICE static int first_row() { return warp() / kWarpsN * kRows; }
  DEVICE static int first_channel() { return warp() % kWarpsN * kWarpN; }

  DEVICE static void add(const Args& args, const unsigned char* weights, const unsigned char* halo,
                         int halves, int32_t (&sums)[kRows][kWarpN / 8][4]) {
    const TensorConv& v = args.conv;
    const int stride_h = static_cast<int>(v.stride_h), stride_w = static_cast<int>(v.stride_w);
    for (int tap = 0; tap < v.kh * v.kw; ++tap) {
      const int ky = tap / static_cast<int>(v.kw) * static_cast<int>(v.dilation_h);
      const int kx = tap % static_cast<int>(v.kw) * static_cast<int>(v.dilation_w);
      for (int half = 0; half < halves; ++half) {
        uint32_t a[kRows][4];
        UNROLL
        for (int r = 0; r < kRows; ++r) {
          const int row = (first_row() + r) * stride_h + ky, column = lane() % 16 * stride_w + kx;
          const int pixel = row * args.halo_columns + column;
          load_matrices(a[r], halo + slab_offset(pixel, 2 * half + lane() / 16));
        }
        UNROLL
        for (int j = 0; j < kWarpN / 8; j += 2) {
          uint32_t b[4];
          load_b(b, weights + tap * kTapBytes, first_channel() + 8 * j, half);
          const uint32_t first[2] = {b[0], b[1]}, second[2] = {b[2], b[3]};
          UNROLL
          for (int r = 0; r < kRows; ++r) {
            multiply<kOperand>(sums[r][j], a[r], first);
            multiply<kOperand>(sums[r][j + 1], a[r], second);
          }
        }
      }
    }
  }

  // The sum of the weights under the taps that lie inside the picture, at a pixel.
  DEVICE static int32_t weights_inside(const TensorConv& v, int64_t y, int64_t x, int64_t channel) {
    int32_t sum = 0;
    for (int64_t ky = 0; ky < v.kh; ++ky) {
      const int64_t from_y = y * v.stride_h - v.padding_h + ky * v.dilation_h;
      if (from_y < 0 || from_y >= v.h) continue;
      for (int64_t kx = 0; kx < v.kw; ++kx) {
        const int64_t from_x = x * v.stride_w - v.padding_w + kx * v.dilation_w;
        if (from_x < 0 || from_x >= v.w) continue;
        sum += v.tap_sums[(ky * v.kw + kx) * v.channels + channel];
      }
    }
    return sum;
  }

  DEVICE static bool inside(const TensorConv& v, int64_t y, int64_t x) {
    const int64_t top = y * v.stride_h - v.padding_h, left = x * v.stride_w - v.padding_w;
    return top >= 0 && left >= 0 && top + (v.kh - 1) * v.dilation_h < v.h &&
           left + (v.kw - 1) * v.dilation_w < v.w;
  }

  DEVICE static float value(const TensorConv& v, float sum, const Channel& c) {
    float y = sum * c.scale + c.bias;
    if (v.activation == Activation::relu) y = y > 0 || y != y ? y : 0.0f;
    if (v.activation == Activation::leaky) y = y > 0 || y != y ? y : y * c.slope;
    return y;
  }

  DEVICE static float added(const TensorConv& v, int64_t at) {
    const float scale = v.residual_scale != nullptr ? *v.residual_scale : 1.0f;
    switch (v.residual_storage) {
      case Storage::floats:
        return static_cast<const float*>(v.residual)[at] * scale;
      case Storage::halves:
        return to_float(static_cast<const Half*>(v.residual)[at]) * scale;
      default: {
        const int32_t level = static_cast<const uint8_t*>(v.residual)[at] + *v.residual_lowest;
        return static_cast<float>(level) * scale;
      }
    }
  }

  DEVICE static void put(const TensorConv& v, int64_t at, float y) {
    switch (v.output) {
      case Storage::floats:
        static_cast<float*>(v.y)[at] = y;
        return;
      case Storage::halves:
        static_cast<Half*>(v.y)[at] = from_float<Half>(y);
        return;
      case Storage::codes: {
        // Limits are whole numbers, so that they may come first; NaN becomes the lowest.
        const int32_t lowest = *v.out_lowest;
        const float low = static_cast<float>(lowest);
        const float high = static_cast<float>(lowest + v.out_levels - 1);
        y = y > low ? y : low;
        y = y < high ? y : high;
        static_cast<uint8_t*>(v.y)[at] = static_cast<uint8_t>(round_to_int(y) - lowest);
        return;
      }
    }
  }

  DEVICE static void store(const Args& args, int64_t sample, int64_t block, int64_t y, int64_t x,
                           const int32_t (&sums)[kRows][kWarpN / 8][4]) {
    const TensorConv& v = args.conv;
    // Results are fewer than 2^31: their indices are 32 bits, which is what divides fast.
    const int group = static_cast<int>(block / args.blocks);
    const int per_group = static_cast<int>(v.o / v.groups), f = static_cast<int>(v.shuffle);
    // With a pixel shuffle a group's channels come in the order of its square: [f][f][channels].
    const int channels = per_group / (f * f), pixel = channels * static_cast<int>(v.groups);
    const int line = static_cast<int>(v.out_w) * f * pixel;
    const int32_t lowest = *v.lowest;
    int at[kRows][2];  // of a pixel's first result, -1 where there is no pixel
    bool whole[kRows][2];
    UNROLL
    for (int r = 0; r < kRows; ++r) {
      UNROLL
      for (int lower = 0; lower < 2; ++lower) {
        const int64_t at_y = y + first_row() + r, at_x = x + lane() / 4 + 8 * lower;
        const bool there = at_y < v.out_h && at_x < v.out_w;
        const int row = static_cast<int>(sample * v.out_h + at_y) * f;
        at[r][lower] = there ? row * line + static_cast<int>(at_x) * f * pixel : -1;
        whole[r][lower] = inside(v, at_y, at_x);
      }
    }
    UNROLL
    for (int j = 0; j < kWarpN / 8; ++j) {
      const int in_block = first_channel() + 8 * j + lane() % 4 * 2;
      // Tables have kN channels for every block; the result those that exist.
      const int64_t table = block * kN + in_block;
      UNROLL
      for (int i = 0; i < 2; ++i) {
        const int in_group = static_cast<int>(block % args.blocks) * kN + in_block + i;
        if (in_group >= per_group) continue;
        const Channel c{v.scale[table + i], v.bias[table + i],
                        v.slope != nullptr ? v.slope[table + i] : 0.0f, v.total[table + i]};
        const int part = in_group / channels;
        const int from_pixel =
            part / f * line + part % f * pixel + group * channels + in_group % channels;
        UNROLL
        for (int r = 0; r < kRows; ++r) {
          UNROLL
          for (int lower = 0; lower < 2; ++lower) {
            if (at[r][lower] < 0) continue;
            int32_t sum = sums[r][j][2 * lower + i];
            if (kApart) sum >>= 8;
            const int64_t at_y = y + first_row() + r, at_x = x + lane() / 4 + 8 * lower;
            sum += lowest * (whole[r][lower] ? c.total : weights_inside(v, at_y, at_x, table + i));
            float made = value(v, static_cast<float>(sum), c);
            const int64_t to = at[r][lower] + from_pixel;
            if (v.residual != nullptr) made = made + added(v, to);
            if (v.last_relu) made = made > 0 || made != made ? made : 0.0f;
            put(v, to, made);
          }
        }
      }
    }
  }
};

template <Operand kA, bool kApart, int kTile, int kRows>
Status convolve(const TensorConv& v, Stream stream) {
  Args args{v, (v.out_w + kWidth - 1) / kWidth, (v.out_h + kTile - 1) / kTile, 0, 0, 0, 0};
  args.halo_rows = static_cast<int>((kTile - 1) * v.stride_h + (v.kh - 1) * v.dilation_h + 1);
  args.halo_columns = static_cast<int>((kWidth - 1) * v.stride_w + (v.kw - 1) * v.dilation_w + 1);
  const int64_t step = kApart ? kSlab / 2 : kSlab;
  args.rounds = static_cast<int>((v.group_bytes + step - 1) / step);
  args.blocks = (v.o / v.groups + kN - 1) / kN;
  const int64_t shared =
      v.kh * v.kw * kTapBytes + static_cast<int64_t>(args.halo_rows) * args.halo_columns * kSlab;
  if (shared > v.shared_limit) return Status::not_taken;
  const int64_t items = v.n * args.tiles_y * args.tiles_x;
  const Grid grid{items < v.workers ? items : v.workers, v.groups * args.blocks};
  return launch<Convolve<kA, kApart, kTile, kRows>>(grid, shared, stream, args);
}

// Tall tiles read less of their neighbours, where shared memory holds them.
template <Operand kA, bool kApart>
Status convolve(const TensorConv& v, Stream stream) {
  const Status tall = convolve<kA, kApart, 16, 2>(v, stream);
  return tall == Status::not_taken ? convolve<kA, kApart, 4, 2>(v, stream) : tall;
}

}  // namespace

Status tensor_conv(const TensorConv& v, Stream stream) {
  if (v.n * v.h * v.w * v.bytes > kMaxElements || v.n * v.out_h * v.out_w * v.o > kMaxElements) {
    return Status::too_large;
  }
  if (v.bits == 8) return convolve<Operand::u8, false>(v, stream);
  return v.apart ? convolve<Operand::u4, true>(v, stream) : convolve<Operand::u4, false>(v, stream);
}

}  // namespace ptqsr::cuda
