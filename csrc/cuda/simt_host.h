// simt.h on the host, for tests: every thread of a block is a fiber, which runs until it waits. Who
// goes on next is drawn from a seed, as is how evenly warps go on, the order of blocks and when
// copies arrive, and shared memory begins as noise: what works by luck on a GPU fails here.
#pragma once

#include <math.h>
#include <string.h>

#include <functional>
#include <string>

#define DEVICE inline
#define HOST_DEVICE inline
#define UNROLL
// What reads no shared memory but its registers, or does so atomically: see emulated/races.h.
#define UNWATCHED __attribute__((no_sanitize("thread")))

namespace ptqsr::cuda {

// ---- the machine

// How warps go on between two barriers of the whole block. Where they keep step, none is ever more
// than a step ahead of the others, however these are shuffled: an index that is reused too early
// shows only where one runs far ahead, as on a GPU it may.
enum class Schedule {
  drawn,       // one of the others, anew after every barrier
  even,        // all go one step, then all the next
  one_ahead,   // one warp runs as far as it can, then the others evenly
  one_late,    // one warp runs when no other can
  last_first,  // a warp runs when none of a higher number can
};
constexpr int kScheduleCount = 5;
constexpr const char* kScheduleNames[] = {"drawn", "even", "one_ahead", "one_late", "last_first"};

struct Emulation {
  uint64_t seed = 1;
  int architecture = 80;            // compute capability that kernels see
  int64_t shared_limit = 99 << 10;  // bytes that a block may ask for
  Schedule schedule = Schedule::drawn;
  bool find_races = true;  // where this build can: see emulated/races.h
};
// What the next launches of this thread of the host run on.
void set_emulation(const Emulation& emulation);
const Emulation& emulation();

namespace host {

// Runs `body` by all threads of all blocks. Returns why it failed; empty: all is well.
std::string run(const Grid& grid, int threads, int64_t shared_bytes,
                const std::function<void()>& body);

struct Place {
  int thread;
  int64_t block_x, block_y, blocks_x;
  unsigned char* shared;
};
const Place& place();

// Ends the launch with a message; does not return.
[[noreturn]] void fail(const std::string& why);
// Waits for all threads of the block.
void meet_block();
// Waits for `threads` threads of the block in all to come to barrier `number`.
void meet_some(int number, int threads);
// Waits for the other lanes of the warp; memory is in order then.
void meet_lanes();
// Waits for the other lanes of the warp, who do the same: `what` and `together` are theirs too.
// Then the last to come calls `together` with what each lane brought.
void meet_warp(const char* what, void* mine, void (*together)(void* const (&lanes)[kWarp]));

void copy_ahead(void* to, const void* from, bool there);
void copies_end();
void copies_wait(int pending);

inline void require_aligned(const void* p, int bytes, const char* what) {
  if (reinterpret_cast<uintptr_t>(p) % bytes != 0) fail(std::string(what) + " is not aligned");
}

}  // namespace host

inline int architecture() { return emulation().architecture; }

// ---- threads

inline int thread() { return host::place().thread; }
inline int lane() { return thread() % kWarp; }
inline int warp() { return thread() / kWarp; }
inline int64_t block_x() { return host::place().block_x; }
inline int64_t block_y() { return host::place().block_y; }
inline int64_t blocks_x() { return host::place().blocks_x; }

inline void trap() { host::fail("trap"); }

inline void synchronize() { host::meet_block(); }
inline void synchronize_some(int number, int threads) { host::meet_some(number, threads); }
inline void synchronize_warp() { host::meet_lanes(); }

inline unsigned char* shared_memory() { return host::place().shared; }

// ---- exchange within a warp

namespace host {

template <class T>
T shuffle(const char* what, T value, int from) {
  struct Mine {
    T value;
    int from;
    T result;
  } mine{value, from % kWarp, value};
  meet_warp(what, &mine, [](void* const(&lanes)[kWarp]) {
    for (void* one : lanes) {
      auto* m = static_cast<Mine*>(one);
      m->result = static_cast<Mine*>(lanes[m->from])->value;
    }
  });
  return mine.result;
}

}  // namespace host

template <class T>
T shuffle(T value, int from) {
  return host::shuffle("shuffle", value, from);
}
template <class T>
T shuffle_xor(T value, int mask) {
  return host::shuffle("shuffle_xor", value, lane() ^ mask);
}
inline uint32_t ballot(bool value) {
  struct Mine {
    bool value;
    uint32_t result;
  } mine{value, 0};
  host::meet_warp("ballot", &mine, [](void* const(&lanes)[kWarp]) {
    uint32_t all = 0;
    for (int i = 0; i < kWarp; ++i) {
      all |= static_cast<uint32_t>(static_cast<Mine*>(lanes[i])->value) << i;
    }
    for (void* one : lanes) static_cast<Mine*>(one)->result = all;
  });
  return mine.result;
}

// ---- memory

template <class T>
T load_once(const T* from) {
  return *from;
}
template <class T>
UNWATCHED inline void atomic_min(T* to, T value) {
  if (value < *to) *to = value;
}
template <class T>
UNWATCHED inline void atomic_max(T* to, T value) {
  if (value > *to) *to = value;
}
UNWATCHED inline int32_t atomic_add(int32_t* to, int32_t value) {
  const int32_t before = *to;
  *to = before + value;
  return before;
}
inline void fence() {}
template <class T>
UNWATCHED T load_of_blocks(const T* from) {
  return *from;
}
UNWATCHED inline void atomic_add(int64_t* to, int64_t value) {
  *to = static_cast<int64_t>(static_cast<uint64_t>(*to) + static_cast<uint64_t>(value));
}
inline void copy_ahead(void* to, const void* from, bool there) {
  host::copy_ahead(to, from, there);
}
inline void copies_end() { host::copies_end(); }
template <int kPending>
void copies_wait() {
  host::copies_wait(kPending);
}

// ---- numbers

struct Half {
  uint16_t bits;
};
struct BFloat {
  uint16_t bits;
};
inline uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}
inline float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}
inline float to_float(float value) { return value; }
inline float to_float(BFloat value) { return float_of(static_cast<uint32_t>(value.bits) << 16); }
inline float to_float(Half value) {
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000) << 16;
  const uint32_t rest = static_cast<uint32_t>(value.bits & 0x7FFF) << 13;
  if (rest >= 0x7C00u << 13) return float_of(sign | rest | 0x7F800000);
  return float_of(sign | bits_of(float_of(rest) * 0x1p112f));
}
template <class T>
T from_float(float value);
template <>
inline float from_float<float>(float value) {
  return value;
}
template <>
inline BFloat from_float<BFloat>(float value) {
  const uint32_t bits = bits_of(value);
  if (value != value) return {0x7FFF};
  return {static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16)};
}
template <>
inline Half from_float<Half>(float value) {
  const uint32_t bits = bits_of(value), size = bits & 0x7FFFFFFF;
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  if (size > 0x7F800000) return {0x7FFF};
  if (size >= 0x477FF000) return {static_cast<uint16_t>(sign | 0x7C00)};  // 65520 and more
  // Beside 1/2 a float's last place is that of a subnormal float16.
  const uint32_t small = bits_of(float_of(size) + 0.5f) - 0x3F000000;
  const uint32_t normal = (size - (112u << 23) + 0xFFF + (size >> 13 & 1)) >> 13;
  return {static_cast<uint16_t>(sign | (size < 113u << 23 ? small : normal))};
}
// Beyond int32: its nearest end; NaN: 0.
inline int32_t round_to_int(float value) {
  if (value != value) return 0;
  if (value >= 0x1p31f) return INT32_MAX;
  return value < -0x1p31f ? INT32_MIN : static_cast<int32_t>(nearbyintf(value));
}

inline int32_t floor_to_int(float value) { return static_cast<int32_t>(floorf(value)); }
inline int32_t ceil_to_int(float value) { return static_cast<int32_t>(ceilf(value)); }
// round_to_int, of int64.
inline int64_t round_to_int64(float value) {
  if (value != value) return 0;
  if (value >= 0x1p63f) return INT64_MAX;
  return value < -0x1p63f ? INT64_MIN : static_cast<int64_t>(nearbyintf(value));
}

// ---- tensor cores

inline void load_matrices(uint32_t (&to)[4], const void* row) {
  host::require_aligned(row, 16, "a row of load_matrices");
  struct Mine {
    const void* row;
    uint32_t (*to)[4];
  } mine{row, &to};
  host::meet_warp("load_matrices", &mine, [](void* const(&lanes)[kWarp]) {
    for (int l = 0; l < kWarp; ++l) {
      for (int m = 0; m < 4; ++m) {
        const auto* from = static_cast<Mine*>(lanes[8 * m + l / 4])->row;
        memcpy(&(*static_cast<Mine*>(lanes[l])->to)[m],
               static_cast<const unsigned char*>(from) + 4 * (l % 4), 4);
      }
    }
  });
}

namespace host {

// Element k of the operands in a register, of 8 or 4 bits.
template <int kBits, bool kSigned>
UNWATCHED int32_t element(uint32_t word, int k) {
  const auto bits = static_cast<int32_t>(word << (32 - kBits - k * kBits));
  return kSigned ? bits >> (32 - kBits)
                 : static_cast<int32_t>(static_cast<uint32_t>(bits) >> (32 - kBits));
}

// c += a b for kRows x 8 results; a lane holds row l / 4 (and 8 more) of A, column l / 4 of B, and
// of both the elements of word l % 4 of each 16 bytes.
template <int kBits, bool kSignedA, int kRows>
void mma(int32_t* c, const uint32_t* a, const uint32_t* b) {
  constexpr int kInWord = 32 / kBits, kWords = kRows == 16 ? 2 : 1;  // 16-byte stretches of K
  struct Mine {
    int32_t* c;
    const uint32_t *a, *b;
  } mine{c, a, b};
  meet_warp("mma", &mine, [](void* const(&lanes)[kWarp]) UNWATCHED {
    const auto at = [&](int l) UNWATCHED { return static_cast<Mine*>(lanes[l]); };
    for (int l = 0; l < kWarp; ++l) {
      for (int i = 0; i < kRows / 4; ++i) {
        const int row = l / 4, column = l % 4 * 2 + i % 2, half = i / 2;
        auto sum = static_cast<uint32_t>(at(l)->c[i]);
        for (int stretch = 0; stretch < kWords; ++stretch) {
          for (int word = 0; word < 4; ++word) {
            const uint32_t x = at(row * 4 + word)->a[half + stretch * (kRows / 8)];
            const uint32_t w = at(column * 4 + word)->b[stretch];
            for (int k = 0; k < kInWord; ++k) {
              sum += static_cast<uint32_t>(element<kBits, kSignedA>(x, k) *
                                           element<kBits, true>(w, k));
            }
          }
        }
        // The operands of the other lanes are not read again by this lane's results.
        at(l)->c[i] = static_cast<int32_t>(sum);
      }
    }
  });
}

template <int kBits, bool kSignedA>
void mma_small(int32_t& c0, int32_t& c1, uint32_t a, uint32_t b) {
  int32_t c[2] = {c0, c1};
  mma<kBits, kSignedA, 8>(c, &a, &b);
  c0 = c[0];
  c1 = c[1];
}

template <int kBits, bool kSignedA>
void mma_large(int32_t (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  if (architecture() < 80) fail("mma of 16 rows needs compute capability 8.0");
  mma<kBits, kSignedA, 16>(c, a, b);
}

}  // namespace host

inline void mma_8x8x16_s8(int32_t& c0, int32_t& c1, uint32_t a, uint32_t b) {
  host::mma_small<8, true>(c0, c1, a, b);
}
inline void mma_8x8x16_u8(int32_t& c0, int32_t& c1, uint32_t a, uint32_t b) {
  host::mma_small<8, false>(c0, c1, a, b);
}
inline void mma_8x8x32_s4(int32_t& c0, int32_t& c1, uint32_t a, uint32_t b) {
  host::mma_small<4, true>(c0, c1, a, b);
}
inline void mma_8x8x32_u4(int32_t& c0, int32_t& c1, uint32_t a, uint32_t b) {
  host::mma_small<4, false>(c0, c1, a, b);
}
inline void mma_16x8x32_s8(int32_t (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  host::mma_large<8, true>(c, a, b);
}
inline void mma_16x8x32_u8(int32_t (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  host::mma_large<8, false>(c, a, b);
}
inline void mma_16x8x64_s4(int32_t (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  host::mma_large<4, true>(c, a, b);
}
inline void mma_16x8x64_u4(int32_t (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  host::mma_large<4, false>(c, a, b);
}

// ---- launches

Status checked(const std::string& failure);

struct Resources {
  int capability, units;
  int64_t shared_limit;
};
inline Status current_device(Resources* device) {
  *device = {architecture(), 3, emulation().shared_limit};
  return Status::ok;
}
// Few, so that blocks of small pictures have more than one tile.
template <class Kernel>
Status resident_blocks(int64_t shared_bytes, int64_t* blocks) {
  *blocks = 3 * (emulation().shared_limit / (shared_bytes + 1024));
  return Status::ok;
}

template <class Kernel>
Status launch(const Grid& grid, int64_t shared_bytes, Stream stream,
              const typename Kernel::Args& args) {
  static_cast<void>(stream);
  if (grid.x < 1 || grid.y < 1) return Status::ok;
  if (grid.x > INT32_MAX || grid.y > 65535) return Status::too_large;
  return checked(host::run(grid, Kernel::kThreads, shared_bytes, [&] { Kernel::run(args); }));
}

}  // namespace ptqsr::cuda
