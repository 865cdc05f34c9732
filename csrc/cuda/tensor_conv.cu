// Convolution of codes on tensor cores.
//
// A block keeps the weights of kN output channels in shared memory and stays; teams of four warps
// go from tile to tile of 4 kRows x 16 output pixels, each at its own pace, so that one multiplies
// while another stores. Of a tile a team loads the input that all taps look at once, a halo:
//
//   weights   [round][tap][kN][kRow bytes of channels]
//   halo      [rows][columns][kRow bytes of channels], for every team, one or two of them
//
// and a warp multiplies, for every tap, kRows x 16 pixels by kN channels. Groups of more than kRow
// bytes of channels are summed in rounds. How the next halo gets there while this one is
// multiplied:
//
//   8.0 and newer                    copied ahead into the other of two halos
//   7.5, or place for one halo only  its first kHeld pieces of 16 bytes a thread by registers
//   codes of 4 bits                  the same, two of them into a byte on the way
//   float16 that becomes points      the same, encoded on the way
//
// Codes stand for level = code + lowest, and outside the picture a level is 0: there a halo has the
// code -lowest, as have channels that only fill a row. What lowest adds is the same for all pixels
// then, and where sums begin. Weights beyond the operands' range are moved into it, all of a kernel
// by one number; that number times the sum of the window's levels, a product with ones, is added in
// the end.
#include "cuda/border.h"
#include "cuda/mma.h"
#include "cuda/moments.h"
#include "cuda/points.h"
#include "cuda/simt.h"
#include "cuda/vector.h"

namespace ptqsr::cuda {
namespace {

constexpr int kTeamWarps = 4, kTeam = kTeamWarps * kWarp;
constexpr int kN = 64;        // output channels of a block
constexpr int kWidth = 16;    // of a tile
constexpr int kRun = kN / 4;  // neighbouring output channels that a thread has

struct Args {
  TensorConv conv;
  int tiles_x, tiles_y, items;  // items: tiles that a row of blocks shares
  int halo_rows, halo_columns, rounds;
  int blocks;              // of kN output channels, of a group
  bool resident;           // the weights of all rounds are kept
  int tap_rows;            // of which weights are there at a time: all of a round, or one
  int halos;               // of a team
  int block_rows, in_row;  // rows of blocks, one after the other; blocks that share a row's tiles
  int window;              // codes that are multiplied for one result
  bool vectors;            // runs of results may be stored 16 bytes at a time
};

struct Tile {
  int sample, y, x;
};

DEVICE float rectified(float y) { return y > 0 || y != y ? y : 0.0f; }

// How codes lie in memory.
enum class Source {
  operands,  // as tensor cores take them
  codes,     // a byte each, of 4 bits
  halves,    // not at all: float16, which becomes points
};

template <Operand kA, Source kSource, int kRow, int kTeams, int kRows>
struct Convolve {
  static constexpr bool kEncodes = kSource == Source::halves;
  static constexpr int kThreads = kTeams * kTeam;
  static constexpr int kTile = kTeamWarps * kRows;  // rows of output pixels
  static constexpr int kTapBytes = kN * kRow;
  static constexpr int kPieces = kRow / 16;
  static constexpr bool kAhead = kSource == Source::operands;
  static constexpr int kParts = kAhead ? 1 : 2;  // pieces of memory that become one
  // Pieces by registers: of 3x3 all, but where registers are too few.
  static constexpr int kHeld = kRow == 32 ? 3 : kAhead ? 6 : kEncodes ? 5 : 4;
  struct Held {
    Sixteen parts[kParts];
    bool there;
  };
  // Signed codes are points of subsets, whose next layer asks for statistics.
  static constexpr bool kSubset = kA == Operand::s8, kMoments = kSubset, kZeros = !kSubset;
  using Args = cuda::Args;
  static constexpr uint32_t kOnes = four_bits<kA> ? 0x11111111u : 0x01010101u;
  struct Sums {
    int32_t c[kRows][kN / 8][4];
    int32_t window[kRows][4];  // of levels, the same in every column
  };

  // Of a row, with so many bytes from its first on.
  HOST_DEVICE static int halves_of(int bytes) { return kRow == 64 && bytes > 32 ? 2 : 1; }

  DEVICE static void run(const Args& args) {
    // Where tensor cores take bytes alone, 4 bits must not be launched.
    if (four_bits<kA> && unpacks()) return trap();
    Convolve(args).work();
  }

 private:
  const Args& args;
  const TensorConv& v;
  int block, group, first_sample;
  // Of a thread's run of output channels: its place in tables, in a pixel's results, and how many
  // there are.
  int table, from_pixel, left;
  int pixel, line;  // results of a pixel and of a row of them
  unsigned char *weights, *halo;
  const unsigned char* all_weights;
  Sixteen outside;
  int places[kHeld];  // row << 16 | column of the pieces held
  Held held[kHeld];
  Points points;

  DEVICE static int team() { return thread() / kTeam; }
  DEVICE static int in_team() { return thread() % kTeam; }
  DEVICE static void meet_team() {
    if constexpr (kTeams == 1) {
      synchronize();
    } else {
      synchronize_some(1 + team(), kTeam);
    }
  }
  DEVICE int halo_bytes() const { return args.halo_rows * args.halo_columns * kRow; }
  DEVICE int pieces() const { return args.halo_rows * args.halo_columns * kPieces; }
  DEVICE int round_bytes() const { return v.kh * v.kw * kTapBytes; }
  // Of weights in shared memory.
  DEVICE int held_bytes() const {
    return args.resident ? args.rounds * round_bytes() : args.tap_rows * v.kw * kTapBytes;
  }

  DEVICE int32_t lowest() const { return kSubset ? 0 : v.lowest[v.by_sample ? first_sample : 0]; }
  DEVICE unsigned char* after_halos() const {
    return shared_memory() + held_bytes() + kTeams * args.halos * halo_bytes();
  }

  DEVICE explicit Convolve(const Args& given)
      : args(given), v(given.conv), points(after_halos(), kEncodes ? given.conv.group_bytes : 1) {
    const int row = static_cast<int>(block_x()) / args.in_row;
    block = row % args.blocks;
    group = row / args.blocks % v.groups;
    first_sample = row / args.blocks / v.groups;
    table = (group * args.blocks + block) * kN + lane() % 4 * kRun;
    // With a pixel shuffle a group's channels come in the order of its square, [f][f][channels],
    // and none of a run belongs to the next.
    const int f = v.shuffle, channels = v.o / v.groups / (f * f);
    const int runs = (channels + kRun - 1) / kRun, run = block * (kN / kRun) + lane() % 4;
    const int part = run / runs, first = run % runs * kRun;
    pixel = channels * v.groups;
    line = v.out_w * f * pixel;
    from_pixel = part / f * line + part % f * pixel + group * channels + first;
    left = part < f * f ? channels - first : 0;
    weights = shared_memory();
    halo = weights + held_bytes() + team() * args.halos * halo_bytes();
    const int number = ((kSubset ? first_sample : 0) * v.groups + group) * args.blocks + block;
    all_weights = v.weights + static_cast<int64_t>(number) * args.rounds * round_bytes();
    auto code = static_cast<uint32_t>(-lowest());
    code = four_bits<kA> ? code * 0x11111111u : code * 0x01010101u;
    outside = {code, code, code, code};
    UNROLL
    for (int i = 0; i < kHeld; ++i) {
      const int pixel = (in_team() + i * kTeam) / kPieces;
      places[i] = pixel / args.halo_columns << 16 | pixel % args.halo_columns;
    }
  }

  DEVICE void work() {
    const int step = args.in_row * kTeams;
    const int of_block = static_cast<int>(block_x()) % args.in_row * kTeams;
    const int first = of_block + team();
    const bool ahead = architecture() >= 80 && kAhead && args.halos == 2;
    // All teams do as many steps, for they meet where weights change.
    const int turns = (args.items - of_block + step - 1) / step;
    Sums sums;
    RunningMoments moments;
    if (args.resident) load_weights(0, held_bytes());
    begin(ahead, first, 0, halo);
    if (kEncodes) {
      points.fill(v.subset, first_sample, v.group_bytes * v.groups, group * v.group_bytes,
                  v.group_bytes, kThreads);
      synchronize();
    }
    copies_wait<0>();
    end(ahead, first, 0);
    if (args.resident) synchronize();
    int other = 0;
    for (int turn = 0, item = first; turn < turns; ++turn, item += step) {
      const bool live = item < args.items;
      clear(sums);
      for (int round = 0; round < args.rounds; ++round) {
        const bool last = round + 1 == args.rounds;
        const int next = last ? item + step : item, next_round = last ? 0 : round + 1;
        const unsigned char* now = halo + other * halo_bytes();
        if (ahead) other ^= 1;
        for (int row = 0; row < v.kh; row += args.tap_rows) {
          const unsigned char* by = weights + (args.resident ? round * round_bytes() : 0);
          if (!args.resident) {
            synchronize();  // all have done with the weights that lie there
            load_weights(round * round_bytes() + row * v.kw * kTapBytes, held_bytes());
            copies_wait<0>();
            synchronize();
          }
          if (row == 0) begin(ahead, next, next_round, halo + other * halo_bytes());
          if (live) add(now, by, round, row, sums);
        }
        if (!ahead) meet_team();  // all have read
        copies_wait<0>();
        end(ahead, next, next_round);
        meet_team();
      }
      store(item, live, sums, moments);
    }
    if (kMoments && v.moments.sum != nullptr) {
      publish(moments);
      synchronize();  // all have done with the weights, where the flag comes to lie
      const int64_t blocks = static_cast<int64_t>(args.in_row) * args.block_rows;
      const int64_t pixels = static_cast<int64_t>(v.out_h) * v.out_w * v.shuffle * v.shuffle;
      finish_moments<kThreads>(v.moments, reinterpret_cast<int32_t*>(weights), blocks,
                               static_cast<int64_t>(v.n) * pixel, pixels);
    }
  }

  // ---- to shared memory

  DEVICE void load_weights(int first, int bytes) const {
    const int count = bytes / 16;
    const unsigned char* from = all_weights + first;
    for (int i = thread(); i < count; i += kThreads) {
      copy_ahead(weights + slab_offset<kRow>(i / (kRow / 16), i % (kRow / 16)), from + i * 16,
                 true);
    }
    copies_end();
  }

  DEVICE Tile tile_of(int item) const {
    const int row = item / args.tiles_x;
    return {first_sample + row / args.tiles_y, row % args.tiles_y * kTile,
            item % args.tiles_x * kWidth};
  }

  // A piece of 16 bytes of the input under a tile; null outside the picture.
  DEVICE const unsigned char* source(const Tile& tile, int round, int row, int column,
                                     int piece) const {
    const int y = tile.y * v.stride_h - v.padding_h + row;
    const int x = tile.x * v.stride_w - v.padding_w + column;
    const int at = round * kRow + piece * 16;
    if (y < 0 || y >= v.h || x < 0 || x >= v.w || at >= v.group_bytes) return nullptr;
    const int offset = ((tile.sample * v.h + y) * v.w + x) * v.bytes + group * v.group_bytes + at;
    return v.x + static_cast<int64_t>(kParts) * offset;
  }
  DEVICE const unsigned char* source_held(const Tile& tile, int round, int i) const {
    return source(tile, round, places[i] >> 16, places[i] & 0xFFFF, in_team() % kPieces);
  }
  DEVICE const unsigned char* source(const Tile& tile, int round, int i) const {
    const int pixel = i / kPieces;
    return source(tile, round, pixel / args.halo_columns, pixel % args.halo_columns, i % kPieces);
  }
  DEVICE Held fetch(const unsigned char* from) const {
    Held found{{}, from != nullptr};
    UNROLL
    for (size_t i = 0; i < sizeof found.parts / 16; ++i) {
      found.parts[i] = found.there ? reinterpret_cast<const Sixteen*>(from)[i] : outside;
    }
    return found;
  }
  DEVICE void put(unsigned char* to, int i, int round, const Held& found) const {
    const int row = i / kPieces, piece = i % kPieces;
    Sixteen operands = found.parts[0];
    if (found.there && kSource == Source::codes) operands = packed(found);
    if (found.there && kEncodes) operands = encoded(found, round * kRow + piece * 16);
    *reinterpret_cast<Sixteen*>(to + slab_offset<kRow>(row, piece)) = operands;
  }
  // Two neighbouring codes in a byte, the first in its low half.
  DEVICE static Sixteen packed(const Held& found) {
    Sixteen to{};
    UNROLL
    for (int i = 0; i < 4 * kParts; ++i) {
      uint32_t word = found.parts[i / 4].words[i % 4] & 0x0F0F0F0Fu;
      word = (word | word >> 4) & 0x00FF00FFu;
      to.words[i / 2] |= ((word | word >> 8) & 0xFFFFu) << 16 * (i % 2);
    }
    return to;
  }
  DEVICE Sixteen encoded(const Held& found, int channel) const {
    Sixteen codes{};
    if constexpr (kEncodes) {
      Half values[16];
      memcpy(values, found.parts, sizeof values);
      UNROLL
      for (int i = 0; i < 16; ++i) {
        codes.words[i / 4] |= points.find(to_float(values[i]), channel + i) << 8 * (i % 4);
      }
    }
    return codes;
  }
  DEVICE void copy(unsigned char* to, int i, const unsigned char* from) const {
    if (from == nullptr) {
      put(to, i, 0, {{outside}, false});
    } else {
      copy_ahead(to + slab_offset<kRow>(i / kPieces, i % kPieces), from, true);
    }
  }

  // Asks for the input of a tile, where there is one: copies go to `to`.
  DEVICE void begin(bool ahead, int item, int round, unsigned char* to) {
    if (item < args.items) {
      const Tile tile = tile_of(item);
      const int count = pieces();
      UNROLL
      for (int i = 0; i < kHeld; ++i) {
        const int number = in_team() + i * kTeam;
        if (number >= count) continue;
        const unsigned char* from = source_held(tile, round, i);
        if constexpr (kAhead) {
          if (ahead) {
            copy(to, number, from);
          } else {
            held[i] = fetch(from);
          }
        } else {
          held[i] = fetch(from);
        }
      }
      if (kAhead && ahead) {
        for (int i = in_team() + kHeld * kTeam; i < count; i += kTeam) {
          copy(to, i, source(tile, round, i));
        }
      }
    }
    copies_end();
  }
  // Puts what registers hold, and what they could not.
  DEVICE void end(bool ahead, int item, int round) {
    if (ahead || item >= args.items) return;
    const int count = pieces();
    UNROLL
    for (int i = 0; i < kHeld; ++i) {
      if (in_team() + i * kTeam < count) put(halo, in_team() + i * kTeam, round, held[i]);
    }
    if (count <= kHeld * kTeam) return;
    const Tile tile = tile_of(item);
    for (int i = in_team() + kHeld * kTeam; i < count; i += kTeam) {
      put(halo, i, round, fetch(source(tile, round, i)));
    }
  }

  // ---- products

  DEVICE void clear(Sums& sums) const {
    int32_t start[kRun] = {}, window = 0;
    if (const auto each = static_cast<uint32_t>(lowest()); each != 0) {
      UNROLL
      for (int i = 0; i < kRun; ++i) {
        start[i] = static_cast<int32_t>(static_cast<uint32_t>(v.total[table + i]) * each);
      }
      window = static_cast<int32_t>(static_cast<uint32_t>(args.window) * each);
    }
    UNROLL
    for (int r = 0; r < kRows; ++r) {
      UNROLL
      for (int i = 0; i < kRun; ++i) {
        sums.c[r][i / 2][i % 2] = start[i];
        sums.c[r][i / 2][2 + i % 2] = start[i];
      }
      UNROLL
      for (int i = 0; i < 4; ++i) sums.window[r][i] = window;
    }
  }

  // 32 bytes along K, under one tap.
  struct Fragments {
    uint32_t a[kRows][4], b[kN / 16][4];
  };

  // Of the taps of some rows, from `tap_row` on, whose weights are at `by`.
  DEVICE void add(const unsigned char* from, const unsigned char* by, int round, int tap_row,
                  Sums& sums) const {
    const int halves = halves_of(v.group_bytes - round * kRow);
    const int count = args.tap_rows * v.kw * halves;
    int pixels[kRows];
    UNROLL
    for (int r = 0; r < kRows; ++r) {
      const int row = (warp() % kTeamWarps * kRows + r) * v.stride_h;
      pixels[r] = row * args.halo_columns + lane() % 16 * v.stride_w;
    }
    int kx = 0, half = 0, offset = tap_row * v.dilation_h * args.halo_columns;
    const auto load = [&](Fragments& f) {
      UNROLL
      for (int r = 0; r < kRows; ++r) {
        load_matrices(f.a[r], from + slab_offset<kRow>(pixels[r] + offset, 2 * half + lane() / 16));
      }
      UNROLL
      for (int j = 0; j < kN / 16; ++j) load_b<kRow>(f.b[j], by, 16 * j, half);
    };
    const auto advance = [&] {
      if (++half < halves) return;
      half = 0;
      by += kTapBytes;
      offset += v.dilation_w;
      if (++kx < v.kw) return;
      kx = 0;
      offset += v.dilation_h * args.halo_columns - v.kw * v.dilation_w;
    };
    // Operands are loaded while those before them are multiplied.
    Fragments now, next;
    load(now);
    for (int i = 1;; ++i) {
      if (i < count) {
        advance();
        load(next);
      }
      UNROLL
      for (int j = 0; j < kN / 16; ++j) {
        const uint32_t low[2] = {now.b[j][0], now.b[j][1]}, high[2] = {now.b[j][2], now.b[j][3]};
        UNROLL
        for (int r = 0; r < kRows; ++r) {
          multiply<kA>(sums.c[r][2 * j], now.a[r], low);
          multiply<kA>(sums.c[r][2 * j + 1], now.a[r], high);
        }
      }
      if (kZeros && v.zeros != nullptr) {
        const uint32_t ones[2] = {kOnes, kOnes};
        UNROLL
        for (int r = 0; r < kRows; ++r) multiply<kA>(sums.window[r], now.a[r], ones);
      }
      if (i >= count) return;
      now = next;
    }
  }

  // ---- results

  DEVICE static float number(float value, int32_t) { return value; }
  DEVICE static float number(Half value, int32_t) { return to_float(value); }
  DEVICE static float number(uint8_t code, int32_t lowest) {
    return static_cast<float>(code + lowest);
  }

  // The thread's run of a pixel, all of it or what there is.
  template <class T>
  DEVICE void add_residual(float (&y)[kRun], int at, bool whole) const {
    const T* from = static_cast<const T*>(v.residual) + at;
    const float scale = v.residual_scale != nullptr ? *v.residual_scale : 1.0f;
    const int32_t lowest = v.residual_lowest != nullptr ? *v.residual_lowest : 0;
    T of[kRun] = {};
    if (whole) {
      Sixteen bytes[sizeof of / 16];
      UNROLL
      for (size_t i = 0; i < sizeof of / 16; ++i) {
        bytes[i] = reinterpret_cast<const Sixteen*>(from)[i];
      }
      memcpy(of, bytes, sizeof of);
    } else {
      UNROLL
      for (int i = 0; i < kRun; ++i) {
        if (i < left) of[i] = from[i];
      }
    }
    UNROLL
    for (int i = 0; i < kRun; ++i) y[i] = y[i] + number(of[i], lowest) * scale;
  }

  template <class T>
  DEVICE void put_results(const T (&results)[kRun], int at, bool whole) const {
    T* to = static_cast<T*>(v.y) + at;
    if (whole) {
      cuda::store<T, kRun, true>(to, results, kRun);
    } else {
      cuda::store<T, kRun, false>(to, results, left);
    }
  }

  // What is stored of a pixel; `y` becomes it where it is float16.
  DEVICE void finish(float (&y)[kRun], int at, bool whole) const {
    if (v.residual != nullptr) {
      if (v.residual_storage == Storage::floats) add_residual<float>(y, at, whole);
      if (v.residual_storage == Storage::halves) add_residual<Half>(y, at, whole);
      if (v.residual_storage == Storage::codes) add_residual<uint8_t>(y, at, whole);
    }
    if (v.last_relu) {
      UNROLL
      for (int i = 0; i < kRun; ++i) y[i] = rectified(y[i]);
    }
    if (v.output == Storage::floats) {
      put_results(y, at, whole);
    } else if (v.output == Storage::halves) {
      Half halves[kRun];
      UNROLL
      for (int i = 0; i < kRun; ++i) {
        halves[i] = from_float<Half>(y[i]);
        y[i] = to_float(halves[i]);
      }
      put_results(halves, at, whole);
    } else {
      uint8_t codes[kRun];
      encode(codes, y);
      put_results(codes, at, whole);
    }
  }

  DEVICE void store(int item, bool live, const Sums& sums, RunningMoments& moments) const {
    const Tile tile = tile_of(live ? item : 0);
    const float* scale = v.scale + (v.by_sample ? tile.sample * v.channels : 0) + table;
    const int classes = classes_of(v.rows) * classes_of(v.columns);
    const float* bias = v.bias + (kSubset ? tile.sample * classes * v.channels : 0) + table;
    // Pixels of a thread: kRows rows, and in each one 8 columns beside the other.
    constexpr int kPixels = 2 * kRows;
    float y[kPixels][kRun];
    int at[kPixels], border[kPixels];
    bool there[kPixels];
    UNROLL
    for (int p = 0; p < kPixels; ++p) {
      const int row = tile.y + warp() % kTeamWarps * kRows + p / 2;
      const int column = tile.x + lane() / 4 + p % 2 * 8;
      there[p] = live && left > 0 && row < v.out_h && column < v.out_w;
      const int number =
          class_of(v.rows, row) * classes_of(v.columns) + class_of(v.columns, column);
      border[p] = there[p] ? number * v.channels : 0;
      at[p] = (tile.sample * v.out_h + row) * v.shuffle * line + column * v.shuffle * pixel +
              from_pixel;
    }
    // A few channels at a time, of all pixels: tables are read once.
    UNROLL
    for (int i = 0; i < kRun; i += 4) {
      float factor[4], slope[4] = {}, shift[4];
      Sixteen zeros{};
      if (kZeros && v.zeros != nullptr) {
        zeros = *reinterpret_cast<const Sixteen*>(v.zeros + table + i);
      }
      load<float, 4, true>(factor, scale + i, 4);
      if (v.activation == Activation::leaky) load<float, 4, true>(slope, v.slope + table + i, 4);
      UNROLL
      for (int p = 0; p < kPixels; ++p) {
        load<float, 4, true>(shift, bias + border[p] + i, 4);
        UNROLL
        for (int k = 0; k < 4; ++k) {
          int32_t sum = sums.c[p / 2][(i + k) / 2][2 * (p % 2) + k % 2];
          if constexpr (kZeros) {
            sum += static_cast<int32_t>(zeros.words[k]) * sums.window[p / 2][2 * (p % 2)];
          }
          float value = static_cast<float>(sum) * factor[k] + shift[k];
          if (v.activation == Activation::relu) value = rectified(value);
          if (v.activation == Activation::leaky && !(value > 0)) value = value * slope[k];
          y[p][i + k] = value;
        }
      }
    }
    const bool whole = args.vectors && left >= kRun;
    UNROLL
    for (int p = 0; p < kPixels; ++p) {
      if (there[p]) finish(y[p], at[p], whole);
    }
    if (kMoments && v.moments.sum != nullptr) moments.take<kPixels>(y, there);
  }

  DEVICE void encode(uint8_t (&codes)[kRun], const float (&results)[kRun]) const {
    // Limits are whole numbers, so that they may come first; NaN becomes the lowest.
    const int32_t lowest = *v.out_lowest;
    const float low = static_cast<float>(lowest);
    const float high = static_cast<float>(lowest + v.out_levels - 1);
    UNROLL
    for (int i = 0; i < kRun; ++i) {
      float y = results[i] > low ? results[i] : low;
      y = y < high ? y : high;
      codes[i] = static_cast<uint8_t>(round_to_int(y) - lowest);
    }
  }

  // A block's tiles are of one sample, where moments are wanted.
  DEVICE void publish(const RunningMoments& moments) const {
    UNROLL
    for (int i = 0; i < 2; ++i) {
      const int in_run = RunningMoments::channel(i);
      if (in_run >= left) continue;
      const int at = first_sample * pixel + from_pixel % pixel + in_run;
      atomic_add(v.moments.sum + at, moments.sum[i]);
      atomic_min(v.moments.low + at, ordered(moments.low[i]));
      atomic_max(v.moments.high + at, ordered(moments.high[i]));
    }
  }
};

// Whether runs of results, and what is added to them, begin at multiples of 16 bytes.
bool in_vectors(const TensorConv& v) {
  const int channels = v.o / v.groups / (v.shuffle * v.shuffle);
  const auto fits = [&](const void* address, Storage storage) {
    const int size = storage == Storage::floats ? 4 : storage == Storage::halves ? 2 : 1;
    return reinterpret_cast<uintptr_t>(address) % 16 == 0 && channels * size % 16 == 0;
  };
  return fits(v.y, v.output) && (v.residual == nullptr || fits(v.residual, v.residual_storage));
}

// How many blocks should share `turns` tiles, where there are so many rows of blocks and `room` run
// at a time: those that end first. A block's weights take about as long as a tile.
int blocks_in_row(int64_t turns, int64_t rows, int64_t room) {
  int64_t best = 1, least = INT64_MAX;
  for (int64_t each = 1; each <= turns && each <= room; ++each) {
    const int64_t time = (rows * each + room - 1) / room * ((turns + each - 1) / each + 1);
    if (time < least) {
      best = each;
      least = time;
    }
  }
  return static_cast<int>(best);
}

template <Operand kA, Source kSource, int kRow, int kTeams, int kRows>
Status convolve(const TensorConv& v, Stream stream) {
  using Kernel = Convolve<kA, kSource, kRow, kTeams, kRows>;
  Args args{};
  args.conv = v;
  args.tiles_x = (v.out_w + kWidth - 1) / kWidth;
  args.tiles_y = (v.out_h + Kernel::kTile - 1) / Kernel::kTile;
  const bool parted = v.by_sample || v.moments.sum != nullptr;
  args.items = args.tiles_x * args.tiles_y * (parted ? 1 : v.n);
  args.halo_rows = (Kernel::kTile - 1) * v.stride_h + (v.kh - 1) * v.dilation_h + 1;
  args.halo_columns = (kWidth - 1) * v.stride_w + (v.kw - 1) * v.dilation_w + 1;
  args.rounds = (v.group_bytes + kRow - 1) / kRow;
  const int in_half = v.bits == 4 ? 64 : 32;
  for (int round = 0; round < args.rounds; ++round) {
    args.window += Kernel::halves_of(v.group_bytes - round * kRow) * in_half * v.kh * v.kw;
  }
  args.blocks = v.channels / v.groups / kN;
  args.vectors = in_vectors(v);
  Resources device;
  if (const Status status = current_device(&device); status != Status::ok) return status;
  // What is best of what there is place for.
  const int64_t round = static_cast<int64_t>(v.kh) * v.kw * Kernel::kTapBytes;
  const int64_t halo = static_cast<int64_t>(args.halo_rows) * args.halo_columns * kRow * kTeams;
  int64_t shared = 0;
  const auto fits = [&](bool resident, int tap_rows, int halos) {
    if (halos > 1 && (device.capability < 80 || !Kernel::kAhead)) return false;
    args.resident = resident;
    args.tap_rows = tap_rows;
    args.halos = halos;
    shared = round * (resident ? args.rounds : 1) / v.kh * tap_rows + halo * halos +
             (Kernel::kEncodes ? Points::bytes(v.group_bytes) : 0);
    return shared <= device.shared_limit;
  };
  if (!fits(true, v.kh, 2) && !fits(true, v.kh, 1) && !fits(false, v.kh, 2) &&
      !fits(false, v.kh, 1) && !fits(false, 1, 2) && !fits(false, 1, 1)) {
    return Status::not_taken;
  }
  int64_t room = 0;
  const Status status = resident_blocks<Kernel>(shared, &room);
  if (status != Status::ok) return status;
  const int64_t rows = static_cast<int64_t>(parted ? v.n : 1) * v.groups * args.blocks;
  if (rows > INT32_MAX) return Status::too_large;
  args.block_rows = static_cast<int>(rows);
  args.in_row = blocks_in_row((args.items + kTeams - 1) / kTeams, rows, room);
  return launch<Kernel>({rows * args.in_row}, shared, stream, args);
}

// Two teams, or where shared memory does not hold their halos one with small tiles.
template <Operand kA, Source kSource, int kRow>
Status convolve(const TensorConv& v, Stream stream) {
  const Status two = convolve<kA, kSource, kRow, 2, 2>(v, stream);
  return two == Status::not_taken ? convolve<kA, kSource, kRow, 1, 1>(v, stream) : two;
}

}  // namespace

Status tensor_conv(const TensorConv& v, Stream stream) {
  const int64_t in = static_cast<int64_t>(v.n) * v.h * v.w,
                out = static_cast<int64_t>(v.n) * v.out_h * v.out_w;
  if (in * v.bytes > kMaxElements || out * v.o > kMaxElements) return Status::too_large;
  if (v.encodes) {
    if (v.subset.levels > Points::kMost || v.n * v.group_bytes == 0) return Status::not_taken;
    return convolve<Operand::s8, Source::halves, 64>(v, stream);
  }
  if (v.bits == 8) {
    return v.is_signed ? convolve<Operand::s8, Source::operands, 64>(v, stream)
                       : convolve<Operand::u8, Source::operands, 64>(v, stream);
  }
  return v.row == 32 ? convolve<Operand::u4, Source::codes, 32>(v, stream)
                     : convolve<Operand::u4, Source::codes, 64>(v, stream);
}

}  // namespace ptqsr::cuda
