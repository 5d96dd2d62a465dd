# SPDX-License-Identifier: Apache-2.0
"""Goal: what the driver reads and judges, it reads and judges right. Method: its pure parts, without root or processes."""
import json
import pathlib
import sys
import types
import unittest
from unittest import mock

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "support"), str(HERE)]

import cluster  # noqa: E402
import network  # noqa: E402
import processes  # noqa: E402
import rows  # noqa: E402
import world  # noqa: E402


def settings(**changed):
    return types.SimpleNamespace(**{"seed": 7, "long": False, "cycles": None, "members": "static", "keep": False,
                                    "directory": pathlib.Path("/nowhere"), **changed})


def figures(**changed):
    return {"wrong": 0, "errors": 0, "pushes": 5, "reads": 9, "missed": 0, "given_up": 0, "examples": [], **changed}


class Arguments(unittest.TestCase):
    def refused(self, *words):
        with mock.patch("sys.stderr") as stderr, self.assertRaises(SystemExit) as ended:
            cluster.parse(["--build", ".", *words])
        self.assertEqual(ended.exception.code, 2)
        return "".join(call.args[0] for call in stderr.write.call_args_list)

    def test_all_rows_unless_some_are_named(self):
        self.assertEqual(cluster.parse(["--build", "."]).rows, list(cluster.ROWS))
        options = cluster.parse(["--build", ".", "R11", "R3", "--seed", "5", "--long"])
        self.assertEqual((options.rows, options.seed, options.long), (["R11", "R3"], 5, True))

    def test_what_is_not_there_is_named(self):
        self.assertIn("no row R99", self.refused("R99"))
        self.assertIn("--cycles must be at least 1", self.refused("--cycles", "0"))
        self.assertIn("invalid int value", self.refused("--seed", "x"))

    def test_without_root_it_says_so_and_ends_with_2(self):
        with mock.patch("os.geteuid", return_value=1000), mock.patch("sys.stderr") as stderr:
            self.assertEqual(cluster.main(["--build", "."]), 2)
        self.assertIn("need root", "".join(call.args[0] for call in stderr.write.call_args_list))


class Names(unittest.TestCase):
    def test_only_our_namespaces_and_mounts_are_swept(self):
        self.assertEqual(network.ours("kvt-n1 (id: 3)\nother\nkvt-hub\nmy-kvt-x (id: 0)\n"), ["kvt-n1", "kvt-hub"])
        table = ("tmpfs /tmp tmpfs rw 0 0\nkvt-disk /a/e1.etcd tmpfs rw 0 0\n\n"
                 "kvt-disk /a/e1.etcd/b tmpfs rw 0 0\nx /kvt-disk tmpfs rw 0 0\n")
        self.assertEqual(network.mounts_of_ours(table), ["/a/e1.etcd/b", "/a/e1.etcd"])

    def test_addresses_do_not_meet(self):
        names = [f"n{i}" for i in range(1, 7)] + [f"e{i}" for i in range(1, 4)] + ["c"]
        self.assertEqual(len({network.Network.number(name) for name in names}), len(names))

    def test_a_burst_holds_a_tick_and_a_segment(self):
        self.assertEqual(network.burst_bytes(10_000_000), 128 << 10)
        self.assertEqual(network.burst_bytes(1_000_000_000), 1_250_000)


class Readings(unittest.TestCase):
    def test_etcd_is_read_off_the_help(self):
        self.assertTrue(world.knows_etcd("--members static:FILE | etcd:URL"))
        self.assertFalse(world.knows_etcd("--members FILE"))

    def test_the_member_list(self):
        members = json.loads(world.members_file({"n2": "10.77.0.2:7070", "n1": "10.77.0.1:7070"}, 4))
        self.assertEqual(members["run_blocks"], 4)
        self.assertEqual([member["id"] for member in members["members"]], ["n1", "n2"])

    def test_a_leader_knows_itself(self):
        self.assertTrue(processes.leads({"header": {"member_id": "7"}, "leader": "7"}))
        self.assertFalse(processes.leads({"header": {"member_id": "7"}, "leader": "8"}))
        self.assertFalse(processes.leads({"header": {"member_id": "7"}}))
        self.assertFalse(processes.leads(None))


def status(**changed):
    move = {"settled": True, "bytes_done": 0, "bytes_total": 0}
    return {"reachable": True, "state": "serving", "taking_over": move, "handing_over": move, "membership_epoch": 3,
            "members": {"a": "serving", "b": "serving"}, "peers": {"a": "ok", "b": "ok"}, **changed}


class Settled(unittest.TestCase):
    def why(self, b, etcd=True):
        return world.unsettled({"a": status(), "b": b}, ["a", "b"], etcd)

    def test_at_rest(self):
        self.assertEqual(self.why(status()), "")

    def test_each_unrest_is_named(self):
        moving = {"settled": False, "bytes_done": 4, "bytes_total": 9}
        self.assertIn("b is taking over: 4 of 9", self.why(status(taking_over=moving)))
        self.assertEqual(self.why(status(handing_over=moving)), "", "that is the others' taking over")
        self.assertIn("b does not answer: gone", self.why({"reachable": False, "cause": "gone"}))
        self.assertIn("b is joining", self.why(status(state="joining")))
        self.assertIn("epochs [3, 4]", self.why(status(membership_epoch=4)))
        self.assertIn("b sees members", self.why(status(members={"a": "serving", "b": "serving", "c": "serving"})))
        self.assertIn("not asked", world.unsettled({"a": status()}, ["a", "b"], True))

    def test_a_static_list_names_the_dead_too(self):
        self.assertEqual(self.why(status(members={"a": "serving", "b": "serving", "c": "serving"}), etcd=False), "")

    def test_silent_peers(self):
        self.assertEqual(world.not_met({"a": status(), "b": status()}, ["a", "b"]), "")
        deaf = status(peers={"a": "silent", "c": "silent"})
        self.assertEqual(world.not_met({"a": status(), "b": deaf}, ["a", "b"]), "b does not hear a")


class Judgement(unittest.TestCase):
    def row(self, **changed):
        return rows.Row("R0", "a row", settings(**changed))

    def test_a_clean_row_is_ok(self):
        row = self.row()
        row.take(figures())
        row.time("t_s", 0.5, 1)
        row.hold("share", 0.1, most=0.2)
        line = row.line("", 1)
        self.assertTrue(line["ok"])
        self.assertNotIn("why", line)
        self.assertEqual(line["must"], {"t_s": "<= 1", "share": "<= 0.2"})

    def test_wrong_lost_and_errors_each_fail_it(self):
        for key in ("wrong", "errors"):
            row = self.row()
            row.take(figures(**{key: 1}))
            self.assertEqual(row.line("", 1)["why"], [f"{key} is 1, must be 0"])
        row = self.row()
        row.world = types.SimpleNamespace(load=types.SimpleNamespace(
            ask=lambda *_, **__: {"wrong": 0, "lost": 2, "held": 8, "examples": ["LOST: ..."]}))
        row.verify()
        self.assertFalse(row.line("", 1)["ok"])
        self.assertEqual(row.notes, ["LOST: ..."])

    def test_stretches_add_up(self):
        row = self.row()
        for _ in range(3):
            row.take(figures(errors=2, missed=1))
        self.assertEqual((row.counted["errors"], row.found["missed"], row.found["reads"]), (6, 3, 27))

    def test_times_are_held_only_by_long_runs(self):
        for is_long in (False, True):
            row = self.row(long=is_long)
            row.time("t_s", 0.4, 1)
            row.time("t_s", 3, 1)
            row.time("t_s", 0.2, 1)
            self.assertEqual(row.times["t_s"], 3, "the worst is kept")
            self.assertEqual(row.line("", 1)["ok"], not is_long)
        row = self.row(long=True)
        row.time("t_s", None, 1)
        self.assertFalse(row.line("", 1)["ok"], "what could not be measured did not hold")

    def test_counts_are_held_always(self):
        for value, least, most, ok in ((1, 1, 1, True), (0, 1, None, False), (2, None, 1, False), (None, None, 1, False)):
            row = self.row()
            row.hold("n", value, least=least, most=most)
            self.assertEqual(row.line("", 1)["ok"], ok, (value, least, most))

    def test_trouble_fails_it_in_one_line(self):
        line = self.row().line("n1 ended by itself\n  its log", 1)
        self.assertEqual((line["ok"], line["why"]), (False, ["n1 ended by itself"]))

    def test_cycles(self):
        self.assertEqual(len(list(self.row().cycles(100))), 3)
        self.assertEqual(len(list(self.row(long=True).cycles(100))), 100)
        self.assertEqual(len(list(self.row(long=True, cycles=5).cycles(100))), 5)

    def test_a_seed_repeats_the_victims(self):
        once, again, other = (rows.Row("R3", "", settings(seed=seed)) for seed in (1, 1, 2))
        draw = lambda row: [row.random.random() for _ in range(4)]  # noqa: E731
        first = draw(once)
        self.assertEqual(first, draw(again))
        self.assertNotEqual(first, draw(other))


if __name__ == "__main__":
    unittest.main()
