# SPDX-License-Identifier: Apache-2.0
"""Goal: cluster_load sees what it is there to see. Method: real nodes on loopback, so that no root is needed; a wrong bit and
an ack of nothing are planted, and everything is really lost. Usage: detects_test.py BUILD."""
import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "support"), str(HERE)]

from children import dies_with_parent, read_line  # noqa: E402
from world import members_file  # noqa: E402

START_S, ANSWER_S, ATTEMPTS = 60, 60, 3


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Nodes:
    def __init__(self, build, directory):
        self.program, self.directory = build / "deploy/kvasird", directory
        self.controls = {f"n{i + 1}": f"127.0.0.1:{port}" for i, port in enumerate(free_ports(2))}
        (directory / "members.json").write_text(members_file(self.controls))
        self.running = {}

    def start(self, name):
        read_end, write_end = os.pipe()
        log = self.directory / f"{name}.log"
        with open(log, "ab") as out:
            self.running[name] = subprocess.Popen(
                [self.program, "--id", name, "--members", self.directory / "members.json", "--dram", "64MiB", "--ssd",
                 self.directory / name, "--ssd-size", "64MiB", "--transports", "tcp", "--ready-fd", str(write_end)],
                stdout=out, stderr=out, pass_fds=[write_end], preexec_fn=dies_with_parent)
        os.close(write_end)
        with os.fdopen(read_end, "rb", buffering=0) as ready:
            read_line(ready, START_S, name, log)

    def kill(self, name):
        self.running[name].kill()
        self.running[name].wait()


class Load:
    def __init__(self, build, directory, nodes):
        self.log = directory / "load.log"
        self.process = subprocess.Popen([build / "tests/cluster/cluster_load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=open(self.log, "ab"), bufsize=0, preexec_fn=dies_with_parent)
        # Without DURABLE pushes, which a restart would bring back.
        self.ask("open", nodes=list(nodes.controls.values()), seed=3, durable_every=0, log=str(directory / "acked.jsonl"))

    def ask(self, do, **arguments):
        self.process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        answer = json.loads(read_line(self.process.stdout, ANSWER_S, f"the load ({do})", self.log))
        assert answer["ok"], answer
        return answer

    def verify(self):
        return self.ask("verify", s=0.5)


def check(what, found, right):
    print(f"{what}: {found}")
    assert found == right, f"{what} must be {right}"


def story(build, directory):
    nodes = Nodes(build, directory)
    for name in nodes.controls:
        nodes.start(name)
    load = Load(build, directory, nodes)
    load.ask("prefill", prompts=32)
    clean = load.verify()
    check("clean store", (clean["held"], clean["wrong"], clean["lost"]), (32 * 8, 0, 0))
    log = (directory / "acked.jsonl").read_text().splitlines()
    check("lines of the log of acks", len(log), 32 * 8)
    check("its first line's keys", sorted(json.loads(log[0])), ["block", "level", "ms", "prompt"])
    copies = load.ask("copies", nodes=list(nodes.controls.values()), wanted=2)
    check("copies", copies["copies"], {"2": copies["blocks"]})

    load.ask("plant", what="wrong")
    load.ask("plant", what="lost")
    planted = load.verify()
    check("one wrong bit and one lost block planted", (planted["wrong"], planted["lost"]), (1, 1))
    assert planted["examples"][0].startswith("LOST: prompt 33 block 7 acked REPLICATED"), planted["examples"]
    examples = load.ask("stats")["figures"]["examples"]
    assert any(text.startswith("WRONG BYTES in prompt 32: block 7 layer ") for text in examples), examples
    copies = load.ask("copies", nodes=list(nodes.controls.values()), wanted=2)
    check("copies of the one that nobody pushed", copies["copies"]["0"], 1)

    nodes.kill("n1")
    check("one of two nodes killed: lost", load.verify()["lost"], 1)
    nodes.kill("n2")
    nodes.start("n1")
    nodes.start("n2")
    gone = load.verify()
    check("both killed: lost of checked", (gone["lost"], gone["checked"]), (32 * 8 + 2, 32 * 8 + 2))
    load.process.stdin.close()
    check("the load's exit status", load.process.wait(ANSWER_S), 0)
    for name in nodes.running:
        nodes.kill(name)


def main(build):
    for attempt in range(ATTEMPTS):
        try:
            with tempfile.TemporaryDirectory() as directory:
                story(build, pathlib.Path(directory))
            return 0
        except Exception as trouble:  # a port taken by somebody else meanwhile: others are tried
            if "is in use" not in str(trouble) or attempt + 1 == ATTEMPTS:
                raise
    return 1


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
