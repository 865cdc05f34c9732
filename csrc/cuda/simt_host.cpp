#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <new>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "cuda/fiber.h"
#include "cuda/simt.h"
#include "emulated/races.h"

namespace ptqsr::cuda {
namespace {

constexpr int kBarriers = 16;  // of a block; 0 is that of all
constexpr int kNoise = 0xA5;   // what shared memory begins as
constexpr const char* kSome = "synchronize_some";

Emulation& chosen() {
  thread_local Emulation emulation;
  return emulation;
}

struct Copy {
  void* to;
  const void* from;
  bool there;
  int group;
  bool has_arrived;

  void arrive() const {
    if (there) {
      memcpy(to, from, 16);
    } else {
      memset(to, 0, 16);
    }
  }
};

enum class State { ready, at_block, waits, done };

// A thread of a block.
struct Thread {
  host::Fiber fiber;
  host::Place place;
  State state;
  const char* what;  // that it waits for
  int barrier;       // at synchronize_some
  // Copies that were not waited for; the group that is open.
  std::vector<Copy> copies;
  int group;
};

using Together = void (*)(void* const (&lanes)[kWarp]);

// What the lanes of a warp that have come bring to an operation.
struct Meeting {
  const char* what = nullptr;
  Together together = nullptr;
  int count = 0;
  void* lanes[kWarp];
};

// Who has come to a barrier of some of a block's threads.
struct Barrier {
  int threads = 0;
  std::vector<Thread*> here;
};

struct Failure {};

struct Free {
  void operator()(void* memory) const { free(memory); }
};

// Runs the blocks of a launch, one after the other.
class Machine {
 public:
  Machine(const Grid& grid, int threads, int64_t shared_bytes, const std::function<void()>& body)
      : body_(body),
        random_(chosen().seed),
        threads_(threads),
        meetings_(threads / kWarp),
        turns_(threads / kWarp) {
    // Exactly as much as was asked for, so that the address sanitizer sees what lies beyond.
    void* shared = nullptr;
    if (posix_memalign(&shared, 128, shared_bytes > 0 ? shared_bytes : 1) != 0) {
      throw std::bad_alloc();
    }
    shared_.reset(shared);
    shared_bytes_ = shared_bytes;
#if defined(PTQSR_FINDS_RACES)
    if (chosen().find_races) races_ = std::make_unique<host::Races>(threads, shared, shared_bytes);
#endif
    for (Thread& thread : threads_) {
      thread.place.blocks_x = grid.x;
      thread.place.shared = static_cast<unsigned char*>(shared);
    }
  }

  std::string run(const Grid& grid);

  void meet_block() { wait(State::at_block, "synchronize"); }

  void meet_some(int number, int threads) {
    const auto wrong = [&](const std::string& why) {
      fail("synchronize_some(" + std::to_string(number) + ", " + std::to_string(threads) +
           "): " + why);
    };
    if (number < 1 || number >= kBarriers) wrong("barriers are 1 to 15");
    if (threads < kWarp || threads % kWarp != 0) wrong("whole warps come to a barrier");
    if (threads > static_cast<int>(threads_.size())) wrong("a block has fewer threads");
    Barrier& barrier = barriers_[number];
    if (!barrier.here.empty() && barrier.threads != threads) {
      wrong("others wait there for " + std::to_string(barrier.threads) + " threads");
    }
    barrier.threads = threads;
    if (static_cast<int>(barrier.here.size()) + 1 < threads) {
      barrier.here.push_back(current_);
      current_->barrier = number;
      wait(State::waits, kSome);
      return;
    }
    std::vector<int> all{current_->place.thread};
    for (Thread* other : barrier.here) {
      other->state = State::ready;
      all.push_back(other->place.thread);
    }
    if (races_) races_->meet(all);
    barrier.here.clear();
  }

  // Of the thread that runs.
  void order_warp() {
    if (!races_) return;
    std::vector<int> lanes(kWarp);
    std::iota(lanes.begin(), lanes.end(), current_->place.thread / kWarp * kWarp);
    races_->meet(lanes);
  }

  void meet_warp(const char* what, void* mine, Together together) {
    const int number = current_->place.thread / kWarp;
    Meeting& meeting = meetings_[number];
    // Of each choice of template arguments there is another function.
    if (meeting.count > 0 && (meeting.together != together || strcmp(meeting.what, what) != 0)) {
      fail(std::string("lanes of a warp part: some at ") + meeting.what + ", some at " +
           (strcmp(meeting.what, what) != 0 ? what : "another of its kinds"));
    }
    meeting.what = what;
    meeting.together = together;
    meeting.lanes[current_->place.thread % kWarp] = mine;
    if (++meeting.count < kWarp) {
      wait(State::waits, what);
      return;
    }
    together(meeting.lanes);
    meeting.count = 0;
    for (int i = 0; i < kWarp; ++i) {
      Thread& other = threads_[number * kWarp + i];
      if (&other != current_) other.state = State::ready;
    }
  }

  // A copy arrives at once, or when somebody waits for it: both may happen on a GPU.
  void copy_ahead(void* to, const void* from, bool there) {
    const Copy copy{to, from, there, current_->group, (random_() & 1) != 0};
    if (races_) races_->copy_begins(to);
    if (copy.has_arrived) copy.arrive();
    current_->copies.push_back(copy);
  }
  void copies_end() { ++current_->group; }
  void copies_wait(int pending) {
    auto& copies = current_->copies;
    auto next = copies.begin();
    for (; next != copies.end() && next->group < current_->group - pending; ++next) {
      if (!next->has_arrived) next->arrive();
      if (races_) races_->copy_was_waited_for(next->to);
    }
    copies.erase(copies.begin(), next);
  }

  [[noreturn]] void fail(const std::string& why) {
    note_race();
    if (failure_.empty()) {
      failure_ = "thread " + std::to_string(current_->place.thread) + " of " + block() + ": " + why;
    }
    throw Failure{};
  }

  const host::Place& place() const { return current_->place; }

  // The life of a thread.
  void live() {
    try {
      body_();
      if (!current_->copies.empty()) fail("copies were begun that nobody waited for");
    } catch (const Failure&) {
    } catch (const std::exception& error) {
      if (failure_.empty()) failure_ = error.what();
    }
    current_->state = State::done;
  }

 private:
  void run_block(int64_t x, int64_t y);
  void draw_turns();
  std::string who_waits() const;

  std::string block() const {
    return "block (" + std::to_string(current_->place.block_x) + ", " +
           std::to_string(current_->place.block_y) + ")";
  }
  // A race does not end a thread where it happens: compilers know of no exceptions there.
  void note_race() {
    if (races_ && !races_->found().empty() && failure_.empty()) {
      failure_ = block() + ": " + races_->found();
    }
  }
  void enter(Thread& thread) {
    current_ = &thread;
    if (races_) races_->run(thread.place.thread);
    thread.fiber.enter();
    note_race();
  }
  void wait(State state, const char* what) {
    current_->state = state;
    current_->what = what;
    current_->fiber.leave();
    // The launch has failed, and this thread goes on only to end.
    if (!failure_.empty()) throw Failure{};
  }

  const std::function<void()>& body_;
  std::mt19937_64 random_;
  std::vector<Thread> threads_;
  std::vector<Meeting> meetings_;
  std::vector<int> turns_;  // of warps: those with the lowest go on before others do
  Barrier barriers_[kBarriers];
  std::unique_ptr<void, Free> shared_;
  int64_t shared_bytes_;
  std::unique_ptr<host::Races> races_;
  Thread* current_ = nullptr;
  std::string failure_;
};

thread_local Machine* machine = nullptr;

void Machine::draw_turns() {
  Schedule schedule = chosen().schedule;
  if (schedule == Schedule::drawn) {
    schedule = static_cast<Schedule>(1 + random_() % (kScheduleCount - 1));
  }
  const auto warps = static_cast<int>(turns_.size());
  const auto one = static_cast<int>(random_() % warps);
  for (int w = 0; w < warps; ++w) {
    turns_[w] = schedule == Schedule::one_ahead    ? w != one
                : schedule == Schedule::one_late   ? w == one
                : schedule == Schedule::last_first ? -w
                                                   : 0;
  }
}

void Machine::run_block(int64_t x, int64_t y) {
  memset(shared_.get(), kNoise, shared_bytes_);
  for (size_t i = 0; i < threads_.size(); ++i) {
    Thread& thread = threads_[i];
    thread.place.thread = static_cast<int>(i);
    thread.place.block_x = x;
    thread.place.block_y = y;
    thread.state = State::ready;
    thread.group = 0;
    thread.fiber.prepare([] { machine->live(); });
  }
  draw_turns();
  if (races_) races_->meet_all();
  std::vector<Thread*> ready;
  while (failure_.empty()) {
    ready.clear();
    int turn = 0;
    size_t at_block = 0, done = 0;
    for (size_t i = 0; i < threads_.size(); ++i) {
      Thread& thread = threads_[i];
      if (thread.state == State::ready) {
        const int its = turns_[i / kWarp];
        if (its < turn) ready.clear();
        if (ready.empty()) turn = its;
        if (its == turn) ready.push_back(&thread);
      }
      at_block += thread.state == State::at_block;
      done += thread.state == State::done;
    }
    if (!ready.empty()) {
      // All whose turn it is go on, in an order of their own, before anybody is looked at again.
      std::shuffle(ready.begin(), ready.end(), random_);
      for (Thread* thread : ready) {
        if (failure_.empty() && thread->state == State::ready) enter(*thread);
      }
    } else if (done == threads_.size()) {
      return;
    } else if (at_block == threads_.size()) {
      for (Thread& thread : threads_) thread.state = State::ready;
      draw_turns();
      if (races_) races_->meet_all();
    } else {
      failure_ = "threads wait for each other: " + who_waits();
    }
  }
  for (Thread& thread : threads_) {
    if (thread.fiber.begun()) enter(thread);
  }
}

std::string Machine::who_waits() const {
  std::map<std::string, int> counts;
  for (const Thread& thread : threads_) {
    std::string what = thread.state == State::done ? "the end" : thread.what;
    if (what == kSome) {
      what += "(" + std::to_string(thread.barrier) + ", " +
              std::to_string(barriers_[thread.barrier].threads) + ")";
    }
    ++counts[what];
  }
  std::string all;
  for (const auto& [what, count] : counts) {
    all += (all.empty() ? "" : ", ") + std::to_string(count) + " at " + what;
  }
  return all;
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

const Place& place() { return machine->place(); }
void fail(const std::string& why) { machine->fail(why); }
void meet_block() { machine->meet_block(); }
void meet_some(int number, int threads) { machine->meet_some(number, threads); }
void meet_lanes() {
  int nothing = 0;
  machine->meet_warp("synchronize_warp", &nothing,
                     [](void* const(&)[kWarp]) { machine->order_warp(); });
}
void meet_warp(const char* what, void* mine, Together together) {
  machine->meet_warp(what, mine, together);
}

void copy_ahead(void* to, const void* from, bool there) {
  require_aligned(to, 16, "the place of copy_ahead");
  if (there) require_aligned(from, 16, "the source of copy_ahead");
  machine->copy_ahead(to, from, there);
}
void copies_end() { machine->copies_end(); }
void copies_wait(int pending) { machine->copies_wait(pending); }

}  // namespace host
}  // namespace ptqsr::cuda
