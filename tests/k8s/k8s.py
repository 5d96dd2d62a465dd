# SPDX-License-Identifier: Apache-2.0
"""./run k8s: the manifests of deploy/kubernetes against a real control plane with simulated machines (README.md says what is
real). One line a check on stdout, progress on stderr.

Exit status: 0 every check held, 1 some did not, 2 nothing could be checked.
"""
import argparse
import json
import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.deploy import manifests  # noqa: E402
from tests.k8s import checks_hardware, checks_pods, checks_store  # noqa: E402
from tests.k8s.kube import CannotBegin, ControlPlane, Failed, Skipped, say  # noqa: E402

GROUPS = [*checks_store.GROUPS, *checks_hardware.GROUPS, *checks_pods.GROUPS]


def arguments():
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "kvasir/k8s"
    parser = argparse.ArgumentParser(prog="./run k8s", description="The Kubernetes manifests against a real control plane.")
    parser.add_argument("--build", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="JSON lines on stdout, the last one a summary")
    parser.add_argument("--dir", type=pathlib.Path, default=cache, help="where the control plane is built and runs (default: %(default)s)")
    parser.add_argument("--group", action="append", choices=[name for name, _ in GROUPS], help="only these checks; may be repeated")
    parser.add_argument("--keep", action="store_true", help="leave the control plane running and say how to use it")
    parser.add_argument("--update", action="store_true", help="write the committed renders anew, check nothing")
    return parser.parse_args()


class Report:
    """One line a check, and what became of all of them."""

    def __init__(self, as_json):
        self.as_json, self.counts = as_json, {"passed": 0, "failed": 0, "skipped": 0}

    def add(self, name, result, seconds, why):
        self.counts[result] += 1
        if self.as_json:
            line = {"check": name, "result": result, "seconds": round(seconds, 1), **({"why": why} if why else {})}
            print(json.dumps(line), flush=True)
        else:
            print(f"{seconds:7.1f} s  {result:<7}  {name}" + (f"\n{'':20} {why}" if why else ""), flush=True)

    def close(self):
        ok = self.counts["failed"] == 0 and self.counts["passed"] > 0
        if self.as_json:
            print(json.dumps({"verb": "k8s", "ok": ok, **self.counts}), flush=True)
        else:
            print(", ".join(f"{count} {name}" for name, count in self.counts.items()), flush=True)
        return 0 if ok else 1


def run_group(kube, name, checks, report):
    """A group begins with empty machines. What follows a failed check is tried all the same: it says more."""
    say(name)
    kube.clear()
    for check in checks:
        began, result, why = time.monotonic(), "passed", ""
        try:
            check(kube)
        except Failed as reason:
            result, why = "failed", str(reason)
        except Skipped as reason:
            result, why = "skipped", str(reason)
        except Exception as error:  # a check that stumbles over what it did not expect has failed, not the run
            result, why = "failed", f"{type(error).__name__}: {error}"
        report.add(f"{name}: {' '.join(check.__doc__.split())}", result, time.monotonic() - began, why)


def update(kube):
    for name, folder in manifests.kustomizations().items():
        path = manifests.golden(name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(manifests.with_header(folder, manifests.render(kube.kubectl, folder)))
        say(f"wrote {path.relative_to(manifests.ROOT)}")
    return 0


def main():
    flags = arguments()
    kube = ControlPlane(flags.dir)
    kube.programs = flags.build
    try:
        kube.build()
        if flags.update:
            return update(kube)
        say("starting etcd, API server, controllers, scheduler and four simulated machines")
        kube.up()
    except CannotBegin as reason:
        print(f"./run k8s: {reason}", file=sys.stderr)
        return 2
    report = Report(flags.json)
    try:
        for name, checks in GROUPS:
            if not flags.group or name in flags.group:
                run_group(kube, name, checks, report)
    finally:
        if flags.keep:
            say(f'it runs on. Use it: eval "$({kube.script} env {flags.dir})"; stop it: {kube.script} down {flags.dir}')
        else:
            kube.down()
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
