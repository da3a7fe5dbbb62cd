"""Clocks that were set, slewed, or stood still, as the watch tells them apart."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from labs.telemetry.clock_watch import ClockWatch

SECOND = 1_000_000_000


@dataclass
class Clocks:
    """Every clock of a workstation, by number; reading takes no time."""

    now: dict[int, int] = field(
        default_factory=lambda: dict.fromkeys(
            (time.CLOCK_MONOTONIC, time.CLOCK_REALTIME, time.CLOCK_MONOTONIC_RAW, time.CLOCK_BOOTTIME), 5 * SECOND
        )
    )

    def __call__(self, clock: int) -> int:
        return self.now[clock]

    def go(self, seconds: float, *but: int) -> None:
        for clock in self.now:
            if clock not in but:
                self.now[clock] += int(seconds * SECOND)


def test_clocks_that_agree() -> None:
    clocks = Clocks()
    with ClockWatch(read=clocks) as watch:
        clocks.go(3)
    found = watch.sample()
    assert (found.lasted_s, found.stepped_s, found.slewed, found.slept_s) == (3.0, 0.0, 0.0, 0.0)


def test_a_wall_clock_that_was_set_back() -> None:
    clocks = Clocks()
    with ClockWatch(read=clocks) as watch:
        clocks.go(3)
        clocks.now[time.CLOCK_REALTIME] -= 2 * SECOND
        assert watch.sample().stepped_s == -2.0


def test_a_clock_that_is_slewed_against_the_hardware() -> None:
    clocks = Clocks()
    with ClockWatch(read=clocks) as watch:
        clocks.go(10, time.CLOCK_MONOTONIC_RAW)
        clocks.now[time.CLOCK_MONOTONIC_RAW] += 8 * SECOND
    assert watch.sample().slewed == 0.25


def test_a_workstation_that_slept() -> None:
    clocks = Clocks()
    with ClockWatch(read=clocks) as watch:
        clocks.go(1)
        clocks.now[time.CLOCK_BOOTTIME] += 7 * SECOND
        clocks.now[time.CLOCK_REALTIME] += 7 * SECOND
    assert watch.sample().slept_s == 7.0


def test_the_real_clocks_agree() -> None:
    with ClockWatch() as watch:
        pass
    found = watch.sample()
    assert not found.set_meanwhile
    assert abs(found.stepped_s) < 0.01
