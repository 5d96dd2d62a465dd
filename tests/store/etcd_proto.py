# SPDX-License-Identifier: Apache-2.0
"""Every message, field, enum value and call of store/wire/etcd*.proto is in etcd's own, with the same number and type.
Usage: etcd_proto.py ROOT [ETCD_SOURCE]. Where etcd's source is not there it exits 77, which ctest shows as skipped: get it with
`apt-get download golang-etcd-server-dev; dpkg -x golang-etcd-server-dev*.deb DIR` and name DIR/usr/share/gocode/src/go.etcd.io/etcd."""
import re
import sys
from pathlib import Path

INSTALLED = Path("/usr/share/gocode/src/go.etcd.io/etcd")
SKIPPED = 77


def facts(text: str) -> set[str]:
    """"Message.field = type number" of all that is declared, nested ones with their owner's name."""
    text = re.sub(r"//[^\n]*", "", text)
    text = re.sub(r"option\s*\([^;]*;", "", text)
    found, owners = set(), []
    token = re.compile(r"(message|enum|service|oneof)\s+(\w+)\s*\{|rpc\s+(\w+)\s*\(([^)]*)\)\s*returns\s*\(([^)]*)\)|"
                       r"(repeated\s+)?([\w.]+)\s+(\w+)\s*=\s*(\d+)\s*;|(\w+)\s*=\s*(\d+)\s*;|([{}])")
    for match in token.finditer(text):
        kind, name, rpc, asks, answers, repeated, of, field, number, value, value_number, brace = match.groups()
        path = ".".join(owner for owner in owners if owner)
        if kind:
            owners.append("" if kind == "oneof" else name)
        elif rpc:
            found.add(f"{path}.{rpc}({' '.join(asks.split())}) = {' '.join(answers.split())}")
        elif field:
            found.add(f"{path}.{field} = {'repeated ' if repeated else ''}{of} {number}")
        elif value:
            found.add(f"{path}.{value} = {value_number}")
        elif brace == "{":
            owners.append("")
        elif owners:
            owners.pop()
    return found


def main(root: Path, etcd: Path) -> int:
    pairs = {"etcd.proto": etcd / "etcdserver/etcdserverpb/rpc.proto", "etcd_kv.proto": etcd / "mvcc/mvccpb/kv.proto"}
    if not all(theirs.is_file() for theirs in pairs.values()):
        print(f"skipped: etcd's own .proto files are not in {etcd}")
        return SKIPPED
    wrong = 0
    for name, theirs in pairs.items():
        ours = facts((root / "store/wire" / name).read_text())
        unknown = ours - facts(theirs.read_text())
        wrong += len(unknown)
        print(f"{name}: {len(ours)} facts, {len(unknown)} not etcd's")
        print("".join(f"  {fact}\n" for fact in sorted(unknown)), end="")
        if not ours:
            wrong += 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else INSTALLED))
