#include "cuda/fiber.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if !defined(PTQSR_UCONTEXT)
// Puts aside what a call preserves, and goes on where `to` was put aside. swapcontext does the
// same, and asks the system for the mask of signals each time: most of the time that tests took.
extern "C" void ptqsr_switch_fiber(void** from, void* to);
asm(R"(
.text
.hidden ptqsr_switch_fiber
.globl ptqsr_switch_fiber
.type ptqsr_switch_fiber, @function
.p2align 4
ptqsr_switch_fiber:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  subq $8, %rsp
  stmxcsr (%rsp)
  fnstcw 4(%rsp)
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  ldmxcsr (%rsp)
  fldcw 4(%rsp)
  addq $8, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size ptqsr_switch_fiber, .-ptqsr_switch_fiber
)");
#endif

namespace ptqsr::cuda::host {
namespace {

size_t page() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

// What fibers that were abandoned or have ended left of the address sanitizer's marks.
void forget_frames(char* bottom) {
#if defined(__SANITIZE_ADDRESS__)
  ASAN_UNPOISON_MEMORY_REGION(bottom, Stack::kBytes);
#else
  static_cast<void>(bottom);
#endif
}

// Stacks that nobody uses; each holds the next, in its last bytes.
struct Pool {
  char* first = nullptr;

  static char*& next_of(char* bottom) {
    return *reinterpret_cast<char**>(bottom + Stack::kBytes - sizeof(char*));
  }
  void put(char* bottom) {
    forget_frames(bottom);
    next_of(bottom) = first;
    first = bottom;
  }
  char* take() {
    char* bottom = first;
    if (bottom != nullptr) first = next_of(bottom);
    return bottom;
  }
  ~Pool() {
    while (char* bottom = take()) munmap(bottom - page(), page() + Stack::kBytes);
  }
};
thread_local Pool pool;

// Whose turn it is.
thread_local Fiber* current = nullptr;

}  // namespace

Stack::Stack() : bottom_(pool.take()) {
  if (bottom_ != nullptr) return;
  const size_t bytes = page() + kBytes;
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  bottom_ = static_cast<char*>(memory) + page();
  if (mprotect(memory, page(), PROT_NONE) != 0) {
    munmap(memory, bytes);
    throw std::bad_alloc();
  }
}

Stack::~Stack() { pool.put(bottom_); }

void Fiber::prepare(void (*body)()) {
  body_ = body;
  begun_ = false;
  fake_stack_ = nullptr;
  forget_frames(stack_.bottom());
#if defined(PTQSR_UCONTEXT)
  getcontext(&here_);
  here_.uc_stack.ss_sp = stack_.bottom();
  here_.uc_stack.ss_size = Stack::kBytes;
  here_.uc_link = nullptr;
  makecontext(&here_, begin, 0);
#else
  // As ptqsr_switch_fiber leaves a stack that is to go on with begin(), which has
  // nowhere to return to.
  struct {
    uint32_t mxcsr;
    uint16_t x87, unused;
    uint64_t registers[6];
    void (*next)();
    void* back;
  } top{0, 0, 0, {}, begin, nullptr};
  asm volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(top.mxcsr), "=m"(top.x87));
  char* place = stack_.bottom() + Stack::kBytes - sizeof top;
  memcpy(place, &top, sizeof top);
  here_ = place;
#endif
}

void Fiber::enter() {
  current = this;
  begun_ = true;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&home_fake_stack_, stack_.bottom(), Stack::kBytes);
#endif
#if defined(PTQSR_UCONTEXT)
  swapcontext(&home_, &here_);
#else
  ptqsr_switch_fiber(&home_, here_);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(home_fake_stack_, nullptr, nullptr);
#endif
}

void Fiber::leave(bool is_end) {
  begun_ = !is_end;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(is_end ? nullptr : &fake_stack_, home_stack_, home_bytes_);
#endif
#if defined(PTQSR_UCONTEXT)
  swapcontext(&here_, &home_);
#else
  ptqsr_switch_fiber(&here_, home_);
#endif
  arrive();
}

// In a fiber that has just been entered.
void Fiber::arrive() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack_, &home_stack_, &home_bytes_);
#endif
}

void Fiber::begin() {
  Fiber* const self = current;
  self->arrive();
  self->body_();
  self->leave(true);
}

}  // namespace ptqsr::cuda::host
