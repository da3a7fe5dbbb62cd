"""Ends the faults of a lab that end by themselves: at their time, or with the process that held them.

Each is taken back by a process of its own (labs/reverting.py): it needs much that the Recorder is better off without,
may have to wait for a measurement to end, and must not keep the Recorder from listening. It is started LEAD_NS before
the time, for Python takes that long to be ready, and gets the word when it is due.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from labs import index
from labs.journal import Journal
from labs.telemetry.records import FaultEvent
from labs.telemetry.timers import Timer, holder, timers
from labs.undo import is_process

LEAD_NS = 2_000_000_000

Register = Callable[[int, Callable[[], None]], None]
"""Has a function called whenever a descriptor becomes readable, until it is given up."""
GiveUp = Callable[[int], None]


@dataclass(eq=False)
class _Ending:
    """A fault on its way out. `holder` and `child_end` are descriptors of processes."""

    timer: Timer
    holder: int | None
    gone: bool = False
    child: subprocess.Popen[str] | None = None
    child_end: int | None = None
    told: bool = False


class FaultEnding:
    """Watches one lab's journal; the Recorder calls `look` when it has changed, and `act` all the time."""

    def __init__(self, lab_name: str, register: Register, give_up: GiveUp) -> None:
        self._lab = lab_name
        self._register, self._give_up = register, give_up
        self._endings: dict[str, _Ending] = {}
        self._tried: set[str] = set()
        self._failed: set[str] = set()
        self._events: list[FaultEvent] = []

    def look(self) -> None:
        """Take in what the journal says now."""
        open_now = {one.id: one for one in timers(Journal(index.lab_dir(self._lab) / "journal.jsonl").open_entries())}
        for ended in self._endings.keys() - open_now.keys():
            self._forget(self._endings.pop(ended))
        for new in open_now.keys() - self._endings.keys() - self._tried:
            self._begin(open_now[new])

    def seen(self, event: FaultEvent) -> None:
        """Something that was told: a revert that failed has said so itself."""
        if event.phase == "failed":
            self._failed.add(event.id)

    def due_ns(self) -> int | None:
        """When `act` has to be called next; None while no timer runs."""
        times = [
            until if one.child is not None else until - LEAD_NS
            for one in self._endings.values()
            if (until := one.timer.until_ns) is not None and not one.told
        ]
        return min(times, default=None)

    def act(self, now: int) -> Iterator[FaultEvent]:
        """Make ready what is due soon, give the word for what is due; yields what could not be taken back."""
        for one in self._endings.values():
            until = one.timer.until_ns
            soon = one.gone or (until is not None and now >= until - LEAD_NS)
            if soon and one.child is None and one.timer.id not in self._tried:
                self._ready(one)
            if (one.gone or (until is not None and now >= until)) and one.child is not None and not one.told:
                self._tell(one)
        events, self._events = self._events, []
        yield from events

    def _begin(self, timer: Timer) -> None:
        fd = holder(timer, is_process)
        one = self._endings[timer.id] = _Ending(timer, fd, gone=timer.by is not None and fd is None)
        if fd is not None:
            self._register(fd, lambda: self._orphaned(one))

    def _orphaned(self, one: _Ending) -> None:
        one.gone = True
        self._let_go_of_holder(one)

    def _let_go_of_holder(self, one: _Ending) -> None:
        if one.holder is not None:
            self._give_up(one.holder)
            os.close(one.holder)
            one.holder = None

    def _ready(self, one: _Ending) -> None:
        self._tried.add(one.timer.id)
        one.child = subprocess.Popen(
            [sys.executable, "-m", "labs.reverting", self._lab, one.timer.id],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        one.child_end = os.pidfd_open(one.child.pid)
        self._register(one.child_end, lambda: self._ended(one))

    @staticmethod
    def _tell(one: _Ending) -> None:
        one.told = True
        if one.child is not None and one.child.stdin is not None and one.child.poll() is None:
            one.child.stdin.write("now\n")
            one.child.stdin.close()

    def _ended(self, one: _Ending) -> None:
        """The child is done: what it could not do is an event, unless it told so itself or somebody else did it."""
        if one.child is None or one.child_end is None:
            return
        self._give_up(one.child_end)
        os.close(one.child_end)
        one.child_end = None
        said = one.child.stderr.read().strip() if one.child.stderr is not None else ""
        if one.child.wait() != 0 and one.timer.id in self._endings and one.timer.id not in self._failed:
            timer = one.timer
            self._events.append(
                FaultEvent(
                    t=time.monotonic_ns(), id=timer.id, fault=timer.fault, target=timer.target, phase="failed",
                    params=dict(timer.params), because=(said.splitlines() or ["it was killed"])[-1],
                )
            )  # fmt: skip

    def _forget(self, one: _Ending) -> None:
        """Somebody took it back: a child that waits for the word ends without it."""
        self._let_go_of_holder(one)
        if one.child is not None and one.child.stdin is not None and not one.told:
            one.told = True
            one.child.stdin.close()
