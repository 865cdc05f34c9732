#include "cpu/conv_weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <utility>

#include "cpu/parallel.h"

namespace ptqsr {
namespace cpu {
namespace {

// From so many words between two widenings on, narrow_tile is as fast as summed_tile or faster.
constexpr int64_t kNarrowWords = 8;

// The words of one lane, `width` words apart: operands levels[c][tap] - zero, the channels of a
// window's tap in a row, 0 where the last word has more. Returns the operands' sum.
template <class Operand>
int32_t place(const int16_t* levels, int64_t channels, int64_t taps, int32_t zero, int64_t width,
              uint8_t* words) {
  constexpr int64_t kInWord = 4 / sizeof(Operand);
  std::vector<Operand> tap((channels + 3) / 4 * 4);  // of all channels, then 0
  int32_t total = 0;
  for (int64_t t = 0; t < taps; ++t) {
    for (int64_t c = 0; c < channels; ++c) {
      const int32_t value = levels[c * taps + t] - zero;
      tap[c] = static_cast<Operand>(value);
      total += value;
    }
    for (size_t c = 0; c < tap.size(); c += kInWord, words += 4 * width) {
      std::memcpy(words, tap.data() + c, 4);
    }
  }
  return total;
}

// The vectors of one of a few output channels, operands in their order, levels as in `place`.
int32_t place_few(const int16_t* levels, int64_t channels, int64_t taps, int32_t zero,
                  int64_t vector, uint8_t* vectors) {
  int32_t total = 0;
  for (int64_t t = 0; t < taps; ++t) {
    for (int64_t c = 0; c < channels; ++c) {
      const int32_t value = levels[c * taps + t] - zero;
      const int64_t at = t * channels + c;
      vectors[at / vector * kFewChannels * vector + at % vector] = static_cast<uint8_t>(value);
      total += value;
    }
  }
  return total;
}

// t of one output channel: the bias, and the means over the taps inside the picture.
void border_terms(const QuantConv& args, const BorderClasses& rows, const BorderClasses& columns,
                  int64_t sample, int64_t o, int64_t lane, int64_t lanes, float* terms) {
  const ConvShape& s = args.shape;
  const int64_t channels = s.c / s.groups, taps = s.kh * s.kw;
  const int64_t first = o / (s.o / s.groups) * channels;
  const float* mean = args.subset.mean + sample * s.c + first;
  const int16_t* levels = args.weight_levels + o * channels * taps;
  std::vector<double> by_tap(taps);
  for (int64_t c = 0; c < channels; ++c) {
    if (mean[c] == 0) continue;
    for (int64_t t = 0; t < taps; ++t) {
      const float w = static_cast<float>(levels[c * taps + t]) * args.weight_step[o];
      by_tap[t] += static_cast<double>(mean[c]) * w;
    }
  }
  const double bias = args.bias == nullptr ? 0 : args.bias[o];
  for (size_t r = 0; r < rows.inside.size(); ++r) {
    for (size_t k = 0; k < columns.inside.size(); ++k) {
      double sum = bias;
      for (int64_t t = 0; t < taps; ++t) {
        if (rows.inside[r][t / s.kw] && columns.inside[k][t % s.kw]) sum += by_tap[t];
      }
      terms[(r * columns.inside.size() + k) * lanes + lane] = static_cast<float>(sum);
    }
  }
}

}  // namespace

InputScales::InputScales(const float* values, int64_t channels, int64_t taps)
    : of_taps(channels * taps),
      nan(std::any_of(values, values + channels, [](float s) { return std::isnan(s); })) {
  for (int64_t c = 0; c < channels; ++c) std::fill_n(of_taps.data() + c * taps, taps, values[c]);
}

// A plain loop without calls, which becomes vectors.
Range range_of(const int16_t* levels, int64_t count) {
  int16_t least = levels[0], most = levels[0];
  for (int64_t i = 0; i < count; ++i) {
    const int16_t level = levels[i];
    least = level < least ? level : least;
    most = level > most ? level : most;
  }
  return {least, most};
}

Operands::Operands(const QuantConv& args, int32_t levels, const std::vector<Range>& ranges,
                   const ConvLoops& loops)
    : tile(loops.tile), bytes(loops.operand_bytes), centred(false), few(false), exact_words(0) {
  const ConvShape& s = args.shape;
  int32_t widest = 0, farthest = 0;  // range of a kernel's levels; distance of one from 0
  for (const auto& [least, most] : ranges) {
    widest = std::max(widest, most - least);
    farthest = std::max({farthest, -least, most + 1});
  }
  if (args.encoding == Encoding::uniform) take_small(levels - 1, widest, farthest, loops);
  const int64_t vector = 4 * loops.lanes;
  if (loops.few_tile != nullptr && s.groups == 1 && s.c % vector == 0 && s.o <= kFewChannels &&
      args.shuffle == 1) {
    tile = loops.few_tile;
    few = true;
  }
  window_sums = bytes == 1 && args.encoding != Encoding::subset && (centred || farthest > 128);
}

// Bytes, where the products are so small that 16 bits hold sums of them.
void Operands::take_small(int32_t codes, int32_t widest, int32_t farthest, const ConvLoops& loops) {
  const bool beyond = farthest > 128;  // int8
  const int32_t weight = beyond ? std::max((widest + 1) / 2, 1) : farthest;
  // A word adds two products to either of two sums.
  const int64_t words = INT16_MAX / std::max(2 * codes * weight, 1);
  if (loops.summed_tile[0] == nullptr || words == 0) return;
  bytes = 1;
  centred = beyond;
  exact_words = words;
  int summed = kSummed - 1;
  while (1 << summed > words) --summed;
  const bool narrow = loops.narrow_tile != nullptr && words >= kNarrowWords;
  tile = narrow ? loops.narrow_tile : loops.summed_tile[summed];
}

BlockList::BlockList(const QuantConv& args, const ConvLoops& loops) {
  const ConvShape& s = args.shape;
  const int64_t square = args.shuffle * args.shuffle, per_group = s.o / s.groups;
  // Channels that follow each other in y, of one place of the shuffle's square and one group.
  const int64_t run = square == 1 ? per_group : s.o / square;
  const int64_t widest = loops.max_vectors * loops.lanes;
  for (int64_t part = 0; part < square; ++part) {
    for (int64_t c = 0; c < s.o / square;) {
      const auto source = [&](int64_t to) { return to * square + part; };
      const int64_t group = source(c) / per_group;
      int64_t end = c;
      while (end < s.o / square && end - c < widest && end - c < run &&
             source(end) / per_group == group) {
        ++end;
      }
      Block block{group,
                  static_cast<int>((end - c + loops.lanes - 1) / loops.lanes),
                  end - c,
                  static_cast<int64_t>(channels.size()),
                  part / args.shuffle,
                  part % args.shuffle,
                  c};
      for (int64_t lane = 0; lane < block.vectors * loops.lanes; ++lane) {
        channels.push_back(lane < block.channels ? source(c + lane) : -1);
      }
      blocks.push_back(block);
      c = end;
    }
  }
}

BorderClasses::BorderClasses(int64_t size, int64_t out, int64_t kernel, int64_t stride,
                             int64_t padding, int64_t dilation) {
  for (int64_t p = 0; p < out; ++p) {
    std::vector<uint8_t> taps(kernel);
    for (int64_t k = 0; k < kernel; ++k) {
      const int64_t at = p * stride - padding + k * dilation;
      taps[k] = at >= 0 && at < size;
    }
    auto found = std::find(inside.begin(), inside.end(), taps);
    of.push_back(static_cast<int32_t>(found - inside.begin()));
    if (found == inside.end()) inside.push_back(taps);
  }
}

int zero_code(const QuantConv& args, int64_t sample) {
  switch (args.encoding) {
    case Encoding::uniform:
      return -uniform_of(args, sample).lowest;
    case Encoding::unsigned_integers:
      return 0;
    default:
      return 128;
  }
}

float refold_channel(const ConvLoops& loops, const int16_t* levels, float step,
                     const InputScales& scales, int8_t* weight) {
  const int64_t count = scales.of_taps.size();
  const float* s = scales.of_taps.data();
  const float out = scales.nan ? NAN : loops.largest_folded(levels, step, s, count) / 127.0f;
  if (out > 0) {
    loops.refold(levels, step, s, out, count, weight);
  } else {
    std::fill_n(weight, count, 0);
  }
  return out;
}

PackedWeights pack_weights(const QuantConv& args, const BlockList& list, const ConvLoops& loops,
                           const Operands& operands, int64_t sample) {
  const ConvShape& s = args.shape;
  const int bytes = operands.bytes;
  const int64_t channels = s.c / s.groups, taps = s.kh * s.kw;
  const int64_t words_per_tap = (channels + 3) / 4 * bytes;
  const int64_t lanes = list.channels.size();
  const bool subset = args.encoding == Encoding::subset;
  PackedWeights packed;
  packed.words.resize(taps * words_per_tap * lanes * 4);
  packed.zero_points.resize(lanes);
  packed.totals.resize(lanes);
  packed.step.resize(lanes);
  std::vector<int8_t> weight(channels * taps);
  std::vector<int16_t> levels(channels * taps);
  std::vector<InputScales> scales;  // of each group
  for (int64_t g = 0; subset && g < s.groups; ++g) {
    scales.emplace_back(args.subset.scale + sample * s.c + g * channels, channels, taps);
  }
  int64_t at = 0;
  bool zero_points = false;
  for (const Block& block : list.blocks) {
    packed.block_at.push_back(at);
    const int64_t width = block.vectors * loops.lanes;
    for (int64_t i = 0; i < block.channels; ++i) {
      const int64_t lane = block.first + i, o = list.channels[lane];
      const int16_t* from = args.weight_levels + o * channels * taps;
      if (subset) {
        packed.step[lane] =
            refold_channel(loops, from, args.weight_step[o], scales[block.group], weight.data());
        std::copy(weight.begin(), weight.end(), levels.begin());
      } else {
        std::copy_n(from, channels * taps, levels.begin());
        packed.step[lane] = args.encoding == Encoding::uniform ? args.weight_step[o] : 1.0f;
      }
      int32_t zero = 0;
      if (operands.window_sums) {
        // To the middle, or, of levels that int8 does not hold, the least to -128; what is missing
        // is the sum over the window times `zero`.
        const auto [least, most] = range_of(levels.data(), channels * taps);
        if (operands.centred) {
          zero = least + (most - least + 1) / 2;
        } else if (least < -128 || most > 127) {
          zero = least + 128;
        }
      }
      packed.zero_points[lane] = zero;
      zero_points = zero_points || zero != 0;
      if (operands.few) {
        const int64_t vector = 4 * loops.lanes;
        packed.totals[lane] = place_few(levels.data(), channels, taps, zero, vector,
                                        packed.words.data() + i * vector);
      } else {
        uint8_t* words = packed.words.data() + at + i * 4;
        packed.totals[lane] =
            bytes == 1 ? place<int8_t>(levels.data(), channels, taps, zero, width, words)
                       : place<int16_t>(levels.data(), channels, taps, zero, width, words);
      }
    }
    at += taps * words_per_tap * width * 4;
  }
  if (!zero_points) packed.zero_points.clear();
  return packed;
}

LaneTables lane_tables(const QuantConv& args, const BlockList& list, const Operands& operands,
                       const PackedWeights& packed, const BorderClasses& rows,
                       const BorderClasses& columns, int64_t sample) {
  const int64_t lanes = list.channels.size(), classes = rows.inside.size() * columns.inside.size();
  LaneTables tables;
  tables.start.resize(lanes);
  tables.scale.resize(lanes);
  tables.terms.resize(classes * lanes);
  if (args.activation == Activation::leaky) tables.slope.resize(lanes);
  for (int64_t lane = 0; lane < lanes; ++lane) {
    const int64_t o = list.channels[lane];
    if (o < 0) continue;
    if (operands.bytes == 1) tables.start[lane] = -zero_code(args, sample) * packed.totals[lane];
    if (!tables.slope.empty()) tables.slope[lane] = args.slope[args.slopes == 1 ? 0 : o];
    float scale = packed.step[lane], term = args.bias == nullptr ? 0 : args.bias[o];
    if (args.encoding == Encoding::subset) {
      tables.scale[lane] = scale / static_cast<float>(args.subset.denominator);
      border_terms(args, rows, columns, sample, o, lane, lanes, tables.terms.data());
      continue;
    }
    if (args.encoding == Encoding::uniform) scale = uniform_of(args, sample).step * scale;
    if (args.output == Output::codes) {
      scale = scale / args.requantized.step;
      term = term / args.requantized.step;
    }
    tables.scale[lane] = scale;
    for (int64_t k = 0; k < classes; ++k) tables.terms[k * lanes + lane] = term;
  }
  return tables;
}

}  // namespace cpu

Status refold_weights(const Refold& args, Isa isa, int threads) {
  if (!isa_available(isa)) return Status::isa_not_available;
  const int64_t channels = args.c / args.groups, count = channels * args.taps;
  try {
    std::vector<cpu::InputScales> scales;  // of each sample and group
    for (int64_t i = 0; i < args.n * args.groups; ++i) {
      scales.emplace_back(args.scale + i * channels, channels, args.taps);
    }
    const cpu::ConvLoops& loops = cpu::conv_loops(isa);
    cpu::parallel_for(args.n * args.o, threads, [&](int64_t task) {
      const int64_t n = task / args.o, o = task % args.o;
      const int64_t group = o / (args.o / args.groups);
      args.out_scale[task] =
          cpu::refold_channel(loops, args.levels + o * count, args.step[o],
                              scales[n * args.groups + group], args.weight + task * count);
    });
    return Status::ok;
  } catch (const std::bad_alloc&) {
    return Status::out_of_memory;
  }
}

}  // namespace ptqsr
