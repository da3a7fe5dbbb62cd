"""Telling a lab's Recorder something for the timeline: the side of those who tell.

The Recorder listens at a stream socket in the lab's folder of the index. One connection is one telling: lines of JSON,
each a record; then the end. Nobody waits for an answer, but who asks for one: a line ``{"ask": …}`` instead.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from labs import index
from labs.telemetry.records import Record

SOCKET = "recorder.sock"
# A Recorder takes what it is told within milliseconds; one that is starved or stopped must not hold up others.
TOLD_WITHIN_S = 2.0
# For how long the Recorder holds back what it knows, so that it can write it in the order of time.
HOLD_S = 0.25
_ENCODER = msgspec.json.Encoder()


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """What a Recorder answers: records `written` to the file since it began, and `lost` where the disk was full.

    `late_worst_s` is the longest that it woke up late, `cpu_s` the CPU time it took, both since it began `up_s` ago.
    """

    written: int = 0
    lost: int = 0
    pid: int = 0
    up_s: float = 0.0
    cpu_s: float = 0.0
    late_worst_s: float = 0.0
    full: bool = False


def tell(lab_name: str, *records: Record) -> bool:
    """Send records to the lab's Recorder; False when none answers. Costs some 50 µs, and waits for nothing."""
    try:
        with _connected(lab_name) as to:
            to.sendall(b"".join(_ENCODER.encode(record) + b"\n" for record in records))
    except OSError:
        return False
    return True


def flush(lab_name: str, *, within: float = 10.0) -> Written | None:
    """Wait until everything told so far is in the file, which takes HOLD_S; None when no Recorder answers."""
    return _ask(lab_name, "flush", within)


def finish(lab_name: str, *, within: float = TOLD_WITHIN_S) -> Written | None:
    """The same at once, for a lab that is about to go: the Recorder stops sorting. None when no Recorder answers."""
    return _ask(lab_name, "finish", within)


def answers(lab_name: str, *, within: float = TOLD_WITHIN_S) -> Written | None:
    """How the lab's Recorder fares; None when none answers."""
    return _ask(lab_name, "status", within)


def _ask(lab_name: str, what: str, within: float) -> Written | None:
    try:
        with _connected(lab_name) as to:
            to.settimeout(within)
            to.sendall(_ENCODER.encode({"ask": what}) + b"\n")
            answer = to.makefile("rb").readline()
        return msgspec.json.decode(answer, type=Written)
    except (OSError, msgspec.MsgspecError):
        return None


@contextmanager
def _connected(lab_name: str) -> Iterator[socket.socket]:
    """A connection to the lab's Recorder. Raises OSError."""
    with (
        named_through(lab_name) as name,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as to,
    ):
        to.settimeout(TOLD_WITHIN_S)
        to.connect(name)
        yield to


@contextmanager
def named_through(lab_name: str) -> Iterator[str]:
    """A short name of the socket: its own may be longer than the 107 bytes that one may have. Raises OSError."""
    folder = os.open(index.lab_dir(lab_name), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{SOCKET}"
    finally:
        os.close(folder)
