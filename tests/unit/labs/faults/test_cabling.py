"""Swapped cables: at which switch, and how ends get each other's names from wherever a kill has left them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from labs.errors import SpecError
from labs.faults.cabling import renames, shared_switch
from topologies.builders import leaf_spine

FABRIC = leaf_spine(spines=2, leaves=3, hosts_per_leaf=2)
PLANNED, CROSSED = {16: "eth1", 18: "eth2"}, {16: "eth2", 18: "eth1"}


@pytest.mark.parametrize(
    ("one", "other", "at"),
    [
        ("leaf1:spine1", "leaf2:spine1", "spine1"),
        ("leaf1:spine1", "leaf1:spine2", "leaf1"),
        ("leaf1:spine1", "leaf1:host1", "leaf1"),
        ("leaf1:host1", "leaf1:host2", "leaf1"),
    ],
)
def test_cables_are_swapped_at_the_switch_that_has_both(one: str, other: str, at: str) -> None:
    assert shared_switch(FABRIC, FABRIC.link(one), FABRIC.link(other)) == at
    assert shared_switch(FABRIC, FABRIC.link(other), FABRIC.link(one)) == at


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ("leaf1:spine1", "leaf2:spine2", r"no switch has both cables; allowed: leaf1:spine2, .*leaf2:spine1"),
        ("leaf1:host1", "leaf2:host3", r"no switch has both cables; allowed: leaf1:spine1, leaf1:spine2, host2:leaf1"),
        ("leaf1:spine1", "spine1:leaf1", "the cable itself"),
    ],
)
def test_cables_that_do_not_meet_are_refused(one: str, other: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        shared_switch(FABRIC, FABRIC.link(one), FABRIC.link(other))


def played(now: Mapping[int, str], lines: list[str]) -> dict[int, str]:
    """What interfaces are called after these lines; the kernel refuses a name that another has."""
    names = dict(now)
    for line in lines:
        _, _, _, was, _, name = line.split()
        assert name not in names.values(), line
        names[next(number for number, called in names.items() if called == was)] = name
    return names


@pytest.mark.parametrize("wanted", [PLANNED, CROSSED])
@pytest.mark.parametrize("begun", [PLANNED, CROSSED])
@pytest.mark.parametrize("other", [PLANNED, CROSSED])
def test_names_are_right_after_a_kill_between_any_two_lines(
    begun: dict[int, str], other: dict[int, str], wanted: dict[int, str]
) -> None:
    lines = renames(begun, other)
    for done in range(len(lines) + 1):
        left = played(begun, lines[:done])
        assert played(left, renames(left, wanted)) == wanted


def test_what_is_right_is_let_be() -> None:
    assert renames(PLANNED, PLANNED) == []
