#include <ucontext.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>
#include <random>
#include <vector>

#include "cuda/simt.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace ptqsr::cuda {
namespace {

constexpr size_t kStack = 128 << 10;  // bytes
constexpr int kBarriers = 16;         // of a block; 0 is that of all
constexpr int kNoise = 0xA5;          // what shared memory begins as

Emulation& chosen() {
  thread_local Emulation emulation;
  return emulation;
}

struct Copy {
  void* to;
  const void* from;
  bool there;

  void arrive() const {
    if (there) {
      memcpy(to, from, 16);
    } else {
      memset(to, 0, 16);
    }
  }
};

enum class State { ready, at_block, at_some, at_warp, done };

// A thread of a block.
struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  void* fake_stack = nullptr;  // of the address sanitizer
  host::Place place;
  State state;
  const char* what;                       // that it waits for
  std::vector<std::vector<Copy>> groups;  // of copies that have not arrived; the last is open
};

// What the lanes of a warp that have come bring to an operation.
struct Meeting {
  const char* what = nullptr;
  int count = 0;
  void* lanes[kWarp];
};

// Who has come to a barrier of some of a block's threads.
struct Barrier {
  int threads = 0;
  std::vector<Fiber*> here;
};

struct Failure {};

// Runs the blocks of a launch, one after the other.
class Machine {
 public:
  Machine(const Grid& grid, int threads, int64_t shared_bytes, const std::function<void()>& body)
      : body_(body), random_(chosen().seed), fibers_(threads), meetings_(threads / kWarp) {
    // Exactly as much as was asked for, so that the address sanitizer sees what lies beyond.
    if (posix_memalign(&shared_, 128, shared_bytes > 0 ? shared_bytes : 1) != 0) {
      throw std::bad_alloc();
    }
    shared_bytes_ = shared_bytes;
    for (Fiber& fiber : fibers_) {
      fiber.stack = std::make_unique<char[]>(kStack);
      fiber.place.blocks_x = grid.x;
      fiber.place.shared = static_cast<unsigned char*>(shared_);
    }
  }
  ~Machine() { free(shared_); }
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  std::string run(const Grid& grid);

  void meet_block() {
    current_->state = State::at_block;
    current_->what = "synchronize";
    leave();
  }

  void meet_some(int number, int threads) {
    if (number < 1 || number >= kBarriers) host::fail("no such barrier");
    if (threads % kWarp != 0) host::fail("whole warps come to a barrier");
    Barrier& barrier = barriers_[number];
    if (!barrier.here.empty() && barrier.threads != threads) {
      host::fail("a barrier of " + std::to_string(barrier.threads) + " threads and of " +
                 std::to_string(threads));
    }
    barrier.threads = threads;
    if (static_cast<int>(barrier.here.size()) + 1 < threads) {
      barrier.here.push_back(current_);
      current_->state = State::at_some;
      current_->what = "synchronize_some";
      leave();
      return;
    }
    for (Fiber* other : barrier.here) other->state = State::ready;
    barrier.here.clear();
  }

  void meet_warp(const char* what, void* mine, void (*together)(void* const (&lanes)[kWarp])) {
    const int number = current_->place.thread / kWarp;
    Meeting& meeting = meetings_[number];
    if (meeting.count > 0 && meeting.what != what) {
      host::fail(std::string("lanes of a warp part: some at ") + meeting.what + ", some at " +
                 what);
    }
    meeting.what = what;
    meeting.lanes[current_->place.thread % kWarp] = mine;
    if (++meeting.count < kWarp) {
      current_->state = State::at_warp;
      current_->what = what;
      leave();
      return;
    }
    together(meeting.lanes);
    meeting.count = 0;
    for (int i = 0; i < kWarp; ++i) {
      Fiber& other = fibers_[number * kWarp + i];
      if (&other != current_) other.state = State::ready;
    }
  }

  [[noreturn]] void fail(const std::string& why) {
    if (failure_.empty()) {
      failure_ = "thread " + std::to_string(current_->place.thread) + " of block (" +
                 std::to_string(current_->place.block_x) + ", " +
                 std::to_string(current_->place.block_y) + "): " + why;
    }
    throw Failure{};
  }

  Fiber& current() { return *current_; }
  bool coin() { return random_() & 1; }

  // The life of a fiber.
  void live() {
    arrive();
    try {
      body_();
      for (const auto& group : current_->groups) {
        if (!group.empty()) fail("copies were begun that nobody waited for");
      }
    } catch (const Failure&) {
    }
    current_->state = State::done;
    leave(true);
  }

 private:
  void run_block(int64_t x, int64_t y);
  void enter(Fiber& fiber);
  void leave(bool for_good = false);
  void arrive();

  const std::function<void()>& body_;
  std::mt19937_64 random_;
  std::vector<Fiber> fibers_;
  std::vector<Meeting> meetings_;
  Barrier barriers_[kBarriers];
  void* shared_ = nullptr;
  int64_t shared_bytes_;
  ucontext_t home_{};
  void* home_fake_stack_ = nullptr;
  const void* home_stack_ = nullptr;
  size_t home_stack_size_ = 0;
  Fiber* current_ = nullptr;
  std::string failure_;
};

thread_local Machine* machine = nullptr;

void Machine::enter(Fiber& fiber) {
  current_ = &fiber;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&home_fake_stack_, fiber.stack.get(), kStack);
#endif
  swapcontext(&home_, &fiber.context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(home_fake_stack_, nullptr, nullptr);
#endif
}

void Machine::leave(bool for_good) {
  Fiber& fiber = *current_;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(for_good ? nullptr : &fiber.fake_stack, home_stack_,
                                 home_stack_size_);
#else
  static_cast<void>(for_good);
#endif
  swapcontext(&fiber.context, &home_);
  arrive();
}

// In a fiber that has just been entered.
void Machine::arrive() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(current_->fake_stack, &home_stack_, &home_stack_size_);
#endif
}

void begin() { machine->live(); }

void Machine::run_block(int64_t x, int64_t y) {
  memset(shared_, kNoise, shared_bytes_);
  for (size_t i = 0; i < fibers_.size(); ++i) {
    Fiber& fiber = fibers_[i];
    fiber.place.thread = static_cast<int>(i);
    fiber.place.block_x = x;
    fiber.place.block_y = y;
    fiber.state = State::ready;
    fiber.fake_stack = nullptr;
    fiber.groups.assign(1, {});
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, begin, 0);
  }
  for (Meeting& meeting : meetings_) meeting.count = 0;
  for (Barrier& barrier : barriers_) barrier.here.clear();
  std::vector<Fiber*> ready;
  while (failure_.empty()) {
    ready.clear();
    size_t waiting = 0, done = 0;
    for (Fiber& fiber : fibers_) {
      if (fiber.state == State::ready) ready.push_back(&fiber);
      waiting += fiber.state == State::at_block;
      done += fiber.state == State::done;
    }
    if (!ready.empty()) {
      // All that can go on do so, in an order of their own, before anybody is looked at again.
      std::shuffle(ready.begin(), ready.end(), random_);
      for (Fiber* fiber : ready) {
        if (failure_.empty() && fiber->state == State::ready) enter(*fiber);
      }
    } else if (done == fibers_.size()) {
      return;
    } else if (waiting == fibers_.size()) {
      for (Fiber& fiber : fibers_) fiber.state = State::ready;
    } else {
      std::string why = "threads wait for each other:";
      for (const char* what : {"synchronize", "synchronize_some", "the end"}) {
        size_t count = 0;
        for (Fiber& fiber : fibers_) {
          count += fiber.state == State::done ? what == std::string("the end")
                                              : what == std::string(fiber.what);
        }
        why += " " + std::to_string(count) + " at " + what + ",";
      }
      failure_ = why + " the others within a warp";
    }
  }
}

std::string Machine::run(const Grid& grid) {
  machine = this;
  std::vector<int64_t> order(grid.x * grid.y);
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::shuffle(order.begin(), order.end(), random_);
  for (int64_t number : order) {
    run_block(number % grid.x, number / grid.x);
    if (!failure_.empty()) break;
  }
  machine = nullptr;
  return failure_;
}

thread_local std::string last_failure;

}  // namespace

void set_emulation(const Emulation& emulation) { chosen() = emulation; }
const Emulation& emulation() { return chosen(); }

Status checked(const std::string& failure) {
  last_failure = failure;
  return failure.empty() ? Status::ok : Status::device_failed;
}

std::string last_error() { return last_failure; }

namespace host {

std::string run(const Grid& grid, int threads, int64_t shared_bytes,
                const std::function<void()>& body) {
  if (threads % kWarp != 0) return "a block has whole warps";
  if (shared_bytes > chosen().shared_limit) {
    return std::to_string(shared_bytes) + " bytes of shared memory are more than there are";
  }
  return Machine(grid, threads, shared_bytes, body).run(grid);
}

const Place& place() { return machine->current().place; }
void fail(const std::string& why) { machine->fail(why); }
void meet_block() { machine->meet_block(); }
void meet_some(int number, int threads) { machine->meet_some(number, threads); }
void meet_warp(const char* what, void* mine, void (*together)(void* const (&lanes)[kWarp])) {
  machine->meet_warp(what, mine, together);
}

// A copy arrives at once, or when somebody waits for it: both may happen on a GPU.
void copy_ahead(void* to, const void* from, bool there) {
  require_aligned(to, 16, "the place of copy_ahead");
  if (there) require_aligned(from, 16, "the source of copy_ahead");
  const Copy copy{to, from, there};
  auto& group = machine->current().groups.back();
  machine->coin() ? copy.arrive() : group.push_back(copy);
}

void copies_end() { machine->current().groups.emplace_back(); }

void copies_wait(int pending) {
  auto& groups = machine->current().groups;
  while (static_cast<int>(groups.size()) > pending + 1) {
    for (const Copy& copy : groups.front()) copy.arrive();
    groups.erase(groups.begin());
  }
}

}  // namespace host
}  // namespace ptqsr::cuda
