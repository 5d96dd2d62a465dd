# SPDX-License-Identifier: Apache-2.0
"""Runs a container of a manifest the way kubelet and a runtime would under Pod Security "restricted", without either.

What is real: the image's files and nothing else (a read-only root), the volumes at their paths, the user and groups, an empty
capability set, no new privileges, memlock of 64 KiB, a memory control group with the manifest's limit, an own network with
the pod's address, the command line with its variables expanded. What stands in: seccomp denies a list of what the runtimes'
default profile denies (io_uring first of all) instead of allowing that profile's list; processes see the machine's pids.

Needs root and namespaces; Unavailable says which of them is not there, for a skip by that name.
"""
import contextlib
import ctypes
import errno
import os
import pathlib
import platform
import resource
import selectors
import shutil
import signal
import struct
import subprocess
import time

from tests.deploy import manifests

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
PR_SET_PDEATHSIG, PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 1, 23, 24, 38, 22
SECCOMP_MODE_FILTER = 2
MEMLOCK_BYTES = 64 << 10
START_S, STOP_S = 120, 120  # guards against hanging, not waits
ENTRYPOINT = "/usr/bin/kvasird"  # of the image
# As kubelet writes it.
RESOLV = "nameserver {dns}\nsearch {namespace}.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"

# System calls of x86-64 that the default profiles of containerd 2 and Docker 25 deny without capabilities.
DENIED = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
    "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "unshare": 272, "setns": 308, "move_mount": 429,
    "open_tree": 428, "fsopen": 430, "fsmount": 432, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "keyctl": 250,
    "add_key": 248, "request_key": 249, "mbind": 237, "set_mempolicy": 238, "get_mempolicy": 239, "migrate_pages": 256,
    "move_pages": 279, "open_by_handle_at": 304, "fanotify_init": 300, "quotactl": 179, "syslog": 103, "settimeofday": 164,
    "clock_settime": 227, "clock_adjtime": 305, "iopl": 172, "ioperm": 173, "init_module": 175, "finit_module": 313,
    "kexec_load": 246, "reboot": 169, "swapon": 167, "acct": 163, "vhangup": 153, "lookup_dcookie": 212,
}
CLONE3 = 435  # answered as if it did not exist, so that the C library falls back to clone


class Unavailable(Exception):
    """This machine or user cannot run a pod, and why."""


def checked(result, what):
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def ip(*words, inside=None):
    """iproute2, in the network of this process or of the process `inside`."""
    command = ["ip", *words] if inside is None else ["nsenter", f"--net=/proc/{inside}/ns/net", "ip", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(command)}: {done.stderr.strip()}")


class Network:
    """A bridge in a network of this process's own: whoever it starts from now on cannot see the machine's, and all ports are
    free. Pods are attached to it by their address; the process itself has the bridge's."""

    def __init__(self, address):
        if os.geteuid() != 0:
            raise Unavailable("only root can run a pod here (namespaces, control groups)")
        if not shutil.which("ip"):
            raise Unavailable("iproute2 is not here")
        if LIBC.unshare(CLONE_NEWNET) != 0:
            raise Unavailable(f"this root may not make a network: unshare: {os.strerror(ctypes.get_errno())}")
        self.attached = 0
        ip("link", "set", "lo", "up")
        ip("link", "add", "pods", "type", "bridge")
        ip("address", "add", f"{address}/24", "dev", "pods")
        ip("link", "set", "pods", "up")

    def attach(self, address):
        """A descriptor of a new network with this address on the bridge, and its link's name, for detach. The hardware address
        follows from it: who knew another pod with this address need not ask anew."""
        ready, done = os.pipe(), os.pipe()
        holder = os.fork()
        if holder == 0:  # a namespace begins its life with a process
            code = LIBC.unshare(CLONE_NEWNET)
            os.close(done[1])
            os.write(ready[1], b"%d" % (code != 0))
            os.read(done[0], 1)
            os._exit(0)
        try:
            if os.read(ready[0], 1) != b"0":
                raise Unavailable("this root may not make a network for a pod")
            self.attached += 1
            name = f"pod{self.attached}"
            hardware = ":".join(f"{part:02x}" for part in (0x0A, 0x58, *map(int, address.split("."))))
            ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "address", hardware, "netns", str(holder))
            ip("link", "set", name, "master", "pods", "up")
            ip("link", "set", "lo", "up", inside=holder)
            ip("address", "add", f"{address}/24", "dev", "eth0", inside=holder)
            ip("link", "set", "eth0", "up", inside=holder)
            return os.open(f"/proc/{holder}/ns/net", os.O_RDONLY | os.O_CLOEXEC), name
        finally:
            for end in (*ready, *done):
                os.close(end)
            os.waitpid(holder, 0)

    def detach(self, name):
        """At once: the kernel takes its time to end a network, which would answer for the next pod of its address meanwhile."""
        ip("link", "delete", name)


def mount(source, target, kind=None, flags=0):
    arguments = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    checked(LIBC.mount(*arguments, ctypes.c_ulong(flags), None), f"mount {source} at {target}")


# Steps of a classic BPF program over a system call: (code, jump if true, jump if false, value).
LOAD_NUMBER, LOAD_ARCHITECTURE = (0x20, 0, 0, 0), (0x20, 0, 0, 4)
X86_64 = 0xC000003E
ALLOW, DENY, ABSENT = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS


def when(number, answer):
    """Answers at once when what was loaded is `number`; two steps."""
    return [(0x15, 0, 1, number), (0x06, 0, 0, answer)]


def program(rules, otherwise):
    """(number, answer) pairs, and the answer for all other calls; those of another architecture are denied."""
    steps = [LOAD_ARCHITECTURE, (0x15, 1, 0, X86_64), (0x06, 0, 0, DENY), LOAD_NUMBER]
    for rule in rules:
        steps += when(*rule)
    return [*steps, (0x06, 0, 0, otherwise)]


def allow_only(numbers):
    return program([(number, ALLOW) for number in numbers], DENY)


def default_profile():
    return program([(CLONE3, ABSENT), *[(number, DENY) for number in DENIED.values()]], ALLOW)


def filter_system_calls(steps):
    """From here on, for this process and whatever it becomes. REQUIRES no new privileges."""
    code = b"".join(struct.pack("HBBI", *step) for step in steps)
    buffer = ctypes.create_string_buffer(code, len(code))
    description = struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(buffer))
    checked(LIBC.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.c_char_p(description), 0, 0), "seccomp")


class MemoryGroup:
    """A control group with a memory limit, of version 2 or 1, whichever this machine lets us make."""

    def __init__(self, name, limit_bytes):
        base = pathlib.Path("/sys/fs/cgroup")
        v2 = (base / "cgroup.controllers").is_file()
        self.path = (base if v2 else base / "memory") / name
        self.inside = "sys/fs/cgroup" if v2 else "sys/fs/cgroup/memory"  # where a container sees it
        try:
            if v2 and "memory" not in (base / "cgroup.subtree_control").read_text():
                (base / "cgroup.subtree_control").write_text("+memory")
            self.path.mkdir()
            (self.path / ("memory.max" if v2 else "memory.limit_in_bytes")).write_text(str(limit_bytes))
        except OSError as error:
            raise Unavailable(f"no memory control group can be made: {error}") from None

    def enter(self):
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def close(self):
        with contextlib.suppress(OSError):
            self.path.rmdir()


class Pod:
    """The first container of a workload's pod. `image` is a folder that deploy/container/assemble.sh made."""

    def __init__(self, image, directory, network, objects, workload, identity, dns, memory_bytes=None):
        """`identity` is the pod's name, ip and labels; `dns` the address of a name server."""
        if platform.machine() != "x86_64":
            raise Unavailable(f"the seccomp filter is written for x86_64, this is {platform.machine()}")
        template = workload["spec"]["template"]
        self.spec, self.container = template["spec"], template["spec"]["containers"][0]
        name, self.address = identity["name"], identity["ip"]
        self.program = self.container.get("command", [ENTRYPOINT])[0]
        self.arguments = manifests.arguments(objects, self.container, identity)
        self.directory = pathlib.Path(directory) / name
        self.root = self.directory / "root"
        self.directory.mkdir(parents=True)
        shutil.copytree(image, self.root, symlinks=True, copy_function=os.link)
        self.mounts = []
        self.make_volumes(objects, workload)
        for folder in ("proc", "sys/fs/cgroup/memory", "dev"):
            (self.root / folder).mkdir(parents=True)
        (self.root / "etc/hosts").write_text(f"127.0.0.1 localhost\n{self.address} {name}\n")
        (self.root / "etc/resolv.conf").write_text(RESOLV.format(dns=dns, namespace=workload["metadata"]["namespace"]))
        limit = memory_bytes or int(manifests.quantity(self.container["resources"]["limits"]["memory"]))
        self.group = MemoryGroup(f"kvasir-{os.getpid()}-{name}", limit)
        self.bridge = network
        self.network, self.link = network.attach(self.address)
        self.processes = []

    def make_volumes(self, objects, workload):
        group = self.spec["securityContext"]["fsGroup"]
        volumes = {one["name"]: one for one in self.spec.get("volumes", [])}
        volumes.update({one["metadata"]["name"]: {"claim": one} for one in workload["spec"].get("volumeClaimTemplates", [])})
        for one in self.container.get("volumeMounts", []):
            source = self.directory / "volumes" / one["name"]
            source.mkdir(parents=True)
            if "configMap" in volumes[one["name"]]:
                data = manifests.find(objects, "ConfigMap", volumes[one["name"]]["configMap"]["name"])["data"]
                for file, text in data.items():
                    (source / file).write_text(text)
            else:
                os.chown(source, 0, group)
                source.chmod(0o2775)
            target = self.root / one["mountPath"].lstrip("/")
            target.mkdir(parents=True, exist_ok=True)
            self.mounts.append((source, target, one.get("readOnly", False)))

    def confine(self):
        """In the child, before exec: from root of the machine to what a restricted container may be."""
        checked(LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL), "prctl")
        self.group.enter()
        checked(LIBC.setns(self.network, CLONE_NEWNET), "setns")
        checked(LIBC.unshare(CLONE_NEWNS), "unshare")
        mount("none", "/", None, MS_REC | MS_PRIVATE)
        mount(self.root, self.root, None, MS_BIND | MS_REC)
        for source, target, read_only in self.mounts:
            mount(source, target, None, MS_BIND)
            if read_only:
                mount(None, target, None, MS_REMOUNT | MS_BIND | MS_RDONLY)
        mount("proc", self.root / "proc", "proc", MS_NOSUID | MS_NODEV)
        mount(self.group.path, self.root / self.group.inside, None, MS_BIND)
        if self.container["securityContext"]["readOnlyRootFilesystem"]:
            mount(None, self.root, None, MS_REMOUNT | MS_BIND | MS_RDONLY)
        os.chroot(self.root)
        os.chdir("/")
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (MEMLOCK_BYTES, MEMLOCK_BYTES))
        number = 0
        while LIBC.prctl(PR_CAPBSET_READ, number, 0, 0, 0) >= 0:
            checked(LIBC.prctl(PR_CAPBSET_DROP, number, 0, 0, 0), "prctl")
            number += 1
        context = self.spec["securityContext"]
        os.setgroups([context["fsGroup"]])
        os.setgid(context["runAsGroup"])
        os.setuid(context["runAsUser"])
        checked(LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
        filter_system_calls(default_profile())

    def popen(self, words, **how):
        process = subprocess.Popen(words, executable=words[0], preexec_fn=self.confine, cwd="/", stdin=subprocess.DEVNULL,
                                   env={"PATH": "/usr/bin"}, **how)
        self.processes.append(process)
        return process

    def run(self, words, timeout=START_S):
        """A program of the image under the container's limits, to its end: (status, stdout, stderr)."""
        process = self.popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        out, err = process.communicate(timeout=timeout)
        return process.returncode, out, err

    def start(self):
        """The container's own command; returns at once."""
        with open(self.directory / "log", "ab") as log:
            return self.popen([self.program, *self.arguments], stdout=subprocess.PIPE, stderr=log)

    def serve(self):
        """kvasird; returns when it says on stdout that it serves."""
        process, line = self.start(), bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                more = os.read(process.stdout.fileno(), 4096) if selector.select(START_S) else b""
                if not more:
                    raise AssertionError(f"kvasird did not come to serve. Its log:\n{self.log()}")
                line += more
        return process

    def log(self):
        return (self.directory / "log").read_text(errors="replace")

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()
        self.bridge.detach(self.link)
        os.close(self.network)
        deadline = time.monotonic() + STOP_S
        while self.group.path.exists() and time.monotonic() < deadline:  # the last process's pages are given back first
            self.group.close()
