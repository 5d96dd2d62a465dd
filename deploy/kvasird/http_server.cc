// SPDX-License-Identifier: Apache-2.0
// The only file that knows cpp-httplib.
#include "deploy/kvasird/http_server.h"

#include <httplib.h>
#include <sys/socket.h>

#include <deque>
#include <thread>

#include "deploy/text.h"
#include "transport/sync.h"

namespace kvasir {
namespace {

constexpr size_t kBodyBytesMax = 4096;  ///< of a request: a page wants none

/// A few threads and a short queue. Whoever accepts waits while it is full: the kernel's backlog is the rest of the queue.
class BoundedPool : public httplib::TaskQueue {
 public:
  BoundedPool() {
    for (size_t i = 0; i < HttpServer::kThreads; ++i) threads_.emplace_back([this] { Work(); });
  }
  void enqueue(std::function<void()> job) override {
    MutexLock lock(mutex_);
    while (jobs_.size() >= HttpServer::kWaitingMax) changed_.Wait(mutex_);
    jobs_.push_back(std::move(job));
    changed_.NotifyAll();
  }
  void shutdown() override {
    {
      MutexLock lock(mutex_);
      stopping_ = true;
      changed_.NotifyAll();
    }
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  void Work() {
    for (;;) {
      std::function<void()> job;
      {
        MutexLock lock(mutex_);
        while (jobs_.empty() && !stopping_) changed_.Wait(mutex_);
        if (jobs_.empty()) return;
        job = std::move(jobs_.front());
        jobs_.pop_front();
        changed_.NotifyAll();
      }
      job();
    }
  }
  Mutex mutex_;
  CondVar changed_;
  std::deque<std::function<void()>> jobs_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

void Fill(httplib::Response& response, const HttpAnswer& answer) {
  response.status = answer.status;
  response.set_header("Cache-Control", "no-store");
  response.set_header("X-Content-Type-Options", "nosniff");
  response.set_content(answer.body, answer.type.c_str());
}

}  // namespace

struct HttpServer::Impl {
  httplib::Server server;
  HostPort address;
  std::thread thread;
};

HttpServer::HttpServer() : impl_(std::make_unique<Impl>()) {}

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const HostPort& address, std::vector<HttpPage> pages) {
  std::unique_ptr<HttpServer> made(new HttpServer);
  httplib::Server& server = made->impl_->server;
  server.new_task_queue = [] { return new BoundedPool; };
  server.set_keep_alive_max_count(1);
  server.set_keep_alive_timeout(kSilentSeconds);
  server.set_read_timeout(kPatience);
  server.set_write_timeout(kPatience);
  server.set_payload_max_length(kBodyBytesMax);
  server.set_tcp_nodelay(true);
  server.set_socket_options([](int fd) {  // the library's own would let two processes share the port
    const int one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  });
  std::vector<std::string> paths;
  for (HttpPage& page : pages) {
    paths.push_back(page.path);
    server.Get(page.path, [make = std::move(page.make)](const httplib::Request& request, httplib::Response& response) {
      Fill(response, make(request.has_param("verbose")));
    });
  }
  server.set_error_handler([there = Join(paths, " ")](const httplib::Request& request, httplib::Response& response) {
    if (!response.body.empty()) return;  // a page that says 503
    response.set_content(Cat(response.status, ": no page for ", request.method, " ", request.path, "; there are ", there, "\n"),
                         "text/plain; charset=utf-8");
  });
  made->impl_->address = address;
  int port = address.port;
  const bool bound = port == 0 ? (port = server.bind_to_any_port(address.host)) > 0 : server.bind_to_port(address.host, port);
  if (!bound) return absl::UnavailableError(Cat("cannot listen at ", address.Text(), " (ss -ltnp shows who does). Choose another with --http"));
  made->impl_->address.port = static_cast<uint16_t>(port);
  made->impl_->thread = std::thread([&server] { server.listen_after_bind(); });
  while (!server.is_running()) std::this_thread::yield();  // a stop before that would be overheard
  return made;
}

HttpServer::~HttpServer() {
  if (!impl_->thread.joinable()) return;
  impl_->server.stop();
  impl_->thread.join();
}

const HostPort& HttpServer::address() const { return impl_->address; }

}  // namespace kvasir
