// SPDX-License-Identifier: Apache-2.0
// fork, exec, pipes and poll. Child output goes to files in memory, so that nobody waits for a full pipe.
#include "tests/deploy/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

namespace kvasir::testing {
namespace {

constexpr int kReadyFd = 9;
constexpr int kReadyWaitMs = 60'000;                  ///< a guard against hanging, not a wait

[[noreturn]] void Die(const char* what) {
  std::perror(what);
  std::abort();
}

int MemoryFile() {
  const int fd = memfd_create("output", 0);
  if (fd < 0) Die("memfd_create");
  return fd;
}

std::string Drain(int fd) {
  std::string text(static_cast<size_t>(lseek(fd, 0, SEEK_END)), '\0');
  if (pread(fd, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) Die("pread");
  close(fd);
  return text;
}

pid_t Spawn(const std::vector<std::string>& words, int out, int err, int ready) {
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  const pid_t pid = fork();
  if (pid != 0) return pid;
  dup2(out, STDOUT_FILENO);
  dup2(err, STDERR_FILENO);
  if (ready == kReadyFd) {
    fcntl(ready, F_SETFD, 0);  // dup2 onto itself would leave it to be closed by exec
  } else if (ready >= 0) {
    dup2(ready, kReadyFd);
  }
  const int nothing = open("/dev/null", O_RDONLY);
  dup2(nothing, STDIN_FILENO);
  execv(argv[0], argv.data());
  _exit(127);
}

int Wait(pid_t pid) {
  int status = 0;
  if (waitpid(pid, &status, 0) != pid) Die("waitpid");
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

Ended RunProgram(const std::vector<std::string>& words) {
  const int out = MemoryFile(), err = MemoryFile();
  const pid_t pid = Spawn(words, out, err, -1);
  if (pid < 0) Die("fork");
  const int status = Wait(pid);
  return {status, Drain(out), Drain(err)};
}

Daemon::Daemon(const std::vector<std::string>& arguments, std::vector<std::string> words) : out_(MemoryFile()), err_(MemoryFile()) {
  words.insert(words.end(), {"--ready-fd", std::to_string(kReadyFd)});
  const auto has = [&](const char* flag) {
    return std::find(arguments.begin(), arguments.end(), flag) != arguments.end();
  };
  if (!has("--listen") && !has("--members")) words.insert(words.end(), {"--listen", "127.0.0.1:0"});
  if (!has("--dram")) words.insert(words.end(), {"--dram", "128MiB"});
  words.insert(words.end(), arguments.begin(), arguments.end());
  int ready[2];
  if (pipe2(ready, O_CLOEXEC) != 0) Die("pipe2");
  pid_ = Spawn(words, out_, err_, ready[1]);
  close(ready[1]);  // so that the read ends when the child does
  std::string line;
  pollfd readable = {ready[0], POLLIN, 0};
  char letter = 0;
  while (poll(&readable, 1, kReadyWaitMs) > 0 && read(ready[0], &letter, 1) == 1 && letter != '\n')
    line.push_back(letter);
  close(ready[0]);
  if (line.starts_with("ready ")) control_ = line.substr(6);
}

Daemon::~Daemon() {
  if (pid_ > 0) Stop(SIGKILL);
}

Ended Daemon::Stop(int signal) {
  if (signal != 0) kill(pid_, signal);
  const int status = Wait(std::exchange(pid_, -1));
  return {status, Drain(out_), Drain(err_)};
}

Directory::Directory() {
  char name[] = "/tmp/kvasir-test-XXXXXX";
  if (mkdtemp(name) == nullptr) Die("mkdtemp");
  path_ = name;
}
Directory::~Directory() { std::filesystem::remove_all(path_); }
void Directory::Write(const std::string& name, const std::string& bytes) const {
  std::filesystem::create_directories(std::filesystem::path(*this / name).parent_path());
  std::ofstream(*this / name, std::ios::binary) << bytes;
}

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace kvasir::testing
