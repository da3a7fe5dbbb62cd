"""How many flows move when a group loses or gains members: what each way of choosing owes to theory (F2). Pure.

modulo      the hash modulo the number of members, as silicon does: of n one lost, and (n - 1)/n of all flows move
threshold   members own equal ranges of the hash, in their order (RFC 2992; Linux' own): 1/4 + 1/(4n) to 1/2 move
resilient   buckets that keep their member while it lives: 1/n moves, the flows of the lost one
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from fractions import Fraction
from math import lcm

from topologies.errors import SpecError

Pairs = Mapping[tuple[str, str], Fraction]


class ChoosesBy(StrEnum):
    """How a group makes a member of a hash."""

    MODULO = "modulo"
    THRESHOLD = "threshold"
    RESILIENT = "resilient"


def moved_share(before: Sequence[str], after: Sequence[str], by: ChoosesBy) -> Fraction:
    """Of all flows the share that leaves its member.

    Args:
        before, after: the members in the group's order. With RESILIENT none may come: those move when idle.

    Raises SpecError for members that are named twice or none, and for those that RESILIENT gains.
    """
    return sum((part for (old, new), part in _pairs(before, after, by).items() if old != new), Fraction(0))


def needless_share(before: Sequence[str], after: Sequence[str], by: ChoosesBy) -> Fraction:
    """Of the flows that have no need to, the share that moves: from one member that stays to another that stays.

    A flow needs to move when its member is gone, or when it moves to one that came. Raises as `moved_share` does.
    """
    stay = set(before) & set(after)
    kept = {pair: part for pair, part in _pairs(before, after, by).items() if stay.issuperset(pair)}
    whole = sum(kept.values(), Fraction(0))
    return sum((part for (old, new), part in kept.items() if old != new), Fraction(0)) / whole if whole else Fraction(0)


def _pairs(before: Sequence[str], after: Sequence[str], by: ChoosesBy) -> Pairs:
    """The share of all hashes by the member they had and the member they get."""
    for members in (before, after):
        if not members or len(set(members)) < len(members):
            raise SpecError(f"members {', '.join(members) or 'none'}", allowed="one or more, each once")
    return _BY[by](before, after)


def _modulo(before: Sequence[str], after: Sequence[str]) -> Pairs:
    period = lcm(len(before), len(after))
    counts = Counter((before[h % len(before)], after[h % len(after)]) for h in range(period))
    return {pair: Fraction(count, period) for pair, count in counts.items()}


def _threshold(before: Sequence[str], after: Sequence[str]) -> Pairs:
    found = {}
    for i, old in enumerate(before):
        for j, new in enumerate(after):
            begin = max(Fraction(i, len(before)), Fraction(j, len(after)))
            end = min(Fraction(i + 1, len(before)), Fraction(j + 1, len(after)))
            if end > begin:
                found[old, new] = end - begin
    return found


def _resilient(before: Sequence[str], after: Sequence[str]) -> Pairs:
    came = set(after) - set(before)
    if came:
        raise SpecError(
            f"members that came: {', '.join(sorted(came))}", allowed="only lost ones: buckets move when idle"
        )
    each, stay = Fraction(1, len(before)), set(after)
    found = {(old, old): each for old in before if old in stay}
    found |= {(old, new): each / len(after) for old in before if old not in stay for new in after}
    return found


_BY: Mapping[ChoosesBy, Callable[[Sequence[str], Sequence[str]], Pairs]] = {
    ChoosesBy.MODULO: _modulo,
    ChoosesBy.THRESHOLD: _threshold,
    ChoosesBy.RESILIENT: _resilient,
}
