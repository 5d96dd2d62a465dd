# SPDX-License-Identifier: Apache-2.0
"""Goal: the image holds what it needs and nothing else, although no engine builds it here. Method: the Dockerfile is read; every file
that it copies is there and in the context; the copied tree configures; the folder that its last stage copies is assembled
by the same script, and the programs run in it, alone, as the image's user.

Usage: container_test.py BUILD [unittest arguments]
"""
import os
import pathlib
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.deploy import manifests  # noqa: E402

BUILD = pathlib.Path()
CONTAINER = manifests.ROOT / "deploy/container"
PROGRAMS = {"usr/bin/kvasird", "usr/bin/kvasir"}


def instructions(text):
    """(word, rest) of each instruction, continued lines joined, comments left out."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in joined.splitlines()]


def stages():
    """The instructions of each FROM, it first."""
    out = []
    for word, rest in instructions((CONTAINER / "Dockerfile").read_text()):
        if word == "FROM":
            out.append([])
        out[-1].append((word, rest))
    return out


def copied(stage):
    """(sources, destination) of what comes from the context."""
    words = [shlex.split(rest) for word, rest in stage if word in ("COPY", "ADD")]
    return [(one[:-1], one[-1]) for one in words if not one[0].startswith("--from")]


class DockerfileTest(unittest.TestCase):
    def setUp(self):
        self.build, self.last = stages()
        self.of = {word: rest for word, rest in self.last}

    def test_what_is_copied_is_there_and_in_the_context(self):
        ignore = [line for line in (manifests.ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
        self.assertEqual(ignore[0], "*")
        let_in = {line.removeprefix("!") for line in ignore[1:]}
        sources = {source for some, _ in copied(self.build) for source in some}
        self.assertEqual(sources, let_in)
        for source in sources:
            self.assertTrue((manifests.ROOT / source).exists(), source)

    def test_what_is_copied_configures(self):
        """A folder that CMake asks for and the image's build does not have would only show in an engine."""
        with tempfile.TemporaryDirectory() as holder:
            for sources, destination in copied(self.build):
                target = pathlib.Path(holder + destination)
                for source in [manifests.ROOT / one for one in sources]:
                    if source.is_dir():
                        shutil.copytree(source, target)
                    else:
                        target.mkdir(parents=True, exist_ok=True)
                        shutil.copy(source, target)
            command = next(rest for word, rest in self.build if word == "RUN" and rest.startswith("cmake"))
            configure = shlex.split(command.split("&&")[0])
            done = subprocess.run(configure, cwd=holder + "/src", capture_output=True, text=True, timeout=300)
            self.assertEqual(done.returncode, 0, done.stderr)
            ninja = shlex.split(command.split("&&")[1])
            done = subprocess.run([*ninja, "-n"], cwd=holder + "/src", capture_output=True, text=True, timeout=300)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertTrue(os.access(holder + "/src/run", os.X_OK))

    def test_it_runs_as_the_user_the_manifests_name(self):
        user, group = self.of["USER"].split(":")
        context = manifests.find(manifests.load("quickstart"), "StatefulSet", "kvasir")["spec"]["template"]["spec"]["securityContext"]
        self.assertEqual((int(user), int(group)), (context["runAsUser"], context["runAsGroup"]))
        self.assertEqual(self.last[0], ("FROM", "scratch"))

    def test_its_ports_are_those_of_the_manifests(self):
        container = manifests.find(manifests.load("quickstart"), "StatefulSet", "kvasir")["spec"]["template"]["spec"]["containers"][0]
        self.assertEqual({int(port) for port in self.of["EXPOSE"].split()}, {one["containerPort"] for one in container["ports"]})

    def test_one_version_everywhere(self):
        said = subprocess.run([BUILD / "deploy/kvasird", "--version"], capture_output=True, text=True, timeout=60).stdout.split()[1]
        label = re.search(r'image\.version="([^"]+)"', self.of["LABEL"])[1]
        container = manifests.find(manifests.load("production"), "StatefulSet", "kvasir")["spec"]["template"]["spec"]["containers"][0]
        self.assertEqual((label, container["image"]), (said, f"kvasir:{said}"))


class ImageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        holder = tempfile.TemporaryDirectory(prefix="kvasir-image-")
        cls.addClassCleanup(holder.cleanup)
        cls.root = pathlib.Path(holder.name) / "image"
        done = subprocess.run([CONTAINER / "assemble.sh", BUILD, cls.root], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr

    def test_the_list_of_libraries_is_what_the_linker_says(self):
        """assemble.sh would have refused; this shows the difference."""
        said = subprocess.run([CONTAINER / "assemble.sh", "--list", BUILD], capture_output=True, text=True, timeout=60, check=True)
        self.assertEqual(said.stdout.split(), (CONTAINER / "libraries.txt").read_text().split())

    def test_it_holds_two_programs_and_libraries(self):
        programs, libraries = set(), set()
        for path in self.root.rglob("*"):
            mode = path.lstat().st_mode
            self.assertFalse(mode & (stat.S_ISUID | stat.S_ISGID) and not stat.S_ISDIR(mode), path)
            if not stat.S_ISREG(mode):
                continue
            begin = path.read_bytes()[:4]
            self.assertNotEqual(begin[:2], b"#!", path)
            if begin == b"\x7fELF":
                (libraries if ".so" in path.name else programs).add(str(path.relative_to(self.root)))
        self.assertEqual(programs, PROGRAMS)
        names = {pathlib.Path(one).name for one in libraries if "ld-linux" not in one}
        self.assertEqual(names, set((CONTAINER / "libraries.txt").read_text().split()))

    def test_every_package_has_its_licence_and_its_record(self):
        records = {path.name for path in (self.root / "var/lib/dpkg/status.d").iterdir()}
        licences = {path.name for path in (self.root / "usr/share/doc").iterdir() if (path / "copyright").is_file()}
        self.assertEqual(licences, records | {"kvasir"})
        for name in records:
            text = (self.root / "var/lib/dpkg/status.d" / name).read_text()
            self.assertRegex(text, rf"(?s)^Package: {re.escape(name)}\n.*^Version: |^Package: {re.escape(name)}\n")

    def test_the_programs_run_in_it_as_its_user(self):
        if os.geteuid() != 0:
            self.skipTest("only root may change the root directory")
        for words in (["/usr/bin/kvasird", "--version"], ["/usr/bin/kvasird", "--check", "--dram", "64MiB"], ["/usr/bin/kvasir", "version"]):
            done = subprocess.run(["chroot", "--userspec=65532:65532", self.root, *words], capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    BUILD = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main()
