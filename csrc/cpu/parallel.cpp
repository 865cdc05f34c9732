#include "cpu/parallel.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

#include "cpu/float_mode.h"

namespace ptqsr::cpu {
namespace {

struct Job {
  const std::function<void(int64_t)>* task;
  int64_t count;
  std::atomic<int64_t> next{0};
  std::atomic<int64_t> done{0};
  std::mutex mutex;
  std::condition_variable finished;

  // Take tasks until none is left. A worker that comes late finds none and touches `task` no more,
  // so the caller may return (and destroy it) once `done` has reached `count`.
  void work() {
    const FloatMode ieee;
    int64_t mine = 0;
    for (int64_t i; (i = next.fetch_add(1)) < count; ++mine) (*task)(i);
    if (mine != 0 && done.fetch_add(mine) + mine == count) {
      std::lock_guard lock(mutex);
      finished.notify_all();
    }
  }

  void wait() {
    std::unique_lock lock(mutex);
    finished.wait(lock, [this] { return done.load() == count; });
  }
};

class Pool {
 public:
  void run(int64_t count, int threads, const std::function<void(int64_t)>& task) {
    auto job = std::make_shared<Job>();
    job->task = &task;
    job->count = count;
    const int helpers = static_cast<int>(std::min<int64_t>(threads, count)) - 1;
    {
      std::lock_guard lock(mutex_);
      for (; workers_ < helpers; ++workers_) std::thread([this] { serve(); }).detach();
      queue_.insert(queue_.end(), helpers, job);
    }
    for (int i = 0; i < helpers; ++i) waiting_.notify_one();
    job->work();
    job->wait();
  }

 private:
  void serve() {
    while (true) {
      std::shared_ptr<Job> job;
      {
        std::unique_lock lock(mutex_);
        waiting_.wait(lock, [this] { return !queue_.empty(); });
        job = std::move(queue_.front());
        queue_.pop_front();
      }
      job->work();
    }
  }

  std::mutex mutex_;
  std::condition_variable waiting_;
  std::deque<std::shared_ptr<Job>> queue_;
  int workers_ = 0;
};

// Never destroyed: detached workers wait on it until the process ends. A forked child has none of
// its parent's threads, so it starts a pool of its own.
std::atomic<Pool*> pool{nullptr};

Pool& the_pool() {
  static const int registered = [] {
    pool = new Pool;
    return pthread_atfork(nullptr, nullptr, [] { pool = new Pool; });
  }();
  static_cast<void>(registered);
  return *pool;
}

}  // namespace

void parallel_for(int64_t count, int threads, const std::function<void(int64_t)>& task) {
  if (threads <= 1 || count <= 1) {
    const FloatMode ieee;
    for (int64_t i = 0; i < count; ++i) task(i);
    return;
  }
  the_pool().run(count, threads, task);
}

}  // namespace ptqsr::cpu
