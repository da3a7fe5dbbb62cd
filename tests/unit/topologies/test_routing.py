from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from ipaddress import ip_network
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topologies.addressing import Prefix, attached, host_prefix, loopback_prefix
from topologies.assembly import Cable, build
from topologies.builders import dual_plane, fat_tree, leaf_spine, rails
from topologies.errors import SpecError
from topologies.fabric import Fabric, Node, Port, Tier
from topologies.load import catalog, load_fabric
from topologies.routing import RouteTables, equal_cost_paths, fan_out, next_hops, route_tables

CLOS = leaf_spine(2, 4, 2)


def _said(paths: tuple[tuple[Port, ...], ...]) -> list[str]:
    return [" ".join(map(str, path)) for path in paths]


def _flooded(fabric: Fabric) -> RouteTables:
    """The same answer by another road: every switch keeps telling its neighbours its best AS path, until all agree."""
    announcers: dict[Prefix, set[str]] = defaultdict(set)
    for name, prefixes in attached(fabric).items():
        for prefix in prefixes:
            announcers[prefix].add(name)
    tables: dict[str, dict[Prefix, frozenset[str]]] = {node.name: {} for node in fabric.switches}
    for prefix, origins in announcers.items():
        best: dict[str, tuple[int | None, ...]] = dict.fromkeys(origins, ())
        while True:
            chosen: dict[str, tuple[int | None, ...]] = dict.fromkeys(origins, ())
            for node in fabric.switches:
                offers = []
                for link in fabric.links_of(node):
                    peer = fabric.node(link.far(node.name).node)
                    path = (peer.asn, *best[peer.name]) if peer.name in best else None
                    if path is not None and node.asn not in path and node.name not in origins:
                        offers.append((len(path), peer.tier.level, peer.number, path, link.end(node.name).name))
                if offers:
                    shortest = min(offers)[0]
                    tables[node.name][prefix] = frozenset(offer[-1] for offer in offers if offer[0] == shortest)
                    chosen[node.name] = min(offers)[3]
                else:
                    tables[node.name].pop(prefix, None)
            if chosen == best:
                break
            best = chosen
    return tables


def test_a_leaf_spreads_over_all_spines() -> None:
    assert next_hops(CLOS, "leaf1", "host8") == {"eth1", "eth2"}
    assert next_hops(CLOS, "spine1", "host8") == {"eth4"}
    assert next_hops(CLOS, "leaf1", "leaf3", family=6) == {"eth1", "eth2"}
    assert next_hops(CLOS, "leaf1", "spine2") == {"eth2"}
    assert next_hops(CLOS, "leaf4", "host8") == {"eth4"}
    assert next_hops(CLOS, "leaf1", "leaf1") == set()
    assert fan_out(CLOS, "leaf1", "host3") == 2


def test_tables_hold_what_others_announce() -> None:
    tables = route_tables(CLOS)
    # 6 switches × 2 loopbacks + 8 hosts × 2 subnets, less its own 2 + 4. Spines share an AS number: they refuse
    # each other's loopback (2 prefixes) when it comes through a leaf.
    assert len(tables["leaf1"]) == 28 - 6
    assert len(tables["spine1"]) == 28 - 2 - 2
    assert len(route_tables(CLOS, 4)["leaf1"]) == 11
    assert {prefix.version for prefix in route_tables(CLOS, 6)["leaf1"]} == {6}
    assert loopback_prefix(CLOS, CLOS.node("spine2")) not in tables["spine1"]


def test_no_valley_after_a_cut() -> None:
    """spine1 lost leaf1: through leaf2 and spine2 there is a wire, but the AS path would hold the spines' number."""
    cut = CLOS.without("leaf1:spine1")
    assert next_hops(cut, "spine1", "host1") == set()
    assert next_hops(cut, "leaf2", "host1") == {"eth2"}
    assert next_hops(cut, "leaf1", "host8") == {"eth2"}
    assert next_hops(cut, "leaf2", "host8") == {"eth1", "eth2"}
    assert _said(equal_cost_paths(cut, "host1", "host3")) == ["host1:eth1 leaf1:eth2 spine2:eth2 leaf2:eth3"]


def test_paths_between_leaves_by_hand() -> None:
    assert _said(equal_cost_paths(CLOS, "host1", "host8")) == [
        "host1:eth1 leaf1:eth1 spine1:eth4 leaf4:eth4",
        "host1:eth1 leaf1:eth2 spine2:eth4 leaf4:eth4",
    ]
    assert _said(equal_cost_paths(CLOS, "host1", "host2")) == ["host1:eth1 leaf1:eth4"]
    assert equal_cost_paths(CLOS, "host1", "host1") == ()


def test_parallel_links_count_separately() -> None:
    fabric = leaf_spine(2, 2, 1, parallel_links=2)
    assert next_hops(fabric, "leaf1", "host2") == {"eth1", "eth2", "eth3", "eth4"}
    assert next_hops(fabric, "spine1", "host2") == {"eth3", "eth4"}
    assert len(equal_cost_paths(fabric, "host1", "host2")) == 2 * 2 * 2
    cut = fabric.without("leaf1:spine1#2")
    assert next_hops(cut, "leaf1", "host2") == {"eth1", "eth3", "eth4"}


def test_fat_tree() -> None:
    fabric = fat_tree(4)
    assert len(equal_cost_paths(fabric, "host1", "host16")) == 4
    assert len(equal_cost_paths(fabric, "host1", "host3")) == 2
    assert len(equal_cost_paths(fabric, "host1", "host2")) == 1
    assert len(equal_cost_paths(fabric, "host1", "host16")[0]) == 6
    assert next_hops(fabric, "pod1-spine1", "host16") == {"eth3", "eth4"}
    assert next_hops(fabric, "core1", "host16") == {"eth4"}
    # pod4-spine1 lost its leaf: cores 1 and 2 lose the way, pods elsewhere keep two of four.
    cut = fabric.without("pod4-leaf2:pod4-spine1")
    assert next_hops(cut, "core1", "host16") == set()
    assert next_hops(cut, "pod1-spine1", "host16") == set()
    assert next_hops(cut, "pod1-leaf1", "host16") == {"eth2"}
    assert len(equal_cost_paths(cut, "host1", "host16")) == 2


def test_rails_stay_on_their_rail_within_a_group() -> None:
    fabric = rails(2, 4, 4)
    assert _said(equal_cost_paths(fabric, "host1", "host2", src_nic=2, dst_nic=2)) == ["host1:eth2 pod1-leaf2:eth4"]
    assert len(equal_cost_paths(fabric, "host1", "host3")) == 2
    assert len(equal_cost_paths(fabric, "host1", "host2", src_nic=1, dst_nic=2)) == 2
    assert next_hops(fabric, "host1", "host2", nic=2) == {"eth2"}


def test_dual_plane_uses_both_planes_and_neither_for_the_other() -> None:
    fabric = dual_plane(2, 2, 4)
    assert len(equal_cost_paths(fabric, "host1", "host3")) == 4
    assert len(equal_cost_paths(fabric, "host1", "host2")) == 2
    assert next_hops(fabric, "host1", "host3") == {"eth1", "eth2"}
    assert next_hops(fabric, "plane1-leaf1", "plane2-leaf1") == set()
    cut = fabric.without("host3:plane1-leaf2")
    assert next_hops(cut, "plane1-leaf1", "host3") == set()
    assert next_hops(cut, "host1", "host3") == {"eth2"}
    assert len(equal_cost_paths(cut, "host1", "host3")) == 2


def test_a_host_without_a_link_is_out_of_reach() -> None:
    cut = CLOS.without("host8:leaf4")
    assert equal_cost_paths(cut, "host1", "host8") == ()
    assert equal_cost_paths(cut, "host8", "host1") == ()
    assert next_hops(cut, "leaf1", "host8") == set()
    assert next_hops(cut, "leaf1", host_prefix(CLOS, "host8")) == set()


def _switches(asn: dict[str, int], wires: Iterable[tuple[str, str]]) -> Fabric:
    """Switches of one tier, cabled as told."""
    ports: dict[str, int] = defaultdict(int)

    def port(name: str) -> Port:
        ports[name] += 1
        return Port(name, f"eth{ports[name]}", ports[name])

    nodes = [Node(name, Tier.LEAF, number, asn=asn[name]) for number, name in enumerate(asn, start=1)]
    return build("wired", nodes, [Cable(port(one), port(other)) for one, other in wires])


def test_a_longer_path_is_taken_when_the_first_is_refused() -> None:
    """d reaches n over p and m in three hops, over x, y and z in four; p and n share an AS number."""
    asn = {"d": 1, "p": 7, "m": 2, "n": 7, "x": 3, "y": 4, "z": 5}
    wires = [("d", "p"), ("p", "m"), ("m", "n"), ("d", "x"), ("x", "y"), ("y", "z"), ("z", "n")]
    fabric = _switches(asn, wires)
    assert next_hops(fabric, "n", "d") == {"eth2"}
    assert next_hops(fabric, "m", "d") == {"eth1"}


@settings(max_examples=100, deadline=None, derandomize=True)
@given(data=st.data())
def test_agrees_with_flooding_whatever_the_as_numbers(data: st.DataObject) -> None:
    names = "abcdefgh"
    asn = {name: data.draw(st.integers(1, 5)) for name in names}
    wires = [pair for pair in combinations(names, 2) if asn[pair[0]] != asn[pair[1]] and data.draw(st.booleans())]
    cabled = {name: asn[name] for name in names if any(name in pair for pair in wires)}
    if cabled:
        fabric = _switches(cabled, wires)
        assert route_tables(fabric) == _flooded(fabric)


def test_a_prefix_of_several_switches() -> None:
    """An address announced by two leaves: others take the nearer, the announcers none."""
    one, two, spine = (
        Node("leaf1", Tier.LEAF, 1, asn=1),
        Node("leaf2", Tier.LEAF, 2, asn=2),
        Node("spine1", Tier.SPINE, 1, asn=9),
    )
    host = Node("host1", Tier.HOST, 1)
    cables = [
        Cable(Port("leaf1", "eth1", 1), Port("spine1", "eth1", 1)),
        Cable(Port("leaf2", "eth1", 1), Port("spine1", "eth2", 2)),
        Cable(Port("host1", "eth1", 1, 1), Port("leaf1", "eth2", 2)),
        Cable(Port("host1", "eth2", 2, 1), Port("leaf2", "eth2", 2)),
    ]
    fabric = build("homed", [one, two, spine, host], cables)
    assert next_hops(fabric, "spine1", "host1") == {"eth1", "eth2"}
    assert ip_network("10.32.0.17/32") not in route_tables(fabric)["leaf1"]
    assert next_hops(fabric, "leaf1", "host1") == {"eth2"}
    cut = fabric.without("host1:leaf1")
    assert next_hops(cut, "leaf1", "host1") == {"eth1"}


def test_refusals() -> None:
    with pytest.raises(SpecError, match="a host at each end"):
        equal_cost_paths(CLOS, "leaf1", "host1")
    with pytest.raises(SpecError, match="no node 'host9'"):
        next_hops(CLOS, "leaf1", "host9")


@pytest.mark.parametrize("name", [name for name in catalog() if name != "clos_16x48"])
def test_agrees_with_flooding(name: str) -> None:
    fabric = load_fabric(name)
    assert route_tables(fabric) == _flooded(fabric)


SMALL = {
    "clos": leaf_spine(2, 3, 1),
    "parallel": leaf_spine(2, 2, 1, parallel_links=2),
    "fat_tree": fat_tree(4),
    "rails": rails(2, 4, 2),
    "planes": dual_plane(2, 2, 2),
}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(shape=st.sampled_from(sorted(SMALL)), data=st.data())
def test_agrees_with_flooding_after_any_cuts(shape: str, data: st.DataObject) -> None:
    fabric = SMALL[shape]
    names = [link.name for link in fabric.links] + [node.name for node in fabric.switches]
    cut = fabric.without(*data.draw(st.sets(st.sampled_from(names), max_size=8)))
    assert route_tables(cut) == _flooded(cut)
    hosts = data.draw(st.permutations([host.name for host in cut.hosts]))[:2]
    for path in equal_cost_paths(cut, *hosts):
        # Each hop leaves the node that the hop before led to, and the last leads to the host.
        reached = hosts[0]
        for port in path:
            assert port.node == reached
            reached = cut.link_at(port.node, port.name).far(port.node).node
        assert reached == hosts[1]


def test_fast_enough_for_the_largest_fabric() -> None:
    """Bound: below 1 s of a processor for 768 fabric links and 224 prefixes: waiting for routes never waits for us."""
    fabric = load_fabric("clos_16x48").without("leaf1:spine1")
    began = time.process_time()
    tables = route_tables(fabric)
    assert time.process_time() - began < 1
    assert sum(len(table) for table in tables.values()) > 13_000
