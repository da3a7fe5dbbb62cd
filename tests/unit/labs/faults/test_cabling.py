"""Swapped cables: at which switch, and how ends get each other's names from wherever a kill has left them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from labs.channel import CommandResult
from labs.errors import NotReady, SpecError
from labs.faults import kept_routes
from labs.faults.cabling import _plug, entangled, moves, shared_switch
from labs.lab import Lab
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


@pytest.mark.parametrize(
    ("links", "said"),
    [  # as iproute2 6.1 shows them
        ([{"ifname": "eth1", "linkinfo": {"info_kind": "veth"}}], None),
        ([{"ifname": "eth1", "link": "far", "linkinfo": {"info_kind": "veth"}}], None),
        ([{"ifname": "far", "link": "eth1", "linkinfo": {"info_kind": "veth"}}], None),
        ([{"ifname": "eth2", "master": "blue", "linkinfo": {"info_kind": "veth"}}], None),
        ([{"ifname": "eth1", "master": "blue", "linkinfo": {"info_kind": "veth"}}], "belongs to blue"),
        ([{"ifname": "eth1.10", "link": "eth1", "linkinfo": {"info_kind": "vlan"}}], "carries eth1.10"),
        ([{"ifname": "vx", "linkinfo": {"info_kind": "vxlan", "info_data": {"link": "eth1"}}}], "carries vx"),
        ([{"ifname": "lo"}, {"ifname": "sit0", "link": None, "linkinfo": {"info_kind": "sit"}}], None),
    ],
)
def test_a_port_on_which_more_hangs_is_not_moved(links: list[dict[str, Any]], said: str | None) -> None:
    assert entangled(links, "eth1") == said


@dataclass
class Switch:
    """A node whose kernel takes everything but routes, if it is to refuse these."""

    name: str = "spine1"
    refuses_routes: bool = False
    given: list[str] = field(default_factory=list)

    @property
    def channel(self) -> Switch:
        return self

    def kernel(self, *argv: str, stdin: str = "") -> CommandResult:
        self.given += stdin.splitlines() or [" ".join(argv[1:])]
        refused = self.refuses_routes and "route" in argv
        return CommandResult(argv, 2 if refused else 0, "", "invalid gateway" if refused else "")


@dataclass
class Asic:
    """A soft ASIC that answers, and takes no port."""

    alive: bool = True

    def recable(self, cables: object) -> None:
        del cables
        raise NotReady("asicd: no such port")


ROUTE = "-4 route replace 10.8.0.0/16 via 10.0.1.2 dev eth1 proto static"
SWAP: dict[str, Any] = {
    "node": "spine1",
    "ports": [
        {**PORTS[0], "port": "eth1", "up": True, "addresses": ["10.0.1.1/31"], "routes": [ROUTE], "far": ["a", "eth1"]},
        {**PORTS[1], "port": "eth2", "up": False, "addresses": [], "routes": [], "far": ["b", "eth1"]},
    ],
}


def lab_of(switch: Switch, asic: Asic | None = None) -> Lab:
    return cast("Lab", SimpleNamespace(node=lambda _: switch, asic=asic))


def test_a_soft_asic_that_fails_leaves_no_port_dark() -> None:
    switch = Switch()
    with pytest.raises(NotReady, match="no such port"):
        _plug(lab_of(switch, Asic()), SWAP, crossed=False)
    assert switch.given == ["addr replace 10.0.1.1/31 dev eth1", "link set dev eth1 up", ROUTE]


def test_a_route_that_is_refused_fails_the_undo_and_not_the_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_routes, "GIVEN_BACK_WITHIN_S", 0.05)
    _plug(lab_of(Switch(refuses_routes=True)), SWAP, crossed=True)
    with pytest.raises(NotReady, match=r"10\.8\.0\.0/16 .* invalid gateway"):
        _plug(lab_of(Switch(refuses_routes=True)), SWAP, crossed=False)
