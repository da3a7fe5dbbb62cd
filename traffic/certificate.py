"""Whether a run can vouch for itself: a workstation that was too slow proves nothing about a fabric."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under what a run was made; None where that was not measured.

    `pacing_error` is by how much senders missed the rate they were to send at, as a share of it; `cpu_headroom` the
    share of the processors' time that was left in the busiest interval; `lost_packets` what was lost in all.
    `lossless`: nothing was to be lost. `paced`: every packet had a time to leave at; not so where TCP decides.
    """

    pacing_error: float | None = None
    cpu_headroom: float | None = None
    lost_packets: int | None = None
    lossless: bool = True
    paced: bool = True


@dataclass(frozen=True, slots=True)
class Demands:
    """The most pacing error and the least headroom of a run that counts.

    2 % of pacing error is a fifth of the 10 % by which a busbw misses what it should be (NCCL_TESTS_MIN_BW). A tenth
    of the processors' time left means that no process waited long for one.
    """

    pacing_error: float = 0.02
    cpu_headroom: float = 0.10


def why_invalid(conditions: Conditions, demands: Demands | None = None) -> str | None:
    """Why the run proves nothing, None for one that does. What was not measured is a reason too."""
    asked = demands or Demands()
    reasons = []
    pacing, headroom, lost = conditions.pacing_error, conditions.cpu_headroom, conditions.lost_packets
    if pacing is None and conditions.paced:
        reasons.append("the pacing error was not measured")
    elif pacing is not None and not abs(pacing) <= asked.pacing_error:
        reasons.append(f"pacing was off by {abs(pacing):.1%}, allowed {asked.pacing_error:.1%}")
    if headroom is None:
        reasons.append("the CPU headroom was not measured")
    elif not headroom >= asked.cpu_headroom:
        reasons.append(f"the CPU had {headroom:.1%} left, needed {asked.cpu_headroom:.1%}")
    if conditions.lossless and lost is None:
        reasons.append("loss was not measured")
    elif conditions.lossless and lost:
        reasons.append(f"{lost} packets were lost where none may be")
    return "; ".join(reasons) or None
