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

// A threshold in half-steps: v >= half_step exactly where u is sent to the point above.
int32_t half_step(const Points& points, int64_t channel, int64_t i) {
  const int32_t* row = points.points + channel * points.levels;
  return row[i] + row[i + 1];
}

constexpr int32_t kWindow = 254;  // between the thresholds of one window of ByteTables, at most

// How many of a channel's thresholds the first window takes if it has `slots`: as many as lie
// close enough to each other.
int64_t in_first(const Points& points, int64_t channel, int64_t slots) {
  int64_t count = 0;
  while (count < std::min(slots, points.levels - 1) &&
         half_step(points, channel, count) - half_step(points, channel, 0) <= kWindow) {
    ++count;
  }
  return count;
}

// Sets the slots of both windows to the smallest sum for which all channels have room.
void share_slots(const Points& points, ByteTables& bytes) {
  const int64_t gaps = points.levels - 1;
  int64_t least = 0;  // what the second window cannot hold in some channel
  for (int64_t i = 0; i < points.c; ++i) {
    int64_t count = 0;
    while (half_step(points, i, gaps - 1) - half_step(points, i, count) > kWindow) ++count;
    least = std::max(least, count);
  }
  int64_t best = 2 * gaps + 1;
  for (int64_t first = least; first <= gaps; ++first) {
    int64_t second = 0;
    for (int64_t i = 0; i < points.c; ++i) {
      second = std::max(second, gaps - in_first(points, i, first));
    }
    if (first + second < best) {
      best = first + second;
      bytes.first = first;
      bytes.second = second;
    }
    if (best == gaps) return;
  }
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
  const bool plane_in_floats = layout == Layout::nchw && points.levels <= loops.float_plane_levels;
  const bool pays = points.levels <= loops.step_levels || values >= points.denominator;
  if (points.denominator <= 127 && (wanted != Wanted::values || (pays && !plane_in_floats))) {
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
  if (levels > 1) share_slots(points, bytes);
  const int64_t entries = bytes.entries();
  std::vector<int8_t> rows(c * entries);  // with W = 1
  for (int64_t i = 0; i < c; ++i) {
    const int32_t* row = points.points + i * levels;
    const auto value = [&](int64_t code) { return codes ? code : int64_t{row[code]}; };
    const int64_t first = in_first(points, i, bytes.first);
    int8_t* entry = rows.data() + i * entries;
    entry[4] = wrapped(value(0));
    for (int64_t window = 0; window < 2; ++window) {
      const int64_t start = window == 0 ? 0 : first, stop = window == 0 ? first : levels - 1;
      // v >= half_step, that is v - offset > half_step - 1 - offset, from -128 to 126.
      const int32_t offset = start < stop ? half_step(points, i, start) + 127 : 0;
      entry[2 * window] = wrapped(offset & 0xFF);
      entry[2 * window + 1] = wrapped(offset >> 8);
      int8_t* slot = entry + 5 + 2 * window * bytes.first;
      for (int64_t j = 0; j < (window == 0 ? bytes.first : bytes.second); ++j, slot += 2) {
        const int64_t code = start + j;
        const bool there = code < stop;
        slot[0] = there ? wrapped(half_step(points, i, code) - 1 - offset) : 127;
        slot[1] = there ? wrapped(value(code + 1) ^ value(code)) : 0;
      }
    }
  }
  if (layout == Layout::nchw) {
    steps_ = std::move(rows);
  } else {
    const int64_t lanes = loops.lanes, width = 4 * lanes, channels = bytes.wide ? width : lanes;
    const int64_t groups = rounded_up(c, channels) / channels;
    steps_.resize(groups * entries * width);
    // As vectors.h packs: byte 16 l + 4 s + j is lane 4 l + j of vector s; 16 bits wide, vectors
    // 0 and 1 come first and are word 8 l + 4 s + j, then 2 and 3 the same.
    for (int64_t i = 0; i < groups * entries * width; ++i) {
      const int64_t group = i / (entries * width), at = i % (entries * width);
      const bool offsets = at < 4 * width;
      const int64_t unit = offsets ? at % width / 2 : at % width, half = at / width % 2;
      const int64_t lane = (offsets ? unit / 8 : unit / 16) * 4 + unit % 4;
      const int64_t vector = offsets ? 2 * half + unit / 4 % 2 : unit / 4 % 4;
      const int64_t channel = group * channels + (bytes.wide ? vector * lanes : 0) + lane;
      const int64_t entry = offsets ? at / (2 * width) * 2 + at % 2 : at / width;
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
