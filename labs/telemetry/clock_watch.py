"""Watches the workstation's clocks while something is measured: was one set, slewed, or did all stand still?

CLOCK_REALTIME     the wall clock: NTP, a person or a hypervisor may set it
CLOCK_MONOTONIC    never set, but slewed by NTP along with the wall clock
CLOCK_MONOTONIC_RAW  the hardware's, slewed by nobody
CLOCK_BOOTTIME     as MONOTONIC, and goes on while the workstation sleeps

Differences are taken at both ends of the interval. Of a clock that was set there and back in between the kernel tells:
a timer on the wall clock with TFD_TIMER_CANCEL_ON_SET is cancelled whenever that is set.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from labs import kernel
from labs.telemetry.samples import ClockSample

READINGS = 5


class ClockWatch:
    """Watch the clocks for the length of a ``with`` block; `sample()` inside it is of the time so far.

    Args:
        read: gives nanoseconds of a clock by its number; tests give clocks of their own.
    """

    def __init__(self, *, read: Callable[[int], int] = time.clock_gettime_ns) -> None:
        self._read = read
        self._timer: int | None = None
        self._set = False
        self._before = (0, 0, 0, 0)
        self._final: ClockSample | None = None

    def __enter__(self) -> Self:
        self._timer = kernel.timer_on_wall_clock()
        self._before = self._look()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._final = self.sample()
        if self._timer is not None:
            os.close(self._timer)
            self._timer = None

    def sample(self) -> ClockSample:
        """What became of the clocks since the block was entered."""
        if self._final is not None:
            return self._final
        if self._timer is not None and kernel.clock_was_set(self._timer):
            self._set = True
        now = self._look()
        mono, wall, raw, boot = ((after - before) / 1e9 for after, before in zip(now, self._before, strict=True))
        return ClockSample(
            lasted_s=mono,
            stepped_s=wall - mono,
            set_meanwhile=self._set,
            slewed=mono / raw - 1 if raw > 0 else 0.0,
            slept_s=boot - mono,
        )

    def _look(self) -> tuple[int, int, int, int]:
        """All four at one moment: of several readings the quickest."""
        order = (time.CLOCK_MONOTONIC, time.CLOCK_REALTIME, time.CLOCK_MONOTONIC_RAW, time.CLOCK_BOOTTIME)
        readings = []
        for _ in range(READINGS):
            mono, wall, raw, boot = (self._read(clock) for clock in order)
            readings.append((self._read(time.CLOCK_MONOTONIC) - mono, (mono, wall, raw, boot)))
        return min(readings)[1]
