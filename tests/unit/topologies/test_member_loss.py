"""What moves when members go: F2's numbers, and the hash engine's own model."""

from __future__ import annotations

import random
from collections.abc import Sequence
from fractions import Fraction

import pytest

from topologies.errors import SpecError
from topologies.member_loss import ChoosesBy, moved_share, needless_share

NAMES = tuple(f"spine{number}" for number in range(1, 17))


def lost(members: int, place: int) -> tuple[Sequence[str], Sequence[str]]:
    names = NAMES[:members]
    return names, [*names[:place], *names[place + 1 :]]


@pytest.mark.parametrize("members", [4, 8, 16])
def test_modulo_moves_all_but_one_nth(members: int) -> None:
    for place in range(members):
        assert moved_share(*lost(members, place), ChoosesBy.MODULO) == Fraction(members - 1, members)
        assert needless_share(*lost(members, place), ChoosesBy.MODULO) == Fraction(members - 2, members - 1)


@pytest.mark.parametrize(
    ("members", "shares"),
    [(4, (0.5, 0.333)), (8, (0.5, 0.393, 0.321, 0.286)), (16, (0.5, 0.442, 0.392, 0.35, 0.317, 0.292, 0.275, 0.267))],
)
def test_threshold_moves_from_a_half_at_the_edge_to_a_quarter_amid(members: int, shares: Sequence[float]) -> None:
    for place, share in enumerate(shares):
        for at in (place, members - 1 - place):
            assert abs(float(moved_share(*lost(members, at), ChoosesBy.THRESHOLD)) - share) < 5e-4


@pytest.mark.parametrize("members", [4, 8, 16])
def test_resilient_moves_the_lost_ones_alone(members: int) -> None:
    assert moved_share(*lost(members, 1), ChoosesBy.RESILIENT) == Fraction(1, members)
    assert needless_share(*lost(members, 1), ChoosesBy.RESILIENT) == 0


def test_several_lost_and_some_come() -> None:
    """Against drawing hashes: three of eight lost, and two that come back."""
    draw = random.Random(11)
    names, fewer = NAMES[:8], [NAMES[at] for at in (0, 2, 3, 5, 7)]
    for before, after in ((names, fewer), (fewer, names[1:])):
        for by in (ChoosesBy.MODULO, ChoosesBy.THRESHOLD):
            hashes = [draw.getrandbits(32) for _ in range(40_000)]
            pairs = [(chosen(before, h, by), chosen(after, h, by)) for h in hashes]
            free = [pair for pair in pairs if set(before) & set(after) >= set(pair)]
            moved = sum(old != new for old, new in free) / len(free)
            assert abs(moved - float(needless_share(before, after, by))) < 5 * 0.5 / len(free) ** 0.5


def chosen(members: Sequence[str], h: int, by: ChoosesBy) -> str:
    return members[h % len(members) if by is ChoosesBy.MODULO else h * len(members) >> 32]


def test_what_is_no_group_is_refused() -> None:
    with pytest.raises(SpecError, match="one or more, each once"):
        moved_share([], ["a"], ChoosesBy.MODULO)
    with pytest.raises(SpecError, match="each once"):
        moved_share(["a", "a"], ["a"], ChoosesBy.MODULO)
    with pytest.raises(SpecError, match="members that came: b"):
        moved_share(["a"], ["a", "b"], ChoosesBy.RESILIENT)
