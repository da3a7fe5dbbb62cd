from __future__ import annotations

import pytest

from topologies.assembly import Cable, Limits, build, default_asn
from topologies.builders import dual_plane, fat_tree, leaf_spine, rails, single_leaf
from topologies.errors import SpecError
from topologies.fabric import Fabric, Node, Port, Tier
from topologies.units import GBIT, MBIT


def _cables(fabric: Fabric, node: str) -> list[str]:
    return [f"{link.end(node).name}>{link.far(node)}" for link in fabric.links_of(node)]


def test_leaf_spine_numbers_uplinks_first_then_hosts() -> None:
    fabric = leaf_spine(2, 2, 1)
    assert _cables(fabric, "leaf2") == ["eth1>spine1:eth2", "eth2>spine2:eth2", "eth3>host2:eth1"]
    assert _cables(fabric, "spine1") == ["eth1>leaf1:eth1", "eth2>leaf2:eth1"]
    assert fabric.name == "clos_2x2"


def test_parallel_links_stand_side_by_side() -> None:
    fabric = leaf_spine(2, 1, 0, parallel_links=2)
    assert [link.name for link in fabric.links_of("leaf1")] == [
        "leaf1:spine1",
        "leaf1:spine1#2",
        "leaf1:spine2",
        "leaf1:spine2#2",
    ]
    assert fabric.between("leaf1", "spine2") == fabric.links_of("leaf1")[2:]


def test_rates_are_those_of_uplinks_and_hosts() -> None:
    fabric = leaf_spine(1, 1, 1, uplink_rate=4 * GBIT, host_rate=100 * MBIT)
    assert fabric.link("leaf1:spine1").rate_bps == 4 * GBIT
    assert fabric.link("host1:leaf1").rate_bps == 100 * MBIT


def test_as_numbers_follow_rfc_7938() -> None:
    fabric = fat_tree(4)
    by_tier = {tier: [node.asn for node in fabric.tier(tier)] for tier in Tier}
    assert by_tier[Tier.LEAF] == [4201000000 + number for number in range(1, 9)]
    assert by_tier[Tier.SPINE] == [4202000000 + pod for pod in (1, 1, 2, 2, 3, 3, 4, 4)]
    assert set(by_tier[Tier.CORE]) == {4203000000}
    assert set(by_tier[Tier.HOST]) == {None}
    assert {node.asn for node in leaf_spine(4, 2, 0).tier(Tier.SPINE)} == {4202000000}


def test_private_as_numbers_stay_inside_their_range() -> None:
    for tier in (Tier.LEAF, Tier.SPINE, Tier.CORE):
        for number in (1, 1023):
            assert 4200000000 <= (default_asn(tier, number, 1023) or 0) <= 4294967294


def test_fat_tree_of_4() -> None:
    fabric = fat_tree(4)
    assert [len(fabric.tier(tier)) for tier in Tier] == [16, 8, 8, 4]
    assert len(fabric.links) == 16 + 16 + 16
    assert [str(node) for node in fabric.neighbors("pod2-spine2")] == ["pod2-leaf1", "pod2-leaf2", "core3", "core4"]
    assert [str(node) for node in fabric.neighbors("core1")] == [f"pod{pod}-spine1" for pod in (1, 2, 3, 4)]
    assert fabric.node("pod2-leaf1").number == 3
    assert _cables(fabric, "pod1-leaf1")[2:] == ["eth3>host1:eth1", "eth4>host2:eth1"]


def test_rails_join_equal_cards_of_a_group() -> None:
    fabric = rails(2, 4, 4)
    assert _cables(fabric, "host3") == ["eth1>pod2-leaf1:eth3", "eth2>pod2-leaf2:eth3"]
    assert [port.nic for port in fabric.ports("host3")] == [1, 2]
    assert not any(port.shared for port in fabric.ports("host3"))
    assert len(fabric.tier(Tier.SPINE)) == 2
    assert [str(node) for node in fabric.neighbors("pod1-leaf2")] == ["spine1", "spine2", "host1", "host2"]


def test_dual_plane_meets_in_the_hosts_only() -> None:
    fabric = dual_plane(2, 2, 4)
    assert _cables(fabric, "host3") == ["eth1>plane1-leaf2:eth3", "eth2>plane2-leaf2:eth3"]
    assert [(port.nic, port.shared) for port in fabric.ports("host3")] == [(1, True), (1, True)]
    for link in fabric.fabric_links:
        assert link.a.node[:6] == link.b.node[:6]
    assert {node.asn for node in fabric.tier(Tier.SPINE)} == {4202000001, 4202000002}


def test_single_leaf() -> None:
    fabric = single_leaf(9)
    assert _cables(fabric, "leaf1")[8] == "eth9>host9:eth1"


def test_hosts_spread_evenly_and_contiguously() -> None:
    fabric = rails(1, 3, 7)
    assert [str(fabric.neighbors(host)[0]) for host in fabric.hosts] == ["pod1-leaf1"] * 3 + ["pod2-leaf1"] * 2 + [
        "pod3-leaf1"
    ] * 2


def test_lower_tier_is_always_a() -> None:
    for fabric in (leaf_spine(2, 2, 1), fat_tree(4), rails(2, 4, 4), dual_plane(1, 1, 1)):
        for link in fabric.links:
            assert fabric.node(link.a.node).tier.level < fabric.node(link.b.node).tier.level
            assert link.name.startswith(f"{link.a.node}:{link.b.node}")


@pytest.mark.parametrize(
    ("make", "key", "found"),
    [
        (lambda: leaf_spine(0, 1, 1), "spines", "found 0"),
        (lambda: leaf_spine(1, 5000, 1), "leaves", "found 5000"),
        (lambda: leaf_spine(1, 1, -1), "hosts_per_leaf", "found -1"),
        (lambda: leaf_spine(True, 1, 1), "spines", "found True"),
        (lambda: leaf_spine(64, 65, 1), "leaves", "129 switches"),
        (lambda: leaf_spine(1, 128, 0), "leaves", "129 switches"),
        (lambda: leaf_spine(1, 2, 600), "leaves", "1200 hosts"),
        (lambda: leaf_spine(16, 1, 1000, parallel_links=2), "leaves", "1032 ports"),
        (lambda: leaf_spine(1, 1, 1, parallel_links=0), "parallel_links", "found 0"),
        (lambda: fat_tree(3), "k", "odd"),
        (lambda: fat_tree(12), "k", "180 switches"),
        (lambda: rails(4, 6, 4), "leaves", "found 6"),
        (lambda: rails(16, 16, 4), "rails", "found 16"),
        (lambda: rails(2, 2, 1, spines=0), "spines", "found 0"),
        (lambda: dual_plane(0, 1, 1), "spines", "found 0"),
        (lambda: dual_plane(32, 33, 1), "leaves", "130 switches"),
        (lambda: single_leaf(0), "hosts", "found 0"),
        (lambda: single_leaf(1024), "hosts", "found 1024"),
    ],
)
def test_refused_numbers(make: object, key: str, found: str) -> None:
    assert callable(make)
    with pytest.raises(SpecError, match=found) as caught:
        make()
    assert caught.value.where.key == key
    assert caught.value.allowed


def test_limits_can_be_raised() -> None:
    assert len(leaf_spine(2, 128, 0, limits=Limits(switches=130)).switches) == 130


LEAF = Node("leaf1", Tier.LEAF, 1, asn=65001)
SPINE = Node("spine1", Tier.SPINE, 1, asn=65000)
HOST = Node("host1", Tier.HOST, 1)


def _port(text: str, nic: int | None = None) -> Port:
    node, _, name = text.partition(":")
    return Port(node, name, int(name.removeprefix("eth")), nic)


def _cable(one: str, other: str) -> Cable:
    return Cable(*(_port(end, 1 if end.startswith("host") else None) for end in (one, other)))  # type: ignore[arg-type]


UP, DOWN = _cable("spine1:eth1", "leaf1:eth1"), _cable("leaf1:eth2", "host1:eth1")


def test_build_turns_links_and_names_them() -> None:
    fabric = build("tiny", [SPINE, LEAF, HOST], [UP, DOWN])
    assert [link.name for link in fabric.links] == ["leaf1:spine1", "host1:leaf1"]


def test_parallel_links_between_equals_keep_one_order() -> None:
    other = Node("leaf2", Tier.LEAF, 2, asn=65002)
    fabric = build("two", [LEAF, other], [_cable("leaf2:eth1", "leaf1:eth1"), _cable("leaf1:eth2", "leaf2:eth2")])
    assert [link.name for link in fabric.links] == ["leaf2:leaf1", "leaf2:leaf1#2"]
    assert fabric.links[1].a == _port("leaf2:eth2")


@pytest.mark.parametrize(
    ("nodes", "cables", "message"),
    [
        ([LEAF, LEAF, SPINE], [UP], "leaf1 twice"),
        ([LEAF, Node("leaf9", Tier.LEAF, 1, asn=7), SPINE], [UP], "leaf number 1 twice"),
        ([Node("leaf1;ls", Tier.LEAF, 1, asn=7)], [], "node name"),
        ([Node("leaf1", Tier.LEAF, 0, asn=7)], [], "number 0"),
        ([Node("leaf1", Tier.LEAF, 1024, asn=7)], [], "number 1024"),
        ([Node("leaf1", Tier.LEAF, 1)], [], "AS number None"),
        ([LEAF, Node("host1", Tier.HOST, 1, asn=7)], [], "on a host"),
        ([HOST], [], "no switch"),
        ([LEAF, SPINE, HOST], [UP], "host without a link"),
        ([LEAF, SPINE], [UP, DOWN], "no node host1"),
        ([LEAF, SPINE, HOST], [UP, _cable("leaf1:eth1", "host1:eth1")], "already cabled as spine1:eth1"),
        ([LEAF, SPINE, HOST], [UP, _cable("host1:eth1", "spine1:eth2")], "hosts are cabled to leaves only"),
        ([LEAF, SPINE], [UP, _cable("leaf1:eth2", "leaf1:eth3")], "to itself"),
        ([LEAF, SPINE], [_cable("leaf1:eth1024", "spine1:eth1")], "eth1024"),
        ([LEAF, HOST], [Cable(_port("host1:eth1"), _port("leaf1:eth1"))], "network card None"),
        ([LEAF, HOST], [Cable(_port("host1:eth1", 16), _port("leaf1:eth1"))], "network card 16"),
        ([LEAF, SPINE], [Cable(UP.one, UP.other, 0)], "a rate of 0"),
        ([LEAF, SPINE], [UP, Cable(Port("leaf1", "up", 1), _port("spine1:eth2"))], "port number 1"),
        ([LEAF, Node("leaf2", Tier.LEAF, 2, asn=65001)], [_cable("leaf1:eth1", "leaf2:eth1")], "eBGP refuses"),
    ],
)
def test_build_refuses(nodes: list[Node], cables: list[Cable], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build("bad", nodes, cables)
