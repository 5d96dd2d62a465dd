# SPDX-License-Identifier: Apache-2.0
"""Goal: the pods of the renders run, under exactly the limits of Pod Security "restricted". Method: the image's files assembled, the
real kvasird inside them with the rendered command line, ports, paths and volumes (pod.py); probes as kubelet asks them;
blocks pushed, fetched, kept over a restart; a drain by SIGTERM. A real etcd for what keeps its members there.

Usage: pods_test.py BUILD [--etcd PROGRAM] [unittest arguments]
"""
import errno
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from tests.deploy import dns, grpc_health, manifests  # noqa: E402
from tests.deploy import pod as pods  # noqa: E402

BUILD = pathlib.Path()
ASSEMBLE = manifests.ROOT / "deploy/container/assemble.sh"
BRIDGE_IP = "10.244.0.1"  # here lives what is no pod: kubelet's probes
IPS = {f"kvasir-{index}": f"10.244.0.{10 + index}" for index in range(3)}
ETCD_IPS = {f"kvasir-etcd-{index}": f"10.244.0.{20 + index}" for index in range(3)}
DOMAIN = "kvasir.svc.cluster.local"
ETCD, ETCD_PROBES_MIN = None, (3, 6)
KVASIR = ["/usr/bin/kvasir", "-o", "json"]
BENCH = [*KVASIR, "bench", "--layers", "2", "--heads", "2", "--dim", "64", "--block-tokens", "64", "--blocks"]
SMALL_BYTES = 256 << 20
HUGE_PAGES_MIN = 64
WORKSPACE, NETWORK = None, None


def setUpModule():
    """The image, once, and a network in which the ports of the manifests are free."""
    global WORKSPACE, NETWORK
    WORKSPACE = tempfile.TemporaryDirectory(prefix="kvasir-pods-")
    unittest.addModuleCleanup(WORKSPACE.cleanup)
    try:
        NETWORK = pods.Network(BRIDGE_IP)
    except pods.Unavailable as reason:
        raise unittest.SkipTest(str(reason)) from None
    subprocess.run([ASSEMBLE, BUILD, os.path.join(WORKSPACE.name, "image")], check=True, timeout=300)
    names = {**{f"{name}.kvasir-nodes.{DOMAIN}": address for name, address in IPS.items()},
             **{f"{name}.kvasir-etcd.{DOMAIN}": address for name, address in ETCD_IPS.items()}}
    server = dns.serve(BRIDGE_IP, names)
    unittest.addModuleCleanup(os.waitpid, server, 0)
    unittest.addModuleCleanup(os.kill, server, signal.SIGKILL)


def http(pod, path, port="http"):
    """(status, text) of a GET from a named port of a pod."""
    number = next(one["containerPort"] for one in pod.container["ports"] if one["name"] == port)
    try:
        with urllib.request.urlopen(f"http://{pod.address}:{number}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


class PodTest(unittest.TestCase):
    """Pods of a render."""

    def pod(self, render, name="kvasir-0", memory_bytes=None, image=None):
        objects = manifests.load(render)
        workload = manifests.find(objects, "StatefulSet", name.rsplit("-", 1)[0])
        labels = {**workload["spec"]["template"]["metadata"]["labels"], "topology.kubernetes.io/zone": f"zone-of-{name}"}
        try:
            pod = pods.Pod(image or f"{WORKSPACE.name}/image", tempfile.mkdtemp(dir=WORKSPACE.name), NETWORK, objects, workload,
                           {"name": name, "ip": {**IPS, **ETCD_IPS}[name], "labels": labels}, BRIDGE_IP, memory_bytes)
        except pods.Unavailable as reason:
            self.skipTest(str(reason))
        self.addCleanup(pod.close)
        return pod

    def kvasir(self, pod, words):
        status, out, error = pod.run(words)
        self.assertEqual(status, 0, error + pod.log())
        return json.loads(out)

    def probes_answer(self, pod):
        """Each probe of the manifest, as kubelet asks it: until it answers, within a bound; and the same by HTTP."""
        end = time.monotonic() + pods.START_S
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = pod.container[probe]["grpc"]
            while (said := grpc_health.check(pod.address, asked["port"], asked["service"])) != "SERVING":
                self.assertLess(time.monotonic(), end, f"{probe}: {said}\n{pod.log()}")
        self.assertEqual(http(pod, "/livez")[0], 200)
        self.assertEqual(http(pod, "/readyz")[0], 200)
        self.assertEqual(http(pod, "/nothing")[0], 404)

    def ends_by_sigterm(self, pod, process):
        process.terminate()
        self.assertEqual(process.wait(pod.spec["terminationGracePeriodSeconds"]), 0, pod.log())

    def moves_blocks(self, pod, words):
        bench = self.kvasir(pod, words)
        for phase in ("push", "fetch"):
            self.assertEqual((bench[phase]["failed"], bench[phase]["differing"]), (0, 0), bench)
        return bench["push"]["blocks"]


class QuickstartTest(PodTest):
    """Three pods with the rendered member list, each in a network of its own."""

    def test_the_store_serves_and_keeps_what_is_durable(self):
        store = {name: self.pod("quickstart", name) for name in IPS}
        processes = {name: pod.serve() for name, pod in store.items()}
        for pod in store.values():
            self.probes_answer(pod)
        any_pod = store["kvasir-1"]
        pushed = self.moves_blocks(any_pod, [*BENCH, "48", "--replicas", "2", "--durable"])
        nodes = self.kvasir(any_pod, [*KVASIR, "status"])
        self.assertEqual(sorted(node["id"] for node in nodes), sorted(IPS))
        self.assertEqual(sum(node["blocks"] for node in nodes), 2 * pushed)
        self.metrics_are_those_of_the_documents(http(any_pod, "/metrics")[1])

        held = next(node["blocks"] for node in nodes if node["id"] == "kvasir-0")
        self.ends_by_sigterm(store["kvasir-0"], processes["kvasir-0"])
        store["kvasir-0"].serve()  # the same volume, as after a rolling update
        status = self.kvasir(store["kvasir-0"], [*KVASIR, "status", "--only-named"])[0]
        self.assertGreaterEqual(status["blocks"], held)

    def metrics_are_those_of_the_documents(self, text):
        """Every name that the documents and manifests of deploy/ use is there, from the first scrape on."""
        there = set(re.findall(r"^# TYPE (\S+)", text, re.M))
        named = set()
        for file in [manifests.KUBERNETES / "README.md", *manifests.KUBERNETES.rglob("podmonitor.yaml")]:
            named |= set(re.findall(r"\bkvasir_[a-z0-9_]+\b", file.read_text()))
        self.assertTrue(named)
        self.assertEqual(named - there, set())

    def test_it_has_nothing_but_what_restricted_allows(self):
        pod = self.pod("quickstart")
        process = pod.serve()
        lines = pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        self.assertEqual(set(status["Uid"].split()), {"65532"})
        self.assertEqual({int(status[one], 16) for one in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}, {0})
        self.assertEqual((status["NoNewPrivs"], status["Seccomp"]), ("1", "2"))
        limits = pathlib.Path(f"/proc/{process.pid}/limits").read_text()
        self.assertRegex(limits, rf"Max locked memory\s+{pods.MEMLOCK_BYTES}\s+{pods.MEMLOCK_BYTES}")
        node = self.kvasir(pod, [*KVASIR, "status", "--only-named"])[0]
        ssd = next(tier for tier in node["tiers"] if tier["name"] == "ssd")
        self.assertIn("pwrite", ssd["state"], "io_uring is denied: status says what is used instead")
        dram = next(tier["capacity"] for tier in node["tiers"] if tier["name"] == "dram")
        limit = manifests.quantity(pod.container["resources"]["limits"]["memory"])
        self.assertTrue(0.6 * limit < dram < 0.8 * limit, f"--dram auto made {dram} of {limit}")
        # Not even the image's own folders can be written.
        code, _, error = pod.run(["/usr/bin/kvasird", "--ssd=/usr/lib/kvasir", "--dram=64MiB", "--check"])
        self.assertEqual(code, 2)
        self.assertIn("this user may not write in /usr/lib", error)

    def test_a_program_that_is_denied_io_uring_really_is(self):
        child = os.fork()
        if child == 0:
            pods.checked(pods.LIBC.prctl(pods.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
            pods.filter_system_calls(pods.default_profile())
            answers = [pods.LIBC.syscall(number, 0, 0, 0, 0, 0, 0) == -1 and pods.ctypes.get_errno() for number in (425, 321, 435)]
            os._exit(0 if answers == [errno.EPERM, errno.EPERM, errno.ENOSYS] else 1)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)


class MemoryTest(PodTest):
    """One pod, a cluster of its own, with less memory than the render gives it."""

    def test_a_full_store_stays_under_the_limit(self):
        """Twice what the memory tier holds is pushed: some may be refused, nothing is wrong, and the kernel kills nobody."""
        pod = self.pod("quickstart", memory_bytes=SMALL_BYTES)
        pod.arguments = [word for word in pod.arguments if not word.startswith("--members=")]
        process = pod.serve()
        client = [BUILD / "deploy/kvasir", "-o", "json", "--node", f"{pod.address}:7070"]  # its memory is not the pod's
        bench = [*client, "bench", "--layers", "8", "--heads", "4", "--dim", "128", "--block-tokens", "256", "--blocks", "100"]
        done = subprocess.run([*bench, "--durable"], capture_output=True, text=True, timeout=pods.START_S)
        said = json.loads(done.stdout)
        self.assertEqual(said["fetch"]["differing"], 0, done.stderr)
        self.assertGreater(said["push"]["blocks"], 30, done.stderr)
        self.assertIsNone(process.poll(), pod.log())
        self.ends_by_sigterm(pod, process)


class HugePagesTest(PodTest):
    def test_blocks_are_in_huge_pages(self):
        pages = pathlib.Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
        free = int((pages / "free_hugepages").read_text()) if pages.is_dir() else 0
        if free < HUGE_PAGES_MIN:
            self.skipTest(f"fewer than {HUGE_PAGES_MIN} huge pages are free (sysctl vm.nr_hugepages={HUGE_PAGES_MIN})")
        pod = self.pod("rdma")
        alone = [word for word in pod.arguments if not re.match("--(members|cluster|advertise|dram)=", word)]
        self.assertIn("--huge-pages", alone)
        pod.arguments = [*alone, f"--dram={2 * HUGE_PAGES_MIN}MiB"]
        process = pod.serve()
        self.moves_blocks(pod, [*BENCH, "16"])
        self.assertLess(int((pages / "free_hugepages").read_text()), free)
        self.ends_by_sigterm(pod, process)


class ProductionTest(PodTest):
    """Three pods whose members are in a real etcd: the rendered three of it where it has the probes that they name, else one."""

    def start_etcd(self):
        """Answers the pods of etcd, or none where it is one process beside them; hosts are set to lead there."""
        program = ETCD or shutil.which("etcd")
        if not program:
            self.skipTest("etcd is not here (Debian: etcd-server): the production pods need it")
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60).stdout
        version = tuple(int(part) for part in re.search(r"etcd Version: (\d+)\.(\d+)", said).groups())
        if version < ETCD_PROBES_MIN:
            print(f"etcd {version[0]}.{version[1]} has no /readyz: one process stands in for the rendered pods", file=sys.stderr)
            self.start_one_etcd(program)
            return []
        image = pathlib.Path(tempfile.mkdtemp(dir=WORKSPACE.name)) / "etcd"
        libraries = re.findall(r"(/\S+) \(0x", subprocess.run(["ldd", program], capture_output=True, text=True, timeout=60).stdout)
        for source, target in [(program, "/usr/local/bin/etcd"), *[(library, library) for library in libraries]]:
            (image / target[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, image / target[1:])
        (image / "etc").mkdir()
        started = [self.pod("production", name, memory_bytes=SMALL_BYTES, image=image) for name in ETCD_IPS]
        for pod in started:
            pod.process = pod.start()
        for pod in started:
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                self.answers_in_time(pod, pod.container[probe]["httpGet"])
        return started

    def answers_in_time(self, pod, asked):
        end = time.monotonic() + pods.START_S
        while True:
            try:
                status, text = http(pod, asked["path"], asked["port"])
            except OSError as error:
                status, text = 0, str(error)
            if status == 200:
                return
            self.assertIsNone(pod.process.poll(), pod.log())
            self.assertLess(time.monotonic(), end, f"{asked}: {status} {text}\n{pod.log()}")

    def start_one_etcd(self, program):
        """At the addresses of all three."""
        for address in ETCD_IPS.values():
            pods.ip("address", "add", f"{address}/24", "dev", "pods")
        directory = tempfile.mkdtemp(dir=WORKSPACE.name)
        with open(os.path.join(directory, "log"), "wb") as log:
            process = subprocess.Popen([program, f"--data-dir={directory}/data", "--listen-client-urls=http://0.0.0.0:2379",
                                        f"--advertise-client-urls=http://{BRIDGE_IP}:2379"], stdout=log, stderr=log)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)

    def test_pods_meet_by_etcd_with_their_zones(self):
        etcd = self.start_etcd()
        store = {name: self.pod("production", name, memory_bytes=2 << 30) for name in IPS}
        processes = {name: pod.serve() for name, pod in store.items()}
        for pod in store.values():
            self.probes_answer(pod)
        any_pod = store["kvasir-2"]
        nodes = self.kvasir(any_pod, [*KVASIR, "status"])
        self.assertEqual(sorted(node["id"] for node in nodes), sorted(IPS))
        if etcd:  # two of three are a majority: nothing is to be seen
            etcd[0].process.kill()
        self.moves_blocks(any_pod, [*BENCH, "48", "--replicas", "2", "--durable"])
        for name, pod in store.items():
            self.ends_by_sigterm(pod, processes[name])


if __name__ == "__main__":
    BUILD = pathlib.Path(sys.argv.pop(1)).resolve()
    if sys.argv[1:2] == ["--etcd"]:
        ETCD = sys.argv[2]
        del sys.argv[1:3]
    unittest.main()
