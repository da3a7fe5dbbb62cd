"""Could the workstation vouch for what was measured on it?

What starvation can and cannot do decides the rule:

- A verdict with a time limit in it (`Verdict.budget_s`) is invalid when the workstation was starved, *whether it
  held or not*: a starved run is late without the fabric being slow, and its clocks are read late, so that a limit
  can also seem to be kept. Stolen time alone spares one that was kept with room: what took t seconds with a share s
  of the CPUs withheld, read w late, took (t + w) / (1 − s) at most; within the limit, no theft has decided it.
- A verdict without time in it (a spread, route tables, a path) rests on counters and state. Starvation cannot make
  wrong state look right, so a held one stays. Waking late only delays the reading, so lateness alone changes
  nothing. But state that is read while the hypervisor withholds the CPUs may not have settled yet: a false one is
  invalid when steal was above its bound.
"""

from __future__ import annotations

from dataclasses import replace

from labs.telemetry.samples import HostSample
from labs.verdicts import Evidence, Verdict

# One CPU second in ten withheld stretches what the CPU does by 1/(1−0.1) = 1.11: the same error that a tenth of
# the time budget in lateness makes, below.
STEAL_MOST = 0.10
# The kernel counts stolen time in ticks, so one more or less says nothing: in a short interval a single one is a tenth.
TICK_S = 0.01
# A clock that is read late by up to a tenth of the limit errs by at most a tenth of what is judged; the limits of
# this project are derived with more room than that.
STARVED_SHARE = 0.1


def vouch(
    verdict: Verdict,
    host: HostSample | None,
    *,
    steal_most: float = STEAL_MOST,
    starved_most_s: float | None = None,
    took_s: float | None = None,
) -> Verdict:
    """The verdict, marked invalid when the workstation was too starved for it; its evidence tells how it fared.

    Args:
        host: the workstation during the measurement; None or an empty interval when nobody watched, which no
            verdict with a time limit survives.
        steal_most: the fraction of CPU time that the hypervisor may have taken.
        starved_most_s: how late a thread may have woken, in seconds; default: a tenth of `verdict.budget_s`.
        took_s: what the time limit was kept by, where it is known.
    """
    if host is None or host.duration_s <= 0:
        return verdict if verdict.budget_s is None else verdict.invalid("nobody watched the workstation")
    told = replace(verdict, evidence=_with(verdict.evidence, host), watched=True)
    if not verdict.valid:
        return told
    because = _starved(verdict, host, steal_most, starved_most_s, took_s)
    return told.invalid(f"the workstation was starved: {because}") if because else told


def _starved(
    verdict: Verdict, host: HostSample, steal_most: float, starved_most_s: float | None, took_s: float | None
) -> str:
    stolen = host.steal > steal_most + TICK_S / host.duration_s and not _with_room(verdict, host, took_s)
    said = f"steal {host.steal:.0%}, at most {steal_most:.0%} allowed" if stolen else ""
    if verdict.budget_s is None:
        return said if not verdict.held else ""
    most = starved_most_s if starved_most_s is not None else STARVED_SHARE * verdict.budget_s
    if host.starved_s <= most:
        return said
    late = f"a thread woke {host.starved_s:.3f} s late, at most {most:.3f} s allowed"
    return f"{said}; {late}" if said else late


def _with_room(verdict: Verdict, host: HostSample, took_s: float | None) -> bool:
    if not verdict.held or verdict.budget_s is None or took_s is None or host.steal >= 1:
        return False
    return (took_s + host.starved_s) / (1 - host.steal) <= verdict.budget_s


def _with(evidence: Evidence, host: HostSample) -> Evidence:
    fared = {"steal": round(host.steal, 4), "starved_s": round(host.starved_s, 4)}
    if host.kept_awake:
        fared["kept_awake"] = round(host.kept_awake, 4)
    if host.cpu_pressure is not None:
        fared["cpu_pressure"] = round(host.cpu_pressure, 4)
    return replace(evidence, numbers={**evidence.numbers, "workstation": fared})
