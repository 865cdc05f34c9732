#pragma once

#include <cstdint>
#include <string>

#include "ptqsr/conv.h"
#include "ptqsr/status.h"
#include "ptqsr/subset.h"
#include "ptqsr/views.h"

// Operations on GPUs. All buffers are the caller's, in the memory of the device that is current;
// work is put on the caller's stream, and no function waits for it or allocates anything. The same
// functions exist a second time on the host, for tests (csrc/cuda/simt.h).
namespace ptqsr::cuda {

using Stream = void*;  // a cudaStream_t

// Of Status::device_failed, on this thread.
std::string last_error();

enum class Number { float32, float16, bfloat16 };

// Tensors have at most this many elements.
constexpr int64_t kMaxElements = INT32_MAX;

// ptqsr/subset.h's, of x in any number; by the layout's own sums, see csrc/cuda/statistics.cu.
struct ChannelStats {
  const void* x;
  Number number;
  ActivationShape shape;
  void* workspace;           // statistics_workspace(..) bytes
  float *mean, *low, *high;  // [n][c]
};
int64_t statistics_workspace(const ActivationShape& shape, Number number);
Status channel_stats(const ChannelStats& args, Stream stream);

// ptqsr/subset.h's normalisation() of all channels of all samples.
Status normalisation(const NormalisationArgs& args, Stream stream);

// The points of x for given statistics, as subset_encode and subset_fake_quant find them. Points
// are taken to ascend within [-denominator, denominator]: looking would be waiting.
// Status::not_taken where shared memory does not hold the points of as many channels as a thread
// takes: from some 1,000 levels on.
struct SubsetMap {
  const void* x;
  Number number;
  ActivationShape shape;
  const int32_t* points;  // [c][levels]
  int64_t levels;
  int32_t denominator;
  const float *mean, *scale;  // [n][c]
};
// The point as int8, where denominator <= 127.
Status subset_encode(const SubsetMap& args, int8_t* out, Stream stream);
// Its index, uint8.
Status subset_indices(const SubsetMap& args, uint8_t* out, Stream stream);
// The value k * (scale / D) + mean, in x's number.
Status subset_quantize(const SubsetMap& args, void* out, Stream stream);
// y = k * (scale / D) + mean, of int8 points in the layout of `shape`.
Status subset_decode(const int8_t* k, const ActivationShape& shape, int32_t denominator,
                     const float* mean, const float* scale, float* y, Stream stream);

// What becomes of the sums of a product.
enum class GemmOutput { int32, float32, float16, int8, uint8 };
struct GemmEpilogue {
  GemmOutput output;
  void* c;             // [m][n]
  const float* scale;  // [n] or null; int32 has none of these
  const float* bias;   // [n] or null
  bool relu;
};

// C [m][n] = A [m][k] B [n][k]: int32 sums, or clamp(rint(relu(sum * scale + bias))), each step
// rounded to float32. Operands are int8, A also uint8 (`signed_a` false), or of 4 bits, two in a
// byte, the first in its low half. Rows have a multiple of 16 bytes, and begin at one.
struct Gemm {
  const void *a, *b;
  int64_t m, n, k;
  int bits;
  bool signed_a;
  GemmEpilogue epilogue;
};
Status gemm(const Gemm& args, Stream stream);

// Of the rows of a picture (or its columns), see csrc/cuda/border.h.
struct Border {
  int first, last, size;
};

// Sums of what a convolution stores, as integers, which add up the same in any order; see
// csrc/cuda/moments.h.
// What they make is the block's that ends last: mean, low and high as channel_stats has them.
struct Moments {
  int64_t* sum;                // [n][c]
  int32_t *low, *high;         // [n][c]
  int32_t* blocks;             // [1]: how many have ended
  float *mean, *least, *most;  // [n][c]
};

// A convolution of codes, channels_last, by int8 or int4 weights on tensor cores, with all of the
// epilogue of ptqsr/conv.h's QuantConv.
//
// Operands have `bytes` a pixel, `group_bytes` of each group: multiples of 16, of one code, or of
// two where `bits` is 4. x has a byte for every code, and where it `encodes` a float16. Weights lie
// as shared memory has them, ptqsr/ops/cuda/tensor_conv.py packs them:
//
//   [group][block of 64 output channels][round of `row` bytes][tap][64 output channels][row bytes]
//
// Of the 64 output channels row 8 j + 2 q + i has channel 16 q + 2 j + i, so that a thread's
// results lie beside each other. Tables have `channels` = groups * blocks * 64 entries, 0 where
// there is no output channel.
struct TensorConv {
  const unsigned char* x;
  int n, h, w, bytes, group_bytes, groups;
  int bits, row;
  bool is_signed;      // codes are int8, else unsigned
  bool encodes;        // x is float16, twice as many bytes, and becomes points on the way
  SubsetInput subset;  // of what is encoded: at most 16 points a channel
  // Samples have a scale and a lowest level each, or, of signed codes always, scale, weights, bias.
  bool by_sample;
  const unsigned char* weights;
  int o, channels, kh, kw, stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w;
  int out_h, out_w;  // before a pixel shuffle
  // Quantizers are read on the device: whoever launches does not wait for their values. Code +
  // lowest is a level; null: signed codes are levels.
  const int32_t* lowest;  // [1], by_sample [n]
  const int32_t* total;   // [channels]: the sum of a kernel's weights
  const int32_t* zeros;   // [channels]: what weights lack, times the window's levels; null: nothing
  const float* scale;     // [channels], by_sample [n][channels]
  const float* bias;      // [class of rows][class of columns][channels]
  Border rows, columns;   // of results
  const float* slope;     // [channels], for `leaky`
  Activation activation;
  const void* residual;  // laid out as y, or null
  Storage residual_storage;
  const float* residual_scale;     // of codes, or where codes come out; else null
  const int32_t* residual_lowest;  // of codes
  bool last_relu;
  int shuffle;
  Storage output;
  void* y;
  const int32_t* out_lowest;  // of codes
  int out_levels;
  Moments moments;  // of float16 results, added to; sum is null: not wanted
};
// Status::not_taken where shared memory does not hold weights and input.
Status tensor_conv(const TensorConv& args, Stream stream);

// Packed indices [n][pixel][packed_bytes(c, bits)] (ptqsr/packing.h). An index beyond the points
// counts as the last: looking would be waiting.
struct PackedSubset {
  const uint8_t* packed;
  int64_t n, c, pixels;
  int bits;
  const int32_t* points;  // [c][levels]
  int64_t levels;
  int32_t denominator;
  const float *mean, *scale;  // [n][c]
};
// y [n][pixel][c], of the indices' points as subset_decode has it.
Status subset_decode_packed(const PackedSubset& args, float* y, Stream stream);

// Of ptqsr/uniform.h, x in any number, computed in float32; step, lowest level and levels lie on
// the device, one of each for each of so many samples, and are taken to be in range.
struct UniformMap {
  const void* x;
  Number number;
  int64_t samples, count;  // of a sample
  const float* step;
  const int32_t* lowest;
  const int32_t* levels;  // null: 2^bits
  int bits;
};
// In x's number.
Status uniform_fake_quant(const UniformMap& args, void* y, Stream stream);
Status uniform_encode(const UniformMap& args, uint8_t* codes, Stream stream);

// Of ptqsr/packing.h; of a code that is too large the low bits are taken.
Status pack_codes(const uint8_t* codes, int64_t rows, int64_t count, int bits, uint8_t* packed,
                  Stream stream);
Status unpack_codes(const uint8_t* packed, int64_t rows, int64_t count, int bits, uint8_t* codes,
                    Stream stream);

// ptqsr/conv.h's.
Status refold_weights(const Refold& args, Stream stream);

// What a subset convolution multiplies and adds for given statistics of its input, in the places
// where TensorConv with `by_sample` reads it: refolded weights, scale'[n][o] / D, and the bias with
// what the means add, by class of the border (DESIGN, section 4).
struct SubsetTables {
  Refold fold;                        // out: not looked at
  const float* mean;                  // [n][c]
  const float* bias;                  // [o] or null
  int denominator, places, channels;  // of the shuffle's square; entries of a table
  int h, w, kh, kw, stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w;
  Border rows, columns;
  int8_t* weights;
  float* scale;     // [n][channels]
  float* terms;     // [n][class of rows][class of columns][channels]
  Moments moments;  // [n][o / places], to begin with; sum is null: none
};
Status subset_tables(const SubsetTables& args, Stream stream);

// Sums of k [n][h][w][c] times weight [o][kh][kw][c / groups], y [n][out_h][out_w][o], zero
// padding.
struct IntConv {
  ConvShape shape;
  const void* k;  // int8 or uint8
  bool is_signed;
  const int8_t* weight;
  int32_t* y;
};
Status int_conv2d(const IntConv& args, Stream stream);

// The same by shifting and adding, sums mod 2^32. A code is, from its lowest bit on, an index for
// every word, of as many bits as `elements` need, then a sign (1: negative); it stands for the sum
// of its words' elements 2^shift, or 0 where the shift is -1.
struct ShiftAddConv {
  ConvShape shape;
  const int32_t* codes;
  const int32_t* shifts;  // [words][elements]
  int64_t words, elements;
  const void* weight;  // int8, or int16 if `wide`
  bool wide;
  int32_t* y;
};
Status shift_add_conv2d(const ShiftAddConv& args, Stream stream);

}  // namespace ptqsr::cuda
