#pragma once

#include <cstdint>

#include "cpu/half.h"

// The inner loops of subset quantization, one set of them per instruction set.
//
// Sources that are compiled for an instruction set include nothing of the standard library but C
// headers: an inline function of it, compiled there, could be the copy that the linker keeps for
// everyone.
namespace ptqsr::cpu {

constexpr int kPadding = 16;    // per-channel tables hold a multiple of this: the widest vector
constexpr int kMaxSlots = 126;  // of ByteTables: levels - 1, or twice as many at the worst

// How the point of a normalised value u is found.
enum class Search {
  compare,  // go through all thresholds; few levels
  table,    // look 2u up among the half-integers in [-2D, 2D)
  bisect,   // binary search, value by value; any set
};

// How it is found as a byte. All start from v, the largest integer for which a threshold at v/2
// would lie below u; so u > t exactly where v >= 2t (2t of the ideal threshold, a tie).
enum class ByteSearch {
  none,    // D > 127: points are no bytes
  steps,   // compare v with every threshold and change to the next point; few levels
  dense,   // every integer of [-D, D] is a point: round
  lookup,  // a table of all v
};

// What is emitted for u is a byte: the point, or its index.
//
// `steps` compares bytes, though v has more bits: it looks at v through two windows of 255
// half-steps, sat(v - offset), placed for every channel. Its lower thresholds are compared in the
// first, the others in the second. A channel with fewer has slots that nothing passes. For a group
// of channels, with vectors of one entry per lane, W = 4 * lanes bytes:
//
//   offsets   int16, of the first window 2 W, of the second 2 W
//   start     the byte below all thresholds
//   slots     `first`, then `second` times: a threshold, and what to exclusive-or with above it
struct ByteTables {
  ByteSearch search;
  bool wide;  // a group is 4 vectors of channels of one pixel; else 1 vector of 4 pixels
  int64_t first, second;
  const int8_t* steps;   // nchw: [c] as above with W = 1 (offsets of one int16); else [group]
  const int8_t* lookup;  // [c][4 D], entry v + 2D

  // Bytes of `steps` for each of W.
  int64_t entries() const { return 5 + 2 * (first + second); }
};

// Everything about the channels that the loops need. `padded` is c rounded up to kPadding.
struct SubsetTables {
  int64_t c, padded, levels;
  int32_t denominator;
  Search search;
  const float* thresholds;    // [c][levels - 1]
  const float* values;        // [c][levels], the points as float
  const float* thresholds_t;  // [levels - 1][padded], for Search::compare in channels_last
  const float* values_t;      // [levels][padded]
  const float* lookup;        // [c][4 D], the point of each half-integer; Search::table
  ByteTables bytes;
};

// Of one sample: x - mean times ratio gives u, its point times unit plus mean gives y. [padded]
struct SampleScales {
  const float* mean;
  const float* ratio;
  const float* unit;
};

struct SubsetLoops {
  int64_t lanes;  // floats in a vector
  // Measured: up to so many levels..
  int64_t compare_levels;      // comparing with every threshold beats a table, in floats
  int64_t step_levels;         // the same in bytes; at most 64
  int64_t float_plane_levels;  // quantize_plane is faster in floats than in bytes; no other loop is
  // One channel of one sample, x[pixels]. Writes sum, min and max.
  void (*plane_statistics)(const float* x, int64_t pixels, double* sum, float* lo, float* hi);
  // All channels of some pixels, x[pixels][c]. Writes sum, min and max [c].
  void (*pixel_statistics)(const float* x, int64_t pixels, int64_t c, double* sum, float* lo,
                           float* hi);
  // Channel `c` of one sample, x[pixels].
  void (*quantize_plane)(const float* x, float* y, int64_t pixels, int64_t c,
                         const SubsetTables& tables, const SampleScales& scales);
  // All channels of some pixels of one sample, x[pixels][c].
  void (*quantize_pixels)(const float* x, float* y, int64_t pixels, const SubsetTables& tables,
                          const SampleScales& scales);
  // The same to bytes, exclusive-or `flip` (0x80 makes int8 k the uint8 k + 128). The tables must
  // be of that layout and have bytes.
  void (*encode_plane)(const float* x, int64_t pixels, int64_t c, const SubsetTables& tables,
                       const SampleScales& scales, uint8_t flip, uint8_t* out);
  void (*encode_pixels)(const float* x, int64_t pixels, const SubsetTables& tables,
                        const SampleScales& scales, uint8_t flip, uint8_t* out);
  void (*encode_halves)(const Half* x, int64_t pixels, const SubsetTables& tables,
                        const SampleScales& scales, uint8_t flip, uint8_t* out);
};

extern const SubsetLoops kSubsetPortable;
extern const SubsetLoops kSubsetAvx2;
extern const SubsetLoops kSubsetAvx512;

}  // namespace ptqsr::cpu
