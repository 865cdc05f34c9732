#pragma once

#include <cstdint>

// The inner loops of subset fake quantization, one set of them per instruction set.
//
// Sources that are compiled for an instruction set include nothing of the standard library but C
// headers: an inline function of it, compiled there, could be the copy that the linker keeps for
// everyone.
namespace ptqsr::cpu {

constexpr int kPadding = 16;  // per-channel tables hold a multiple of this: the widest vector

// How the point of a normalised value u is found.
enum class Search {
  compare,  // go through all thresholds; few levels
  table,    // look 2u up among the half-integers in [-2D, 2D)
  bisect,   // binary search, value by value; any set
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
};

// Of one sample: x - mean times ratio gives u, its point times unit plus mean gives y. [padded]
struct SampleScales {
  const float* mean;
  const float* ratio;
  const float* unit;
};

struct SubsetLoops {
  int64_t compare_levels;  // up to here, comparing with every threshold beats a table (measured)
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
};

extern const SubsetLoops kSubsetPortable;
extern const SubsetLoops kSubsetAvx2;
extern const SubsetLoops kSubsetAvx512;

}  // namespace ptqsr::cpu
