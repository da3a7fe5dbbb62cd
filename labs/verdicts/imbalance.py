"""Is an even load as uneven, flow by flow, as chance alone makes it?

    V4   1000 queue pairs over 16 paths: the busiest carries 1.23 times the mean (1.09 to 1.52 in 99.9 % of all seeds)
    V6   4 flows over 4 paths: 9.4 % of all draws give each a path of its own; 68.4 % of the paths are used

The flows are equal and the hash is sound: so the laws of balls in bins hold exactly (labs/verdicts/chance.py), and
bounds are their quantiles at the false-alarm rate that is asked for. Worse is a hash that does not spread; better is
no hash at all, but dealing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from labs.errors import SpecError
from labs.verdicts import FALSE_ALARM, Evidence, Fidelity, Verdict
from labs.verdicts.chance import (
    allowed,
    at_least,
    at_most,
    binomial_allowed,
    binomial_tails,
    busiest_law,
    mean_of,
    sum_of,
    used_law,
)

MOST_ROWS = 12


def busiest_member(
    seeds: Sequence[Mapping[str, int]],
    *,
    false_alarm: float = FALSE_ALARM,
    fidelity: Fidelity = Fidelity.EMULATED,
) -> Verdict:
    """Judge that the busiest member gets so many flows as chance gives it: neither more nor fewer.

    Args:
        seeds: for each seed, or other set of as many flows, the flows by member; one without any counts 0.
        false_alarm: how often a sound hash may be called broken, both sides together.

    Bound: the sum of all seeds' maxima, by its exact law, half of `false_alarm` on each side. Invalid without seeds,
    and where not even all flows on one member, every time, would be too many. Raises SpecError for seeds with other
    numbers of flows or members.
    """
    flows, members = _alike(seeds)
    claim = f"the busiest of {members} members carries what chance gives it of {flows} flows"
    if not seeds or members < 2:
        return _nothing(claim, "counted")
    law = sum_of([busiest_law(flows, members)] * len(seeds))
    least, most = allowed(law, false_alarm / 2)
    maxima = [max(counts.values()) for counts in seeds]
    total, even = sum(maxima), flows / members * len(seeds)
    word = "too many" if total > most else "fewer than a hash would give it" if total < least else "as chance has it"
    numbers: dict[str, object] = {
        "seeds": len(seeds),
        "flows": flows,
        "members": members,
        "max_over_mean": round(total / even, 4),
        "expected": round(mean_of(law) / even, 4),
        "allowed": [round(least / even, 4), round(most / even, 4)],
        "p_at_least": at_least(law, total),
        "p_at_most": at_most(law, total),
        "false_alarm": false_alarm,
    }
    rows = tuple(f"seed {place}: " + " ".join(map(str, one.values())) for place, one in enumerate(seeds))[:MOST_ROWS]
    said = f"max/mean {total / even:.3f}, {least / even:.3f} to {most / even:.3f} allowed: {word}"
    verdict = Verdict(claim, least <= total <= most, Evidence(said, numbers, rows), fidelity=fidelity)
    if flows * len(seeds) <= most:
        return verdict.invalid(f"{flows} flows are too few: all on one member would not be rejected")
    return verdict


def collisions(
    draws: Sequence[Mapping[str, int]],
    *,
    false_alarm: float = FALSE_ALARM,
    fidelity: Fidelity = Fidelity.EMULATED,
) -> Verdict:
    """Judge that a few flows meet on members as often as chance has it, over many draws.

    Args:
        draws: for each draw of as many flows, the flows by member; one without any counts 0.
        false_alarm: how often a sound hash may be called broken, all questions together.

    Two questions, each from both sides: in how many draws did every flow have a member of its own (binomial, with
    m! / (m - n)! / mⁿ), and how many members were used in all (its exact law)? A quarter of `false_alarm` each. Invalid
    when even no draw at all without a collision would not be rejected. Raises SpecError for draws of other numbers of
    flows or members, and for more flows than members.
    """
    flows, members = _alike(draws, at_most_one_each=True)
    claim = f"{flows} flows meet on {members} members as often as chance has it"
    if not draws or flows < 2:
        return _nothing(claim, "drawn")
    one, share = used_law(flows, members), false_alarm / 4
    used = [sum(count > 0 for count in counts.values()) for counts in draws]
    perfect, of, p = sum(count == flows for count in used), len(draws), float(one[flows])
    least, most = binomial_allowed(of, p, share)
    law = sum_of([one] * of)
    few, many = allowed(law, share)
    cells = of * members
    wrong = [f"{perfect} of {of} draws without a collision, {least} to {most} allowed"] * (not least <= perfect <= most)
    wrong += [f"{sum(used)} of {cells} members used, {few} to {many} allowed"] * (not few <= sum(used) <= many)
    numbers: dict[str, object] = {
        "draws": of,
        "perfect": round(perfect / of, 4),
        "perfect_expected": round(p, 4),
        "perfect_allowed": [round(least / of, 4), round(most / of, 4)],
        "p_perfect": min(binomial_tails(perfect, of, p)),
        "used": round(sum(used) / cells, 4),
        "used_expected": round(mean_of(one) / members, 4),
        "used_allowed": [round(few / cells, 4), round(many / cells, 4)],
        "false_alarm": false_alarm,
    }
    said = "; ".join(wrong) or f"{perfect / of:.1%} of {of} draws without a collision, {p:.1%} expected"
    verdict = Verdict(claim, not wrong, Evidence(said, numbers), fidelity=fidelity)
    if least == 0:
        return verdict.invalid(f"{of} draws are too few: none without a collision would not be rejected")
    return verdict


def _nothing(claim: str, done: str) -> Verdict:
    return Verdict(claim, False, Evidence(f"nothing was {done}")).invalid(f"nothing was {done}")


def _alike(draws: Sequence[Mapping[str, int]], *, at_most_one_each: bool = False) -> tuple[int, int]:
    """Flows and members of each draw."""
    sizes = {(sum(counts.values()), len(counts)) for counts in draws}
    if len(sizes) > 1:
        raise SpecError(
            f"draws of {', '.join(f'{flows} flows over {members}' for flows, members in sorted(sizes))}",
            allowed="as many flows and members in each",
        )
    flows, members = sizes.pop() if sizes else (0, 0)
    if at_most_one_each and flows > members:
        raise SpecError(f"{flows} flows for {members} members", allowed="no more flows than members")
    return flows, members
