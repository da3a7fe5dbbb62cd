"""Ends the faults of a lab that end by themselves: at their time, or with the process that held them.

Each is taken back by a process of its own (labs/reverting.py): it needs much that the Recorder is better off without,
may have to wait for a measurement to end, and must not keep the Recorder from listening. It is started LEAD_NS before
the time, for Python takes that long to be ready, and gets the word when it is due.

One that could not be taken back is tried again as long as it is in the journal, ever more rarely: what stood in the way
(a node that was off, a disk that was full) may be gone by then. Each try that failed is an event.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from labs import index
from labs.journal import Journal
from labs.telemetry.records import FaultEvent
from labs.telemetry.timers import Timer, holder, timers
from labs.undo import is_process

LEAD_NS = 2_000_000_000
# From one try to the next: twice as long each time. A minute is little to wait for a fault that stays all the same.
AGAIN_NS, MOST_AGAIN_NS = 1_000_000_000, 60_000_000_000
BY = "the Recorder"
# A try would inherit the Recorder's priority: one that makes itself ready comes after what is measured, then with it.
READY_NICE, ACT_NICE = 5, 0
LAST_WORDS = 4096  # bytes of what a try has said

Register = Callable[[int, Callable[[], None]], None]
"""Has a function called whenever a descriptor becomes readable, until it is given up."""
GiveUp = Callable[[int], None]


@dataclass(eq=False)
class _Try:
    """One process that takes a fault back, once it is `told` to. `end` is a descriptor of it, `said` its errors."""

    child: subprocess.Popen[bytes]
    end: int
    said: IO[bytes]
    told: bool = False

    def nice(self, value: int) -> None:
        """Set how it stands behind others; where nobody may, or it is over, that is no reason against it."""
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, self.child.pid, value)

    def tell(self) -> None:
        """Give the word; one that has ended already says why by its end."""
        self.told = True
        self.nice(ACT_NICE)
        with suppress(OSError):
            if self.child.stdin is not None:
                self.child.stdin.write(b"now\n")
                self.child.stdin.close()

    def call_off(self) -> None:
        """The end of its input, without the word: it ends and does nothing."""
        if self.child.stdin is not None and not self.told:
            with suppress(OSError):
                self.child.stdin.close()

    def because(self) -> str:
        """Its last line; never waits for who else may have its standard error open."""
        size = os.fstat(self.said.fileno()).st_size
        said = os.pread(self.said.fileno(), LAST_WORDS, max(0, size - LAST_WORDS)).decode(errors="replace")
        return (said.strip().splitlines() or ["it was killed"])[-1]


@dataclass(eq=False)
class _Ending:
    """A fault on its way out. `holder` is a descriptor of the process that holds it; next try at `due_ns`, if ever."""

    timer: Timer
    holder: int | None
    due_ns: int | None
    tries: int = 0
    trying: _Try | None = None


@dataclass(frozen=True, slots=True)
class _Failure:
    """A try that came to nothing."""

    ending: _Ending
    because: str


@dataclass(eq=False)
class FaultEnding:
    """Watches one lab's journal; the Recorder calls `look` when it has changed, and `act` all the time."""

    lab: str
    register: Register
    give_up: GiveUp
    argv: tuple[str, ...] = (sys.executable, "-m", "labs.reverting")
    _endings: dict[str, _Ending] = field(default_factory=dict)
    _said_so: set[str] = field(default_factory=set)
    _failures: list[_Failure] = field(default_factory=list)

    def look(self) -> None:
        """Take in what the journal says now."""
        open_now = {one.id: one for one in timers(Journal(index.lab_dir(self.lab) / "journal.jsonl").open_entries())}
        for ended in self._endings.keys() - open_now.keys():
            self._forget(self._endings.pop(ended))
        for new in open_now.keys() - self._endings.keys():
            self._begin(open_now[new])

    def seen(self, event: FaultEvent) -> None:
        """Something that was told: a try that failed may have said so itself."""
        if event.phase == "failed":
            self._said_so.add(event.id)

    def due_ns(self) -> int | None:
        """When `act` has to be called next; None while no timer runs."""
        times = [
            one.due_ns if one.trying is not None or one.tries else one.due_ns - LEAD_NS
            for one in self._endings.values()
            if one.due_ns is not None and not (one.trying is not None and one.trying.told)
        ]
        return min(times, default=None)

    def act(self, now: int) -> Iterator[FaultEvent]:
        """Give the word for what is due, make ready what is due soon; yields what could not be taken back.

        To be called once all is heard: a try's own word comes before its end.
        """
        failures, self._failures = self._failures, []
        for failure in failures:
            yield from self._failed(failure, now)
        for one in self._endings.values():
            if one.due_ns is None:
                continue
            if one.trying is None and now >= one.due_ns - (0 if one.tries else LEAD_NS):
                self._ready(one)
            if now >= one.due_ns and one.trying is not None and not one.trying.told:
                one.trying.tell()

    def _begin(self, timer: Timer) -> None:
        fd = holder(timer, is_process)
        gone = timer.by is not None and fd is None
        one = _Ending(timer, fd, time.monotonic_ns() if gone else timer.until_ns)
        if fd is not None:
            try:
                self.register(fd, lambda: self._orphaned(one))
            except BaseException:
                os.close(fd)
                raise
        self._endings[timer.id] = one  # at last: what failed before is begun anew with the next look

    def _orphaned(self, one: _Ending) -> None:
        one.due_ns = time.monotonic_ns()
        self._let_go_of_holder(one)

    def _let_go_of_holder(self, one: _Ending) -> None:
        if one.holder is not None:
            self.give_up(one.holder)
            os.close(one.holder)
            one.holder = None

    def _ready(self, one: _Ending) -> None:
        """Start a try; a workstation that has no room for a process may have it later."""
        one.tries += 1
        self._said_so.discard(one.timer.id)
        try:
            said = os.fdopen(os.memfd_create("said"), "wb")  # no file: the disk may be full
            child = subprocess.Popen(
                [*self.argv, self.lab, one.timer.id],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=said,
                cwd=Path(__file__).parents[1],
            )
            one.trying = _Try(child, os.pidfd_open(child.pid), said)
            one.trying.nice(READY_NICE)
        except OSError as error:
            self._failures.append(_Failure(one, f"{self.argv[0]} cannot be started: {error}"))
            return
        self.register(one.trying.end, lambda: self._ended(one))

    def _ended(self, one: _Ending) -> None:
        """A try is over; the journal says whether it is done with."""
        ended, one.trying = one.trying, None
        if ended is None:
            return
        self.give_up(ended.end)
        os.close(ended.end)
        status, because = ended.child.wait(), ended.because()
        ended.said.close()
        ended.call_off()
        if status != 0:
            self._failures.append(_Failure(one, because))
        elif self._endings.get(one.timer.id) is one:
            one.due_ns = time.monotonic_ns() + _pause_ns(one.tries)  # unless the journal says by then that it is over

    def _failed(self, failure: _Failure, now: int) -> Iterator[FaultEvent]:
        """An event, unless the try told so itself; then the next one. Nothing when somebody took it back meanwhile."""
        one, timer = failure.ending, failure.ending.timer
        if self._endings.get(timer.id) is not one:
            return
        pause = _pause_ns(one.tries)
        one.due_ns = now + pause if one.due_ns is None else max(now + pause, one.due_ns)  # never before its time
        if timer.id not in self._said_so:
            yield FaultEvent(
                t=now, id=timer.id, fault=timer.fault, target=timer.target, phase="failed", params=dict(timer.params),
                because=f"{failure.because}; tried again in {pause / 1e9:g} s", by=BY,
            )  # fmt: skip

    def _forget(self, one: _Ending) -> None:
        """Somebody took it back: a try that waits for the word ends without it."""
        self._let_go_of_holder(one)
        if one.trying is not None:
            one.trying.call_off()


def _pause_ns(tries: int) -> int:
    return min(AGAIN_NS << min(tries - 1, 16), MOST_AGAIN_NS)
