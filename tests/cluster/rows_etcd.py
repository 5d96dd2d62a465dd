# SPDX-License-Identifier: Apache-2.0
"""Row R13: etcd fails in three ways, and clients do not notice."""
from children import Trouble
from rows_kill import begin, finish

REJOIN_S = 10
LEASE_S = 10
PUT_BYTES, PUTS_MAX = 1 << 20, 300
DOWN_S = {False: LEASE_S + 3, True: 3600}  # of all members: at least until every lease would have ended


def in_touch(world):
    """Whether every node says that it hears etcd, and all see all."""
    for status in world.statuses().values():
        if not status["reachable"] or ": ok" not in status["membership_source"]:
            return False
        if status["members"] != {name: "serving" for name in world.running()}:
            return False
    return True


def all_down(row, world):
    for member in world.etcd.values():
        member.kill()
    world.last(DOWN_S[row.settings.long])
    for member in world.etcd.values():
        member.start()
    return "all members killed"


def leader_stopped(row, world):
    leader = world.etcd_leader()
    world.etcd[leader].pause()
    world.wait(lambda: world.etcd_leader() not in (None, leader), LEASE_S, "another leader")
    world.last(LEASE_S)
    world.etcd[leader].resume()
    return f"leader {leader} stopped"


def disk_full(row, world):
    """No room on any disk, and writes that need some: etcd has 64 MB in hand, then it fails as it will."""
    for member in world.etcd.values():
        member.may_end = True
        member.fill_disk()
    leader, taken = world.etcd[world.etcd_leader()], 0
    while taken < PUTS_MAX and leader.put("c", b"filler", bytes(PUT_BYTES)):
        taken += 1
    world.last(LEASE_S)
    ended = [name for name, member in world.etcd.items() if member.process.poll() is not None]
    for name, member in world.etcd.items():
        member.free_disk()
        if name in ended:
            member.start()
        member.may_end = False
    return f"disks full: refused after {taken} MiB more, {len(ended)} of {len(world.etcd)} members ended"


def r13(row):
    """All down; the leader stopped; no room on its disks."""
    if row.settings.members == "static":
        raise Trouble("this build's kvasird knows no --members etcd:URL: nothing to test")
    # In an hour a slow writer fills no memory.
    world = begin(row, etcd_members=3, etcd_disks=True, load={"prompts_per_s": 0.5} if row.settings.long else {})
    for cycle in row.cycles(3):
        row.mark()
        what = (all_down, leader_stopped, disk_full)[cycle % 3](row, world)
        took = world.wait(lambda: in_touch(world), 60, "every node to be in touch with etcd again")
        row.time("rejoin_s", took, REJOIN_S)
        world.settle("etcd came back")
        figures = row.mark()
        failed = figures["errors"] + figures["missed"]
        row.hold("failed_gets_and_puts", row.found.get("failed_gets_and_puts", 0) + failed, most=0)
        row.tell(f"{what}: {figures['reads']} reads, {figures['pushes']} pushes, {figures['errors']} errors, "
                 f"{figures['missed']} blocks missed; rejoined {took:.1f} s after")
    finish(row)
