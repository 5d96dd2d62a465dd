// SPDX-License-Identifier: Apache-2.0
// restricted [--cgroup DIR] [--read-only-but DIR] PROGRAM ARGUMENTS...: runs a program under what Kubernetes' Pod Security
// "restricted" with the runtime's default seccomp profile leaves it: no root, no capability, no way to gain one, 64 KiB of
// locked memory, io_uring denied. With --cgroup inside that memory control group, with --read-only-but on a root file system that
// only DIR can be written in. Ends with 77 and the reason where the machine does not allow one of these.
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <string>

#include "tests/deploy/restricted.h"

namespace {

using namespace kvasir::testing;

[[noreturn]] void NotHere(const char* what) {
  std::fprintf(stderr, "restricted: %s: %s\n", what, std::strerror(errno));
  std::exit(kNotHere);
}
void Must(bool done, const char* what) {
  if (!done) NotHere(what);
}

void EnterGroup(const std::string& directory) {
  const int fd = open((directory + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC);
  Must(fd >= 0 && write(fd, "0", 1) == 1, "memory control group");
  close(fd);
}

/// A mount namespace of its own, in which / is read-only and `directory` is not.
void RootReadOnlyBut(const char* directory) {
  Must(unshare(CLONE_NEWNS) == 0, "mount namespace");
  Must(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0, "private mounts");
  Must(mount(directory, directory, nullptr, MS_BIND, nullptr) == 0, "bind mount");
  Must(mount(nullptr, "/", nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr) == 0, "read-only root");
  Must(chdir(directory) == 0, "chdir");
}

void DropPrivileges() {
  const rlimit memlock{kMemlockBytes, kMemlockBytes};
  Must(setrlimit(RLIMIT_MEMLOCK, &memlock) == 0, "memlock");
  if (getuid() == 0) {
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; ++cap) Must(prctl(PR_CAPBSET_DROP, cap) == 0, "bounding set");
    Must(setgroups(0, nullptr) == 0 && setgid(kNobody) == 0 && setuid(kNobody) == 0, "uid");
  }
  Must(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) == 0, "ambient capabilities");
  Must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no new privileges");
}

/// As the default profiles of container runtimes: the three system calls of io_uring are answered with EPERM.
void DenyIoUring() {
  const auto is = [](int number) { return sock_filter{BPF_JMP | BPF_JEQ | BPF_K, 0, 1, static_cast<__u32>(number)}; };
  const sock_filter deny{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | EPERM};
  const sock_filter filter[] = {{BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, nr)},
                                is(SYS_io_uring_setup),
                                deny,
                                is(SYS_io_uring_enter),
                                deny,
                                is(SYS_io_uring_register),
                                deny,
                                {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW}};
  const sock_fprog program{static_cast<unsigned short>(std::size(filter)), const_cast<sock_filter*>(filter)};
  Must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0, "seccomp");
}

}  // namespace

int main(int argc, char** argv) {
  int at = 1;
  for (; at + 1 < argc && argv[at][0] == '-'; at += 2) {
    const std::string flag = argv[at];
    if (flag == "--cgroup") EnterGroup(argv[at + 1]);
    if (flag == "--read-only-but") RootReadOnlyBut(argv[at + 1]);
  }
  if (at >= argc) return 2;
  DropPrivileges();
  DenyIoUring();
  execv(argv[at], argv + at);
  std::perror(argv[at]);
  return 127;
}
