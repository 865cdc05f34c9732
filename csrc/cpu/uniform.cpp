#include "cpu/uniform.h"

#include <algorithm>

#include "cpu/parallel.h"
#include "ptqsr/uniform.h"

namespace ptqsr {

const cpu::UniformLoops& cpu::uniform_loops(Isa isa) {
#ifdef PTQSR_X86
  if (isa >= Isa::avx512) return kUniformAvx512;
  if (isa == Isa::avx2) return kUniformAvx2;
#endif
  static_cast<void>(isa);
  return kUniformPortable;
}

namespace {

constexpr int64_t kBlock = 1 << 16;  // values in a task

// Calls loop(x, count, grid, out) on parts of the values.
template <class T>
Status run(const Uniform& args, T* out, Isa isa, int threads,
           void (*cpu::UniformLoops::*loop)(const float*, int64_t, const cpu::UniformGrid&, T*)) {
  if (!isa_available(isa)) return Status::isa_not_available;
  const cpu::UniformGrid grid{args.step, args.lowest, args.levels};
  const auto function = cpu::uniform_loops(isa).*loop;
  cpu::parallel_for((args.count + kBlock - 1) / kBlock, threads, [&](int64_t task) {
    const int64_t start = task * kBlock;
    function(args.x + start, std::min(kBlock, args.count - start), grid, out + start);
  });
  return Status::ok;
}

}  // namespace

Status uniform_fake_quant(const Uniform& args, float* y, Isa isa, int threads) {
  return run(args, y, isa, threads, &cpu::UniformLoops::quantize);
}

Status uniform_encode(const Uniform& args, uint8_t* out, Isa isa, int threads) {
  return run(args, out, isa, threads, &cpu::UniformLoops::encode);
}

}  // namespace ptqsr
