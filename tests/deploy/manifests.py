# SPDX-License-Identifier: Apache-2.0
"""Kubernetes manifests as data: which kustomizations there are, their committed renders, and what kubelet would make of them.

Shared by manifests_test.py (ctest; the real programs against the committed renders) and tests/k8s (a real control plane).
"""
import pathlib
import re
import subprocess

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deploy/kubernetes"
VARIANTS = ROOT / "tests/k8s/variants"  # components that no overlay has, each on top of one that is there
KUBECTL_MIN = (1, 21)  # the first whose kustomize knows components
HEADER = ("# SPDX-License-Identifier: Apache-2.0\n"
          "# What `kubectl kustomize {path}` prints, kept to be compared. Written by ./run k8s --update.\n")


def kustomizations():
    """Name to folder of everything that is rendered."""
    folders = sorted([*(KUBERNETES / "overlays").iterdir(), *VARIANTS.iterdir()])
    return {folder.name: folder for folder in folders if (folder / "kustomization.yaml").is_file()}


def golden(name):
    """The file that holds the render of a kustomization."""
    folder = kustomizations()[name]
    return (KUBERNETES / "golden" if KUBERNETES in folder.parents else VARIANTS.parent / "golden") / f"{name}.yaml"


def render(kubectl, folder):
    """What kubectl makes of a kustomization, as text."""
    done = subprocess.run([str(kubectl), "kustomize", str(folder)], capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        raise ValueError(f"kubectl kustomize {folder}: {done.stderr.strip()}")
    return done.stdout


def with_header(folder, text):
    return HEADER.format(path=folder.relative_to(ROOT)) + text


def kubectl_version(kubectl):
    """(major, minor) of a kubectl's client, None where there is none or it cannot say."""
    try:
        said = subprocess.run([str(kubectl), "version", "--client", "-o", "yaml"], capture_output=True, text=True, timeout=60)
    except OSError:
        return None
    found = re.search(r"gitVersion: v(\d+)\.(\d+)", said.stdout)
    return (int(found[1]), int(found[2])) if found else None


def parse(text):
    """The objects of a text, in an order that does not depend on who wrote it."""
    objects = [one for one in yaml.safe_load_all(text) if one is not None]
    return sorted(objects, key=lambda one: (one["kind"], one["metadata"]["name"]))


def load(name):
    return parse(golden(name).read_text())


def find(objects, kind, name):
    for one in objects:
        if one["kind"] == kind and one["metadata"]["name"] == name:
            return one
    raise KeyError(f"{kind} {name}")


def of_kind(objects, kind):
    return [one for one in objects if one["kind"] == kind]


def workloads(objects):
    """Everything that makes pods."""
    return [one for one in objects if "template" in (one.get("spec") or {})]


def matches(selector, labels):
    """A selector of matchLabels, or a Service's plain one, against labels. An empty one matches all."""
    assert not selector.get("matchExpressions"), "selectors here name labels only"
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", selector).items())


def environment(objects, container, pod):
    """Variables of a container as kubelet computes them. `pod` has name, ip and labels."""
    variables = {}
    for source in container.get("envFrom", []):
        variables.update(find(objects, "ConfigMap", source["configMapRef"]["name"])["data"])
    for one in container.get("env", []):
        if "value" in one:
            variables[one["name"]] = one["value"]
            continue
        path = one["valueFrom"]["fieldRef"]["fieldPath"]
        label = re.fullmatch(r"metadata\.labels\['(.+)'\]", path)
        variables[one["name"]] = (pod["labels"].get(label[1], "") if label
                                  else {"metadata.name": pod["name"], "status.podIP": pod["ip"]}[path])
    return variables


def expand(words, variables):
    """$(NAME) replaced as kubelet does: a name that is not there stays as it is."""
    return [re.sub(r"\$\((\w+)\)", lambda found: variables.get(found[1], found[0]), word) for word in words]


def arguments(objects, container, pod):
    """The command line after the program's name."""
    return expand(container.get("args", []), environment(objects, container, pod))


def flag(words, name):
    """The value of --name=value among `words`, None where it is not."""
    found = [word.split("=", 1)[1] for word in words if word.startswith(f"--{name}=")]
    return found[-1] if found else None


def quantity(text):
    """Kubernetes' "64Gi", "500m", "8" as a number."""
    found = re.fullmatch(r"([0-9.]+)(m|[KMGTPE]i?|k)?", str(text))
    unit = found[2] or ""
    scale = 0.001 if unit == "m" else (1024 if unit.endswith("i") else 1000) ** (" kMGTPE".index(unit[0].replace("K", "k"))) if unit else 1
    return float(found[1]) * scale


def size(text):
    """Kvasir's "840GiB" as bytes."""
    found = re.fullmatch(r"([0-9.]+)([KMGT])iB", text)
    return int(float(found[1]) * 1024 ** (" KMGT".index(found[2])))


def seconds(text):
    """Kvasir's "240s"."""
    return float(re.fullmatch(r"([0-9.]+)s", text)[1])
