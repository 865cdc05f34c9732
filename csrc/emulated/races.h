// Whether threads of a block touch shared memory without a barrier between: a check of what is
// ordered, not of what happened to come out.
//
// Kernels are compiled as if for the thread sanitizer, which calls a function of a fixed name at
// every access to memory; these functions are here. Every thread has a clock, and knows of every
// other up to which time what that one did comes before what it does itself: barriers tell. Of
// every byte of shared memory its last write and two reads, of different warps, are kept. What is
// reported is a race in any order of threads; where more than two warps read a byte, a race with
// one of them may be missed.
//
// A copy that runs ahead counts as a write until its thread has waited for it. Exchange within a
// warp (shuffle, ballot, products) orders nothing in memory, synchronize_warp does. Atomic
// operations are not looked at.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <string>
#include <vector>

namespace ptqsr::cuda::host {

class Races {
 public:
  Races(int threads, const void* memory, size_t bytes);
  ~Races();
  Races(const Races&) = delete;
  Races& operator=(const Races&) = delete;

  // Who accesses memory from here on.
  void run(int thread) { thread_ = thread; }
  // A barrier of all threads, or of some.
  void meet_all();
  void meet(const std::vector<int>& threads);
  void access(uintptr_t address, size_t bytes, bool is_write);
  // A copy of 16 bytes by the thread that runs.
  void copy_begins(const void* to);
  void copy_was_waited_for(const void* to);
  // The first race; empty: none.
  const std::string& found() const { return found_; }

  bool covers(uintptr_t address) const { return address - base_ < cells_.size(); }

 private:
  struct Moment {
    uint32_t clock = 0;
    uint32_t thread = 0;
  };
  struct Cell {
    Moment write, reads[2];
  };

  uint32_t* known_to(int thread) { return &known_[thread * threads_]; }
  Moment now() { return {known_to(thread_)[thread_], static_cast<uint32_t>(thread_)}; }
  void report(size_t byte, bool is_write, const Moment& other, bool other_wrote);

  size_t threads_;
  uintptr_t base_;
  std::vector<Cell> cells_;      // of bytes
  std::vector<uint32_t> known_;  // [thread][other]: a clock; of itself: its own
  int thread_ = 0;
  std::string found_;
};

}  // namespace ptqsr::cuda::host
