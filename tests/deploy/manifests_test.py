# SPDX-License-Identifier: Apache-2.0
"""Goal: nothing in a manifest is only believed. Method: the committed renders are what kustomize makes; every selector, port and
path leads somewhere; the real kvasird parses every command line and says what it understood.

pods_test.py runs the same pods. Usage: manifests_test.py BUILD [unittest arguments]
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.deploy import manifests  # noqa: E402

BUILD = pathlib.Path()
LAST_CALLS_S = 1      # kLastCalls of deploy/kvasird/serve.cc: answers under way, after the drain
DRAIN_MARGIN_S = 10   # destructors, the disk's last write
DISK_SHARE_MAX = 0.95  # of a volume, for blocks: the index and the file system need the rest
POD = {"name": "kvasir-1", "ip": "10.244.0.2"}


def each_render(test):
    for name in manifests.kustomizations():
        with test.subTest(render=name):
            yield name, manifests.load(name)


def stores(objects):
    return [one for one in manifests.workloads(objects) if one["metadata"]["name"] == "kvasir"]


def container_of(workload):
    return workload["spec"]["template"]["spec"]["containers"][0]


def pod_of(workload):
    return {**POD, "labels": {**workload["spec"]["template"]["metadata"]["labels"], "topology.kubernetes.io/zone": "zone-a"}}


class RendersTest(unittest.TestCase):
    def test_committed_renders_are_what_kustomize_makes(self):
        kubectl = shutil.which("kubectl")
        version = kubectl and manifests.kubectl_version(kubectl)
        if not version or version < manifests.KUBECTL_MIN:
            self.skipTest(f"kubectl 1.{manifests.KUBECTL_MIN[1]} or newer is not here: renders are compared by ./run k8s")
        for name, objects in each_render(self):
            rendered = manifests.parse(manifests.render(kubectl, manifests.kustomizations()[name]))
            self.assertEqual(rendered, objects, f"{manifests.golden(name)} is old; write it again with: ./run k8s --update")

    def test_every_component_is_in_a_render(self):
        used = set()
        folders = list(manifests.kustomizations().values())
        while folders:
            text = (folders.pop() / "kustomization.yaml").read_text()
            used.update(re.findall(r"components/([\w-]+)", text))
        self.assertEqual(used, {folder.name for folder in (manifests.KUBERNETES / "components").iterdir()})


class DocumentTest(unittest.TestCase):
    """deploy/kubernetes/README.md against what it describes."""

    TEXT = (manifests.KUBERNETES / "README.md").read_text()

    def test_its_settings_are_those_of_the_base(self):
        base = (manifests.KUBERNETES / "base/statefulset.yaml").read_text()
        flags = {name: flag for flag, name in re.findall(r"- --([\w-]+)=\$\((\w+)\)", base)}
        rows = dict(re.findall(r"^\| `([A-Z_]+)` \| `--([\w-]+)` \|", self.TEXT, re.M))
        kept = next(one for one in manifests.of_kind(manifests.load("quickstart"), "ConfigMap") if "settings" in one["metadata"]["name"])
        self.assertEqual(set(rows), set(kept["data"]))
        self.assertEqual(rows, {name: flags[name] for name in rows})

    def test_it_names_every_component_and_overlay(self):
        for folder in [*(manifests.KUBERNETES / "components").iterdir(), *(manifests.KUBERNETES / "overlays").iterdir()]:
            self.assertRegex(self.TEXT, rf"\| `(overlays/)?{folder.name}` \|")

    def test_its_ports_are_those_of_the_pods(self):
        rows = {name: int(port) for port, name in re.findall(r"^\| (\d+)[^|]*\| (\w+) \|", self.TEXT, re.M)}
        ports = container_of(stores(manifests.load("production"))[0])["ports"]
        self.assertEqual(rows, {one["name"]: one["containerPort"] for one in ports})


class ObjectsTest(unittest.TestCase):
    """What the API server does not check: that names and ports lead to something."""

    def test_restricted_pod_security(self):
        for _, objects in each_render(self):
            for workload in manifests.workloads(objects):
                spec, context = workload["spec"]["template"]["spec"], workload["spec"]["template"]["spec"]["securityContext"]
                self.assertTrue(context["runAsNonRoot"])
                self.assertGreater(context["runAsUser"], 0)
                self.assertEqual(context["seccompProfile"], {"type": "RuntimeDefault"})
                self.assertIs(spec["automountServiceAccountToken"], False)
                for forbidden in ("hostNetwork", "hostPID", "hostIPC"):
                    self.assertNotIn(forbidden, spec)
                self.assertFalse([one for one in spec.get("volumes", []) if "hostPath" in one])
                for container in spec["containers"]:
                    self.assertEqual(container["securityContext"], {
                        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}})

    def test_selectors_and_ports_lead_to_pods(self):
        for _, objects in each_render(self):
            pods = [one["spec"]["template"] for one in manifests.workloads(objects)]
            for kind in ("Service", "PodDisruptionBudget", "NetworkPolicy", "PodMonitor"):
                for one in manifests.of_kind(objects, kind):
                    selector = one["spec"].get("selector") or one["spec"].get("podSelector")
                    chosen = [pod for pod in pods if manifests.matches(selector, pod["metadata"]["labels"])]
                    self.assertEqual(len(chosen), 1, f"{kind} {one['metadata']['name']} selects one kind of pod")
                    named = {port["name"] for port in chosen[0]["spec"]["containers"][0]["ports"]}
                    asked = [port["targetPort"] for port in one["spec"].get("ports", [])]
                    asked += [port["port"] for rule in one["spec"].get("ingress", []) for port in rule.get("ports", [])]
                    asked += [end["port"] for end in one["spec"].get("podMetricsEndpoints", [])]
                    self.assertLessEqual({port for port in asked if isinstance(port, str)}, named)

    def test_every_pod_is_behind_policies_of_both_directions_and_a_budget(self):
        for _, objects in each_render(self):
            for workload in manifests.workloads(objects):
                labels = workload["spec"]["template"]["metadata"]["labels"]
                self.assertEqual(workload["spec"]["selector"]["matchLabels"].items() - labels.items(), set())
                types = {one for policy in manifests.of_kind(objects, "NetworkPolicy")
                         if manifests.matches(policy["spec"]["podSelector"], labels) for one in policy["spec"]["policyTypes"]}
                self.assertEqual(types, {"Ingress", "Egress"})
                budgets = [one for one in manifests.of_kind(objects, "PodDisruptionBudget")
                           if manifests.matches(one["spec"]["selector"], labels)]
                self.assertEqual([one["spec"]["maxUnavailable"] for one in budgets], [1])

    def test_stateful_sets_have_their_headless_service(self):
        for _, objects in each_render(self):
            for workload in manifests.of_kind(objects, "StatefulSet"):
                service = manifests.find(objects, "Service", workload["spec"]["serviceName"])["spec"]
                self.assertEqual((service["clusterIP"], service["publishNotReadyAddresses"]), ("None", True))

    def test_etcd_addresses_name_its_members(self):
        for _, objects in each_render(self):
            for etcd in [one for one in manifests.workloads(objects) if one["metadata"]["name"] == "kvasir-etcd"]:
                names = [f"kvasir-etcd-{index}" for index in range(etcd["spec"]["replicas"])]
                words = container_of(etcd)["args"]
                self.assertEqual(manifests.flag(words, "initial-cluster"),
                                 ",".join(f"{name}=http://{name}.kvasir-etcd:2380" for name in names))
                members = manifests.flag(manifests.arguments(objects, container_of(stores(objects)[0]), pod_of(stores(objects)[0])),
                                         "members")
                self.assertEqual(members, "etcd:" + ",".join(f"http://{name}.kvasir-etcd:2379" for name in names))


class CommandLinesTest(unittest.TestCase):
    """kvasird --check with each render's arguments, paths moved into a folder of the test."""

    def check(self, objects, workload, changed=()):
        """The effective configuration, or what it complained about."""
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        container = container_of(workload)
        words = manifests.arguments(objects, container, pod_of(workload))
        volumes = {one["name"]: one for one in workload["spec"]["template"]["spec"].get("volumes", [])}
        for mount in container["volumeMounts"]:
            here = os.path.join(holder.name, mount["name"])
            os.mkdir(here)
            words = [word.replace(mount["mountPath"], here) for word in words]
            if "configMap" in volumes.get(mount["name"], {}):
                data = manifests.find(objects, "ConfigMap", volumes[mount["name"]]["configMap"]["name"])["data"]
                for file, text in data.items():
                    pathlib.Path(here, file).write_text(text)
        names = [word.split("=")[0] for word in changed]
        words = [word for word in words if word.split("=")[0] not in names]
        done = subprocess.run([BUILD / "deploy/kvasird", *words, *changed, "--check"], capture_output=True, text=True, timeout=60)
        lines = dict(line.split(" = ", 1) for line in done.stdout.splitlines())
        return done.returncode, lines, done.stderr

    def understood(self, objects, workload):
        """The configuration. A size that this machine does not have must be refused with both numbers, huge pages that it does not
        have by name; then less holds."""
        status, lines, error = self.check(objects, workload)
        dram = manifests.flag(manifests.arguments(objects, container_of(workload), pod_of(workload)), "dram")
        if status == 2 and dram != "auto" and re.search(r"--dram .*\(\d+ bytes\) is more than .*\(\d+ bytes\)", error):
            status, lines, error = self.check(objects, workload, ["--dram=64MiB"])
        if status == 2 and error.startswith("kvasird: --huge-pages, but "):
            status, lines, error = self.check(objects, workload, ["--dram=64MiB", "--huge-pages=false"])
        self.assertEqual((status, error), (0, ""))
        return lines

    def test_what_is_understood_is_what_the_manifest_says(self):
        for _, objects in each_render(self):
            for workload in stores(objects):
                lines = self.understood(objects, workload)
                ports = {one["name"]: one["containerPort"] for one in container_of(workload)["ports"]}
                self.assertEqual(lines["id"], POD["name"])
                self.assertEqual(lines["listen"], f"0.0.0.0:{ports['grpc']}")
                self.assertEqual(lines["http"], f"0.0.0.0:{ports['http']}")
                self.assertEqual(lines["data-host"], POD["ip"])
                self.assertEqual(lines["data-port"], str(ports["data"]))
                if manifests.flag(container_of(workload)["args"], "cluster"):
                    self.assertEqual((lines["cluster"], lines["zone"], lines["advertise"]), ("kvasir", "zone-a", f"{POD['ip']}:7070"))

    def test_data_ports_of_all_shards_pass_the_policy(self):
        for _, objects in each_render(self):
            for workload in stores(objects):
                lines = self.understood(objects, workload)
                first, last = int(lines["data-port"]), int(lines["data-port"]) + int(lines["shards"]) - 1
                rules = manifests.find(objects, "NetworkPolicy", "kvasir")["spec"]
                for rule in (rules["ingress"][0], rules["egress"][0]):
                    ranges = [(one["port"], one["endPort"]) for one in rule["ports"] if "endPort" in one]
                    self.assertTrue([one for one in ranges if one[0] <= first and last <= one[1]], (first, last, ranges))

    def test_a_drain_fits_into_the_grace_period(self):
        for _, objects in each_render(self):
            for workload in stores(objects):
                spec = workload["spec"]["template"]["spec"]
                drain_s = int(self.understood(objects, workload)["drain-wait"].removesuffix("ms")) / 1000
                before_s = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
                self.assertGreaterEqual(spec["terminationGracePeriodSeconds"], before_s + drain_s + LAST_CALLS_S + DRAIN_MARGIN_S)

    def test_the_ssd_tier_fits_its_volume(self):
        for _, objects in each_render(self):
            for workload in stores(objects):
                ssd_bytes = int(self.understood(objects, workload)["ssd-size"])
                claims = {one["metadata"]["name"]: one["spec"]["resources"]["requests"]["storage"]
                          for one in workload["spec"].get("volumeClaimTemplates", [])}
                room = [one["emptyDir"]["sizeLimit"] for one in workload["spec"]["template"]["spec"].get("volumes", [])
                        if one["name"] == "data"] or [claims["data"]]
                self.assertLessEqual(ssd_bytes, DISK_SHARE_MAX * manifests.quantity(room[0]))

    def test_written_paths_are_on_a_writable_volume(self):
        for _, objects in each_render(self):
            for workload in stores(objects):
                container = container_of(workload)
                words = manifests.arguments(objects, container, pod_of(workload))
                writable = [one["mountPath"] for one in container["volumeMounts"] if not one.get("readOnly")]
                for name in ("ssd", "state"):
                    path = manifests.flag(words, name)
                    self.assertTrue([one for one in writable if path.startswith(one + "/")], path)

    def test_an_unknown_zone_is_no_obstacle(self):
        """Before Kubernetes 1.35 the label is not there, and the variable is empty."""
        objects = manifests.load("production")
        status, lines, error = self.check(objects, stores(objects)[0], ["--zone="])
        self.assertEqual((status, error), (0, ""))
        self.assertEqual(lines["zone"], "")

    def test_a_mistake_would_be_found(self):
        """The other tests mean something: a flag that kvasird does not have, and a value that it refuses."""
        objects = manifests.load("production")
        for wrong, says in ((["--data-prot=7080"], "--data-prot"), (["--dram=much"], "--dram"), (["--drain-wait=20"], "--drain-wait")):
            status, _, error = self.check(objects, stores(objects)[0], wrong)
            self.assertEqual(status, 2)
            self.assertIn(says, error)


if __name__ == "__main__":
    BUILD = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main()
