// SPDX-License-Identifier: Apache-2.0
// HttpServer: a few pages for probes and scrapers. GET only; a connection carries one request, so that nobody who keeps one
// open keeps others out.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "deploy/flags.h"

namespace kvasir {

struct HttpAnswer {
  int status = 200;
  std::string type = "text/plain; charset=utf-8";
  std::string body;
};
struct HttpPage {
  std::string path;
  /// On a thread of the server, several at a time. `verbose`: the query names it.
  std::function<HttpAnswer(bool verbose)> make;
};

class HttpServer {
 public:
  static constexpr size_t kThreads = 8;
  static constexpr size_t kWaitingMax = 64;  ///< connections that wait for a thread; further ones wait to be accepted
  static constexpr Duration kPatience = std::chrono::seconds(2);  ///< with a client that stops in the middle
  static constexpr int kSilentSeconds = 1;                        ///< with one that has not begun to speak

  /// Serves when it returns. Unavailable names the address in use.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const HostPort& address, std::vector<HttpPage> pages);
  ~HttpServer();  ///< after it no page is made
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;
  const HostPort& address() const;  ///< with the port that was bound

 private:
  HttpServer();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvasir
