# SPDX-License-Identifier: Apache-2.0
"""Checks of what needs special machines: RDMA devices, huge pages, GPUs; and of Prometheus's PodMonitor. The machines are
simulated, the scheduler that counts their devices is not."""
import json

from tests.deploy import manifests
from tests.k8s.checks_store import OVERLAYS, disks, equal
from tests.k8s.kube import Failed, Skipped

SHARED, FUNCTION, GPU = "rdma/hca_shared_devices_a", "nvidia.com/rdma_vf", "nvidia.com/gpu"
NETWORKS = "k8s.v1.cni.cncf.io/networks"


def limits(kube):
    return {name: pod["spec"]["containers"][0]["resources"]["limits"] for name, pod in kube.pods().items()}


def holding(kube, node, resource, count):
    """A pod that takes `count` of a machine's devices, and that no store pod may displace."""
    spec = {"nodeName": node, "priorityClassName": "kvasir-store", "containers": [{"name": "holder", "image": "holder", "resources": {"limits": {resource: str(count)}}}]}
    kube.run("apply", "-f", "-", stdin=json.dumps(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "holder", "namespace": "default"}, "spec": spec}))


# ---- rdma ------------------------------------------------------------------------------------------------------------
def rdma_applies(kube):
    """rdma is taken as it stands, under "restricted": no capability, no host network"""
    kube.apply(manifests.KUBERNETES / "namespace")
    kube.apply(OVERLAYS / "rdma", "--dry-run=server")
    kube.apply(OVERLAYS / "rdma")
    disks(kube)


def rdma_pods_get_devices(kube):
    """each pod asked for a device and huge pages, and is bound where they are"""
    kube.ready(3)
    for name, had in limits(kube).items():
        equal((name, had[SHARED], had["hugepages-2Mi"]), (name, "1", "48Gi"))


def rdma_devices_run_out(kube):
    """where all devices of a machine are taken, no store pod is bound"""
    free = next(iter({one["metadata"]["name"] for one in kube.json("get", "nodes")["items"]} - set(kube.machines().values())))
    holding(kube, free, SHARED, 2)
    kube.run("-n", "kvasir", "scale", "statefulset/kvasir", "--replicas=4")
    kube.wait("pod/kvasir-3", "jsonpath={.status.conditions[0].reason}=Unschedulable")
    message = kube.pods()["kvasir-3"]["status"]["conditions"][0]["message"]
    if f"Insufficient {SHARED}" not in message:
        raise Failed(message)
    kube.run("delete", "pod", "holder", "--timeout=60s")
    kube.ready(4)


# ---- rdma-sriov ------------------------------------------------------------------------------------------------------
def functions_are_given(kube):
    """with SR-IOV each pod has a virtual function and asks for the second network"""
    kube.apply(manifests.KUBERNETES / "namespace")
    kube.apply(manifests.VARIANTS / "rdma-sriov")
    disks(kube)
    kube.ready(3)
    for name, pod in kube.pods().items():
        equal((name, pod["metadata"]["annotations"][NETWORKS], limits(kube)[name][FUNCTION]), (name, "kvasir-rdma", "1"))


# ---- gpu-node --------------------------------------------------------------------------------------------------------
def gpu_machines(kube, names):
    """Labels and taints as the GPU operator sets them."""
    for name in names:
        kube.run("label", "node", name, "nvidia.com/gpu.present=true", "--overwrite")
        kube.run("taint", "node", name, "nvidia.com/gpu=present:NoSchedule", "--overwrite")


def pod_monitor_is_known(kube):
    """the Prometheus operator's own definition of a PodMonitor is served"""
    definition = kube.bin / "podmonitors.yaml"
    if not definition.is_file():
        raise Skipped("its Go module could not be fetched when the control plane was built")
    kube.run("apply", "--server-side", "-f", definition)
    kube.run("wait", "crd/podmonitors.monitoring.coreos.com", "--for=condition=Established", "--timeout=60s")


def gpu_pods_stay_on_gpu_machines(kube):
    """with two GPU machines two pods run, one on each, and the third waits for a third"""
    gpu_machines(kube, ["node-0", "node-1"])
    kube.apply(manifests.KUBERNETES / "namespace")
    kube.apply(manifests.VARIANTS / "gpu-node")
    disks(kube)
    kube.until_equal(["node-0", "node-1"], lambda: sorted(filter(None, kube.machines().values())))
    equal(len(kube.machines()), 3)
    gpu_machines(kube, ["node-2"])
    kube.ready(3)
    equal(sorted(kube.machines().values()), ["node-0", "node-1", "node-2"])


def pod_monitor_is_checked(kube):
    """the PodMonitor is stored; one with a misspelt field is refused"""
    endpoint = kube.json("-n", "kvasir", "get", "podmonitor", "kvasir")["spec"]["podMetricsEndpoints"][0]
    equal((endpoint["port"], endpoint["path"]), ("http", "/metrics"))
    text = (manifests.KUBERNETES / "components/podmonitor/podmonitor.yaml").read_text().replace("scrapeTimeout", "scrapeTimeuot")
    kube.refused("scrapeTimeuot", "-n", "kvasir", "apply", "--server-side", "--validate=strict", "--dry-run=server", "-f", "-", stdin=text)


def engine_gets_a_gpu_beside_the_store(kube):
    """an engine asks for a GPU, under "restricted", and is bound beside a store pod"""
    kube.run("apply", "--server-side", "--validate=strict", "-f", manifests.KUBERNETES / "examples/engine.yaml")
    kube.wait("deployment/engine", "condition=Available", namespace="engines")
    (machine,) = kube.machines("engine", "engines").values()
    if machine not in kube.machines().values():
        raise Failed(f"the engine is on {machine}, the store on {kube.machines()}")
    (pod,) = kube.pods("engine", "engines").values()
    equal(pod["spec"]["containers"][0]["resources"]["requests"][GPU], "1")


def gpus_run_out(kube):
    """of 40 engines as many run as there are GPUs, 32, and the others wait"""
    kube.run("-n", "engines", "scale", "deployment/engine", "--replicas=40")
    kube.until_equal(32, lambda: len([one for one in kube.machines("engine", "engines").values() if one]))


GROUPS = [
    ("rdma", [rdma_applies, rdma_pods_get_devices, rdma_devices_run_out]),
    ("rdma-sriov", [functions_are_given]),
    ("gpu-node", [pod_monitor_is_known, gpu_pods_stay_on_gpu_machines, pod_monitor_is_checked, engine_gets_a_gpu_beside_the_store,
                  gpus_run_out]),
]
