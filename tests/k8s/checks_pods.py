# SPDX-License-Identifier: Apache-2.0
"""The pods of production, really run: three of the etcd version that the render names and three kvasird, each under the limits
of Pod Security "restricted". What no simulated machine shows; tests/deploy/pods_test.py does it."""
import re
import subprocess
import sys

from tests.deploy import manifests
from tests.k8s.checks_store import equal
from tests.k8s.kube import Failed, Skipped

RUN_S = 600


def etcd_is_of_the_rendered_version(kube):
    """the etcd that is tried is of the version that the render names"""
    said = subprocess.run([kube.bin / "etcd", "--version"], capture_output=True, text=True, timeout=60).stdout
    etcd = manifests.find(manifests.load("production"), "StatefulSet", "kvasir-etcd")
    image = etcd["spec"]["template"]["spec"]["containers"][0]["image"]
    equal(image.rsplit(":v", 1)[1], re.search(r"etcd Version: (\S+)", said)[1])


def production_pods_really_run(kube):
    """three etcd and three kvasird run as rendered: probes, blocks on two nodes, one etcd killed, a drain each"""
    test = [sys.executable, manifests.ROOT / "tests/deploy/pods_test.py", kube.programs, "--etcd", kube.bin / "etcd", "-v", "ProductionTest"]
    done = subprocess.run(test, capture_output=True, text=True, timeout=RUN_S)
    skipped = re.search(r"skipped ['\"](.*)['\"]", done.stderr)
    if skipped:
        raise Skipped(skipped[1])
    if done.returncode != 0:
        raise Failed("\n".join(done.stderr.splitlines()[-30:]))


GROUPS = [("pods", [etcd_is_of_the_rendered_version, production_pods_really_run])]
