// SPDX-License-Identifier: Apache-2.0
// WorkerPool: tasks are milliseconds long, so one mutex hands them out.
#include "tests/model/worker_pool.h"

namespace kvasir::model {

WorkerPool::WorkerPool(size_t threads) {
  for (size_t worker = 1; worker < threads; ++worker) {
    helpers_.emplace_back([this, worker] { Help(worker); });
  }
}

WorkerPool::~WorkerPool() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  for (std::thread& helper : helpers_) helper.join();
}

void WorkerPool::Run(size_t count, const Task& task) {
  if (count <= 1 || helpers_.empty()) {
    for (size_t i = 0; i < count; ++i) task(i, 0);
    return;
  }
  std::unique_lock lock(mutex_);
  task_ = &task;
  next_ = 0;
  count_ = unfinished_ = count;
  work_.notify_all();
  Drain(0, lock);
  done_.wait(lock, [this] { return unfinished_ == 0; });
}

void WorkerPool::Help(size_t worker) {
  std::unique_lock lock(mutex_);
  while (true) {
    work_.wait(lock, [this] { return stopping_ || next_ < count_; });
    if (stopping_) return;
    Drain(worker, lock);
  }
}

void WorkerPool::Drain(size_t worker, std::unique_lock<std::mutex>& lock) {
  while (next_ < count_) {
    const size_t task = next_++;
    const Task& run = *task_;
    lock.unlock();
    run(task, worker);
    lock.lock();
    if (--unfinished_ == 0) done_.notify_one();
  }
}

}  // namespace kvasir::model
