#include "cpu/parallel.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

#include "cpu/float_mode.h"

namespace ptqsr::cpu {
namespace {

// Lives on the caller's stack. The list fields are guarded by the pool's mutex.
struct Job {
  ParallelBody body;
  void* context;
  int64_t tasks;
  std::atomic<int64_t> next_task{0};
  int places;       // helpers that may still join
  int next_worker;  // the caller is worker 0
  int running = 0;  // helpers inside
  Job* next = nullptr;

  void work(int worker) {
    ScopedIeeeMode ieee;
    for (int64_t task; (task = next_task.fetch_add(1, std::memory_order_relaxed)) < tasks;) {
      body(context, task, worker);
    }
  }
};

class Pool {
 public:
  void run(Job* job) {
    {
      std::lock_guard lock(mutex_);
      grow(job->places);
      job->next = open_;
      open_ = job;
    }
    if (job->places == 1) {
      wake_.notify_one();
    } else {
      wake_.notify_all();
    }
    job->work(0);
    std::unique_lock lock(mutex_);
    close(job);
    done_.wait(lock, [job] { return job->running == 0; });
  }

  std::mutex& mutex() { return mutex_; }

 private:
  // Fewer helpers than asked for is no error: the caller alone finishes every task.
  void grow(int helpers) {
    try {
      for (; helpers_ < helpers; ++helpers_) std::thread([this] { serve(); }).detach();
    } catch (const std::system_error&) {
    }
  }

  void close(Job* job) {
    for (Job** link = &open_; *link; link = &(*link)->next) {
      if (*link == job) {
        *link = job->next;
        return;
      }
    }
  }

  [[noreturn]] void serve() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return open_ != nullptr; });
      Job* job = open_;
      const int worker = job->next_worker++;
      ++job->running;
      if (--job->places == 0) close(job);
      lock.unlock();
      job->work(worker);
      lock.lock();
      // No task is left, so no further helper need join.
      close(job);
      if (--job->running == 0) done_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;  // a job was opened
  std::condition_variable done_;  // a job has no helper left
  Job* open_ = nullptr;           // jobs with places left
  int helpers_ = 0;
};

// Never destroyed: helpers wait in it until the process ends.
alignas(Pool) unsigned char storage[sizeof(Pool)];
Pool* pool_in_storage() { return std::launder(reinterpret_cast<Pool*>(storage)); }

Pool& pool() {
  static Pool* const instance = [] {
    Pool* created = new (storage) Pool;
    // A forked child has no helpers and may inherit a locked mutex: it starts with a new pool.
    pthread_atfork([] { pool_in_storage()->mutex().lock(); },
                   [] { pool_in_storage()->mutex().unlock(); }, [] { new (storage) Pool; });
    return created;
  }();
  return *instance;
}

}  // namespace

void parallel_for(int threads, int64_t tasks, ParallelBody body, void* context) {
  if (tasks <= 0) return;
  constexpr int64_t kMaxThreads = 1024;
  const int used = static_cast<int>(
      std::min({std::max<int64_t>(threads, 1), tasks, kMaxThreads}));
  Job job{body, context, tasks, {0}, used - 1, 1};
  if (used == 1) {
    job.work(0);
  } else {
    pool().run(&job);
  }
}

}  // namespace ptqsr::cpu
