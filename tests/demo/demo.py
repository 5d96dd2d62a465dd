# SPDX-License-Identifier: Apache-2.0
"""The main job end to end: three nodes, a prefill and a decode engine, real processes on this machine. ./run demo builds
what it needs and calls this; README.md says what is seen."""
import argparse
import json
import pathlib
import signal
import sys
import tempfile

import prompts
import report
from cluster import Cluster, Trouble
from show import Checks, to_stream
from story import NEW_TOKENS, Story

HERE = pathlib.Path(__file__).resolve().parent
MODEL = HERE.parent / "model"
RUN_BLOCKS = 2
USAGE_STATUS = 2


def parse(arguments):
    parser = argparse.ArgumentParser(prog="run demo", description="Shows what a Kvasir store does, and proves it.")
    parser.add_argument("--build", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--prompt", metavar="FILE", help="any text; each byte is a token. Default: the one that ships")
    parser.add_argument("--json", action="store_true", help="JSON lines on stdout, one a check, the last a summary; all else on stderr")
    parser.add_argument("--report", type=pathlib.Path, metavar="DIR", help="write DIR/index.html: a timeline and the tables, one page")
    parser.add_argument("--keep", action="store_true", help="leave the nodes running and say what to type next")
    parser.add_argument("--members", choices=("static", "etcd"), default="static", help="how the nodes know each other: one list, or an etcd that is started with them (default: static)")
    parser.add_argument("--transport", choices=("tcp", "shm"), default="tcp", help="how block data travels (default: tcp, as between machines)")
    return parser.parse_args(arguments)


def options_of(args, directory):
    """Everything that can be refused before a process is started."""
    args.model, args.heldout = MODEL, MODEL / "heldout.txt"
    context = json.loads((MODEL / "config.json").read_text())["max_position_embeddings"]
    path = args.prompt or MODEL / "prompt.txt"
    args.text = prompts.read(path, context, NEW_TOKENS)
    args.text2 = prompts.sibling(args.text) if args.prompt else (MODEL / "prompt2.txt").read_bytes()
    args.file, args.file2 = directory / "prompt.txt", directory / "prompt2.txt"
    args.file.write_bytes(args.text)
    args.file2.write_bytes(args.text2)
    return args


def tell(story):
    """The whole story, in order."""
    story.start()
    story.lossless()
    story.views()
    story.prefix()
    story.kill()
    story.restart()
    story.damage()


def next_steps(cluster, screen):
    control = cluster.nodes[0].control
    screen.head("The nodes are still running. Type next:")
    for command, why in ((f"{cluster.kvasir_program} --node {control} status", "how full they are and what they counted"),
                         (f"{cluster.kvasir_program} --node {control} ls", "the blocks they hold"),
                         (f"{cluster.kvasir_program} --node {control} bench", "move some more"),
                         (f"kill {' '.join(map(str, cluster.processes()))}; rm -r {cluster.directory}", "end and clean up")):
        screen.line(f"  {command}\n      {why}")


def run(args, directory, screen, checks):
    """Exit status. Whatever was started is stopped, unless it is to be kept and all went well."""
    kept = False
    try:
        options_of(args, directory)
        cluster = Cluster(args.build.resolve(), directory, RUN_BLOCKS, args.keep, args.members)
    except prompts.BadPrompt as bad:
        print(f"demo: {bad}", file=sys.stderr)
        return USAGE_STATUS, kept
    except Trouble as trouble:
        print(f"demo: {trouble}", file=sys.stderr)
        return 1, kept
    story = Story(cluster, screen, checks, args)
    trouble = None
    try:
        tell(story)
        screen.head("What was seen")
        screen.rows(report.rows(story.facts))
        if args.report:
            screen.line()
            screen.line(f"  The report: {report.write(args.report, story.facts, checks, args.text)}")
        if args.keep:
            next_steps(cluster, screen)
            kept = True
    except Trouble as caught:
        trouble = str(caught)
        print(f"\ndemo: {trouble}", file=sys.stderr)
    except KeyboardInterrupt:
        trouble = "interrupted"
        print("\ndemo: interrupted; everything that was started is being stopped", file=sys.stderr)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # impatience must not leave processes behind
        cluster.stop(leave_nodes=kept)
    ok = checks.finish(trouble)
    wrong = [check["check"] for check in checks.failed()] + (trouble.splitlines()[:1] if trouble else [])
    screen.line()
    screen.verdict(ok, f"{len(checks.done) - len(checks.failed())} of {len(checks.done)} checks hold" + "".join(f"; {w}" for w in wrong))
    return 0 if ok else 1, kept


def main(arguments):
    args = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    screen = to_stream(args.json)
    checks = Checks(screen, sys.stdout if args.json else None)
    holder = tempfile.TemporaryDirectory(prefix="kvasir-demo-")
    directory = pathlib.Path(holder.name)
    status, kept = run(args, directory, screen, checks)
    if kept:
        holder._finalizer.detach()
    else:
        holder.cleanup()
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
