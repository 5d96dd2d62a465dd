// SPDX-License-Identifier: Apache-2.0
// Programs as a test meets them: run one to its end, or keep a kvasird running. Waits by reading, never by sleeping.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "tests/support/free_ports.h"

namespace kvasir::testing {

struct Ended {
  int status = -1;  ///< exit status, or 128 + the signal that ended it
  std::string out, err;
};
/// Runs `words[0]` with the others as arguments. Ends the test's process if it cannot be started.
Ended RunProgram(const std::vector<std::string>& words);

/// A kvasird that says when it serves. Killed when destroyed, if it still runs.
class Daemon {
 public:
  /// Starts it at a free loopback port unless `arguments` say --listen or --members. Returns when it serves or has
  /// ended. `runner` is what is run in place of the program: words that end with a path to it.
  explicit Daemon(const std::vector<std::string>& arguments, std::vector<std::string> runner = {KVASIRD});
  ~Daemon();
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;
  bool serving() const { return !control_.empty(); }
  const std::string& control() const { return control_; }  ///< "127.0.0.1:40123"; "" when it did not come to serve
  /// Sends the signal, waits for the end and answers what it left. 0 sends none.
  Ended Stop(int signal);

 private:
  pid_t pid_ = -1;
  int out_ = -1, err_ = -1;
  std::string control_;
};

/// A directory that is removed with all in it.
class Directory {
 public:
  Directory();
  ~Directory();
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }
  void Write(const std::string& name, const std::string& bytes) const;

 private:
  std::string path_;
};

std::string ReadAll(const std::string& path);

}  // namespace kvasir::testing
