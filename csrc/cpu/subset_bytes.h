// The loops of subset.h that find a point as a byte, four vectors of floats to one of bytes.
//
// Included by subset_loops.h alone.
#pragma once

#include "cpu/subset.h"
#include "cpu/vectors.h"

namespace ptqsr::cpu {
namespace {

constexpr int kSets = 4;  // vectors of bytes in flight, which share what is loaded of a table

// The largest integer v for which a threshold at v/2 would lie below u: u > t for t > 0, u >= t
// for t < 0, but u > -2^-126 for t = 0. In [-reach, reach - 1]; NaN is below everything.
//
// The product is the float next to 2u on the side of zero, so that truncation takes an integer for
// the one below it: |2u| rounded up, less one. Where u < 0, all bits flipped negate and add one.
INLINE IVec half_steps(Vec u, float reach) {
  const float limit = reach - 0.5f;
  const Vec w = u * 0x1.fffffep0f;
#if defined(__AVX512DQ__)
  // min(|w|, limit), which is limit for NaN.
  const __m512 size = _mm512_range_ps(reinterpret_cast<__m512>(w), _mm512_set1_ps(limit), 0b1010);
  const __mmask16 below =
      _mm512_cmp_ps_mask(reinterpret_cast<__m512>(u), _mm512_set1_ps(-0x1p-126f), _CMP_NGT_UQ);
  const __m512i v = _mm512_cvttps_epi32(size);
  return reinterpret_cast<IVec>(_mm512_mask_xor_epi32(v, below, v, _mm512_set1_epi32(-1)));
#else
  const IVec magnitude = reinterpret_cast<IVec>(w) & 0x7FFFFFFF;
  Vec size = reinterpret_cast<Vec>(magnitude);
  size = size < limit ? size : all(limit);  // NaN too
  const IVec above = u > -0x1p-126f;        // -1 where it holds
  return __builtin_convertvector(size, IVec) ^ ~above;
#endif
}

// ---- where four vectors come from and what becomes of them

enum class Group {
  wide,    // [pixel][c]: 4 vectors of channels of one pixel; a set is a pixel
  narrow,  // [pixel][c]: one vector of channels, four pixels a set
  plane,   // [pixel]: one channel
};

// Where vector s of set j lies, from the first value of the first set on.
template <Group group>
struct Place {
  int64_t c;      // from pixel to pixel
  int64_t left;   // narrow: pixels; plane: values
  int64_t lanes;  // narrow: the channels that exist

  INLINE int64_t offset(int j, int s) const {
    if (group == Group::wide) return j * c + s * kLanes;
    if (group == Group::narrow) return (4 * j + s) * c;
    return (4 * j + s) * kLanes;
  }

  // Values in the vector; 0 to kLanes.
  INLINE int64_t count(int j, int s) const {
    if (group == Group::wide) return kLanes;
    if (group == Group::narrow) return 4 * j + s < left ? lanes : 0;
    const int64_t rest = left - (4 * j + s) * kLanes;
    return rest < 0 ? 0 : rest < kLanes ? rest : kLanes;
  }

  // Of a table with an entry for each channel, from the group's first on.
  static INLINE Vec of(const float* table, int s) {
    return group == Group::wide     ? load(table + s * kLanes)
           : group == Group::narrow ? load(table)
                                    : all(table[0]);
  }

  static INLINE int channel(int s, int lane) {
    return group == Group::wide ? s * kLanes + lane : group == Group::narrow ? lane : 0;
  }
};

// u of vector s of set j. `kWhole`: all vectors are full.
template <Group group, bool kWhole, class T>
struct Normalised {
  const T* x;
  Place<group> place;
  const float *mean, *ratio;  // of the group's first channel

  INLINE Vec operator()(int j, int s) const {
    const T* from = x + place.offset(j, s);
    const Vec v = kWhole ? load(from) : load_part(from, place.count(j, s));
    return (v - place.of(mean, s)) * place.of(ratio, s);
  }
};

// ---- the byte of u
//
// A finder fills kCount sets of packed bytes.

struct Steps {
  const int8_t* table;  // of a group
  int64_t first, second;

  template <Group, int kCount, class U>
  INLINE void find(const U& u, Bytes (&k)[kCount]) const {
    Part v[2][kCount][kParts], found[kCount][kParts];
    for (int j = 0; j < kCount; ++j) {
      const Packed a = pack32(half_steps(u(j, 0), 512), half_steps(u(j, 1), 512));
      const Packed b = pack32(half_steps(u(j, 2), 512), half_steps(u(j, 3), 512));
      for (int i = 0; i < 2; ++i) {
        const int8_t* offsets = table + i * 2 * kBytes;
        split(pack16(minus16(a, load_as<Packed>(offsets)),
                     minus16(b, load_as<Packed>(offsets + kBytes))),
              v[i][j]);
      }
      split(load_as<Bytes>(table + 4 * kBytes), found[j]);
    }
    const int8_t* slot = table + 5 * kBytes;
    for (int64_t i = 0; i < first; ++i, slot += 2 * kBytes) step(found, v[0], slot);
    for (int64_t i = 0; i < second; ++i, slot += 2 * kBytes) step(found, v[1], slot);
    for (int j = 0; j < kCount; ++j) k[j] = joined(found[j]);
  }

  template <int kCount>
  static INLINE void step(Part (&k)[kCount][kParts], const Part (&v)[kCount][kParts],
                          const int8_t* slot) {
    for (int i = 0; i < kParts; ++i) {
      const Part threshold = load_as<Part>(slot + i * kPartBytes);
      const Part change = load_as<Part>(slot + kBytes + i * kPartBytes);
      for (int j = 0; j < kCount; ++j) k[j][i] = changed_above(k[j][i], v[j][i], threshold, change);
    }
  }
};

struct Dense {
  int32_t denominator;
  int8_t first;  // the byte of -D

  template <Group, int kCount, class U>
  INLINE void find(const U& u, Bytes (&k)[kCount]) const {
    const float reach = 2.0f * static_cast<float>(denominator);
    const Unsigned shift = Unsigned{} + static_cast<uint8_t>(first + denominator);
    for (int j = 0; j < kCount; ++j) {
      Packed half[2];
      for (int i = 0; i < 2; ++i) {
        const Packed v = pack32(half_steps(u(j, 2 * i), reach), half_steps(u(j, 2 * i + 1), reach));
        half[i] = reinterpret_cast<Packed>((reinterpret_cast<Words>(v) + 1) >> 1);
      }
      const Bytes point = pack16(half[0], half[1]);
      k[j] = reinterpret_cast<Bytes>(reinterpret_cast<Unsigned>(point) + shift);
    }
  }
};

struct Lookup {
  const int8_t* table;  // from the group's first channel on, to the last channel
  int64_t channels;     // that it holds
  int32_t denominator;

  template <Group group, int kCount, class U>
  INLINE void find(const U& u, Bytes (&k)[kCount]) const {
    const int32_t reach = 2 * denominator, size = 2 * reach;
    for (int j = 0; j < kCount; ++j) {
      int8_t bytes[kBytes];
      for (int s = 0; s < 4; ++s) {
        int32_t v[kLanes];
        const IVec found = half_steps(u(j, s), static_cast<float>(reach)) + reach;
        memcpy(v, &found, sizeof v);
        for (int lane = 0; lane < kLanes; ++lane) {
          int64_t channel = Place<group>::channel(s, lane);
          if (group == Group::narrow && channel >= channels) channel = 0;
          bytes[lane / 4 * 16 + s * 4 + lane % 4] = table[channel * size + v[lane]];
        }
      }
      k[j] = load_as<Bytes>(bytes);
    }
  }
};

// ---- what becomes of the bytes

struct ToBytes {
  uint8_t* out;
  uint8_t flip;

  template <Group group, bool kWhole, int kCount>
  INLINE void put(const Bytes (&k)[kCount], int64_t start, int64_t,
                  const Place<group>& place) const {
    for (int j = 0; j < kCount; ++j) {
      const Unsigned bytes = reinterpret_cast<Unsigned>(in_order(k[j])) ^ (Unsigned{} + flip);
      uint8_t* to = out + start;
      if (kWhole && group != Group::narrow) {
        memcpy(to + place.offset(j, 0), &bytes, kBytes);
        continue;
      }
      uint8_t part[kBytes];
      memcpy(part, &bytes, kBytes);
      for (int s = 0; s < 4; ++s) {
        const int64_t count = kWhole ? kLanes : place.count(j, s);
        memcpy(to + place.offset(j, s), part + s * kLanes, count);
      }
    }
  }
};

struct ToFloats {
  float* y;
  const float *mean, *unit;

  template <Group group, bool kWhole, int kCount>
  INLINE void put(const Bytes (&k)[kCount], int64_t start, int64_t channel,
                  const Place<group>& place) const {
    for (int j = 0; j < kCount; ++j) {
      for (int s = 0; s < 4; ++s) {
        const Vec value =
            unpacked(k[j], s) * place.of(unit + channel, s) + place.of(mean + channel, s);
        float* to = y + start + place.offset(j, s);
        if (kWhole) {
          store(to, value);
        } else {
          store_part(to, place.count(j, s), value);
        }
      }
    }
  }
};

// ---- all values

template <Group group, bool kWhole, int kCount, class T, class Finder, class Sink>
INLINE void byte_sets(const T* x, int64_t start, int64_t channel, const Place<group>& place,
                      const SampleScales& s, const Finder& finder, const Sink& sink) {
  const Normalised<group, kWhole, T> u{x + start, place, s.mean + channel, s.ratio + channel};
  Bytes k[kCount];
  finder.template find<group>(u, k);
  sink.template put<group, kWhole>(k, start, channel, place);
}

// `finder_of` gives the finder of the group that starts at a channel.
template <class T, class FinderOf, class Sink>
void byte_pixels(const T* x, int64_t pixels, const SubsetTables& t, const SampleScales& s,
                 const FinderOf& finder_of, const Sink& sink) {
  const int64_t c = t.c;
  if (t.bytes.wide) {
    const Place<Group::wide> place{c, 0, 0};
    int64_t p = 0;
    for (; p + kSets <= pixels; p += kSets) {
      for (int64_t i = 0; i < c; i += kBytes) {
        byte_sets<Group::wide, true, kSets>(x, p * c + i, i, place, s, finder_of(i), sink);
      }
    }
    for (; p < pixels; ++p) {
      for (int64_t i = 0; i < c; i += kBytes) {
        byte_sets<Group::wide, true, 1>(x, p * c + i, i, place, s, finder_of(i), sink);
      }
    }
    return;
  }
  for (int64_t p = 0; p < pixels; p += 4 * kSets) {
    const int64_t left = pixels - p;
    for (int64_t i = 0; i < c; i += kLanes) {
      const auto finder = finder_of(i);
      if (left >= 4 * kSets && c - i >= kLanes) {
        const Place<Group::narrow> place{c, left, kLanes};
        byte_sets<Group::narrow, true, kSets>(x, p * c + i, i, place, s, finder, sink);
        continue;
      }
      for (int64_t j = 0; j < (left < 4 * kSets ? left : 4 * kSets); j += 4) {
        const Place<Group::narrow> place{c, left - j, c - i < kLanes ? c - i : kLanes};
        byte_sets<Group::narrow, false, 1>(x, (p + j) * c + i, i, place, s, finder, sink);
      }
    }
  }
}

template <class Finder, class Sink>
void byte_plane(const float* x, int64_t pixels, int64_t c, const SampleScales& s,
                const Finder& finder, const Sink& sink) {
  int64_t p = 0;
  for (; p + kSets * kBytes <= pixels; p += kSets * kBytes) {
    const Place<Group::plane> place{0, 0, 0};
    byte_sets<Group::plane, true, kSets>(x, p, c, place, s, finder, sink);
  }
  for (; p < pixels; p += kBytes) {
    const Place<Group::plane> place{0, pixels - p, 0};
    byte_sets<Group::plane, false, 1>(x, p, c, place, s, finder, sink);
  }
}

template <class T, class Sink>
INLINE void bytes_of_pixels(const T* x, int64_t pixels, const SubsetTables& t,
                            const SampleScales& s, const Sink& sink) {
  const ByteTables& b = t.bytes;
  const int64_t channels = b.wide ? kBytes : kLanes;  // of a group
  switch (b.search) {
    case ByteSearch::none:
      return;
    case ByteSearch::steps: {
      const int64_t size = b.entries() * kBytes;
      return byte_pixels(
          x, pixels, t, s,
          [&](int64_t c) { return Steps{b.steps + c / channels * size, b.first, b.second}; }, sink);
    }
    case ByteSearch::dense:
      return byte_pixels(
          x, pixels, t, s, [&](int64_t) { return Dense{t.denominator, b.lookup[0]}; }, sink);
    case ByteSearch::lookup:
      return byte_pixels(
          x, pixels, t, s,
          [&](int64_t c) {
            return Lookup{b.lookup + c * 4 * t.denominator, t.c - c, t.denominator};
          },
          sink);
  }
}

template <class Sink>
INLINE void bytes_of_plane(const float* x, int64_t pixels, int64_t c, const SubsetTables& t,
                           const SampleScales& s, const Sink& sink) {
  const ByteTables& b = t.bytes;
  switch (b.search) {
    case ByteSearch::none:
      return;
    case ByteSearch::steps: {
      int8_t table[(5 + 2 * kMaxSlots) * kBytes];
      const int8_t* entry = b.steps + c * b.entries();
      for (int i = 0; i < 4; ++i) {
        int16_t offset;
        memcpy(&offset, entry + i / 2 * 2, sizeof offset);
        const Packed offsets = all16(offset);
        memcpy(table + i * kBytes, &offsets, kBytes);
      }
      for (int64_t i = 4; i < b.entries(); ++i) memset(table + i * kBytes, entry[i], kBytes);
      return byte_plane(x, pixels, c, s, Steps{table, b.first, b.second}, sink);
    }
    case ByteSearch::dense:
      return byte_plane(x, pixels, c, s, Dense{t.denominator, b.lookup[0]}, sink);
    case ByteSearch::lookup:
      return byte_plane(x, pixels, c, s, Lookup{b.lookup + c * 4 * t.denominator, 1, t.denominator},
                        sink);
  }
}

void encode_plane(const float* x, int64_t pixels, int64_t c, const SubsetTables& tables,
                  const SampleScales& scales, uint8_t flip, uint8_t* out) {
  bytes_of_plane(x, pixels, c, tables, scales, ToBytes{out, flip});
}

template <class T>
void encode_pixels(const T* x, int64_t pixels, const SubsetTables& tables,
                   const SampleScales& scales, uint8_t flip, uint8_t* out) {
  bytes_of_pixels(x, pixels, tables, scales, ToBytes{out, flip});
}

}  // namespace
}  // namespace ptqsr::cpu
