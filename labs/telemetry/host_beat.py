"""How the workstation fares, as the Recorder's own loop sees it: withheld CPU time, and how late it is woken.

`labs.telemetry.host_watch` does the same with a thread for the length of a measurement; a process that runs as long as
its lab makes do with fewer wake-ups.
"""

from __future__ import annotations

import time
from pathlib import Path

from labs.errors import LabError
from labs.telemetry.host_watch import Ticks, cpu_ticks, stalled_us, stolen
from labs.telemetry.records import HostRecord

# Twenty wake-ups a second: a stall is seen for what it lasts beyond its first 50 ms at worst.
BEAT_NS = 50_000_000


class HostBeat:
    """Counts lateness between samples. `late_worst_ns` is that of the process's whole life."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._worst_ns = 0
        self.late_worst_ns = 0
        self._before = self._read()

    def late(self, ns: int) -> None:
        """The loop was woken that much later than it asked for."""
        self._worst_ns = max(self._worst_ns, ns)
        self.late_worst_ns = max(self.late_worst_ns, ns)

    def sample(self) -> HostRecord:
        """How it fared since the last sample."""
        before, self._before = self._before, self._read()
        (began, ticks_before, stalled_before), (now, ticks, stalled) = before, self._before
        lasted, (steal, *of_each) = (now - began) / 1e9, stolen(ticks_before, ticks)
        waited = None if stalled is None or stalled_before is None else (stalled - stalled_before) / 1e6
        worst, self._worst_ns = self._worst_ns, 0
        return HostRecord(
            t=now,
            duration_s=round(lasted, 6),
            steal=round(steal, 6),
            steal_worst=round(max((steal, *of_each)), 6),
            starved_s=round(worst / 1e9, 6),
            cpu_pressure=round(min(1.0, waited / lasted), 6) if waited is not None and lasted > 0 else None,
        )

    def _read(self) -> tuple[int, Ticks, int | None]:
        try:
            ticks = cpu_ticks((self._proc / "stat").read_text(encoding="ascii"))
            stalled = stalled_us((self._proc / "pressure" / "cpu").read_text(encoding="ascii"))
        except OSError:  # a kernel without pressure stall information, or with it switched off
            stalled = None
            ticks = cpu_ticks((self._proc / "stat").read_text(encoding="ascii"))
        except LabError:
            ticks, stalled = (), None
        return time.monotonic_ns(), ticks, stalled
