#include "cpu/conv_rows.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu/conv_weights.h"
#include "cpu/subset_tables.h"
#include "cpu/uniform.h"

namespace ptqsr::cpu {
PaddedRows::PaddedRows(const QuantConv& args, const RowEncoder& encoder, const Operands& operands,
                       int zero)
    : args_(args),
      s_(args.shape),
      encoder_(encoder),
      operand_bytes_(operands.bytes),
      zero_(zero),
      group_channels_((s_.c / s_.groups + 3) / 4 * 4),
      group_bytes_(group_channels_ * operands.bytes),
      pixel_bytes_(group_bytes_ * s_.groups),
      row_bytes_(pixel_bytes_ * (s_.w + 2 * s_.padding_w)),
      depth_((s_.kh - 1) * s_.dilation_h + 1),
      reach_((s_.kw - 1) * s_.dilation_w + 1),
      sums_wanted_(operands.window_sums) {
  const bool unsigned_bytes =
      args.encoding == Encoding::uniform || args.encoding == Encoding::unsigned_integers;
  if (args.part_count == 1 && args.parts[0].storage == Storage::codes && unsigned_bytes &&
      operands.bytes == 1 && pixel_bytes_ == s_.c && !sums_wanted_) {
    direct_ = static_cast<const uint8_t*>(args.parts[0].data);
  }
  // Int16 operands are the integers themselves, bytes lie `zero_` higher.
  ring_.assign(row_bytes_ * (depth_ + 1), operands.bytes == 1 ? static_cast<uint8_t>(zero_) : 0);
  int64_t channel = 0, widest = 0;
  for (int64_t p = 0; p < args.part_count; ++p) {
    const int64_t per_group = s_.c / s_.groups, end = channel + args.parts[p].channels;
    std::vector<Span> spans;
    for (int64_t c = channel; c < end;) {
      const int64_t stop = std::min(end, (c / per_group + 1) * per_group);
      spans.push_back({c - channel, c / per_group * group_channels_ + c % per_group, stop - c});
      Span* before = spans.size() > 1 ? &spans[spans.size() - 2] : nullptr;
      if (before != nullptr && before->from + before->count == spans.back().from &&
          before->to + before->count == spans.back().to) {
        before->count += spans.back().count;
        spans.pop_back();
      }
      c = stop;
    }
    spans_.push_back(spans);
    channel = end;
    widest = std::max(widest, args.parts[p].channels);
  }
  codes_.resize(widest * s_.w);
  if (sums_wanted_) sums_.assign((depth_ + 1) * s_.groups * (s_.w + 2 * s_.padding_w), 0);
}

void PaddedRows::move_to(int64_t sample, int64_t top) {
  if (sample != sample_ || top < top_) next_ = top;
  sample_ = sample;
  top_ = top;
  next_ = std::max(next_, top);
  for (; next_ < top + depth_; ++next_) {
    if (next_ >= 0 && next_ < s_.h) fill(next_);
  }
}

const uint8_t* PaddedRows::row(int64_t y, bool direct) const {
  const bool inside = y >= 0 && y < s_.h;
  if (direct && inside) {
    return direct_ + ((sample_ * s_.h + y) * s_.w - s_.padding_w) * pixel_bytes_;
  }
  const int64_t slot = inside ? y % depth_ : depth_;
  return ring_.data() + slot * row_bytes_;
}

int64_t PaddedRows::runs(Run* runs, bool direct) const {
  const int64_t words = group_bytes_ / 4;
  int64_t count = 0;
  for (int64_t ky = 0; ky < s_.kh; ++ky) {
    const uint8_t* from = row(top_ + ky * s_.dilation_h, direct);
    if (s_.groups == 1 && s_.dilation_w == 1) {
      runs[count++] = {from, s_.kw * words};
      continue;
    }
    for (int64_t kx = 0; kx < s_.kw; ++kx) {
      runs[count++] = {from + kx * s_.dilation_w * pixel_bytes_, words};
    }
  }
  return count;
}

void PaddedRows::fill(int64_t y) {
  uint8_t* row = ring_.data() + y % depth_ * row_bytes_ + s_.padding_w * pixel_bytes_;
  if (direct()) {
    // All that a tile with a window in the padding can reach from there.
    const int64_t end = std::min(s_.w, (kMaxTilePixels - 1) * s_.stride_w + reach_) * pixel_bytes_;
    const int64_t bytes = s_.w * pixel_bytes_;
    const uint8_t* from = direct_ + (sample_ * s_.h + y) * bytes;
    std::memcpy(row, from, end);
    std::memcpy(row + bytes - end, from + bytes - end, end);
    return;
  }
  for (int64_t p = 0; p < args_.part_count; ++p) {
    const bool in_place = args_.part_count == 1 && pixel_bytes_ == s_.c;
    uint8_t* codes = in_place ? row : codes_.data();
    encoder_.encode(sample_, y, p, codes);
    if (!in_place) place(codes, p, row);
  }
  if (!sums_wanted_) return;
  const int64_t width = s_.w + 2 * s_.padding_w;
  for (int64_t g = 0; g < s_.groups; ++g) {
    int32_t* sums = sums_.data() + (y % depth_ * s_.groups + g) * width + s_.padding_w;
    for (int64_t x = 0; x < s_.w; ++x) {
      const uint8_t* pixel = row + x * pixel_bytes_ + g * group_bytes_;
      int32_t sum = 0;
      for (int64_t c = 0; c < s_.c / s_.groups; ++c) sum += pixel[c] - zero_;
      sums[x] = sum;
    }
  }
}

void PaddedRows::place(const uint8_t* codes, int64_t part, uint8_t* row) {
  const int64_t channels = args_.parts[part].channels;
  for (const Span& span : spans_[part]) {
    for (int64_t x = 0; x < s_.w; ++x) {
      const uint8_t* from = codes + x * channels + span.from;
      uint8_t* to = row + x * pixel_bytes_ + span.to * operand_bytes_;
      if (operand_bytes_ == 1) {
        std::memcpy(to, from, span.count);
        continue;
      }
      for (int64_t c = 0; c < span.count; ++c) {
        const auto value = static_cast<int16_t>(from[c] - zero_);
        std::memcpy(to + 2 * c, &value, sizeof value);
      }
    }
  }
}

void PaddedRows::window_sums(int32_t* sums) const {
  const int64_t width = s_.w + 2 * s_.padding_w;
  std::fill_n(sums, s_.groups * s_.out_w, 0);
  for (int64_t ky = 0; ky < s_.kh; ++ky) {
    const int64_t y = top_ + ky * s_.dilation_h;
    if (y < 0 || y >= s_.h) continue;
    for (int64_t g = 0; g < s_.groups; ++g) {
      const int32_t* row = sums_.data() + (y % depth_ * s_.groups + g) * width;
      for (int64_t x = 0; x < s_.out_w; ++x) {
        for (int64_t kx = 0; kx < s_.kw; ++kx) {
          sums[g * s_.out_w + x] += row[x * s_.stride_w + kx * s_.dilation_w];
        }
      }
    }
  }
}

// ---- encoding

// What a part that is encoded here needs.
struct RowEncoder::Subset {
  Subset(const QuantConv& args, int64_t first, int64_t channels, const SubsetLoops& loops)
      : tables({args.subset.points + first * args.subset.levels, channels, args.subset.levels,
                args.subset.denominator},
               Layout::channels_last, loops, Wanted::points,
               args.shape.n * args.shape.h * args.shape.w),
        scales(args.shape.n, channels, args.subset.denominator) {
    for (int64_t n = 0; n < args.shape.n; ++n) {
      for (int64_t c = 0; c < channels; ++c) {
        const int64_t at = n * args.shape.c + first + c;
        scales.set(n, c, args.subset.mean[at], args.subset.scale[at]);
      }
    }
  }
  Tables tables;
  Scales scales;
};

RowEncoder::RowEncoder(const QuantConv& args, Isa isa)
    : args_(args),
      subset_(subset_loops(isa)),
      uniform_(uniform_loops(isa)),
      subsets_(args.part_count) {
  int64_t first = 0;
  for (int64_t p = 0; p < args.part_count; ++p) {
    const ConvPart& part = args.parts[p];
    if (args.encoding == Encoding::subset && part.storage != Storage::codes) {
      subsets_[p] = std::make_unique<Subset>(args, first, part.channels, subset_);
    }
    first += part.channels;
  }
}

RowEncoder::~RowEncoder() = default;

void RowEncoder::encode(int64_t sample, int64_t y, int64_t part, uint8_t* out) const {
  const ConvShape& s = args_.shape;
  const ConvPart& p = args_.parts[part];
  const int64_t at = (sample * s.h + y) * s.w * p.channels, count = s.w * p.channels;
  if (p.storage == Storage::codes) {
    const auto* codes = static_cast<const uint8_t*>(p.data) + at;
    const bool is_signed =
        args_.encoding == Encoding::subset || args_.encoding == Encoding::integers;
    if (!is_signed) {
      std::memcpy(out, codes, count);
      return;
    }
    for (int64_t i = 0; i < count; ++i) out[i] = codes[i] ^ 0x80;
    return;
  }
  if (args_.encoding == Encoding::subset) {
    const Subset& subset = *subsets_[part];
    const SampleScales scales = subset.scales.sample(sample);
    if (p.storage == Storage::halves) {
      const Half* x = static_cast<const Half*>(p.data) + at;
      return subset_.encode_halves(x, s.w, subset.tables.view(), scales, 0x80, out);
    }
    const float* x = static_cast<const float*>(p.data) + at;
    return subset_.encode_pixels(x, s.w, subset.tables.view(), scales, 0x80, out);
  }
  const UniformInput& uniform = uniform_of(args_, sample);
  const UniformGrid grid{uniform.step, uniform.lowest, uniform.levels};
  if (p.storage == Storage::halves) {
    return uniform_.encode_halves(static_cast<const Half*>(p.data) + at, count, grid, out);
  }
  uniform_.encode(static_cast<const float*>(p.data) + at, count, grid, out);
}

}  // namespace ptqsr::cpu
