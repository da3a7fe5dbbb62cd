"""Watches the workstation itself while something is measured on it: stolen CPU time and late wake-ups.

The lateness is that of a thread of this very process, so it includes waiting for the interpreter's lock: that is
meant, the measurements run here too. What it does not see: a CPU that is slow without being taken (frequency,
a busy sibling thread).
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from labs.errors import LabError
from labs.telemetry.awake import spun_ns
from labs.telemetry.samples import HostSample
from labs.waiting import wait_until

# Fifty wake-ups a second cost half a percent of a core (measured), and see every stall for what it lasts beyond
# its first 20 ms at worst; the shortest limit judged here (0.2 s) allows a lateness of 20 ms.
PERIOD_S = 0.02
# How much of a processor may be taken where measuring begins or is tried again, half of what verdicts allow: where it
# is more for too long it is tried all the same, and judges for itself.
CALM_STEAL = 0.05

Ticks = tuple[tuple[int, int], ...]


class HostWatch:
    """Watch the workstation for the length of a `with` block.

    ``with HostWatch() as watch: …`` then `watch.sample()`: inside the block it covers the time since its start,
    after it the whole block.

    Args:
        proc: where the proc file system is mounted; tests give a folder of their own.
        clock: seconds that only rise.
        period_s: how often the thread asks to be woken.

    Raises LabError when `proc` has no readable ``stat``.
    """

    def __init__(
        self, *, proc: Path = Path("/proc"), clock: Callable[[], float] = time.monotonic, period_s: float = PERIOD_S
    ) -> None:
        self._proc = proc
        self._clock = clock
        self._period_s = period_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="railbed-host-watch", daemon=True)
        self._worst_s = 0.0
        self._due_s = float("inf")
        self._before: tuple[float, Ticks, int | None] = (0.0, (), None)
        self._spun_ns = 0
        self._final: HostSample | None = None

    def __enter__(self) -> Self:
        self._before, self._spun_ns = self._read(), spun_ns()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        final = self.sample()
        self._ended.set()
        self._thread.join()
        self._final = final

    def sample(self) -> HostSample:
        """How the workstation fared since the block was entered."""
        if self._final is not None:
            return self._final
        began, ticks_before, stalled_before = self._before
        now, ticks, stalled = self._read()
        lasted, (steal, *of_each) = now - began, stolen(ticks_before, ticks)
        waited = None if stalled is None or stalled_before is None else (stalled - stalled_before) / 1e6
        spun_s = (spun_ns() - self._spun_ns) / 1e9
        if spun_s:  # who keeps processors awake waits for one whenever somebody else has it
            waited = None
        return HostSample(
            duration_s=lasted,
            steal=steal,
            # A thread that is overdue right now counts as late until now.
            starved_s=max(self._worst_s, now - self._due_s, 0.0),
            cpu_pressure=min(1.0, waited / lasted) if waited is not None and lasted > 0 else None,
            steal_worst=max((steal, *of_each)),
            kept_awake=min(1.0, spun_s / lasted / max(1, len(of_each))) if lasted > 0 else 0.0,
        )

    def _watch(self) -> None:
        while not self._ended.is_set():
            due = self._clock() + self._period_s
            self._due_s = due
            if self._ended.wait(self._period_s):
                return
            self._worst_s = max(self._worst_s, self._clock() - due)

    def _read(self) -> tuple[float, Ticks, int | None]:
        ticks = cpu_ticks(self._text("stat"))
        try:
            stalled = stalled_us(self._text("pressure/cpu"))
        except LabError:  # a kernel without pressure stall information, or with it switched off
            stalled = None
        return self._clock(), ticks, stalled

    def _text(self, name: str) -> str:
        try:
            return (self._proc / name).read_text(encoding="ascii")
        except OSError as error:
            raise LabError(f"cannot read {self._proc / name}: {error.strerror}") from error


def cpu_ticks(stat: str) -> Ticks:
    """(total, steal) clock ticks out of the text of ``/proc/stat``: of all CPUs together, then of each.

    The ninth and tenth number (guest time) are already in the first two. Raises LabError for a text without the
    ``cpu`` line.
    """
    lines = [line.split() for line in stat.splitlines() if line.startswith("cpu")]
    if not lines or lines[0][0] != "cpu":
        raise LabError("/proc/stat has no line for all CPUs")
    counted = [[int(word) for word in words[1:9]] for words in lines]
    return tuple((sum(ticks), ticks[7] if len(ticks) > 7 else 0) for ticks in counted)


def stolen(before: Ticks, after: Ticks) -> list[float]:
    """The fraction of its time that was taken from all CPUs together, then from each, as far as both know them."""
    return [
        (steal - steal_before) / (total - total_before) if total > total_before else 0.0
        for (total_before, steal_before), (total, steal) in zip(before, after, strict=False)
    ]


def stolen_under_load(for_s: float = 0.5) -> float:
    """The fraction of its time that the processor from which most is taken loses (0 … 1), while all are kept busy.

    Nothing is taken from processors that idle: a workstation that waits cannot say whether it would get them.
    """
    until, block = time.monotonic() + for_s, bytes(1 << 18)

    def work(_: int) -> None:
        while time.monotonic() < until:
            hashlib.sha256(block)  # without the interpreter's lock

    with HostWatch() as watch, ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(work, range(os.cpu_count() or 1)))
    return watch.sample().steal_worst


class Patience:
    """Waits until the workstation has its processors to itself: seconds at most, each time and all times together."""

    def __init__(self, *, within: float, in_all: float) -> None:
        self.within = within
        self.left_s = in_all

    def wait_calm(self) -> None:
        """Wait, while there is patience left."""
        if self.left_s <= 0 or stolen_under_load() <= CALM_STEAL:
            return
        within = min(self.within, self.left_s)
        calm = wait_until(
            "the workstation is calm", stolen_under_load, lambda share: share <= CALM_STEAL, within=within
        )
        self.left_s -= calm.took_s


def stalled_us(pressure: str) -> int | None:
    """Microseconds in which some task waited for a CPU, out of the text of ``/proc/pressure/cpu``."""
    for line in pressure.splitlines():
        if line.startswith("some "):
            return int(line.rpartition("total=")[2])
    return None
