# SPDX-License-Identifier: Apache-2.0
"""Checks of the renders, of quickstart and of production: applied, scaled, updated, drained. Each function is one check, its
docstring what must hold; they run in this order and build on each other within a group."""
import json
import pathlib
import tempfile

from tests.deploy import manifests
from tests.k8s.kube import Failed

OVERLAYS = manifests.KUBERNETES / "overlays"
ROOT_POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "root", "namespace": "kvasir"},
            "spec": {"containers": [{"name": "root", "image": "root", "securityContext": {"privileged": True}}]}}
DISK = """
apiVersion: v1
kind: PersistentVolume
metadata: {{name: disk-{node}, labels: {{disk: local}}}}
spec:
  capacity: {{storage: 894Gi}}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: kvasir-local
  local: {{path: /mnt/kvasir}}
  nodeAffinity: {{required: {{nodeSelectorTerms: [{{matchExpressions: [{{key: kubernetes.io/hostname, operator: In, values: [{node}]}}]}}]}}}}
---"""


def equal(seen, wanted):
    if seen != wanted:
        raise Failed(f"{seen}, not {wanted}")


def changed(overlay, text):
    """A kustomization on top of an overlay, as an operator would keep one; the holder keeps its folder."""
    holder = tempfile.TemporaryDirectory(dir=manifests.VARIANTS)
    path = pathlib.Path(holder.name)
    (path / "kustomization.yaml").write_text(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: kvasir\n"
        f"resources: [../../../../{overlay.relative_to(manifests.ROOT)}]\n{text}")
    return holder


def disks(kube):
    """One local disk on each machine, as a storage operator makes them."""
    nodes = [one["metadata"]["name"] for one in kube.json("get", "nodes")["items"]]
    kube.run("apply", "-f", "-", stdin="".join(DISK.format(node=node) for node in nodes))


# ---- renders ---------------------------------------------------------------------------------------------------------
def renders_are_committed(kube):
    """every render is what the repository holds"""
    for name, folder in manifests.kustomizations().items():
        text = manifests.with_header(folder, manifests.render(kube.kubectl, folder))
        if text != manifests.golden(name).read_text():
            raise Failed(f"{manifests.golden(name).relative_to(manifests.ROOT)} is old. Write it again with: ./run k8s --update")


# ---- quickstart ------------------------------------------------------------------------------------------------------
def quickstart_applies(kube):
    """quickstart is taken as it stands, without a warning; its namespace enforces "restricted\""""
    kube.apply(OVERLAYS / "quickstart")
    labels = kube.json("get", "namespace", "kvasir")["metadata"]["labels"]
    equal(labels["pod-security.kubernetes.io/enforce"], "restricted")


def quickstart_pods_run(kube):
    """three pods are ready, and are endpoints of the client Service"""
    kube.ready(3)
    kube.until_equal(["kvasir-0", "kvasir-1", "kvasir-2"], lambda: kube.endpoints("kvasir"))


def restricted_is_enforced(kube):
    """a privileged pod, and one that only lacks a seccomp profile, are refused in that namespace"""
    kube.refused("violates PodSecurity", "apply", "-f", "-", stdin=json.dumps(ROOT_POD))
    pod = next(iter(kube.pods().values()))
    spec = {"containers": pod["spec"]["containers"], "volumes": pod["spec"]["volumes"],
            "securityContext": {**pod["spec"]["securityContext"], "seccompProfile": {"type": "Unconfined"}}}
    kube.refused("seccompProfile", "apply", "-f", "-", stdin=json.dumps({**ROOT_POD, "spec": spec}))


def unknown_field_is_refused(kube):
    """a misspelt field is refused by strict validation"""
    text = manifests.golden("quickstart").read_text().replace("podManagementPolicy", "podManagmentPolicy")
    kube.refused("podManagmentPolicy", "apply", "--server-side", "--validate=strict", "--dry-run=server", "-f", "-", stdin=text)


def pods_have_no_token(kube):
    """no pod has a token of the API server"""
    for name, pod in kube.pods().items():
        found = [one["name"] for one in pod["spec"]["volumes"] if "projected" in one]
        if found:
            raise Failed(f"{name} mounts {found}")


def pods_know_their_zone(kube):
    """each pod carries its machine's zone, where --zone reads it"""
    zones = {one["metadata"]["name"]: one["metadata"]["labels"]["topology.kubernetes.io/zone"] for one in kube.json("get", "nodes")["items"]}
    for name, pod in kube.pods().items():
        equal((name, pod["metadata"]["labels"].get("topology.kubernetes.io/zone")), (name, zones[pod["spec"]["nodeName"]]))


def not_ready_is_named_by_the_headless_service_only(kube):
    """a pod that is not ready has a name for other nodes, and gets no clients"""
    never = {"pod-ready.stage.kwok.x-k8s.io/delay": "1h", "pod-ready.stage.kwok.x-k8s.io/jitter-delay": "1h"}
    kube.run("-n", "kvasir", "patch", "statefulset/kvasir", "--type=merge", "-p",
             json.dumps({"spec": {"template": {"metadata": {"annotations": never}}}}))
    kube.until_equal(["kvasir-0", "kvasir-1"], lambda: kube.endpoints("kvasir"))
    kube.until_equal(["kvasir-0", "kvasir-1", "kvasir-2"], lambda: kube.endpoints("kvasir-nodes"))


def quickstart_goes(kube):
    """deleting it leaves nothing"""
    kube.run("delete", "-k", OVERLAYS / "quickstart", "--timeout=90s")
    kube.refused("not found", "get", "namespace", "kvasir")


# ---- production ------------------------------------------------------------------------------------------------------
def production_applies(kube):
    """production is taken as it stands, dry and for real"""
    kube.apply(manifests.KUBERNETES / "namespace")
    kube.apply(OVERLAYS / "production", "--dry-run=server")
    kube.apply(OVERLAYS / "production")


def pods_wait_for_disks(kube):
    """without disks its pods wait; with one on each machine they run, each on another"""
    kube.wait("pod/kvasir-0", "jsonpath={.status.conditions[0].reason}=Unschedulable")
    disks(kube)
    kube.ready(3)
    equal(len(set(kube.machines().values())), 3)


def etcd_runs(kube):
    """three etcd members run, each on another machine"""
    kube.ready(3, "kvasir-etcd")
    equal(len(set(kube.machines("kvasir-etcd").values())), 3)


def production_pods_are_guaranteed(kube):
    """its pods have their memory and CPUs for themselves, and the priority of the store"""
    for name, pod in kube.pods().items():
        equal((name, pod["status"]["qosClass"], pod["spec"]["priority"]), (name, "Guaranteed", 100000))


def applied_again_changes_nothing(kube):
    """applied again, nothing changes"""
    kube.run("diff", "--server-side", "--force-conflicts", "-k", OVERLAYS / "production")


def scale_up(kube):
    """scaled to 4, the fourth takes the last machine and its disk"""
    kube.run("-n", "kvasir", "scale", "statefulset/kvasir", "--replicas=4")
    kube.ready(4)
    equal(len(set(kube.machines().values())), 4)


def scale_past_the_disks(kube):
    """scaled to 5, the fifth waits: no machine has a disk left"""
    kube.run("-n", "kvasir", "scale", "statefulset/kvasir", "--replicas=5")
    kube.wait("pod/kvasir-4", "jsonpath={.status.conditions[0].reason}=Unschedulable")
    equal(kube.machines()["kvasir-4"], None)


def scale_down(kube):
    """scaled to 3, the last two go; their claims, and the disks with the blocks, stay"""
    kube.run("-n", "kvasir", "scale", "statefulset/kvasir", "--replicas=3")
    kube.ready(3)
    claims = {one["metadata"]["name"]: one["status"]["phase"] for one in kube.json("-n", "kvasir", "get", "pvc")["items"]}
    equal(claims["data-kvasir-3"], "Bound")


def images(kube):
    return {name: pod["spec"]["containers"][0]["image"] for name, pod in kube.pods().items()}


def update_with_partition(kube):
    """with partition 2 a new image comes to kvasir-2 alone"""
    kube.run("-n", "kvasir", "patch", "statefulset/kvasir", "--type=strategic", "-p", json.dumps(
        {"spec": {"updateStrategy": {"rollingUpdate": {"partition": 2}},
                  "template": {"spec": {"containers": [{"name": "kvasird", "image": "kvasir:0.2.0"}]}}}}))
    kube.ready(3)
    equal(images(kube), {"kvasir-0": "kvasir:0.1.0", "kvasir-1": "kvasir:0.1.0", "kvasir-2": "kvasir:0.2.0"})


def update_all(kube):
    """with partition 0 it comes to all, one after the other"""
    kube.run("-n", "kvasir", "patch", "statefulset/kvasir", "--type=merge", "-p",
             json.dumps({"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}}))
    kube.ready(3)
    equal(set(images(kube).values()), {"kvasir:0.2.0"})


def setting_rolls_the_pods(kube):
    """a changed setting is another ConfigMap, and rolls the pods"""
    before = kube.json("-n", "kvasir", "get", "statefulset", "kvasir")["status"]["updateRevision"]
    with changed(OVERLAYS / "production",
                 "configMapGenerator:\n- {name: kvasir-settings, behavior: merge, literals: [DRAIN_WAIT=200s]}\n") as folder:
        kube.apply(folder)
    kube.ready(3)
    if kube.json("-n", "kvasir", "get", "statefulset", "kvasir")["status"]["currentRevision"] == before:
        raise Failed("the pods are of the revision of before")
    name = next(iter(kube.pods().values()))["spec"]["containers"][0]["envFrom"][0]["configMapRef"]["name"]
    equal(kube.json("-n", "kvasir", "get", "configmap", name)["data"]["DRAIN_WAIT"], "200s")


def drain_one_machine(kube):
    """a machine is drained: its store pod goes and waits for the machine that has its disk"""
    kube.machine = kube.machines()["kvasir-1"]
    kube.run("drain", kube.machine, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=60s")
    kube.until_equal(None, lambda: kube.machines().get("kvasir-1", "gone"))


def drain_a_second_is_refused(kube):
    """a second drain is refused: the budget is used up"""
    other = kube.machines()["kvasir-2"]
    kube.refused("disruption budget", "drain", other, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=8s")
    equal(kube.machines()["kvasir-2"], other)
    kube.run("uncordon", other)


def uncordon_brings_it_back(kube):
    """uncordoned, the pod returns to the same machine; then the next may be drained"""
    kube.run("uncordon", kube.machine)
    kube.ready(3)
    equal(kube.machines()["kvasir-1"], kube.machine)
    other = kube.machines()["kvasir-2"]
    kube.run("drain", other, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=60s")
    kube.run("uncordon", other)
    kube.ready(3)


def batch_makes_room(kube):
    """batch work that fills the machines makes room for a store pod"""
    batch = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "batch", "namespace": "default"},
             "spec": {"replicas": 40, "selector": {"matchLabels": {"app": "batch"}}, "template": {
                 "metadata": {"labels": {"app": "batch"}},
                 "spec": {"containers": [{"name": "batch", "image": "batch", "resources": {"requests": {"cpu": "8"}}}]}}}}
    kube.run("apply", "-f", "-", stdin=json.dumps(batch))
    kube.until_equal(True, lambda: kube.run("get", "pods", "-l", "app=batch", "-o", "jsonpath={.items[*].status.conditions[0].reason}")
                     .count("Unschedulable") > 0)
    kube.run("-n", "kvasir", "scale", "statefulset/kvasir", "--replicas=4")
    kube.ready(4)
    kube.run("delete", "deployment", "batch", "--timeout=60s")


GROUPS = [
    ("renders", [renders_are_committed]),
    ("quickstart", [quickstart_applies, quickstart_pods_run, restricted_is_enforced, unknown_field_is_refused, pods_have_no_token,
                    pods_know_their_zone, not_ready_is_named_by_the_headless_service_only, quickstart_goes]),
    ("production", [production_applies, pods_wait_for_disks, etcd_runs, production_pods_are_guaranteed, applied_again_changes_nothing,
                    scale_up, scale_past_the_disks, scale_down, update_with_partition, update_all, setting_rolls_the_pods,
                    drain_one_machine, drain_a_second_is_refused, uncordon_brings_it_back, batch_makes_room]),
]
