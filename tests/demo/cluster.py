# SPDX-License-Identifier: Apache-2.0
"""Processes of the demo: three kvasird and the engines. Whatever is started here is stopped here, however the demo ends.

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
        command = [self.cluster.kvasird, "--id", self.name, "--members", self.cluster.members, "--ssd", self.ssd,
                   "--ssd-size", "1GiB", "--dram", "64MiB", "--transports", "tcp,shm", "--drain-wait", "2s",
                   "--ready-fd", str(write_end)]
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
    """Three nodes with one static member list, in one directory."""

    def __init__(self, build, directory, run_blocks, keep):
        self.directory, self.keep, self.run_blocks = pathlib.Path(directory), keep, run_blocks
        self.kvasird, self.kvasir_program = build / "deploy/kvasird", build / "deploy/kvasir"
        self.engine_program = build / "tests/demo/demo_engine"
        self.members = self.directory / "members.json"
        for program in (self.kvasird, self.kvasir_program, self.engine_program):
            if not program.is_file():
                raise Trouble(f"{program} is not built. Build it and run the demo with: ./run demo")
        self.nodes, self.engines = [], []

    def start(self, count=3, attempts=3):
        for attempt in range(attempts):
            self.nodes = [Node(self, f"node-{i + 1}", f"127.0.0.1:{port}") for i, port in enumerate(free_ports(count))]
            members = [{"id": node.name, "control": node.control} for node in self.nodes]
            self.members.write_text(json.dumps({"epoch": 1, "run_blocks": self.run_blocks, "members": members}, indent=1))
            try:
                for node in self.nodes:
                    node.start()
                for node in self.nodes:
                    node.ready()
                return
            except Trouble as trouble:
                self.stop()
                if "is in use" not in str(trouble) or attempt + 1 == attempts:
                    raise

    def node(self, name):
        return next(node for node in self.nodes if node.name == name)

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
