"""Who ends a lab's faults in time, without a Recorder: tries that fail, hang or cannot be started. No root."""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from labs import fault_ending, index
from labs.fault_ending import FaultEnding
from labs.journal import Change, boot_id
from labs.telemetry.records import FaultEvent
from labs.undo import identity
from labs.waiting import wait_until

LAB = "ending"
SOON_NS = 100_000_000


@dataclass
class Loop:
    """What a Recorder's loop does with a `FaultEnding`, whose tries are a command of the test's."""

    argv: tuple[str, ...]
    selector: selectors.DefaultSelector = field(default_factory=selectors.DefaultSelector)
    events: list[FaultEvent] = field(default_factory=list)
    slowest_s: float = 0.0

    def __post_init__(self) -> None:
        self.ending = FaultEnding(LAB, self.register, self.give_up, self.argv)

    def register(self, fd: int, call: Callable[[], None]) -> None:
        self.selector.register(fd, selectors.EVENT_READ, call)

    def give_up(self, fd: int) -> None:
        self.selector.unregister(fd)

    def turn(self) -> None:
        began = time.monotonic()
        for key, _ in self.selector.select(0):
            key.data()
        self.events += self.ending.act(time.monotonic_ns())
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)

    def until(self, holds: Callable[[], bool], within: float = 20.0) -> bool:
        def turned() -> bool:
            self.turn()
            return holds()

        return wait_until("the loop has come to it", turned, bool, within=within, most=0.02).held


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fault_ending, "AGAIN_NS", 50_000_000)
    monkeypatch.setattr(fault_ending, "MOST_AGAIN_NS", 200_000_000)
    index.lab_dir(LAB).mkdir(parents=True)


def a_fault(**args: object) -> str:
    told = {"fault": "link-down", "target": "a:b", "params": {}, "claims": [], "at": "", "made_ns": 0, "steps": []}
    until = time.monotonic_ns() + SOON_NS
    entry = index.journal(LAB).will(Change("fault", {**told, "until_ns": until, "boot": boot_id(), **args}))[0]
    return f"f{entry.n}"


def a_try(shell: str) -> tuple[str, ...]:
    return ("sh", "-c", shell, "try")


def test_a_try_that_fails_is_made_again_ever_more_rarely() -> None:
    number = a_fault()
    loop = Loop(a_try('read word; echo "$2: the lab is locked" >&2; exit 1'))
    loop.ending.look()
    assert loop.until(lambda: len(loop.events) == 5)
    assert {(one.id, one.phase, one.by) for one in loop.events} == {(number, "failed", "the Recorder")}
    assert loop.events[0].because == f"{number}: the lab is locked; tried again in 0.05 s"
    pauses = [later.t - sooner.t for sooner, later in zip(loop.events, loop.events[1:], strict=False)]
    assert all(pause >= due for pause, due in zip(pauses, (50e6, 100e6, 200e6, 200e6), strict=True))


def test_a_try_that_told_why_itself_is_told_once() -> None:
    number = a_fault()
    loop = Loop(a_try("read word; exit 1"))
    loop.ending.look()
    assert loop.until(lambda: loop.ending._endings[number].trying is not None)
    loop.ending.seen(FaultEvent(t=1, id=number, fault="link-down", target="a:b", phase="failed", because="mine"))
    assert loop.until(lambda: loop.ending._endings[number].tries == 2)
    assert loop.events == []


def test_a_try_that_hangs_holds_up_nobody() -> None:
    """One sleeps, with its standard error kept open by a child of its own; the other fault ends all the same."""
    a_fault()
    other = a_fault()
    loop = Loop(a_try(f'read word; [ "$2" = {other} ] || {{ sleep 60 & sleep 60; }}; exit 1'))
    loop.ending.look()
    assert loop.until(lambda: [one.id for one in loop.events][:2] == [other, other])
    assert loop.slowest_s < 1.0
    for one in loop.ending._endings.values():
        if one.trying is not None:
            one.trying.child.kill()


def test_a_workstation_without_room_for_a_process_is_tried_again() -> None:
    a_fault()
    loop = Loop(("/there/is/none",))
    loop.ending.look()
    assert loop.until(lambda: len(loop.events) == 2)
    assert "cannot be started" in loop.events[0].because


def test_a_try_that_died_before_its_time_is_never_made_early() -> None:
    """A try is made ready ahead of the time; one that dies then is made again at the time, not sooner."""
    until = time.monotonic_ns() + 1_000_000_000
    number = a_fault(until_ns=until)
    loop = Loop(a_try("exit 1"))
    loop.ending.look()
    assert loop.until(lambda: len(loop.events) == 1)
    assert loop.events[0].t < until
    assert loop.ending._endings[number].due_ns == until


def test_what_somebody_else_took_back_is_tried_no_more() -> None:
    number = a_fault()
    loop = Loop(a_try("read word; exit 1"))
    loop.ending.look()
    assert loop.until(lambda: len(loop.events) == 1)
    journal = index.journal(LAB)
    journal.done(journal.open_entries())
    loop.ending.look()
    assert number not in loop.ending._endings
    assert loop.ending.due_ns() is None


def test_a_try_waits_behind_others_and_acts_among_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the Recorder's own priority is: what it starts would inherit that."""
    set_to: list[int] = []
    monkeypatch.setattr("os.setpriority", lambda _which, _pid, value: set_to.append(value))
    number = a_fault(until_ns=time.monotonic_ns() + 1_000_000_000)
    loop = Loop(a_try("read word; exit 1"))
    loop.ending.look()
    assert loop.until(lambda: loop.ending._endings[number].trying is not None)
    assert set_to == [5]
    assert loop.until(lambda: bool(loop.events))
    assert set_to == [5, 0]


def test_a_try_whose_priority_nobody_may_change_is_made_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("os.setpriority", refused)
    a_fault()
    loop = Loop(a_try("read word; exit 1"))
    loop.ending.look()
    assert loop.until(lambda: len(loop.events) == 2)


def test_a_holder_that_could_not_be_watched_is_with_the_next_look(monkeypatch: pytest.MonkeyPatch) -> None:
    number = a_fault(until_ns=None, by=identity(os.getpid()))
    loop = Loop(a_try("read word; exit 1"))

    def refused(fd: int, call: Callable[[], None]) -> None:
        raise OSError(f"no room to hear of {fd} by {call}")

    with monkeypatch.context() as patched:
        patched.setattr(loop.ending, "register", refused)
        with pytest.raises(OSError, match="no room"):
            loop.ending.look()
    assert not loop.ending._endings
    loop.ending.look()
    assert len(loop.selector.get_map()) == 1
    assert loop.ending._endings[number].due_ns is None
