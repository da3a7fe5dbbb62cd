"""What does a lost member cost the flows that were not on it?

    leaf1 ═ spine1, spine2, spine3, ✂ spine4      n = 4: a quarter of all flows has to move; of the others modulo
                                                  moves 2/3, threshold 1/3 to 1/9, resilient buckets none

Each flow's hash is uniform and its own, so of k flows that have no need to move, the number that does is binomial with
the share that F2 gives (topologies/member_loss.py, exact). Too few moves are as wrong as too many: the group does not
choose as it is said to.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from labs.verdicts import FALSE_ALARM, Evidence, Fidelity, Verdict
from labs.verdicts.chance import binomial_allowed, binomial_tails
from topologies.member_loss import ChoosesBy, needless_share

FlowKey = TypeVar("FlowKey", bound=Hashable)
MOST_ROWS = 12
# A run in which another law would look the same in one of a hundred cases still tells them apart.
MISTAKEN_MOST = 0.01


def disruption(
    before: Mapping[FlowKey, str],
    after: Mapping[FlowKey, str],
    *,
    members: tuple[Sequence[str], Sequence[str]],
    by: ChoosesBy,
    false_alarm: float = FALSE_ALARM,
    fidelity: Fidelity = Fidelity.EMULATED,
) -> Verdict:
    """Judge that as many flows moved as the group's way of choosing moves, and none stayed on a member that is gone.

    Args:
        before, after: each flow's member before and after members were lost or came.
        members: the group's members before and after, in its order.
        by: how it makes a member of a hash. Resilient groups are judged when they lose, not when they gain.

    Bound: of flows without need to move, the exact binomial interval at `false_alarm`; 0 for resilient groups. Invalid
    when flows were seen on one side only, when none was on a lost member (or on one that came), and when another way
    of choosing would be taken for this one in more than 1 % of cases, or moves as many: with two members left of
    three modulo and resilient differ, with one left of two nothing does.
    """
    old, new = members
    stay = set(old) & set(new)
    both = before.keys() & after.keys()
    stuck = [flow for flow in both if after[flow] not in new]
    free = [flow for flow in both if before[flow] in stay and after[flow] in stay]
    moved = [flow for flow in free if before[flow] != after[flow]]
    share = float(needless_share(old, new, by))
    least, most = binomial_allowed(len(free), share, false_alarm / 2)
    wrong = [f"{len(stuck)} flows are on a member that is gone"] if stuck else []
    if not least <= len(moved) <= most:
        wrong.append(f"{len(moved)} of {len(free)} flows moved without need, {least} to {most} allowed")
    numbers: dict[str, object] = {
        "flows": len(both),
        "had_to_move": len(both) - len(free) - len(stuck),
        "moved_without_need": len(moved),
        "expected": round(share * len(free), 1),
        "allowed": [least, most],
        "p": float(f"{min(binomial_tails(len(moved), len(free), share)):.3g}"),
        "false_alarm": false_alarm,
    }
    rows = tuple(f"{flow}: {before[flow]} > {after[flow]}" for flow in (*stuck, *moved))[:MOST_ROWS]
    said = "; ".join(wrong) or f"{len(moved)} of {len(free)} flows moved without need, {share:.1%} expected"
    claim = f"from {len(old)} members to {len(new)} flows move as {by} moves them"
    verdict = Verdict(claim, not wrong, Evidence(said, numbers, rows), fidelity=fidelity)
    because = _why_not(before, after, members, by, (len(free), least, most))
    return verdict.invalid(because) if because and not stuck else verdict


def _why_not(
    before: Mapping[FlowKey, str],
    after: Mapping[FlowKey, str],
    members: tuple[Sequence[str], Sequence[str]],
    by: ChoosesBy,
    bound: tuple[int, int, int],
) -> str | None:
    """Why these flows say nothing of how the group chooses; None when they do."""
    old, new = members
    once = before.keys() ^ after.keys()
    if once:
        return f"{len(once)} flows were seen on one side only"
    gone, came = set(old) - set(new), set(new) - set(old)
    if not any(member in gone for member in before.values()) and not any(one in came for one in after.values()):
        return "no flow was on a member that went or came"
    free, least, most = bound
    for other in ChoosesBy:
        if other is by or (other is ChoosesBy.RESILIENT and came):
            continue
        p = float(needless_share(old, new, other))
        if p == float(needless_share(old, new, by)):
            return f"{other} moves as many flows as {by}"
        mistaken = max(0.0, binomial_tails(most, free, p)[0] - (binomial_tails(least - 1, free, p)[0] if least else 0))
        if mistaken > MISTAKEN_MOST:
            return f"{free} flows are too few: {other} would look the same in {mistaken:.0%} of cases"
    return None
