// A vector of 16 channels of 4 pixels against one threshold after another, in float: no branch,
// and every threshold is loaded once for 4 pixels.
#include <cstdint>
#include <cstring>

typedef float Vec __attribute__((vector_size(64)));
typedef int32_t IVec __attribute__((vector_size(64)));
typedef int8_t Bytes __attribute__((vector_size(16)));

template <class V, class T>
static inline V load(const T* p) {
  V v;
  memcpy(&v, p, sizeof v);
  return v;
}

extern "C" void encode(const float* x, int64_t pixels, int64_t c, const float* thresholds,
                       const int8_t* points, int64_t levels, const float* mean, const float* ratio,
                       int8_t* out) {
  for (int64_t p = 0; p + 4 <= pixels; p += 4) {
    for (int64_t i = 0; i < c; i += 16) {
      Vec u[4];
      IVec k[4];
      for (int j = 0; j < 4; ++j) {
        u[j] = (load<Vec>(x + (p + j) * c + i) - load<Vec>(mean + i)) * load<Vec>(ratio + i);
        k[j] = __builtin_convertvector(load<Bytes>(points + i), IVec);
      }
      for (int64_t level = 1; level < levels; ++level) {
        const Vec threshold = load<Vec>(thresholds + (level - 1) * c + i);
        const IVec above = __builtin_convertvector(load<Bytes>(points + level * c + i), IVec);
        for (int j = 0; j < 4; ++j) k[j] = u[j] > threshold ? above : k[j];
      }
      for (int j = 0; j < 4; ++j) {
        const Bytes bytes = __builtin_convertvector(k[j], Bytes);
        memcpy(out + (p + j) * c + i, &bytes, sizeof bytes);
      }
    }
  }
}
