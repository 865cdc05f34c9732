#pragma once

#include <cstdint>
#include <vector>

#include "cpu/subset.h"
#include "ptqsr/isa.h"
#include "ptqsr/status.h"
#include "ptqsr/views.h"

// What subset.h's loops read, made once for a call.
namespace ptqsr::cpu {

const SubsetLoops& subset_loops(Isa isa);

// Points of every channel: int32 [c][levels], ascending, in units of 1 / denominator.
struct Points {
  const int32_t* points;
  int64_t c, levels;
  int32_t denominator;

  Status check() const;
};

// Which tables are made.
enum class Wanted {
  values,  // for quantize_*
  points,  // for encode_* to points; denominator at most 127
  codes,   // for encode_* to indices of points
};

// Owns what SubsetTables points to. Throws std::bad_alloc.
class Tables {
 public:
  // `values`: how many values of a channel they are for; to few, a large table does not pay.
  Tables(const Points& points, Layout layout, const SubsetLoops& loops, Wanted wanted,
         int64_t values);

  Tables(const Tables&) = delete;  // the view points into it
  Tables& operator=(const Tables&) = delete;

  const SubsetTables& view() const { return view_; }

 private:
  void make_floats(const Points& points, Layout layout, const SubsetLoops& loops, int64_t values);
  void make_bytes(const Points& points, Layout layout, const SubsetLoops& loops, bool codes);
  void make_steps(const Points& points, Layout layout, const SubsetLoops& loops, bool codes);
  void make_lookup(const Points& points, bool codes);

  std::vector<float> thresholds_, values_, thresholds_t_, values_t_, lookup_;
  std::vector<int8_t> steps_, byte_lookup_;
  SubsetTables view_{};
};

// What SampleScales points to, of every sample. Throws std::bad_alloc.
class Scales {
 public:
  Scales(int64_t n, int64_t c, int32_t denominator);
  // Of given statistics, float32 [n][c].
  Scales(const float* mean, const float* scale, int64_t n, int64_t c, int32_t denominator);

  // r = D / s, 0 where s is; unit = s / D.
  void set(int64_t n, int64_t c, float mean, float scale);

  SampleScales sample(int64_t n) const {
    return {mean_.data() + n * padded_, ratio_.data() + n * padded_, unit_.data() + n * padded_};
  }

 private:
  int64_t padded_;
  int32_t denominator_;
  std::vector<float> mean_, ratio_, unit_;
};

}  // namespace ptqsr::cpu
