# SPDX-License-Identifier: Apache-2.0
"""Child processes of a test: they end with it, and every wait for one has a bound and shows the tail of its log.

Nothing here waits by the clock: a child says that it is ready by a pipe, answers a line, or ends, which closes both.
"""
import ctypes
import os
import pathlib
import selectors
import signal

PR_SET_PDEATHSIG = 1


class Trouble(Exception):
    """Something the test cannot go on after: cause and next step, for a person."""


def tail(path, lines=15):
    """The end of a log, indented."""
    try:
        text = pathlib.Path(path).read_text(errors="replace").splitlines()[-lines:]
    except OSError:
        text = []
    return "\n".join("    " + line for line in text) or "    (its log is empty)"


def dies_with_parent():
    """In the child: whatever happens to the test, even kill -9, this process does not stay behind."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def read_line(stream, seconds, who, log):
    """One line of a child's pipe; Trouble with the log's tail when it ended or kept silent instead."""
    line = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(seconds):
                raise Trouble(f"{who} has not answered for {seconds} s. The end of its log, {log}:\n{tail(log)}")
            more = os.read(stream.fileno(), 1 << 20)
            if not more:
                raise Trouble(f"{who} ended instead of answering. The end of its log, {log}:\n{tail(log)}")
            line += more
    return bytes(line)
