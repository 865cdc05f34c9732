#include "emulated/races.h"

#include <string.h>

#include <algorithm>

namespace ptqsr::cuda::host {
namespace {

constexpr uint32_t kNotYet = UINT32_MAX;  // the clock of a copy that has not been waited for
constexpr uint32_t kLanes = 32;

thread_local Races* active = nullptr;

}  // namespace

Races::Races(int threads, const void* memory, size_t bytes)
    : threads_(threads),
      base_(reinterpret_cast<uintptr_t>(memory)),
      cells_(bytes),
      known_(threads_ * threads_) {
  active = this;
}

Races::~Races() { active = nullptr; }

void Races::meet_all() {
  std::vector<uint32_t> all(threads_);
  for (size_t t = 0; t < threads_; ++t) all[t] = known_to(t)[t];
  for (size_t t = 0; t < threads_; ++t) {
    memcpy(known_to(t), all.data(), threads_ * sizeof(uint32_t));
    ++known_to(t)[t];
  }
}

void Races::meet(const std::vector<int>& threads) {
  std::vector<uint32_t> all(threads_);
  for (const int t : threads) {
    const uint32_t* known = known_to(t);
    for (size_t i = 0; i < threads_; ++i) all[i] = std::max(all[i], known[i]);
  }
  for (const int t : threads) {
    memcpy(known_to(t), all.data(), threads_ * sizeof(uint32_t));
    ++known_to(t)[t];
  }
}

void Races::access(uintptr_t address, size_t bytes, bool is_write) {
  const uint32_t* known = known_to(thread_);
  const Moment me = now();
  const size_t first = address - base_, end = std::min(first + bytes, cells_.size());
  for (size_t i = first; i < end; ++i) {
    Cell& cell = cells_[i];
    if (cell.write.clock > known[cell.write.thread]) report(i, is_write, cell.write, true);
    if (is_write) {
      for (const Moment& read : cell.reads) {
        if (read.clock > known[read.thread]) report(i, true, read, false);
      }
      cell = {me, {}};
    } else {
      if (cell.reads[0].thread / kLanes != me.thread / kLanes) cell.reads[1] = cell.reads[0];
      cell.reads[0] = me;
    }
  }
}

void Races::copy_begins(const void* to) {
  const auto address = reinterpret_cast<uintptr_t>(to);
  if (!covers(address)) return;
  access(address, 16, true);
  for (size_t i = 0; i < 16; ++i) cells_[address - base_ + i].write.clock = kNotYet;
}

void Races::copy_was_waited_for(const void* to) {
  const auto address = reinterpret_cast<uintptr_t>(to);
  if (!covers(address)) return;
  for (size_t i = 0; i < 16; ++i) cells_[address - base_ + i].write = now();
}

void Races::report(size_t byte, bool is_write, const Moment& other, bool other_wrote) {
  if (!found_.empty()) return;
  const std::string them = "thread " + std::to_string(other.thread);
  found_ = "a race: thread " + std::to_string(thread_) + (is_write ? " writes" : " reads") +
           " byte " + std::to_string(byte) + " of shared memory, " +
           (other.clock == kNotYet ? "where a copy by " + them + " was not waited for"
            : other_wrote          ? "which " + them + " wrote, with no barrier between"
                                   : "which " + them + " read, with no barrier between");
}

}  // namespace ptqsr::cuda::host

// What the compiler calls at accesses to memory: of 1 to 16 bytes, and of ranges.
namespace {

inline void touch(const void* at, size_t bytes, bool is_write) {
  using ptqsr::cuda::host::active;
  const auto address = reinterpret_cast<uintptr_t>(at);
  if (active != nullptr && active->covers(address)) active->access(address, bytes, is_write);
}

}  // namespace

#define PTQSR_ACCESS(SIZE)                                               \
  void __tsan_read##SIZE(void* at) { touch(at, SIZE, false); }           \
  void __tsan_write##SIZE(void* at) { touch(at, SIZE, true); }           \
  void __tsan_unaligned_read##SIZE(void* at) { touch(at, SIZE, false); } \
  void __tsan_unaligned_write##SIZE(void* at) { touch(at, SIZE, true); }
extern "C" {
PTQSR_ACCESS(1)
PTQSR_ACCESS(2)
PTQSR_ACCESS(4)
PTQSR_ACCESS(8)
PTQSR_ACCESS(16)
void __tsan_read_range(void* at, size_t bytes) { touch(at, bytes, false); }
void __tsan_write_range(void* at, size_t bytes) { touch(at, bytes, true); }
void __tsan_init() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
}
#undef PTQSR_ACCESS
