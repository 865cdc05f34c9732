#include "cpu/conv_weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu/parallel.h"

namespace ptqsr {
namespace cpu {
namespace {

// Of a word's operands, the one of input channel c of a window's tap.
void put(uint8_t* words, int64_t lane, int64_t operand, int bytes, int32_t value) {
  uint8_t* at = words + lane * 4 + operand * bytes;
  if (bytes == 1) {
    *at = static_cast<uint8_t>(value);
  } else {
    const auto wide = static_cast<int16_t>(value);
    std::memcpy(at, &wide, sizeof wide);
  }
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

int zero_code(const QuantConv& args) {
  switch (args.encoding) {
    case Encoding::uniform:
      return -args.uniform.lowest;
    case Encoding::unsigned_integers:
      return 0;
    default:
      return 128;
  }
}

float refold_channel(const int16_t* levels, float step, const float* scale, int64_t channels,
                     int64_t taps, int8_t* weight) {
  const auto folded = [&](int64_t c, int64_t t) {
    const float w = static_cast<float>(levels[c * taps + t]) * step;
    return w * scale[c];
  };
  float largest = 0;
  bool nan = false;
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t t = 0; t < taps; ++t) largest = std::max(largest, std::fabs(folded(c, t)));
    nan = nan || std::isnan(scale[c]);
  }
  const float out = nan ? NAN : largest / 127.0f;
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t t = 0; t < taps; ++t) {
      // Adding 1.5 * 2^23 leaves no place for fractions: half to even.
      const float ratio = out > 0 ? folded(c, t) / out : 0;
      const float limited = std::min(std::max(ratio, -127.0f), 127.0f);
      weight[c * taps + t] =
          static_cast<int8_t>(static_cast<int32_t>((limited + 0x1.8p23f) - 0x1.8p23f));
    }
  }
  return out;
}

PackedWeights pack_weights(const QuantConv& args, const BlockList& list, const ConvLoops& loops,
                           const BorderClasses& rows, const BorderClasses& columns,
                           int64_t sample) {
  const ConvShape& s = args.shape;
  const int bytes = loops.operand_bytes, in_word = 4 / bytes;
  const int64_t channels = s.c / s.groups, taps = s.kh * s.kw;
  const int64_t words_per_tap = (channels + 3) / 4 * 4 / in_word;
  const int64_t lanes = list.channels.size(), classes = rows.inside.size() * columns.inside.size();
  const bool subset = args.encoding == Encoding::subset;
  PackedWeights packed;
  packed.words.resize(taps * words_per_tap * lanes * 4);
  packed.start.resize(lanes);
  packed.zero_points.resize(lanes);
  packed.scale.resize(lanes);
  packed.terms.resize(classes * lanes);
  if (args.activation == Activation::leaky) packed.slope.resize(lanes);
  std::vector<int8_t> weight(channels * taps);
  std::vector<int16_t> levels(channels * taps);
  bool zero_points = false;
  int64_t at = 0;
  for (const Block& block : list.blocks) {
    packed.block_at.push_back(at);
    const int64_t width = block.vectors * loops.lanes;
    for (int64_t i = 0; i < block.channels; ++i) {
      const int64_t lane = block.first + i, o = list.channels[lane];
      const int16_t* from = args.weight_levels + o * channels * taps;
      if (subset) {
        const float* scale = args.subset.scale + sample * s.c + block.group * channels;
        const float out =
            refold_channel(from, args.weight_step[o], scale, channels, taps, weight.data());
        packed.scale[lane] = out / static_cast<float>(args.subset.denominator);
        std::copy(weight.begin(), weight.end(), levels.begin());
        border_terms(args, rows, columns, sample, o, lane, lanes, packed.terms.data());
      } else {
        std::copy_n(from, channels * taps, levels.begin());
        float a = 1, t = args.bias == nullptr ? 0 : args.bias[o];
        if (args.encoding == Encoding::uniform) a = args.uniform.step * args.weight_step[o];
        if (args.output == Output::codes) {
          a = a / args.requantized.step;
          t = t / args.requantized.step;
        }
        packed.scale[lane] = a;
        for (int64_t k = 0; k < classes; ++k) packed.terms[k * lanes + lane] = t;
      }
      if (!packed.slope.empty()) packed.slope[lane] = args.slope[args.slopes == 1 ? 0 : o];
      int32_t zero = 0;
      if (bytes == 1) {
        // Levels that int8 does not hold: the least becomes -128, the rest is a sum over pixels.
        const auto [least, most] = std::minmax_element(levels.begin(), levels.end());
        if (*least < -128 || *most > 127) zero = *least + 128;
      }
      packed.zero_points[lane] = zero;
      zero_points = zero_points || zero != 0;
      int32_t total = 0;
      for (int64_t c = 0; c < channels; ++c) {
        for (int64_t t = 0; t < taps; ++t) {
          const int32_t value = levels[c * taps + t] - zero;
          const int64_t word = t * words_per_tap + c / in_word;
          put(packed.words.data() + at + word * width * 4, i, c % in_word, bytes, value);
          total += value;
        }
      }
      packed.start[lane] = bytes == 1 ? -zero_code(args) * total : 0;
    }
    at += taps * words_per_tap * width * 4;
  }
  if (!zero_points) packed.zero_points.clear();
  return packed;
}

}  // namespace cpu

Status refold_weights(const Refold& args, int threads) {
  const int64_t channels = args.c / args.groups, count = channels * args.taps;
  cpu::parallel_for(args.n * args.o, threads, [&](int64_t task) {
    const int64_t n = task / args.o, o = task % args.o;
    const int64_t first = o / (args.o / args.groups) * channels;
    args.out_scale[task] =
        cpu::refold_channel(args.levels + o * count, args.step[o], args.scale + n * args.c + first,
                            channels, args.taps, args.weight + task * count);
  });
  return Status::ok;
}

}  // namespace ptqsr
