"""wait_until: at once, late, never, and how it says so."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import pytest

from labs.waiting import Waited, wait_until


class Clock:
    """Time that passes only by waiting, and by `cost` a look."""

    def __init__(self, cost: float = 0.0) -> None:
        self.now, self.cost, self.pauses = 100.0, cost, list[float]()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def true_from(self, at: float) -> Callable[[], bool]:
        def probe() -> bool:
            self.now += self.cost
            return self.now - 100.0 >= at - 1e-9

        return probe


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock.monotonic)
    monkeypatch.setattr(time, "sleep", clock.sleep)
    return clock


def wait(clock: Clock, at: float, *, within: float = 2.0, grace: float = 0.0) -> Waited[bool]:
    return wait_until("it is so", clock.true_from(at), bool, within=within, grace=grace)


def test_at_once(clock: Clock) -> None:
    waited = wait(clock, 0.0)
    assert (waited.held, waited.took_s, waited.late_by_s, clock.pauses) == (True, 0.0, None, [])
    assert str(waited) == "it is so: after 0.00 s (allowed 2 s)"


def test_in_time(clock: Clock) -> None:
    waited = wait(clock, 1.0)
    assert waited.held
    assert 1.0 <= waited.took_s <= 1.25
    assert clock.pauses == sorted(clock.pauses)
    assert max(clock.pauses) == 0.25


def test_late_within_grace(clock: Clock) -> None:
    waited = wait(clock, 3.0, grace=5.0)
    assert not waited.held
    assert waited.last is True
    assert waited.late_by_s is not None
    assert 1.0 <= waited.late_by_s <= 1.25
    assert str(waited) == f"it is so: became true at {waited.took_s:.2f} s, allowed 2 s"


def test_never(clock: Clock) -> None:
    waited = wait(clock, math.inf, grace=1.0)
    assert (waited.held, waited.late_by_s, waited.last) == (False, None, False)
    assert 3.0 <= waited.took_s <= 3.25
    assert str(waited) == f"it is so: not within 2 s, nor until {waited.took_s:.2f} s"


def test_true_only_by_a_slow_look(clock: Clock) -> None:
    clock.cost = 2.5
    waited = wait(clock, 0.0)
    assert (waited.held, waited.late_by_s) == (False, 0.5)


def test_error_of_the_probe_is_not_swallowed(clock: Clock) -> None:
    del clock

    def probe() -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        wait_until("x", probe, bool, within=1.0)


def test_on_the_real_clock() -> None:
    began = time.monotonic()
    waited = wait_until("x", lambda: time.monotonic() - began > 0.03, bool, within=30.0)
    assert waited.held
    assert 0.03 <= waited.took_s < 30.0
