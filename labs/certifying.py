"""Whether a run on a lab can vouch for itself: everything that can spoil it is watched while it runs.

with certified(lab) as watch:
    …
    verdict = watch.vouch(lab.wait_routes_match(…))      INVALID, with the reason, where the run proves nothing

Watched: CPU time that the hypervisor took and threads that woke late (HostWatch), the clocks (ClockWatch), how asicd
fared (its reactions, and what it lost), and changes by other labs (the lease, where the block is a measurement). Pacing
is in the report of whatever sends, and in the verdicts on it. What follows from what: labs/verdicts/certified.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from labs.errors import LabError
from labs.lab import Lab
from labs.load_bridge import covered_s
from labs.telemetry.asicd_counters import AsicdCounters
from labs.telemetry.awake import kept_awake
from labs.telemetry.clock_watch import ClockWatch
from labs.telemetry.host_watch import HostWatch
from labs.verdicts import Fidelity, Verdict
from labs.verdicts.certified import Seen, certify

# Payload of 4096 bytes with its headers and preamble: the frame of every collective, by which headroom is judged.
FRAME_BYTES = 4096 + 82


@dataclass(frozen=True, slots=True)
class Certifying:
    """A run that is watched, or was. Inside its block the answers are of the time so far, then of all."""

    host: HostWatch
    clock: ClockWatch
    asicd: Callable[[], AsicdCounters | None]
    before: AsicdCounters | None = None
    covered_us: float | None = None
    disturbed: Callable[[], str | None] = lambda: None

    def seen(self, *, emulated: bool = True) -> Seen:
        """What was seen since the block was entered; of the soft ASIC only where that is asked for."""
        if not emulated:
            return Seen(host=self.host.sample(), clock=self.clock.sample(), disturbed=self.disturbed())
        now = self.asicd()
        counted = now - self.before if now is not None and self.before is not None else None
        return Seen(
            host=self.host.sample(),
            clock=self.clock.sample(),
            asicd=counted,
            asicd_gone=self.before is not None and now is None,
            covered_us=self.covered_us,
            disturbed=self.disturbed(),
        )

    def vouch(self, verdict: Verdict, *, took_s: float | None = None) -> Verdict:
        """The verdict, INVALID with the reason where the run cannot vouch for it."""
        seen = self.seen(emulated=verdict.fidelity is Fidelity.EMULATED)
        return certify(verdict, seen, took_s=took_s)


@contextmanager
def certified(lab: Lab, *, disturbed: Callable[[], str | None] = lambda: None) -> Iterator[Certifying]:
    """Watch the workstation for a lab's sake for the length of a block, in which its processors are kept awake.

    Args:
        disturbed: why it was no quiet moment (`lease.Lease.disturbed`), where the block is a measurement.
    """
    with ExitStack() as stack:
        stack.enter_context(kept_awake())
        host = stack.enter_context(HostWatch())
        clock = stack.enter_context(ClockWatch())
        before = _asicd(lab)
        covered = covered_s(lab.asic, FRAME_BYTES) * 1e6 if lab.asic is not None and before is not None else 0.0
        yield Certifying(host, clock, lambda: _asicd(lab), before, covered if covered > 0 else None, disturbed)


def _asicd(lab: Lab) -> AsicdCounters | None:
    """What the soft ASIC's process has counted so far; None where there is none, or none that answers."""
    if lab.asic is None or not lab.asic.alive:
        return None
    try:
        return lab.asic.counters().asicd
    except LabError:
        return None
