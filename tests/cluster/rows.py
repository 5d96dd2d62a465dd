# SPDX-License-Identifier: Apache-2.0
"""What all rows share: figures that are counted, limits they are held to, and the one JSON line."""
import json
import random
import shutil
import sys
import time

from children import Trouble
from world import World

SWEEP_S = 20        # every prompt is read once in much less, but for an outage
GIVEN_UP_MAX = 10   # reads: then the row has failed, and to go on would be to wait for each of the rest


def say(text):
    print(text, file=sys.stderr, flush=True)


class Row:
    """One run of one row. A function of rows_*.py drives it: `def r3(row)`.

    wrong, lost and errors always fail a row. What is `held` (a count) fails it always, too; what is timed (`time`) only
    with --long, where the machine is the row's alone; else it is printed."""

    def __init__(self, goal, what, settings):
        self.goal, self.what, self.settings = goal, what, settings
        self.random = random.Random(f"{settings.seed} {goal}")
        self.cycle, self.cycles_done = 0, 0
        self.counted = {"wrong": 0, "lost": 0, "errors": 0}
        self.found, self.times, self.must, self.missed_musts, self.notes = {}, {}, {}, {}, []
        self.worlds = 0
        self.world = None

    # ---- worlds ------------------------------------------------------------------------------------------------------
    def new_world(self, etcd_members=1, **options):
        """A fresh cluster; the one before goes. With etcd where the build knows it and the caller wants it."""
        self.close_world()
        if self.settings.members == "static":
            etcd_members = 0
        self.worlds += 1
        directory = self.settings.directory / f"{self.goal}-{self.worlds}"
        self.world = World(self.settings.builds, directory, self.settings.seed, etcd_members=etcd_members, **options)
        return self.world

    def close_world(self):
        if self.world is not None:
            self.world.close()
            self.world.forget_data()
        self.world = None

    # ---- cycles ------------------------------------------------------------------------------------------------------
    def cycles(self, long_count):
        """Numbers of cycles: 3, or `long_count` with --long."""
        self.planned = self.settings.cycles or (long_count if self.settings.long else 3)
        for self.cycle in range(self.planned):
            yield self.cycle
            self.cycles_done += 1

    def tell(self, text):
        say(f"{self.goal} {self.cycle + 1}/{self.planned}: {text}")

    # ---- figures -----------------------------------------------------------------------------------------------------
    def mark(self, load=None):
        """Ends a stretch and takes its figures into the row's."""
        figures = (load or self.world.load).ask("mark")["figures"]
        self.take(figures)
        return figures

    def take(self, figures):
        self.counted["wrong"] += figures["wrong"]
        self.counted["errors"] += figures["errors"]
        for key in ("pushes", "reads", "missed", "given_up"):
            self.found[key] = self.found.get(key, 0) + figures[key]
        self.note(*figures["examples"])
        if self.found["given_up"] > GIVEN_UP_MAX:
            raise Trouble(f"{self.found['given_up']} reads of acked blocks were given up: the row ends here")

    def verify(self, load=None, s=5):
        """Everything acked is there. The load is stopped meanwhile."""
        verdict = (load or self.world.load).ask("verify", s=s)
        self.counted["wrong"] += verdict["wrong"]
        self.counted["lost"] += verdict["lost"]
        self.found["verified"] = self.found.get("verified", 0) + verdict["held"]
        self.note(*verdict["examples"])
        return verdict

    def note(self, *texts):
        self.notes.extend(texts)
        del self.notes[20:]

    def sweep(self, load=None, seconds=SWEEP_S):
        """Until every prompt known at the mark was read. False when that took too long."""
        return (load or self.world.load).ask("await", sweep=True, s=seconds)["reached"]

    def time(self, name, value, limit=None):
        """The worst of all cycles is kept. None: it could not be measured."""
        if value is not None:
            value = round(value, 3)
            self.times[name] = max(self.times.get(name, value), value)
        else:
            self.times.setdefault(name, None)
        if limit is None:
            return
        self.must[name] = f"<= {limit}"
        if self.settings.long and (value is None or value > limit):
            self.missed_musts[name] = f"{name} is {value}, must be at most {limit}"

    def hold(self, name, value, least=None, most=None):
        """A count that the machine's speed has no part in."""
        self.found[name] = value
        bounds = [f">= {least}"] * (least is not None) + [f"<= {most}"] * (most is not None)
        self.must[name] = " and ".join(bounds)
        if value is None or (least is not None and value < least) or (most is not None and value > most):
            self.missed_musts[name] = f"{name} is {value}, must be {self.must[name]}"

    # ---- the line ----------------------------------------------------------------------------------------------------
    def failures(self):
        bad = [f"{name} is {count}, must be 0" for name, count in self.counted.items() if count]
        return bad + list(self.missed_musts.values())

    def line(self, trouble, seconds):
        failures = self.failures() + ([trouble] if trouble else [])
        line = {"goal": self.goal, "what": self.what, "seed": self.settings.seed, "members": self.settings.members,
                "cycles": self.cycles_done, **self.counted, "found": self.found, "times": self.times, "must": self.must,
                "seconds": round(seconds, 1), "ok": not failures}
        if failures:
            line["why"] = [failure.splitlines()[0] for failure in failures]
            line["logs"] = str(self.settings.directory)
        return line


def run(goal, what, drive, settings):
    """Drives one row to its end, whatever happens; prints its line. True when it is ok."""
    row = Row(goal, what, settings)
    begin, trouble, evidence = time.monotonic(), "", ""
    say(f"== {goal}: {what} (seed {settings.seed}, members {settings.members})")
    try:
        drive(row)
    except Trouble as cause:
        trouble = str(cause)
    if row.world is not None and (trouble or row.failures()):
        evidence = row.world.evidence()
    row.close_world()
    line = row.line(trouble, time.monotonic() - begin)
    print(json.dumps(line), flush=True)
    if not line["ok"]:
        show_failure(row, line, trouble, evidence)
    elif not settings.keep:
        for directory in settings.directory.glob(f"{goal}-*"):
            shutil.rmtree(directory, ignore_errors=True)
    say(f"-- {goal}: {'ok' if line['ok'] else 'FAILED'} after {line['seconds']} s")
    return line["ok"]


def show_failure(row, line, trouble, evidence):
    say(f"{row.goal} failed in cycle {row.cycle + 1}. Again with: ./run cluster {row.goal} --seed {row.settings.seed}")
    for text in line["why"]:
        say(f"  why: {text}")
    if "\n" in trouble:
        say(trouble)
    for text in row.notes:
        say(f"  seen: {text}")
    if evidence:
        say(f"Nodes and ends of their logs (all in {row.settings.directory}):\n{evidence}")
