# SPDX-License-Identifier: Apache-2.0
"""Goal: the unit starts the real kvasird with flags that it takes, and confines it without hindering it. Method: systemd's own checker;
the command line parsed by kvasird --check; a node that stores and drains under the unit's system call filter.

Usage: systemd_test.py BUILD [unittest arguments]
"""
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.deploy import manifests  # noqa: E402
from tests.deploy import pod as pods  # noqa: E402

BUILD = pathlib.Path()
FOLDER = manifests.ROOT / "deploy/systemd"
LAST_CALLS_S, DRAIN_MARGIN_S = 1, 10  # as in manifests_test.py
EXPOSURE_MAX = 2.0  # what `systemd-analyze security` says, of 10
NUMBERS = pathlib.Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")


def settings():
    """Name to the list of values in the unit."""
    out = {}
    for line in (FOLDER / "kvasird.service").read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, value = line.split("=", 1)
            out.setdefault(name, []).append(value)
    return out


def example_flags():
    """KVASIRD_FLAGS of the unit's comment."""
    return shlex.split(re.search(r"^#\s+KVASIRD_FLAGS=(.*)$", (FOLDER / "kvasird.service").read_text(), re.M)[1])


class UnitTest(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory(prefix="kvasir-unit-")
        self.addCleanup(holder.cleanup)
        self.directory = pathlib.Path(holder.name)

    def analyze(self, *words):
        if not shutil.which("systemd-analyze"):
            self.skipTest("systemd-analyze is not here (Debian: systemd)")
        return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, timeout=60)

    def command(self):
        """The words of ExecStart with the comment's flags, in folders of this test."""
        (self.directory / "members.json").write_text('{"members": [{"id": "a", "control": "127.0.0.1:7070"}]}')
        words = []
        for word in shlex.split(settings()["ExecStart"][0])[1:]:
            words += example_flags() if word == "$KVASIRD_FLAGS" else [word]
        moved = [word.replace("/etc/kvasir", str(self.directory)).replace("/var/lib/kvasir", str(self.directory)) for word in words]
        return [BUILD / "deploy/kvasird", *moved]

    def test_systemd_finds_nothing_wrong(self):
        unit = (FOLDER / "kvasird.service").read_text().replace("/usr/bin/kvasird", str(BUILD / "deploy/kvasird"))
        (self.directory / "kvasird.service").write_text(unit)
        done = self.analyze("verify", "--man=no", str(self.directory / "kvasird.service"))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        done = self.analyze("security", "--offline=true", f"--threshold={EXPOSURE_MAX * 10:.0f}", str(self.directory / "kvasird.service"))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_the_user_is_made(self):
        if not shutil.which("systemd-sysusers"):
            self.skipTest("systemd-sysusers is not here (Debian: systemd)")
        (self.directory / "etc").mkdir()
        done = subprocess.run(["systemd-sysusers", f"--root={self.directory}", FOLDER / "kvasir.sysusers.conf"], capture_output=True,
                              text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        users = (self.directory / "etc/passwd").read_text()
        self.assertRegex(users, rf"(?m)^{settings()['User'][0]}:")

    def test_kvasird_takes_the_command_line(self):
        done = subprocess.run([*self.command(), "--check"], capture_output=True, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        lines = dict(line.split(" = ", 1) for line in done.stdout.splitlines())
        drain_s = int(lines["drain-wait"].removesuffix("ms")) / 1000
        self.assertGreaterEqual(int(settings()["TimeoutStopSec"][0]), drain_s + LAST_CALLS_S + DRAIN_MARGIN_S)
        self.assertEqual(settings()["RestartPreventExitStatus"], ["2"])

    def allowed_numbers(self):
        """System calls that the unit's filter lets through, and what every process needs to begin and end."""
        groups, name = {}, None
        for line in self.analyze("syscall-filter").stdout.splitlines():
            if line.startswith("@"):
                name = line.strip()
            elif name and line.startswith(" ") and not line.strip().startswith("#"):
                groups.setdefault(name, []).append(line.strip())
        self.assertIn("@default", groups)
        todo, names = ["@default", *settings()["SystemCallFilter"]], set()
        while todo:
            one = todo.pop()
            (todo.extend if one.startswith("@") else names.add)(groups[one] if one.startswith("@") else one)
        return [int(number) for call, number in re.findall(r"#define __NR_(\w+) (\d+)", NUMBERS.read_text()) if call in names]

    def test_a_node_stores_and_drains_under_the_filter(self):
        if not NUMBERS.is_file():
            self.skipTest(f"{NUMBERS} is not here: the filter is tried on x86-64 with the kernel's headers")
        numbers = self.allowed_numbers()

        def confine():
            pods.checked(pods.LIBC.prctl(pods.PR_SET_PDEATHSIG, signal.SIGKILL), "prctl")
            pods.checked(pods.LIBC.prctl(pods.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
            pods.filter_system_calls(pods.allow_only(numbers))

        ready, ready_end = os.pipe()
        words = [BUILD / "deploy/kvasird", "--id=a", "--listen=127.0.0.1:0", f"--ssd={self.directory}/ssd", "--ssd-size=256MiB",
                 "--dram=64MiB", f"--ready-fd={ready_end}"]
        with open(self.directory / "log", "wb") as log:
            node = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, preexec_fn=confine,
                                    pass_fds=[ready_end])
        self.addCleanup(node.kill)
        os.close(ready_end)
        with os.fdopen(ready) as stream:  # ends when the node says where it serves, or ends
            said = stream.read().split()
        self.assertEqual(said[:1], ["ready"], (self.directory / "log").read_text())
        client = [BUILD / "deploy/kvasir", "-o", "json", "--node", said[1]]
        done = subprocess.run([*client, "bench", "--durable", "--layers", "2", "--heads", "2", "--dim", "64", "--blocks", "8"],
                              capture_output=True, text=True, timeout=pods.START_S)
        self.assertEqual(done.returncode, 0, done.stderr)
        said = json.loads(done.stdout)
        self.assertEqual([said[phase]["failed"] + said[phase]["differing"] for phase in ("push", "fetch")], [0, 0])
        node.terminate()
        self.assertEqual(node.wait(60), 0, (self.directory / "log").read_text())


if __name__ == "__main__":
    BUILD = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main()
