"""Which faults of a lab are due to be taken back: their time is up, or the process that held them is gone."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from labs.journal import Entry, boot_id

NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
IsProcess = Callable[[Mapping[str, object]], bool]


@dataclass(frozen=True, slots=True)
class Timer:
    """An open fault that ends by itself. `until_ns` is of CLOCK_MONOTONIC; `by` says who holds it, if anybody does."""

    id: str
    fault: str
    target: str
    params: Mapping[str, str]
    until_ns: int | None
    by: Mapping[str, object] | None


def timers(entries: Iterable[Entry], boot: str | None = None) -> tuple[Timer, ...]:
    """The faults among open entries of a journal that end by themselves. A time of another boot means nothing."""
    found = []
    for entry in entries:
        args: Mapping[str, Any] = entry.change.args
        if entry.change.undo != "fault":
            continue
        until = args.get("until_ns") if args.get("boot") == (boot or boot_id()) else None
        by = args.get("by")
        if until is None and by is None:
            continue
        params = {str(name): str(value) for name, value in args.get("params", {}).items()}
        found.append(Timer(f"f{entry.n}", str(args.get("fault")), str(args.get("target")), params, until, by))
    return tuple(found)


def holder(timer: Timer, is_process: IsProcess) -> int | None:
    """A descriptor that becomes readable when a timer's holder ends; None when it has ended, or there is none.

    The process is looked at again once it is held: its pid may have gone to another one in between. Raises OSError
    where the workstation has no room to hold one: that says nothing of the process.
    """
    if timer.by is None:
        return None
    try:
        fd = os.pidfd_open(int(str(timer.by["pid"])))
    except OSError as error:
        if error.errno in NO_ROOM:
            raise
        return None
    if is_process(timer.by):
        return fd
    os.close(fd)
    return None
