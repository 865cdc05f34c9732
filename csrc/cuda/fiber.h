// A function with a stack of its own, which stops in its middle and goes on later: a thread of a
// block in the emulation. All on one thread of the host.
#pragma once

#include <stddef.h>

#if !(defined(__x86_64__) && defined(__linux__))
#define PTQSR_UCONTEXT
#endif
#if defined(PTQSR_UCONTEXT)
#include <ucontext.h>
#endif

namespace ptqsr::cuda::host {

// Memory for a fiber, above a page that nothing may touch. Stacks are used again by later fibers of
// the same thread of the host.
class Stack {
 public:
  static constexpr size_t kBytes = 128 << 10;

  Stack();
  ~Stack();
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;

  char* bottom() const { return bottom_; }

 private:
  char* bottom_;
};

class Fiber {
 public:
  // What the next enter() begins. A fiber that has begun must have ended.
  void prepare(void (*body)());
  // Runs it until it leaves.
  void enter();
  // By the fiber: goes back to who entered it; returns when it is entered again, unless this was
  // the end.
  void leave(bool is_end = false);
  // Whether it is in the middle of its body.
  bool begun() const { return begun_; }

 private:
#if defined(PTQSR_UCONTEXT)
  using Context = ucontext_t;
#else
  using Context = void*;  // a stack pointer; there lies what calls preserve
#endif
  static void begin();
  void arrive();

  Stack stack_;
  Context here_, home_;
  void (*body_)() = nullptr;
  bool begun_ = false;
  // Of the address sanitizer.
  void *fake_stack_ = nullptr, *home_fake_stack_ = nullptr;
  const void* home_stack_ = nullptr;
  size_t home_bytes_ = 0;
};

}  // namespace ptqsr::cuda::host
