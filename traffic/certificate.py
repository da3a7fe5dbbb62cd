"""Whether a run can vouch for itself: a workstation that was too slow proves nothing about a fabric."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Under what a run was made; None where that was not measured.

    `late_share` is the largest share of a sender's packets that left more than max(2 packets, 200 µs) behind their
    schedule. Packets are spread evenly over a schedule, so it is the share of its time too. `rate_error` is by how much
    the mean rate missed the one that was asked for, as a share of it, where that was missed by most; None where a run
    was too short to tell. What rightly holds a sender back (a full window, a paused port, congestion control, nothing
    to send) is in neither: its schedule begins anew. `cpu_headroom` is the share of the processors' time that was left
    in the busiest interval; `lost_packets` what was lost in all. `lossless`: nothing was to be lost.
    `paced`: every packet had a time to leave at; not so where TCP decides.
    """

    late_share: float | None = None
    rate_error: float | None = None
    cpu_headroom: float | None = None
    lost_packets: int | None = None
    lossless: bool = True
    paced: bool = True


@dataclass(frozen=True, slots=True)
class Demands:
    """The law of pacing, and the least headroom of a run that counts.

    A sender keeps within max(2 packets, 200 µs) of its schedule 99 % of the time, its mean rate ± 0.5 %: `rnic` judges
    itself by the same numbers (traffic/rnic/schedule.h, pace.h). A tenth of the processors' time left means that no
    process waited long for one.
    """

    late_share: float = 0.01
    rate_error: float = 0.005
    cpu_headroom: float = 0.10


def why_invalid(conditions: Conditions, demands: Demands | None = None) -> str | None:
    """Why the run proves nothing, None for one that does. What was not measured is a reason too."""
    asked = demands or Demands()
    reasons = []
    late, off, headroom = conditions.late_share, conditions.rate_error, conditions.cpu_headroom
    lost = conditions.lost_packets
    if late is None and conditions.paced:
        reasons.append("pacing was not measured")
    elif late is not None and not late <= asked.late_share:
        reasons.append(f"pacing: {late:.1%} of a sender's packets left late, allowed {asked.late_share:.1%}")
    if off is not None and not abs(off) <= asked.rate_error:
        reasons.append(f"pacing: a mean rate was off by {off:+.2%}, allowed ±{asked.rate_error:.1%}")
    if headroom is None:
        reasons.append("the CPU headroom was not measured")
    elif not headroom >= asked.cpu_headroom:
        reasons.append(f"the CPU had {headroom:.1%} left, needed {asked.cpu_headroom:.1%}")
    if conditions.lossless and lost is None:
        reasons.append("loss was not measured")
    elif conditions.lossless and lost:
        reasons.append(f"{lost} packets were lost where none may be")
    return "; ".join(reasons) or None
