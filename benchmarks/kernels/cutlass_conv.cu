// A peer for benchmarks.gpu: CUTLASS's convolution as an implicit product of matrices, 3x3 with
// padding 1, NHWC, signed codes in and out, one factor for all channels, no bias and no ReLU.
//
// Compiled once for every form, by macros: BITS (8 or 4), TILE_M, TILE_N, TILE_K (of a block, in
// pixels, channels and codes along K), WARP_M, WARP_N (of a warp), STAGES and ARCHITECTURE
// (75 or 80: the instructions).
#include <cutlass/conv/kernel/default_conv2d_fprop.h>
// After what it takes its size of C from.
#include <cutlass/conv/device/implicit_gemm_convolution.h>
#include <cutlass/epilogue/thread/linear_combination_clamp.h>

namespace {

using Code = cutlass::platform::conditional<BITS == 4, cutlass::int4b_t, int8_t>::type;
using Layout = cutlass::layout::TensorNHWC;
using Tile = cutlass::gemm::GemmShape<TILE_M, TILE_N, TILE_K>;
using Warp = cutlass::gemm::GemmShape<WARP_M, WARP_N, TILE_K>;
#if ARCHITECTURE >= 80
using Processor = cutlass::arch::Sm80;
using Instruction = cutlass::gemm::GemmShape<16, 8, 256 / BITS>;
#else
using Processor = cutlass::arch::Sm75;
using Instruction = cutlass::gemm::GemmShape<8, 8, 128 / BITS>;
#endif
// Codes that a thread stores at a time: at most as many as a warp's columns leave it.
constexpr int kVector = BITS == 4 && WARP_N < 64 ? 8 : 64 / BITS;
// Clamped to the codes that there are.
using Epilogue = cutlass::epilogue::thread::LinearCombinationClamp<
    Code, kVector, int32_t, float, cutlass::epilogue::thread::ScaleType::OnlyAlphaScaling>;
using Kernel = cutlass::conv::kernel::DefaultConv2dFprop<
    Code, Layout, Code, Layout, Code, Layout, int32_t, cutlass::arch::OpClassTensorOp, Processor,
    Tile, Warp, Instruction, Epilogue, cutlass::gemm::threadblock::GemmIdentityThreadblockSwizzle<>,
    STAGES, cutlass::arch::OpMultiplyAddSaturate, cutlass::conv::IteratorAlgorithm::kOptimized,
    cutlass::conv::StrideSupport::kUnity, 128 / BITS, 128 / BITS>::Kernel;
using Convolution = cutlass::conv::device::ImplicitGemmConvolution<Kernel>;

}  // namespace

// y [n][h][w][o] = clamp(round(sums * factor)) of x [n][h][w][c] and weights [o][3][3][c], two
// codes in a byte where there are 4 bits, the first in its low half. Returns CUTLASS's status, 0
// for success; needs no workspace.
extern "C" int cutlass_conv(int n, int h, int w, int c, int o, void* x, void* weights, void* y,
                            float factor, void* stream) {
  const cutlass::conv::Conv2dProblemSize problem({n, h, w, c}, {o, 3, 3, c}, {1, 1, 1, 1}, {1, 1},
                                                 {1, 1}, cutlass::conv::Mode::kCrossCorrelation, 1);
  const Layout in = Layout::packed({n, h, w, c}), filter = Layout::packed({o, 3, 3, c}),
               out = Layout::packed({n, h, w, o});
  auto* const result = static_cast<Code*>(y);
  const typename Convolution::Arguments arguments{problem,
                                                  {static_cast<Code*>(x), in},
                                                  {static_cast<Code*>(weights), filter},
                                                  {result, out},
                                                  {result, out},
                                                  {factor}};
  Convolution convolution;
  auto status = Convolution::can_implement(arguments);
  if (status != cutlass::Status::kSuccess) return static_cast<int>(status);
  if (convolution.get_workspace_size(arguments) != 0) return -1;
  status = convolution.initialize(arguments, nullptr, static_cast<cudaStream_t>(stream));
  if (status != cutlass::Status::kSuccess) return static_cast<int>(status);
  return static_cast<int>(convolution.run(static_cast<cudaStream_t>(stream)));
}

// What a status means.
extern "C" const char* cutlass_error(int status) {
  return cutlass::cutlassGetStatusString(static_cast<cutlass::Status>(status));
}
