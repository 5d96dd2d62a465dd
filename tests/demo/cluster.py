# SPDX-License-Identifier: Apache-2.0
"""Processes of the demo: three kvasird, the engines and, if asked for, an etcd. Whatever is started here is stopped here, however the demo ends.

Nothing waits by the clock: a node says that it serves by a pipe, an engine answers a line, a process that ends closes both.
Every wait has a bound, and what ran into it is shown with the tail of its log.
"""
import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

from children import Trouble, dies_with_parent, read_line, tail  # noqa: E402  (the path comes first)

START_S = 60     # a node opens its directory, an engine its model
ANSWER_S = 300   # one command of an engine
STOP_S = 30      # an orderly end


def free_ports(count):
    """Ports nobody has now. Another process may take one before the node does: then the node says so and others are tried."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


class Etcd:
    """One etcd-server on free ports; the nodes find each other through it."""

    PROGRAM = pathlib.Path("/usr/bin/etcd")
    SERVES = b"serving client traffic"

    def __init__(self, directory, keep):
        if not self.PROGRAM.is_file():
            raise Trouble(f"{self.PROGRAM} is not there. Install it with: apt-get install etcd-server")
        self.directory, self.log, self.keep = directory, directory / "etcd.log", keep
        self.process = None

    def start(self):
        """Returns when it serves."""
        self.client, peer = (f"http://127.0.0.1:{port}" for port in free_ports(2))
        command = [self.PROGRAM, "--data-dir", self.directory / self.client[-5:], "--listen-client-urls", self.client, "--advertise-client-urls",
                   self.client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}",
                   "--logger", "zap"]
        with_parent = None if self.keep else dies_with_parent
        self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, bufsize=0, start_new_session=True, preexec_fn=with_parent)
        with open(self.log, "ab", buffering=0) as log:
            line = b""
            while self.SERVES not in line:
                line = read_line(self.process.stdout, START_S, "etcd", self.log)
                log.write(line)
            # From here on nobody waits for what it says, and it must not wait for a reader.
            self.copier = subprocess.Popen(["cat"], stdin=self.process.stdout, stdout=log, start_new_session=True, preexec_fn=with_parent)
        self.process.stdout.close()

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
            self.copier.wait()


class Node:
    """One kvasird on its own directory; may be stopped and started again."""

    def __init__(self, cluster, name, control):
        self.cluster, self.name, self.control = cluster, name, control
        self.ssd = cluster.directory / name
        self.log = cluster.directory / f"{name}.log"
        self.process = None

    def start(self):
        """Begins to start; ready() waits for it."""
        read_end, write_end = os.pipe()
        command = [self.cluster.kvasird, "--id", self.name, *self.cluster.members_flags(self), "--ssd", self.ssd,
                   "--ssd-size", "1GiB", "--dram", "64MiB", "--transports", "tcp,shm", "--ready-fd", str(write_end)]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            pass_fds=[write_end], start_new_session=True,
                                            preexec_fn=None if self.cluster.keep else dies_with_parent)
        os.close(write_end)
        self.ready_pipe = os.fdopen(read_end, "rb", buffering=0)

    def ready(self):
        with self.ready_pipe:
            read_line(self.ready_pipe, START_S, f"node {self.name}", self.log)

    def kill(self):
        """kill -9: it gets no chance to write anything."""
        self.process.kill()
        self.process.wait()

    def stop(self):
        """SIGTERM: it drains. Its exit status."""
        self.process.terminate()
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            raise Trouble(f"node {self.name} has not stopped {STOP_S} s after SIGTERM. The end of its log:\n"
                          f"{tail(self.log)}") from None

    def status(self):
        """What `kvasir status` says about this node alone."""
        return json.loads(self.cluster.kvasir("-o", "json", "--node", self.control, "status", "--only-named"))[0]


class Cluster:
    """Three nodes in one directory, with one static member list or an etcd."""

    def __init__(self, build, directory, run_blocks, keep, members):
        self.directory, self.keep, self.run_blocks = pathlib.Path(directory), keep, run_blocks
        self.kvasird, self.kvasir_program = build / "deploy/kvasird", build / "deploy/kvasir"
        self.engine_program = build / "tests/demo/demo_engine"
        self.members = self.directory / "members.json"
        for program in (self.kvasird, self.kvasir_program, self.engine_program):
            if not program.is_file():
                raise Trouble(f"{program} is not built. Build it and run the demo with: ./run demo")
        self.nodes, self.engines = [], []
        self.etcd = Etcd(self.directory, keep) if members == "etcd" else None

    def members_flags(self, node):
        """How a node learns of the others. A drain hands its blocks over where etcd tells the others of it."""
        if self.etcd is None:
            return ["--members", self.members, "--drain-wait", "2s"]
        return ["--members", f"etcd:{self.etcd.client}", "--listen", node.control, "--run-blocks", str(self.run_blocks), "--drain-wait", "20s"]

    def start(self, count=3, attempts=3):
        for attempt in range(attempts):
            self.nodes = [Node(self, f"node-{i + 1}", f"127.0.0.1:{port}") for i, port in enumerate(free_ports(count))]
            members = [{"id": node.name, "control": node.control} for node in self.nodes]
            self.members.write_text(json.dumps({"epoch": 1, "run_blocks": self.run_blocks, "members": members}, indent=1))
            try:
                if self.etcd is not None:
                    self.etcd.start()
                for node in self.nodes:
                    node.start()
                for node in self.nodes:
                    node.ready()
                self.await_serving(self.nodes)
                return
            except Trouble as trouble:
                self.stop()
                if "in use" not in str(trouble) or attempt + 1 == attempts:
                    raise

    def node(self, name):
        return next(node for node in self.nodes if node.name == name)

    def await_serving(self, nodes):
        """Until each of these nodes knows all of them, serving: those that find each other by etcd join first."""
        end = time.monotonic() + START_S
        while True:
            seen = [json.loads(self.kvasir("-o", "json", "--node", node.control, "status", allowed=(0, 1, 4))) for node in nodes]
            if all(len(all_of) == len(nodes) and all(one.get("state") == "serving" for one in all_of) for all_of in seen):
                return
            if time.monotonic() > end:
                raise Trouble(f"the nodes do not all serve {START_S} s after their start. The end of the first one's log:\n{tail(nodes[0].log)}")

    def processes(self):
        """Ids of all that --keep leaves running."""
        return [node.process.pid for node in self.nodes] + ([self.etcd.process.pid] if self.etcd is not None else [])

    def addresses(self):
        return [node.control for node in self.nodes]

    def kvasir(self, *arguments, allowed=(0,)):
        """The command line, as an operator has it; its standard output."""
        done = subprocess.run([str(self.kvasir_program), *map(str, arguments)], capture_output=True, text=True, timeout=ANSWER_S)
        if done.returncode not in allowed:
            raise Trouble(f"kvasir {' '.join(map(str, arguments))} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def engine(self, name):
        engine = Engine(self, name)
        self.engines.append(engine)
        return engine

    def stop(self, leave_nodes=False):
        """Never raises but for what cannot be: it runs when things have gone wrong already."""
        while self.engines:
            self.engines.pop().stop()
        for node in self.nodes:
            if not leave_nodes and node.process is not None and node.process.poll() is None:
                node.kill()
        if self.etcd is not None and not leave_nodes:
            self.etcd.stop()


class Engine:
    """A demo_engine process: one JSON line there, one back."""

    def __init__(self, cluster, name):
        self.name, self.log = name, cluster.directory / f"{name}.log"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([str(cluster.engine_program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            stderr=log, bufsize=0, start_new_session=True, preexec_fn=dies_with_parent)

    def say(self, do, **arguments):
        """Sends a command; hear() waits for its answer."""
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}, default=str).encode() + b"\n")
        except BrokenPipeError:
            raise Trouble(f"the {self.name} engine has ended. The end of its log, {self.log}:\n{tail(self.log)}") from None
        self.doing = do

    def hear(self):
        answer = json.loads(read_line(self.process.stdout, ANSWER_S, f"the {self.name} engine", self.log))
        if not answer["ok"]:
            raise Trouble(f"the {self.name} engine could not {self.doing}: {answer['error']}")
        return answer

    def ask(self, do, **arguments):
        self.say(do, **arguments)
        return self.hear()

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
