"""What a source that fails has missed: since it was last heard, until it speaks again."""

from __future__ import annotations

import time

import pytest

from labs.telemetry.guarding import AGAIN_NS, Guard
from labs.telemetry.records import Missed

S = 1_000_000_000


class Clock:
    """A clock that is set by hand."""

    now = 10 * S


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(time, "monotonic_ns", lambda: made.now)
    return made


def fine() -> None:
    """A source with nothing to say."""


def fails() -> None:
    raise OSError("gone")


def test_it_is_missed_since_it_was_last_heard(clock: Clock) -> None:
    told: list[Missed] = []
    guard = Guard(told.append)
    clock.now = 20 * S
    assert guard.call("a", fine)
    clock.now = 30 * S
    assert not guard.call("a", fails)
    assert not guard.call("b", fails)
    assert [(one.since // S, one.t // S) for one in told] == [(20, 30), (10, 30)]  # b was never heard
    clock.now += AGAIN_NS
    assert not guard.call("a", fails)
    clock.now += S
    assert guard.call("a", fine)
    assert [(one.since // S, one.t // S) for one in told[2:]] == [(30, 31), (31, 32)]
    clock.now = 40 * S
    assert not guard.call("a", fails)
    assert (told[-1].since, told[-1].because) == (32 * S, "a could not be heard: OSError: gone")


def test_one_that_had_nothing_to_say_missed_nothing_then(clock: Clock) -> None:
    told: list[Missed] = []
    guard = Guard(told.append)
    clock.now = 50 * S
    assert not guard.call("a", fails, since=49 * S)
    assert told[0].since == 49 * S
