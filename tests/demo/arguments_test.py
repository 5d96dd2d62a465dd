# SPDX-License-Identifier: Apache-2.0
"""Goal: what a user gets wrong is refused before anything starts, with cause and next step. Method: demo.py as a process,
its exit status and its last words."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

DEMO = pathlib.Path(__file__).with_name("demo.py")


def run(*arguments, build="."):
    done = subprocess.run([sys.executable, str(DEMO), "--build", str(build), *map(str, arguments)], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


class ArgumentsTest(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.directory = pathlib.Path(holder.name)

    def refused(self, text, *words):
        prompt = self.directory / "prompt.txt"
        prompt.write_bytes(text)
        status, said = run("--prompt", prompt)
        self.assertEqual(status, 2, said)
        for word in words:
            self.assertIn(word, said)

    def test_an_empty_prompt(self):
        self.refused(b"", "0 bytes", "Give a text of")

    def test_a_prompt_larger_than_the_context(self):
        self.refused(b"x" * 5000, "5000 bytes", "context is 4096", "head -c")

    def test_a_prompt_too_short_to_spread(self):
        self.refused(b"x" * 200, "200 bytes", "512 bytes or more")

    def test_a_prompt_that_is_not_there(self):
        status, said = run("--prompt", self.directory / "none")
        self.assertEqual(status, 2, said)
        self.assertIn("No such file", said)

    def test_an_unknown_flag(self):
        status, said = run("--wrong")
        self.assertEqual(status, 2, said)
        self.assertIn("--wrong", said)

    def test_members_that_are_neither(self):
        status, said = run("--members", "zookeeper")
        self.assertEqual(status, 2, said)
        self.assertIn("'static', 'etcd'", said)

    def test_programs_that_are_not_built(self):
        status, said = run(build=self.directory)
        self.assertEqual(status, 1, said)
        self.assertIn("./run demo", said)

    def test_a_node_that_does_not_start(self):
        for program, script in (("deploy/kvasird", "echo kvasird: the disk is on fire; exit 1"), ("deploy/kvasir", "exit 1"),
                                ("tests/demo/demo_engine", "exit 1")):
            path = self.directory / program
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)
        status, said = run(build=self.directory)
        self.assertEqual(status, 1, said)
        self.assertIn("node-1", said)
        self.assertIn("the disk is on fire", said)


if __name__ == "__main__":
    unittest.main()
