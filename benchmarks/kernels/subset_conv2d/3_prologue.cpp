// Rows encoded into a ring just before they are multiplied: no picture of codes.
// 3 % faster.
#include "subset.h"

extern "C" void conv(const Subset& s) {
  const Folded folded = fold(s);
  const Packed packed = folded.packed();
  EncodedRing ring(s);
  Statistics statistics;
  for (int64_t y = 0; y < s.h; ++y) {
    const uint8_t* rows[3];
    ring.rows_of(y, rows);
    multiply_row(s, packed, rows, [&](int64_t x, int64_t pixels, const int32_t* sums) {
      finish_tile(s, folded, pixels, sums, s.y + (y * s.w + x) * kC, statistics);
    });
    statistics.end_row();
  }
  statistics.finish(s);
}
