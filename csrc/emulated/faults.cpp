#include "emulated/faults.h"

#include "cuda/simt.h"

namespace ptqsr::emulated {
namespace {

using namespace ptqsr::cuda;  // NOLINT: this is a kernel

struct Args {
  const int32_t* x;
  int32_t* y;
  Fault fault;
};

// Needs more than a thread's stack.
[[gnu::noinline]] int32_t far_down(int depth, const volatile char* above) {
  volatile char here[4096];
  here[0] = *above;
  return depth > 0 ? far_down(depth - 1, here) + here[0] : here[0];
}

// By way of shared memory, copied ahead 4 values a thread.
struct Reverse {
  static constexpr int kThreads = 64, kShared = 64;
  using Args = emulated::Args;
  DEVICE static void run(const Args& a) {
    auto* shared = reinterpret_cast<int32_t*>(shared_memory());
    const int64_t first = block_x() * kThreads;
    const int i = thread();
    if (i % 4 == 0) copy_ahead(shared + i, a.x + first + i, true);
    copies_end();
    if (a.fault != Fault::missing_wait) copies_wait<0>();
    if (a.fault == Fault::barrier_of_some && i < 32) return;
    if (a.fault != Fault::missing_barrier) synchronize();
    int from = kThreads - 1 - i;
    if (a.fault == Fault::wrong_index) from = (kThreads - i) % kThreads;
    if (a.fault == Fault::beyond_shared) from = kThreads + i;
    int32_t value = shared[from];
    if (a.fault == Fault::parted_warp && i % 2 == 0) value = shuffle(value, lane());
    if (a.fault == Fault::parted_warp && i % 2 == 1) ballot(true);
    if (a.fault == Fault::parted_kinds && i % 2 == 0) value = shuffle(value, lane());
    if (a.fault == Fault::parted_kinds && i % 2 == 1) shuffle(1.0f, lane());
    if (a.fault == Fault::too_deep) value += far_down(1000, "");
    a.y[first + i + (a.fault == Fault::beyond_global ? kThreads : 0)] = value;
  }
};

// The same by two teams in a block, each with a barrier of its own.
struct Teams {
  static constexpr int kThreads = 128, kShared = 128, kTeam = 64;
  using Args = emulated::Args;
  DEVICE static void run(const Args& a) {
    auto* shared = reinterpret_cast<int32_t*>(shared_memory());
    const int i = thread(), team = i / kTeam, place = i % kTeam;
    const int64_t first = block_x() * kThreads;
    shared[i] = a.x[first + i];
    meet(a.fault, team);
    a.y[first + i] = shared[team * kTeam + kTeam - 1 - place];
  }
  DEVICE static void meet(Fault fault, int team) {
    switch (fault) {
      case Fault::missing_team_barrier:
        return;
      case Fault::half_a_team:
        return synchronize_some(1 + team, kTeam / 2);
      case Fault::different_counts:
        return synchronize_some(1 + team, warp() % 2 == 0 ? kTeam : kTeam + kWarp);
      case Fault::absent_team:
        if (team == 0) synchronize_some(1, 2 * kTeam);
        return;
      case Fault::no_such_barrier:
        return synchronize_some(16 * team, kTeam);
      case Fault::parts_of_warps:
        return synchronize_some(1 + team, kTeam - 1);
      case Fault::too_many_threads:
        return synchronize_some(1 + team, 3 * kTeam);
      default:
        return synchronize_some(1 + team, kTeam);
    }
  }
};

// The same in rounds, each of which reads one of two buffers, works, and fills it for the round
// after the next.
struct Rounds {
  static constexpr int kThreads = 64, kShared = 128, kRounds = 6;
  using Args = emulated::Args;
  DEVICE static void run(const Args& a) {
    auto* shared = reinterpret_cast<int32_t*>(shared_memory());
    const int i = thread();
    const int32_t mine = a.x[block_x() * kThreads + i];
    shared[i] = mine;
    shared[kThreads + i] = mine + 1;
    synchronize();
    int32_t value = 0;
    for (int round = 0; round < kRounds; ++round) {
      int32_t* buffer = shared + round % 2 * kThreads;
      int32_t found = buffer[kThreads - 1 - i] - round;
      for (int step = 1; step < kWarp; step *= 2) found = shuffle_xor(found, step);
      value = round == 0 || value == found ? found : -1;
      if (a.fault != Fault::overwritten_buffer) synchronize();
      buffer[i] = mine + round + 2;
      synchronize();
    }
    a.y[block_x() * kThreads + i] = shuffle(value, kWarp - 1 - lane());  // the work's opposite
  }
};

template <class Kernel>
Status of_every_64(int64_t blocks, const Args& args) {
  return launch<Kernel>({blocks * 64 / Kernel::kThreads}, Kernel::kShared * sizeof(int32_t),
                        nullptr, args);
}

}  // namespace

Status reverse(const int32_t* x, int32_t* y, int64_t blocks, Fault fault) {
  if (fault >= Fault::rounds) return of_every_64<Rounds>(blocks, {x, y, fault});
  if (fault >= Fault::teams) return of_every_64<Teams>(blocks, {x, y, fault});
  return of_every_64<Reverse>(blocks, {x, y, fault});
}

}  // namespace ptqsr::emulated
