#include "cpu/conv.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <new>
#include <vector>

#include "cpu/conv_rows.h"
#include "cpu/conv_statistics.h"
#include "cpu/conv_weights.h"
#include "cpu/float_mode.h"
#include "cpu/parallel.h"
#include "cpu/subset_tables.h"
#include "ptqsr/conv.h"
#include "ptqsr/subset.h"

namespace ptqsr {
namespace cpu {

const ConvLoops& conv_loops(Isa isa) {
#ifdef PTQSR_X86
  if (isa == Isa::avx512_vnni) return kConvAvx512Vnni;
  if (isa == Isa::avx512) return kConvAvx512;
  if (isa == Isa::avx2) return kConvAvx2;
#endif
  static_cast<void>(isa);
  return kConvPortable;
}

namespace {

int64_t size_of(Storage storage) {
  return storage == Storage::codes ? 1 : storage == Storage::halves ? 2 : 4;
}
int64_t size_of(Output output) {
  return output == Output::codes ? 1 : output == Output::halves ? 2 : 4;
}

// Memory that is wanted soon.
struct Stretch {
  const uint8_t* from;
  int64_t bytes;
};

// Ask for the part [x0, x1) of `width` of a stretch.
template <bool kWrite>
void prefetch(const Stretch& stretch, int64_t x0, int64_t x1, int64_t width) {
  constexpr int64_t kLine = 64;
  if (stretch.bytes == 0) return;
  const uint8_t* end = stretch.from + stretch.bytes * x1 / width;
  for (const uint8_t* p = stretch.from + stretch.bytes * x0 / width; p < end; p += kLine) {
    __builtin_prefetch(p, kWrite ? 1 : 0, 2);
  }
}

class Convolution {
 public:
  Convolution(const QuantConv& args, const std::vector<Range>& ranges, const ConvLoops& loops,
              Isa isa, int threads)
      : args_(args),
        s_(args.shape),
        loops_(loops),
        list_(args, loops),
        rows_(s_.h, s_.out_h, s_.kh, s_.stride_h, s_.padding_h, s_.dilation_h),
        columns_(s_.w, s_.out_w, s_.kw, s_.stride_w, s_.padding_w, s_.dilation_w),
        encoder_(args, isa),
        lanes_(list_.channels.size()),
        // A band begins with rows that the one above has encoded too.
        bands_(std::min<int64_t>(s_.out_h, threads == 1 ? 1 : 2 * threads)),
        threads_(threads),
        statistics_(args, list_, bands_) {
    const int64_t subsets = args.encoding == Encoding::subset ? s_.n : 1;
    for (int64_t sample = 0; sample < std::max(subsets, args.uniforms); ++sample) {
      add_kind(sample, ranges);
    }
  }
  Convolution(const Convolution&) = delete;
  Convolution& operator=(const Convolution&) = delete;

  void run() {
    const int64_t tasks = s_.n * bands_, workers = std::min<int64_t>(threads_, tasks);
    std::vector<Scratch> scratch;  // here, since a task must not throw
    for (int64_t i = 0; i < workers; ++i) scratch.emplace_back(*this);
    std::atomic<int64_t> next{0};
    parallel_for(workers, threads_, [&](int64_t worker) {
      for (int64_t task; (task = next.fetch_add(1)) < tasks;) {
        band(task / bands_, task % bands_, scratch[worker]);
      }
    });
    statistics_.finish();
  }

 private:
  // What samples share that are encoded and multiplied alike.
  struct Kind {
    UniformInput uniform;
    Operands operands;
    int zero;
    size_t rows, weights;  // places in Scratch and in weights_
    LaneTables tables;
  };

  void add_kind(int64_t sample, const std::vector<Range>& ranges) {
    const bool uniform = args_.encoding == Encoding::uniform;
    const UniformInput input = uniform ? uniform_of(args_, sample) : UniformInput{};
    const auto alike = [&](const Kind& kind) { return uniform && kind.uniform == input; };
    const auto found = std::find_if(kinds_.begin(), kinds_.end(), alike);
    kind_of_.push_back(found - kinds_.begin());
    if (found != kinds_.end()) return;
    const Operands operands(args_, input.levels, ranges, loops_);
    size_t weights = weights_.size();
    for (const Kind& other : kinds_) {
      if (uniform && other.operands.bytes == operands.bytes &&
          other.operands.centred == operands.centred) {
        weights = other.weights;
      }
    }
    if (weights == weights_.size()) {
      weights_.push_back(pack_weights(args_, list_, loops_, operands, sample));
    }
    kinds_.push_back(
        {input, operands, zero_code(args_, sample), uniform ? kinds_.size() : 0, weights,
         lane_tables(args_, list_, operands, weights_[weights], rows_, columns_, sample)});
  }

  // What a worker needs beside input and output.
  struct Scratch {
    explicit Scratch(const Convolution& conv)
        : acc(kMaxTilePixels * kMaxBlockLanes),
          segment(conv.list_),
          runs(conv.s_.kh * conv.s_.kw),
          direct_runs(conv.s_.kh * conv.s_.kw),
          window_sums(conv.s_.groups * conv.s_.out_w),
          next(conv.args_.part_count + 1) {
      for (const Kind& kind : conv.kinds_) {
        if (kind.rows < rows.size()) continue;  // one for all samples of subsets
        rows.emplace_back(conv.args_, conv.encoder_, kind.operands, kind.zero);
      }
    }
    std::vector<PaddedRows> rows;
    std::vector<int32_t> acc;
    ConvStatistics::Segment segment;
    std::vector<Run> runs, direct_runs;
    std::vector<int32_t> window_sums;
    std::vector<Stretch> next;  // what the row after this reads
    Stretch next_y;             // and what it writes
  };

  void band(int64_t sample, int64_t number, Scratch& scratch) {
    const Kind& kind = kinds_[kind_of_[kind_of_.size() == 1 ? 0 : sample]];
    PaddedRows& rows = scratch.rows[kind.rows];
    const int64_t first = number * s_.out_h / bands_, last = (number + 1) * s_.out_h / bands_;
    for (int64_t y = first; y < last; ++y) {
      rows.move_to(sample, y * s_.stride_h - s_.padding_h);
      if (!weights_[kind.weights].zero_points.empty()) rows.window_sums(scratch.window_sums.data());
      const int64_t runs = rows.runs(scratch.runs.data(), false);
      if (rows.direct()) rows.runs(scratch.direct_runs.data(), true);
      look_ahead(sample, y + 1 < last ? y + 1 : -1, rows, scratch);
      for (size_t b = 0; b < list_.blocks.size(); ++b) {
        block_row(sample, y, number, b, runs, kind, scratch);
      }
    }
  }

  // While a row is multiplied the memory has nothing to do: it brings what the next row needs, no
  // row where y < 0.
  void look_ahead(int64_t sample, int64_t y, const PaddedRows& rows, Scratch& scratch) const {
    std::fill(scratch.next.begin(), scratch.next.end(), Stretch{});
    scratch.next_y = {};
    // Bytes from bytes are so few that asking for them takes longer than what it saves.
    if (y < 0 || (rows.direct() && args_.output == Output::codes)) return;
    const int64_t in = y * s_.stride_h - s_.padding_h + (s_.kh - 1) * s_.dilation_h;
    for (int64_t p = 0; in >= 0 && in < s_.h && p < args_.part_count; ++p) {
      const ConvPart& part = args_.parts[p];
      const int64_t bytes = s_.w * part.channels * size_of(part.storage);
      scratch.next[p] = {static_cast<const uint8_t*>(part.data) + (sample * s_.h + in) * bytes,
                         bytes};
    }
    const int64_t values = s_.out_w * s_.o, row = sample * s_.out_h + y;
    const auto row_of = [&](const void* tensor, int64_t size) {
      return Stretch{static_cast<const uint8_t*>(tensor) + row * values * size, values * size};
    };
    scratch.next_y = row_of(args_.y, size_of(args_.output));
    if (args_.residual != nullptr) {
      scratch.next.back() = row_of(args_.residual, size_of(args_.residual_storage));
    }
  }

  // One row of one block of output channels.
  void block_row(int64_t sample, int64_t y, int64_t band, int64_t number, int64_t runs,
                 const Kind& kind, Scratch& scratch) {
    const Block& block = list_.blocks[number];
    const PackedWeights& packed = weights_[kind.weights];
    const PaddedRows& rows = scratch.rows[kind.rows];
    const int64_t pixel_bytes = rows.pixel_bytes();
    TileInput in{scratch.runs.data(),
                 runs,
                 0,
                 s_.stride_w * pixel_bytes,
                 packed.words.data() + packed.block_at[number],
                 kind.tables.start.data() + block.first,
                 kind.operands.exact_words};
    TileOutput out = output(sample, y, block, packed, kind.tables);
    statistics_.begin_row(sample, band, block, scratch.segment, &out);
    const int64_t start = out.at, most = loops_.max_pixels[block.vectors];
    for (int64_t left = 0; left < s_.out_w; left += kSegment) {
      const int64_t size = std::min(kSegment, s_.out_w - left), tiles = (size + most - 1) / most;
      out.begins = true;
      for (int64_t t = 0; t < tiles; ++t) {
        // Tiles of about the same width: a narrow one wastes the loads of the weights.
        const int64_t x = left + t * size / tiles;
        out.pixels = left + (t + 1) * size / tiles - x;
        in.runs =
            rows.lies_inside(x, out.pixels) ? scratch.direct_runs.data() : scratch.runs.data();
        in.offset = block.group * rows.group_bytes() + x * in.stride;
        kind.operands.tile(block.vectors, static_cast<int>(out.pixels), in, scratch.acc.data());
        out.at = start + x * out.step;
        out.classes = columns_.of.data() + x;
        out.acc = scratch.acc.data();
        if (!packed.zero_points.empty()) {
          out.window_sums = scratch.window_sums.data() + block.group * s_.out_w + x;
        }
        store(out);
        out.begins = false;
        if (number == 0) {
          for (const Stretch& next : scratch.next)
            prefetch<false>(next, x, x + out.pixels, s_.out_w);
          prefetch<true>(scratch.next_y, x, x + out.pixels, s_.out_w);
        }
      }
      statistics_.end_segment(sample, y, left, size, block, scratch.segment);
    }
  }

  // What is the same for all tiles of a row.
  TileOutput output(int64_t sample, int64_t y, const Block& block, const PackedWeights& packed,
                    const LaneTables& tables) const {
    const int64_t f = args_.shuffle, channels = s_.o / (f * f);
    TileOutput out{};
    out.lanes = block.vectors * loops_.lanes;
    out.channels = block.channels;
    out.zero_points =
        packed.zero_points.empty() ? nullptr : packed.zero_points.data() + block.first;
    out.scale = tables.scale.data() + block.first;
    out.terms = tables.terms.data() + rows_.of[y] * columns_.inside.size() * lanes_ + block.first;
    out.terms_stride = lanes_;
    out.leaky = args_.activation == Activation::leaky;
    out.slope = out.leaky ? tables.slope.data() + block.first : nullptr;
    out.floor = args_.activation == Activation::relu ? 0 : -INFINITY;
    out.last_floor = args_.last == Activation::relu ? 0 : -INFINITY;
    const int64_t row = (sample * s_.out_h + y) * f + block.sub_y;
    out.at = (row * s_.out_w * f + block.sub_x) * channels + block.to;
    out.step = f * channels;
    out.y = args_.y;
    out.residual = args_.residual;
    out.residual_storage = args_.residual_storage;
    const bool codes = args_.output == Output::codes;
    if (args_.residual != nullptr && args_.residual_storage == Storage::codes) {
      const float step = args_.residual_uniform.step;
      out.residual_scale = codes ? step / args_.requantized.step : step;
      out.residual_lowest = args_.residual_uniform.lowest;
    } else {
      out.residual_scale = codes ? 1.0f / args_.requantized.step : 1.0f;
    }
    out.lowest_level = args_.requantized.lowest;
    out.lowest = static_cast<float>(args_.requantized.lowest);
    out.highest = static_cast<float>(args_.requantized.lowest + args_.requantized.levels - 1);
    return out;
  }

  void store(const TileOutput& out) const {
    switch (args_.output) {
      case Output::floats:
        return loops_.store_floats(out);
      case Output::halves:
        return loops_.store_halves(out);
      case Output::codes:
        return loops_.store_codes(out);
      case Output::sums:
        for (int64_t i = 0; i < out.pixels; ++i) {
          std::memcpy(static_cast<int32_t*>(args_.y) + out.at + i * out.step,
                      out.acc + i * out.lanes, out.channels * sizeof(int32_t));
        }
    }
  }

  const QuantConv& args_;
  const ConvShape& s_;
  const ConvLoops& loops_;
  BlockList list_;
  BorderClasses rows_, columns_;
  RowEncoder encoder_;
  int64_t lanes_, bands_;
  int threads_;
  ConvStatistics statistics_;
  std::vector<PackedWeights> weights_;
  std::vector<Kind> kinds_;
  std::vector<size_t> kind_of_;  // of every sample, or one for all
};

}  // namespace
}  // namespace cpu

namespace {

// Of each output channel's levels.
std::vector<cpu::Range> level_ranges(const QuantConv& args) {
  const ConvShape& s = args.shape;
  const int64_t kernel = s.c / s.groups * s.kh * s.kw;
  std::vector<cpu::Range> ranges;
  for (int64_t o = 0; o < s.o; ++o) {
    ranges.push_back(cpu::range_of(args.weight_levels + o * kernel, kernel));
  }
  return ranges;
}

// Uniform weights are 8 bits beside a zero point; those of subsets are quantized again.
bool levels_in_range(const QuantConv& args, const std::vector<cpu::Range>& ranges) {
  const bool subset = args.encoding == Encoding::subset;
  return std::all_of(ranges.begin(), ranges.end(), [&](const cpu::Range& r) {
    return r.least >= -255 && r.most <= 255 && (subset || r.most - r.least <= 255);
  });
}

uint8_t largest_of(const uint8_t* codes, int64_t count) {
  uint8_t largest = 0;  // a plain loop, which becomes vectors
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, codes[i]);
  return largest;
}

// Whether all codes that are given are below the number of levels.
bool codes_in_range(const QuantConv& args) {
  const ConvShape& s = args.shape;
  for (int64_t p = 0; p < args.part_count; ++p) {
    if (args.parts[p].storage != Storage::codes) continue;
    const auto* codes = static_cast<const uint8_t*>(args.parts[p].data);
    const int64_t count = s.h * s.w * args.parts[p].channels;
    for (int64_t n = 0; n < s.n; ++n) {
      const int32_t levels = cpu::uniform_of(args, n).levels;
      if (levels < 256 && largest_of(codes + n * count, count) >= levels) return false;
    }
  }
  return true;
}

}  // namespace

Status quant_conv2d(const QuantConv& args, Isa isa, int threads) {
  if (!isa_available(isa)) return Status::isa_not_available;
  const ConvShape& s = args.shape;
  if (args.encoding == Encoding::uniform && !codes_in_range(args)) {
    return Status::code_out_of_range;
  }
  if (args.encoding == Encoding::subset) {
    const SubsetInput& in = args.subset;
    const Status status = cpu::Points{in.points, s.c, in.levels, in.denominator}.check();
    if (status != Status::ok) return status;
  }
  const cpu::FloatMode ieee;
  try {
    const std::vector<cpu::Range> ranges = level_ranges(args);
    if (!levels_in_range(args, ranges)) return Status::levels_out_of_range;
    if (s.n * s.out_h * s.out_w == 0) return Status::ok;
    cpu::Convolution(args, ranges, cpu::conv_loops(isa), isa, threads).run();
    return Status::ok;
  } catch (const std::bad_alloc&) {
    return Status::out_of_memory;
  }
}

}  // namespace ptqsr
