"""containerlab's entries in /etc/hosts: one block a lab, edited under containerlab's own lock.

containerlab empties the file before it writes it again. Whoever ends a containerlab holds its lock (`unedited`), so
that the end never comes in between and takes the workstation's host names with it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from itertools import takewhile
from pathlib import Path

from labs.errors import NotReady
from labs.waiting import wait_until

HOSTS = Path("/etc/hosts")
LOCK = Path("/run/lock/clab-hosts.lock")
# An edit takes milliseconds; containerlab asks the engine for its nodes' addresses in the midst of it.
EDIT_WITHIN, STUCK_AFTER = 5.0, 60.0


@contextmanager
def unedited() -> Iterator[None]:
    """Keep every containerlab of this workstation out of /etc/hosts for the length of a block.

    One that is stuck in an edit, with an engine that does not answer, has not emptied the file yet: after EDIT_WITHIN
    the block goes on without the lock.
    """
    if not LOCK.exists():  # no containerlab has run since the workstation was started
        yield
        return
    with LOCK.open("rb") as lock:
        _take(lock, EDIT_WITHIN)
        yield


def _take(lock: BufferedIOBase, within: float) -> bool:
    return wait_until("nobody edits /etc/hosts", lambda: _taken(lock), bool, within=within).held


def _taken(lock: BufferedIOBase) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def remove(lab: str) -> None:
    """Remove a lab's block; every other line stays as it is. Raises NotReady while somebody else keeps the lock."""
    if not HOSTS.exists():
        return
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("ab") as lock:
        if not _take(lock, STUCK_AFTER):
            raise NotReady(f"{LOCK} is held: a containerlab edits /etc/hosts, and does not end", remedy="railbed reap")
        before = HOSTS.read_bytes()
        after = _without_block(before, lab.encode())
        if after != before:
            _replace(before, after)


def _without_block(text: bytes, lab: bytes) -> bytes:
    """A hosts file without a lab's block. Of one whose end is missing only containerlab's own lines are taken."""
    begin, end = (b"###### CLAB-%s-%s ######" % (lab, word) for word in (b"START", b"END"))
    kept = text.splitlines(keepends=True)
    while (first := next((i for i, line in enumerate(kept) if line.strip() == begin), None)) is not None:
        after = [line.strip() for line in kept[first + 1 :]]
        whole = list(takewhile(lambda line: line != end and not line.startswith(b"###### CLAB-"), after))
        if after[len(whole) : len(whole) + 1] == [end]:
            length = len(whole) + 1
        else:
            length = sum(1 for _ in takewhile(lambda line: b"# Kind: " in line, after))
        del kept[first : first + 1 + length]
    return b"".join(kept)


def _replace(before: bytes, after: bytes) -> None:
    """Write in place: in a container /etc/hosts is a mount of its own, which cannot be replaced.

    One write, filled up with empty lines to the length that was there; a crash after it leaves those, and no more.
    """
    with HOSTS.open("r+b", buffering=0) as out:
        out.write(after + b"\n" * (len(before) - len(after)))
        os.fsync(out.fileno())
        out.truncate(len(after))
