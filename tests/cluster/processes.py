# SPDX-License-Identifier: Apache-2.0
"""Processes of a cluster, each on a host of its own: nodes, etcd members, and the clients' load."""
import base64
import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess

from children import Trouble, dies_with_parent, read_line, tail

START_S = 60     # a node opens its directory and meets its members
STOP_S = 60      # an orderly end, the grace included
ANSWER_S = 10    # of the load, beyond what the command itself may take
ASK_ETCD_S = 2
CONTROL_PORT, ETCD_PORT, ETCD_PEER_PORT = 7070, 2379, 2380


class Process:
    """One program on one host, with its log. `running` is what the test wants; died() is what is, unless it `may_end`."""

    def __init__(self, network, name, log):
        self.network, self.name, self.log = network, name, log
        self.process, self.running, self.paused, self.may_end = None, False, False, False

    def spawn(self, words, **pipes):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.network.command(self.name, words), stderr=log, preexec_fn=dies_with_parent,
                                            start_new_session=True, **{"stdin": subprocess.DEVNULL, "stdout": log, **pipes})
        self.running, self.paused = True, False

    def died(self):
        """Why it is not running although it should be, or ""."""
        if not self.running or self.may_end or self.process.poll() is None:
            return ""
        return f"{self.name} ended by itself with {self.process.returncode}. The end of its log, {self.log}:\n{tail(self.log)}"

    def kill(self):
        """kill -9: it gets no chance to write anything."""
        self.running = False
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def pause(self):
        self.paused = True
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.paused = False
        self.process.send_signal(signal.SIGCONT)


class Node(Process):
    """One kvasird. `program` may be another build at the next start."""

    def __init__(self, network, name, directory, program, flags):
        super().__init__(network, name, directory / f"{name}.log")
        self.control = f"{network.hosts[name]}:{CONTROL_PORT}"
        self.ssd, self.program, self.flags = directory / f"{name}.ssd", program, flags

    def start(self):
        """Begins to start; ready() waits for it."""
        read_end, write_end = os.pipe()
        words = [self.program, "--id", self.name, "--ssd", self.ssd, "--ready-fd", write_end, *self.flags]
        with open(self.log, "a") as log:
            log.write(f"== {' '.join(map(str, words))}\n")
        self.spawn(words, pass_fds=[write_end])
        os.close(write_end)
        self.ready_pipe = os.fdopen(read_end, "rb", buffering=0)

    def ready(self):
        with self.ready_pipe:
            read_line(self.ready_pipe, START_S, f"node {self.name}", self.log)

    def wipe(self):
        shutil.rmtree(self.ssd, ignore_errors=True)

    def terminate(self):
        """SIGTERM: it drains. ended() waits."""
        self.running = False
        self.process.terminate()

    def ended(self):
        """Its exit status."""
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            raise Trouble(f"node {self.name} has not ended {STOP_S} s after SIGTERM. The end of its log:\n"
                          f"{tail(self.log)}") from None


class EtcdMember(Process):
    """One etcd-server. On a small disk of its own where `disk_bytes` says so."""

    def __init__(self, network, name, directory, peers, disk_bytes=0):
        super().__init__(network, name, directory / f"{name}.log")
        self.address = network.hosts[name]
        self.data, self.peers, self.disk_bytes = directory / f"{name}.etcd", peers, disk_bytes
        self.url = f"http://{self.address}:{ETCD_PORT}"
        if disk_bytes:
            self.data.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={disk_bytes}", "kvt-disk", self.data], check=True)

    def start(self):
        peer = f"http://{self.address}:{ETCD_PEER_PORT}"
        cluster = ",".join(f"{name}=http://{address}:{ETCD_PEER_PORT}" for name, address in self.peers.items())
        self.spawn(["etcd", "--name", self.name, "--data-dir", self.data / "data", "--listen-client-urls", self.url,
                    "--advertise-client-urls", self.url, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                    "--initial-cluster", cluster, "--initial-cluster-state", "new", "--logger", "zap", "--log-level", "error"])

    def ask(self, host, path, question):
        """An answer of its gateway, asked from another host; None when there is none."""
        try:
            with contextlib.closing(self.network.connect(host, (self.address, ETCD_PORT), ASK_ETCD_S)) as sock:
                connection = http.client.HTTPConnection(self.address, ETCD_PORT, timeout=ASK_ETCD_S)
                connection.sock = sock
                sock.settimeout(ASK_ETCD_S)
                connection.request("POST", path, json.dumps(question))
                answer = connection.getresponse()
                return json.loads(answer.read()) if answer.status == 200 else None
        except (OSError, http.client.HTTPException, ValueError):
            return None

    def status(self, host):
        return self.ask(host, "/v3/maintenance/status", {})

    def put(self, host, key, value):
        """Whether it took the value."""
        text = [base64.b64encode(part).decode() for part in (key, value)]
        return self.ask(host, "/v3/kv/put", {"key": text[0], "value": text[1]}) is not None

    def fill_disk(self):
        """Nothing more fits on its disk. Bytes that are on it."""
        disk = os.statvfs(self.data)
        used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
        subprocess.run(["mount", "-o", f"remount,size={used}", self.data], check=True)
        return used

    def free_disk(self):
        subprocess.run(["mount", "-o", f"remount,size={self.disk_bytes}", self.data], check=True)

    def unmount(self):
        if self.disk_bytes:
            subprocess.run(["umount", "--lazy", self.data], check=False)


def leads(status):
    """Whether this answer of a member is its leader's own."""
    return bool(status) and status.get("leader", "0") == status.get("header", {}).get("member_id", "none")


class Load(Process):
    """cluster_load (commands.h): one JSON line there, one back."""

    def __init__(self, network, name, log, program):
        super().__init__(network, name, log)
        self.spawn([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def say(self, do, **arguments):
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}, default=str).encode() + b"\n")
        except BrokenPipeError:
            raise Trouble(self.died() or f"the load does not listen to {do}") from None
        self.doing, self.patience = do, arguments.get("s", START_S) + ANSWER_S

    def hear(self):
        answer = json.loads(read_line(self.process.stdout, self.patience, f"the load ({self.doing})", self.log))
        if not answer["ok"]:
            raise Trouble(f"the load could not {self.doing}: {answer['error']}")
        return answer

    def ask(self, do, **arguments):
        self.say(do, **arguments)
        return self.hear()

    def end(self):
        """Its standard input closes: it ends."""
        self.running = False
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()
