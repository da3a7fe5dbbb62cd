"""Could the run vouch for itself? Every verdict of a run against all that was watched while it ran.

health.py says what a starved workstation does to a verdict; here is the rest:

clock     CLOCK_MONOTONIC orders a timeline, the wall clock stamps what daemons log and what asicd calls a storm. If
          the wall clock was set, or the monotonic one was slewed, a time limit may be off by that much. The law is that
          of lateness: at most a tenth of the limit. A workstation that slept meanwhile proves no time at all.
soft ASIC queues, rates and pauses are emulated by programs on this workstation's CPUs. A gate that the kernel refused
          to close, an event found by looking because its ring was full, a packet that the kernel's backlog dropped, or
          a pause that was obeyed later than the headroom covers: each makes a sound fabric look broken. None makes a
          broken one look sound, unless there is a time in it: so a held verdict without one stays.
          asicd that went away took the emulation along: nothing emulated stays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from labs.telemetry.asicd_counters import AsicdCounters
from labs.telemetry.samples import ClockSample, HostSample
from labs.verdicts import Evidence, Fidelity, Verdict
from labs.verdicts.health import STARVED_SHARE, vouch
from labs.verdicts.pfc import longest_us

# Two clocks are read one after the other; a thread that is held up in between reads them apart. The nearest of several
# readings is taken, so that what is left is well below the shortest error that counts: a tenth of 50 ms.
CLOCK_BLUR_S = 0.002


@dataclass(frozen=True, slots=True)
class Seen:
    """What was watched while something ran.

    `asicd` is what the soft ASIC's process counted meanwhile, None without one; `asicd_gone`: it was there at the start
    and does not answer now. `covered_us` is the longest reaction that the lossless headroom covers, None where there is
    none. `disturbed` is why the lease says it was no quiet moment.
    """

    host: HostSample
    clock: ClockSample
    asicd: AsicdCounters | None = None
    asicd_gone: bool = False
    covered_us: float | None = None
    disturbed: str | None = None

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        host = {
            "duration_s": round(self.host.duration_s, 3),
            "steal": round(self.host.steal, 4),
            "steal_worst": round(self.host.steal_worst, 4),
            "starved_s": round(self.host.starved_s, 4),
            "kept_awake": round(self.host.kept_awake, 4),
            "cpu_pressure": self.host.cpu_pressure and round(self.host.cpu_pressure, 4),
        }
        asicd = self.asicd.to_dict() if self.asicd else None
        return {"workstation": host, "clock": self.clock.as_dict(), "asicd": asicd, "covered_us": self.covered_us}


def certify(verdict: Verdict, seen: Seen, *, took_s: float | None = None) -> Verdict:
    """The verdict, INVALID with the reason where the run cannot vouch for it.

    One that was already vouched for by a watch of its own moment is not held against the whole run's worst one.

    Args:
        took_s: what its time limit was kept by, where it is known.
    """
    told = verdict if verdict.watched else vouch(verdict, seen.host, took_s=took_s)
    if not told.valid:
        return told
    reasons = [*_clock(told, seen.clock), *_asic(told, seen)]
    if seen.disturbed and told.budget_s is not None:
        reasons.append(seen.disturbed)
    if not reasons:
        return told
    numbers = {**told.evidence.numbers, "clock": seen.clock.as_dict()}
    return replace(told, evidence=Evidence(told.evidence.summary, numbers, told.evidence.rows)).invalid(
        "; ".join(reasons)
    )


def _clock(verdict: Verdict, clock: ClockSample) -> list[str]:
    if verdict.budget_s is None:
        return []
    if clock.slept_s > CLOCK_BLUR_S:
        return [f"the workstation was suspended for {clock.slept_s:.3g} s"]
    most = max(STARVED_SHARE * verdict.budget_s, CLOCK_BLUR_S)
    reasons = []
    if abs(clock.stepped_s) > most:
        reasons.append(f"the wall clock was set by {clock.stepped_s:+.3g} s, {most:.3g} s allowed")
    elif clock.set_meanwhile:
        reasons.append("the wall clock was set meanwhile, by how much at its worst nobody knows")
    if abs(clock.slewed) > STARVED_SHARE:
        reasons.append(f"the monotonic clock was off by {clock.slewed:+.1%}, {STARVED_SHARE:.0%} allowed")
    return reasons


def _asic(verdict: Verdict, seen: Seen) -> list[str]:
    if verdict.fidelity is not Fidelity.EMULATED:
        return []
    if seen.asicd_gone:
        return ["asicd, which emulates queues and pauses, went away"]
    if seen.asicd is None or (verdict.held and verdict.budget_s is None):
        return []
    counted, reasons = seen.asicd, []
    if counted.gate_errors:
        reasons.append(f"the kernel refused {counted.gate_errors} changes of a gate")
    if counted.events_late:
        reasons.append(f"asicd found {counted.events_late} events late: its ring was full")
    if counted.softnet_dropped:
        reasons.append(f"the kernel's backlog lost {counted.softnet_dropped} packets of the workstation's")
    longest = longest_us(counted)
    if longest is not None and seen.covered_us is not None and longest > seen.covered_us:
        reasons.append(f"a pause took {longest:.0f} µs to be obeyed, the headroom covers {seen.covered_us:.0f} µs")
    return reasons
