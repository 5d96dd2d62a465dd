// SPDX-License-Identifier: Apache-2.0
// WorkerPool: a few threads that share out numbered tasks; the barrier at the end of Run is a condition variable.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace kvasir::model {

/// `threads` - 1 threads plus whoever calls Run. Run is called by one thread at a time.
class WorkerPool {
 public:
  /// A task gets its number and the number of the worker that runs it (< threads()). It must not throw.
  using Task = std::function<void(size_t task, size_t worker)>;

  explicit WorkerPool(size_t threads);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  size_t threads() const { return helpers_.size() + 1; }
  /// Runs tasks 0 .. count - 1, each once, in any order; returns when all are done and their writes are visible.
  void Run(size_t count, const Task& task);

 private:
  void Help(size_t worker);
  /// Takes tasks of the present run until none is left.
  void Drain(size_t worker, std::unique_lock<std::mutex>& lock);

  std::mutex mutex_;
  std::condition_variable work_;  ///< a run began, or the end
  std::condition_variable done_;  ///< the last task of a run ended
  const Task* task_ = nullptr;    ///< of the present run; guarded by mutex_, as are all below
  size_t next_ = 0;
  size_t count_ = 0;
  size_t unfinished_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> helpers_;
};

}  // namespace kvasir::model
