"""Swapped cables: at which switch, and how ends get each other's names from wherever a kill has left them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from labs.errors import SpecError
from labs.faults.cabling import moves, shared_switch
from topologies.builders import leaf_spine

FABRIC = leaf_spine(spines=2, leaves=3, hosts_per_leaf=2)
PORTS = [
    {"netdev": "eth1", "number": 16, "mac": "02:00:00:00:00:01", "mtu": 9216},
    {"netdev": "eth2", "number": 18, "mac": "02:00:00:00:00:02", "mtu": 1500},
]
End = tuple[str, str, int]
"""What an end is called, its hardware address and MTU."""
ONE, OTHER = ("eth1", "02:00:00:00:00:01", 9216), ("eth2", "02:00:00:00:00:02", 1500)
PLANNED: dict[int, End] = {16: ONE, 18: OTHER}
CROSSED: dict[int, End] = {16: OTHER, 18: ONE}


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


def played(now: Mapping[int, End], lines: list[str]) -> dict[int, End]:
    """What ends are after these lines; the kernel refuses a name that another has."""
    ends = dict(now)
    for line in lines:
        words = line.split()
        at, (name, mac, mtu) = next((number, end) for number, end in ends.items() if end[0] == words[3])
        if words[4] == "name":
            assert words[5] not in {end[0] for end in ends.values()}, line
            ends[at] = (words[5], mac, mtu)
        else:
            ends[at] = (name, words[5], int(words[7]))
    return ends


def moved(now: Mapping[int, End], *, crossed: bool) -> list[str]:
    return moves({number: end[0] for number, end in now.items()}, PORTS, crossed=crossed)


@pytest.mark.parametrize("crossed", [False, True])
@pytest.mark.parametrize("dies_crossing", [False, True])
@pytest.mark.parametrize("begun", [PLANNED, CROSSED])
def test_ports_are_right_after_a_kill_between_any_two_lines(
    begun: dict[int, End], dies_crossing: bool, crossed: bool
) -> None:
    lines = moved(begun, crossed=dies_crossing)
    for done in range(len(lines) + 1):
        left = played(begun, lines[:done])
        assert played(left, moved(left, crossed=crossed)) == (CROSSED if crossed else PLANNED)


def test_an_end_is_the_port_before_it_has_its_name() -> None:
    lines = moved(PLANNED, crossed=True)
    for done, line in enumerate(lines, 1):
        if line.endswith((" name eth1", " name eth2")):
            assert set(played(PLANNED, lines[:done]).values()) <= {ONE, OTHER, ("rbswap16", *OTHER[1:])}


def test_what_is_in_its_place_keeps_its_name() -> None:
    assert not [line for line in moved(PLANNED, crossed=False) if " name " in line]
