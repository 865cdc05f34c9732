#include "cpu/subset_tables.h"

#include <algorithm>
#include <cmath>

namespace ptqsr::cpu {
namespace {

constexpr int32_t kTableDenominator = 4096;  // a table of 64 KiB per channel

int64_t rounded_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

// The threshold between two points: u > t exactly where u is sent to the upper one. Ties go to
// the smaller magnitude, and at 0 to the upper point: t <= 0 lies one float lower.
float threshold(int32_t lower, int32_t upper) {
  const float t = static_cast<float>(static_cast<int64_t>(lower) + upper) * 0.5f;
  if (t > 0) return t;
  return t == 0 ? -0x1p-126f : std::nextafter(t, -INFINITY);
}

// Entry i + 2D is the code of u for which i/2 is the largest half-integer "below" it, in the sense
// of threshold(): so a threshold at j/2 counts if j <= i.
template <class ValueOf>
void fill_lookup(const Points& points, int64_t channel, const ValueOf& set) {
  const int32_t* row = points.points + channel * points.levels;
  const int32_t reach = 2 * points.denominator;
  int64_t code = 0;
  for (int32_t i = -reach; i < reach; ++i) {
    while (code + 1 < points.levels && row[code] + row[code + 1] <= i) ++code;
    set((channel * 2 + 1) * reach + i, channel * points.levels + code);
  }
}

// How many of a channel's thresholds are at most 0.
int64_t thresholds_below(const Points& points, int64_t channel) {
  const int32_t* row = points.points + channel * points.levels;
  int64_t count = 0;
  while (count + 1 < points.levels && row[count] + row[count + 1] <= 0) ++count;
  return count;
}

int8_t wrapped(int64_t value) { return static_cast<int8_t>(static_cast<uint8_t>(value & 0xFF)); }

}  // namespace

const SubsetLoops& subset_loops(Isa isa) {
#ifdef PTQSR_X86
  if (isa >= Isa::avx512) return kSubsetAvx512;
  if (isa == Isa::avx2) return kSubsetAvx2;
#endif
  static_cast<void>(isa);
  return kSubsetPortable;
}

Status Points::check() const {
  for (int64_t channel = 0; channel < c; ++channel) {
    const int32_t* row = points + channel * levels;
    for (int64_t i = 0; i < levels; ++i) {
      if (row[i] < -denominator || row[i] > denominator) return Status::points_out_of_range;
      if (i > 0 && row[i] <= row[i - 1]) return Status::points_not_ascending;
    }
  }
  return Status::ok;
}

Tables::Tables(const Points& points, Layout layout, const SubsetLoops& loops, Wanted wanted,
               int64_t values) {
  view_.c = points.c;
  view_.padded = rounded_up(points.c, kPadding);
  view_.levels = points.levels;
  view_.denominator = points.denominator;
  const bool pays = points.levels <= loops.step_levels || values >= points.denominator;
  if (points.denominator <= 127 && (wanted != Wanted::values || pays)) {
    make_bytes(points, layout, loops, wanted == Wanted::codes);
  } else {
    make_floats(points, layout, loops, values);
  }
}

void Tables::make_floats(const Points& points, Layout layout, const SubsetLoops& loops,
                         int64_t values) {
  const int64_t c = points.c, levels = points.levels, gaps = levels - 1, padded = view_.padded;
  thresholds_.resize(c * gaps);
  values_.resize(c * levels);
  for (int64_t i = 0; i < c * levels; ++i) values_[i] = static_cast<float>(points.points[i]);
  for (int64_t i = 0; i < c; ++i) {
    const int32_t* row = points.points + i * levels;
    for (int64_t j = 0; j < gaps; ++j) thresholds_[i * gaps + j] = threshold(row[j], row[j + 1]);
  }
  view_.search = Search::bisect;
  if (levels <= loops.compare_levels) {
    view_.search = Search::compare;
    if (layout == Layout::channels_last) {
      thresholds_t_.resize(gaps * padded);
      values_t_.resize(levels * padded);
      for (int64_t i = 0; i < c; ++i) {
        for (int64_t j = 0; j < levels; ++j) values_t_[j * padded + i] = values_[i * levels + j];
        for (int64_t j = 0; j < gaps; ++j) {
          thresholds_t_[j * padded + i] = thresholds_[i * gaps + j];
        }
      }
    }
  } else if (points.denominator <= kTableDenominator && values >= points.denominator) {
    view_.search = Search::table;
    lookup_.resize(c * 4 * points.denominator);
    for (int64_t i = 0; i < c; ++i) {
      fill_lookup(points, i, [&](int64_t entry, int64_t code) { lookup_[entry] = values_[code]; });
    }
  }
  view_.thresholds = thresholds_.data();
  view_.values = values_.data();
  view_.thresholds_t = thresholds_t_.data();
  view_.values_t = values_t_.data();
  view_.lookup = lookup_.data();
}

void Tables::make_bytes(const Points& points, Layout layout, const SubsetLoops& loops, bool codes) {
  view_.bytes.wide = layout == Layout::channels_last && points.c % (4 * loops.lanes) == 0;
  if (points.levels <= loops.step_levels) {
    make_steps(points, layout, loops, codes);
  } else {
    // That many ascending points are all integers of [-D, D].
    view_.bytes.search =
        points.levels == 2 * points.denominator + 1 ? ByteSearch::dense : ByteSearch::lookup;
    make_lookup(points, codes);
  }
}

void Tables::make_steps(const Points& points, Layout layout, const SubsetLoops& loops, bool codes) {
  const int64_t c = points.c, levels = points.levels;
  ByteTables& bytes = view_.bytes;
  bytes.search = ByteSearch::steps;
  for (int64_t i = 0; i < c; ++i) {
    const int64_t below = thresholds_below(points, i);
    bytes.down = std::max(bytes.down, below);
    bytes.up = std::max(bytes.up, levels - 1 - below);
  }
  // Of a channel: the byte of u = 0-, then thresholds and steps.
  const int64_t entries = 1 + 2 * (bytes.up + bytes.down);
  std::vector<int8_t> rows(c * entries);
  for (int64_t i = 0; i < c; ++i) {
    const int32_t* row = points.points + i * levels;
    const auto value = [&](int64_t code) { return codes ? code : row[code]; };
    const int64_t below = thresholds_below(points, i);
    int8_t* entry = rows.data() + i * entries;
    *entry++ = wrapped(value(below));
    // v >= 2t, that is v - 128 > 2t - 129.
    for (int64_t slot = 0; slot < bytes.up; ++slot, entry += 2) {
      const int64_t code = below + slot;
      const bool there = code + 1 < levels;
      entry[0] = there ? wrapped(row[code] + row[code + 1] - 129) : 127;
      entry[1] = there ? wrapped(value(code + 1) - value(code)) : 0;
    }
    // v < 2t, that is -128 - v > -128 - 2t.
    for (int64_t slot = 0; slot < bytes.down; ++slot, entry += 2) {
      const int64_t code = below - 1 - slot;
      const bool there = code >= 0;
      entry[0] = there ? wrapped(-128 - row[code] - row[code + 1]) : 127;
      entry[1] = there ? wrapped(value(code) - value(code + 1)) : 0;
    }
  }
  if (layout == Layout::nchw) {
    steps_ = std::move(rows);
  } else {
    const int64_t lanes = loops.lanes, width = 4 * lanes, channels = bytes.wide ? width : lanes;
    const int64_t groups = rounded_up(c, channels) / channels;
    steps_.resize(groups * entries * width);
    for (int64_t i = 0; i < groups * entries * width; ++i) {
      // As vectors.h packs: byte 16 l + 4 s + j is lane 4 l + j of vector s.
      const int64_t byte = i % width, entry = i / width % entries, group = i / width / entries;
      const int64_t lane = byte / 16 * 4 + byte % 4, vector = bytes.wide ? byte / 4 % 4 : 0;
      const int64_t channel = group * channels + vector * lanes + lane;
      if (channel < c) steps_[i] = rows[channel * entries + entry];
    }
  }
  bytes.steps = steps_.data();
}

void Tables::make_lookup(const Points& points, bool codes) {
  byte_lookup_.resize(points.c * 4 * points.denominator);
  for (int64_t i = 0; i < points.c; ++i) {
    fill_lookup(points, i, [&](int64_t entry, int64_t code) {
      byte_lookup_[entry] = wrapped(codes ? code - i * points.levels : points.points[code]);
    });
  }
  view_.bytes.lookup = byte_lookup_.data();
}

Scales::Scales(int64_t n, int64_t c, int32_t denominator)
    : padded_(rounded_up(c, kPadding)), denominator_(denominator) {
  for (auto* table : {&mean_, &ratio_, &unit_}) table->resize(n * padded_);
}

Scales::Scales(const float* mean, const float* scale, int64_t n, int64_t c, int32_t denominator)
    : Scales(n, c, denominator) {
  for (int64_t i = 0; i < n * c; ++i) set(i / c, i % c, mean[i], scale[i]);
}

void Scales::set(int64_t n, int64_t c, float mean, float scale) {
  const float d = static_cast<float>(denominator_);
  mean_[n * padded_ + c] = mean;
  ratio_[n * padded_ + c] = scale == 0 ? 0 : d / scale;
  unit_[n * padded_ + c] = scale / d;
}

}  // namespace ptqsr::cpu
