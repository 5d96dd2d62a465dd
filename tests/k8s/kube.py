# SPDX-License-Identifier: Apache-2.0
"""The control plane as checks meet it: built once, started empty, asked through kubectl.

Waits are kubectl's own, or questions asked again until they are answered right; every one has an end.
"""
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
GO_MIN = (1, 26)
WAIT_S = 90          # a step of the cluster; KWOK takes about a second
BUILD_S = 3 * 3600   # 12 to 41 minutes of processor time, shared with others
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok", "kubectl", "helm")


class Failed(Exception):
    """A check does not hold, and why."""


class Skipped(Exception):
    """A check cannot be made here, and why."""


class CannotBegin(Exception):
    """Nothing can be checked here, and what to do."""


def say(text):
    print(f"== {text}", file=sys.stderr, flush=True)


class ControlPlane:
    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.bin = self.directory / "bin"
        self.kubectl = self.bin / "kubectl"
        self.script = HERE / "control-plane"

    # ---- programs ----------------------------------------------------------------------------------------------------
    def build(self):
        """Compiles what is not there yet, or was made from other versions."""
        stamp = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in ("go.mod", "go.sum", "control-plane"))).hexdigest()
        kept = self.directory / "stamp"
        if kept.is_file() and kept.read_text() == stamp and all((self.bin / name).is_file() for name in PROGRAMS):
            return
        self.require_go()
        self.directory.mkdir(parents=True, exist_ok=True)
        log = self.directory / "build.log"
        say(f"building the control plane in {self.bin}, once: 12 minutes to an hour; its log: {log}")
        began = time.monotonic()
        with open(log, "wb") as out:
            done = subprocess.run(["nice", "-n", "19", self.script, "build", self.directory], stdout=out, stderr=out, timeout=BUILD_S)
        if done.returncode != 0:
            raise CannotBegin(f"the control plane does not build. The end of {log}:\n" + "\n".join(log.read_text().splitlines()[-10:]))
        kept.write_text(stamp)
        say(f"built in {(time.monotonic() - began) / 60:.0f} minutes")

    @staticmethod
    def require_go():
        go = shutil.which("go")
        said = subprocess.run([go, "version"], capture_output=True, text=True, timeout=60).stdout if go else ""
        found = re.search(r"go(\d+)\.(\d+)", said)
        if not found or (int(found[1]), int(found[2])) < GO_MIN:
            raise CannotBegin(f"the control plane is built with Go 1.{GO_MIN[1]} or newer, and {said.strip() or 'there is no go in PATH'}. "
                              "Install it from https://go.dev/dl and put it in PATH")

    def up(self):
        done = subprocess.run([self.script, "up", self.directory], capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            raise CannotBegin(f"the control plane does not start: {done.stderr.strip()}")

    def down(self):
        subprocess.run([self.script, "down", self.directory], capture_output=True, timeout=300)

    # ---- questions ---------------------------------------------------------------------------------------------------
    def try_run(self, *words, stdin=None, timeout=WAIT_S * 2):
        """kubectl, whatever it answers: the finished process."""
        environment = {**os.environ, "KUBECONFIG": str(self.directory / "run/admin.kubeconfig")}
        return subprocess.run([str(self.kubectl), *map(str, words)], input=stdin, capture_output=True, text=True, timeout=timeout,
                              env=environment)

    def run(self, *words, stdin=None, timeout=WAIT_S * 2):
        """kubectl's stdout; Failed with its words when it does not succeed."""
        done = self.try_run(*words, stdin=stdin, timeout=timeout)
        if done.returncode != 0:
            raise Failed(f"kubectl {' '.join(map(str, words))}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def json(self, *words):
        return json.loads(self.run(*words, "-o", "json"))

    def refused(self, reason, *words, stdin=None, timeout=WAIT_S * 2):
        """kubectl must fail and say `reason`."""
        done = self.try_run(*words, stdin=stdin, timeout=timeout)
        if done.returncode == 0:
            raise Failed(f"accepted: kubectl {' '.join(map(str, words))}")
        if reason not in done.stderr + done.stdout:
            raise Failed(f"refused, but not for \"{reason}\": {done.stderr.strip()}")

    def apply(self, folder, *words):
        """A kustomization, by server-side apply with strict validation; a warning (of Pod Security, of an old API) fails it."""
        done = self.try_run("apply", "--server-side", "--force-conflicts", "--validate=strict", "-k", folder, *words)
        if done.returncode != 0 or "Warning" in done.stderr:
            raise Failed(f"apply -k {folder}: {done.stderr.strip()}")

    def wait(self, what, condition, seconds=WAIT_S, namespace="kvasir"):
        """Also for what is not there yet: who made its owner is answered before it is made."""
        for state in ("create", condition):
            self.run("-n", namespace, "wait", what, f"--for={state}", f"--timeout={seconds}s", timeout=seconds + 30)

    @staticmethod
    def until_equal(wanted, question, seconds=WAIT_S):
        """Asks again until the answer is `wanted`; Failed with the last answer."""
        end = time.monotonic() + seconds
        while (seen := question()) != wanted:
            if time.monotonic() > end:
                raise Failed(f"not within {seconds} s: {wanted}; it was: {seen}")

    def pods(self, name="kvasir", namespace="kvasir"):
        """Pods of a workload, by name."""
        items = self.json("-n", namespace, "get", "pods", "-l", f"app.kubernetes.io/name={name}")["items"]
        return {one["metadata"]["name"]: one for one in items}

    def machines(self, name="kvasir", namespace="kvasir"):
        """Pod to the machine it is bound to; None where it waits."""
        return {pod: one["spec"].get("nodeName") for pod, one in self.pods(name, namespace).items()}

    def ready(self, count, name="kvasir"):
        """That many pods of a StatefulSet are ready, of its newest revision, and no other is there."""
        self.run("-n", "kvasir", "rollout", "status", f"statefulset/{name}", f"--timeout={WAIT_S * 2}s")
        self.wait(f"statefulset/{name}", f"jsonpath={{.status.readyReplicas}}={count}")
        self.until_equal(count, lambda: len(self.machines(name)))

    def endpoints(self, service):
        """Pods that a Service names as ready."""
        slices = self.json("-n", "kvasir", "get", "endpointslices", "-l", f"kubernetes.io/service-name={service}")["items"]
        return sorted(end["targetRef"]["name"] for one in slices for end in one.get("endpoints") or [] if end["conditions"]["ready"])

    def clear(self):
        """Back to empty machines: the namespaces of the checks, and the disks of pods that are gone."""
        self.run("delete", "namespace", "kvasir", "engines", "--ignore-not-found", f"--timeout={WAIT_S}s")
        self.run("delete", "persistentvolume", "-l", "disk=local", "--ignore-not-found", f"--timeout={WAIT_S}s")
        for node in self.json("get", "nodes")["items"]:
            if node["spec"].get("unschedulable"):
                self.run("uncordon", node["metadata"]["name"])
