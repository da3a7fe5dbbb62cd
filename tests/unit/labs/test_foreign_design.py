from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from labs.foreign.design import design_of
from labs.foreign.found import FoundBgp, FoundInterface, FoundNode, FoundPeer, kind_of, natural
from labs.foreign.frr_config import examine
from labs.foreign.tiers import tier_said, tiers
from labs.foreign.topology import ForeignNode, ForeignTopology
from topologies.errors import SpecError
from topologies.fabric import Tier
from topologies.routing import next_hops, route_tables

KINDS = ("frr", "host", "plain")
OPEN = "frr defaults traditional\nrouter bgp {}\n no bgp ebgp-requires-policy\n"


def node(name: str, *addresses: str, kind: str = "linux", **more: object) -> FoundNode:
    """A node with eth1, eth2 … addressed in order."""
    interfaces = tuple(
        FoundInterface(f"eth{number}", "", (ip_interface(address),)) for number, address in enumerate(addresses, 1)
    )
    return FoundNode(name, f"clab-x-{name}", kind, interfaces=interfaces, **more)  # type: ignore[arg-type]


def router(name: str, asn: int, addresses: list[str], peers: dict[str, int], prefixes: list[str]) -> FoundNode:
    bgp = FoundBgp(
        asn,
        tuple(FoundPeer(peer, remote, (4,)) for peer, remote in peers.items()),
        {ip_network(prefix): ("IGP", 0) for prefix in prefixes},
    )
    daemons = frozenset({"zebra", "bgpd"})
    return node(name, *addresses, daemons=daemons, bgp=bgp, config=OPEN.format(asn))


def line(*nodes: FoundNode) -> ForeignTopology:
    """PC1 ─ r1 ─ r2 ─ PC2, eth1 towards PC1's side where a node has two."""
    ends = (("PC1", "eth1"), ("r1", "eth1")), (("r1", "eth2"), ("r2", "eth1")), (("r2", "eth2"), ("PC2", "eth1"))
    return ForeignTopology("x", {one.name: ForeignNode(one.name, one.kind) for one in nodes}, ends)


PC1 = node("PC1", "192.0.2.2/25", routes={ip_network("192.0.2.0/24"): (ip_address("192.0.2.1"),)})
PC2 = node("PC2", "192.0.2.130/25", routes={ip_network("0.0.0.0/0"): (ip_address("192.0.2.129"),)})
R1 = router("r1", 65001, ["192.0.2.1/25", "10.0.0.1/30"], {"10.0.0.2": 65002}, ["192.0.2.0/25"])
R2 = router("r2", 65002, ["10.0.0.2/30", "192.0.2.129/25"], {"10.0.0.1": 65001}, ["192.0.2.128/25"])


def designed(*nodes: FoundNode) -> tuple[object, str | None]:
    fabric, _ = design_of(line(*nodes), {one.name: one for one in nodes}, KINDS, 1)
    assert fabric.given is not None
    return fabric, fabric.given.unpredictable


def test_a_lab_that_is_predicted() -> None:
    fabric, spec = design_of(line(PC1, R1, R2, PC2), {n.name: n for n in (PC1, R1, R2, PC2)}, KINDS, 7)
    assert fabric.given is not None
    assert fabric.given.unpredictable is None
    assert spec.node_kinds == {"PC1": "host", "r1": "frr", "r2": "frr", "PC2": "host"}
    assert [node.tier for node in fabric.nodes] == [Tier.HOST, Tier.LEAF, Tier.LEAF, Tier.HOST]
    assert next_hops(fabric, "r1", "PC2") == {"eth2"}
    assert route_tables(fabric)["r2"] == {ip_network("192.0.2.0/25"): frozenset({"eth1"})}
    assert fabric.session_ends == 2
    assert not spec.ipv6


@pytest.mark.parametrize(
    ("changed", "because"),
    [
        (replace(R1, config="router ospf\n area 0\n", bgp=None, daemons=frozenset({"zebra", "ospfd"})), "r1 runs OSPF"),
        (replace(R1, config=R1.config + " aggregate-address 10.0.0.0/8\n"), "r1 has a policy: aggregate-address"),
        (replace(R1, bgp=replace(R1.bgp or FoundBgp(1), peers=(FoundPeer("10.9.9.9", 65002, (4,)),))), "no link"),
        (replace(R1, bgp=replace(R1.bgp or FoundBgp(1), asn=65002)), "speaks iBGP"),
        (replace(R1, kind="crpd", daemons=frozenset(), bgp=None), "r1 (crpd) routes without BGP"),
        (replace(R1, daemons=frozenset(), bgp=None), "r1 (static routes) routes without BGP"),
        (replace(R1, daemons=frozenset({"zebra"}), bgp=None, config=""), "r1 runs no BGP"),
    ],
)
def test_labs_that_are_not(changed: FoundNode, because: str) -> None:
    _, said = designed(PC1, changed, R2, PC2)
    assert said is not None
    assert because in said


def test_two_origins_with_different_attributes_are_doubted() -> None:
    other = replace(R2, bgp=replace(R2.bgp or FoundBgp(1), origins={ip_network("192.0.2.0/25"): ("incomplete", 0)}))
    fabric, _ = design_of(line(PC1, R1, other, PC2), {n.name: n for n in (PC1, R1, other, PC2)}, KINDS, 1)
    assert fabric.given is not None
    assert [str(doubt.prefix) for doubt in fabric.given.doubts] == ["192.0.2.0/25"]


def test_recognition() -> None:
    assert kind_of(R1, KINDS) == "frr"
    assert kind_of(PC1, KINDS) == "host"
    assert kind_of(node("x", kind="nokia_srlinux"), KINDS) == "plain"
    only_zebra = node("x", daemons=frozenset({"zebra"}))
    assert kind_of(only_zebra, KINDS) == "host"
    assert kind_of(only_zebra, KINDS, routes_for_others=True) == "frr"
    assert kind_of(replace(R1, labels={"railbed-kind": "plain"}), KINDS) == "plain"
    with pytest.raises(SpecError, match=r"r1 is labelled railbed-kind: cisco; allowed: frr, host, plain"):
        kind_of(replace(R1, labels={"railbed-kind": "cisco"}), KINDS)


def test_tiers_by_distance_from_the_hosts() -> None:
    links = [("h1", "l1"), ("h2", "l2"), ("l1", "s1"), ("l2", "s1"), ("s1", "c1"), ("c1", "w1")]
    names = ["h1", "h2", "l1", "l2", "s1", "c1", "w1"]
    found = tiers(names, links, ["h1", "h2"], {})
    assert [found[name] for name in names] == [
        *(Tier.HOST, Tier.HOST, Tier.LEAF, Tier.LEAF, Tier.SPINE, Tier.CORE, Tier.CORE)
    ]
    assert tiers(names, links, ["h1", "h2"], {"c1": Tier.SPINE})["c1"] is Tier.SPINE
    bare = tiers(["l1", "l2", "s1"], [("l1", "s1"), ("l2", "s1")], [], {})
    assert bare == {"l1": Tier.LEAF, "l2": Tier.LEAF, "s1": Tier.SPINE}
    assert tiers(["a", "b"], [], ["a"], {}) == {"a": Tier.HOST, "b": Tier.LEAF}


def test_tiers_by_label_and_group() -> None:
    assert tier_said("x", {"railbed-tier": "core"}, "leaf") is Tier.CORE
    assert tier_said("x", {}, "Spines") is Tier.SPINE
    assert tier_said("x", {}, "routers") is None
    with pytest.raises(SpecError, match="x is labelled railbed-tier: top"):
        tier_said("x", {"railbed-tier": "top"}, "")


@pytest.mark.parametrize(
    ("text", "because"),
    [
        (OPEN.format(1), None),
        ("frr defaults datacenter\nrouter bgp 1\n", None),
        ("frr defaults traditional\nrouter bgp 1\n", "asks for a policy"),
        (OPEN.format(1) + " neighbor x route-map ALL in\nroute-map ALL permit 10\nexit\n", None),
        (OPEN.format(1) + " neighbor x route-map SET in\nroute-map SET permit 10\n set metric 5\n", "route-map SET"),
        (OPEN.format(1) + " neighbor x route-map NONE in\n", "route-map NONE"),
        (OPEN.format(1) + " neighbor x allowas-in 2\n", "allowas-in"),
        (OPEN.format(1) + " neighbor x route-reflector-client\n", "route-reflector-client"),
        (OPEN.format(1) + "router bgp 1 vrf red\n", "VRF"),
        (OPEN.format(1) + "router isis x\n", "IS-IS"),
        ("frr defaults traditional\n", "runs no BGP"),
    ],
)
def test_what_a_configuration_allows_to_predict(text: str, because: str | None) -> None:
    said = examine(text).unpredictable
    assert said == because if because is None else because in str(said)


def test_relax_and_maximum_paths() -> None:
    assert not examine(OPEN.format(1)).relaxed
    assert examine("frr defaults datacenter\nrouter bgp 1\n").relaxed
    assert not examine("frr defaults datacenter\nrouter bgp 1\n no bgp bestpath as-path multipath-relax\n").relaxed
    found = examine(
        "router bgp 1\n bgp bestpath as-path multipath-relax\n address-family ipv4 unicast\n  maximum-paths 2\n"
        "  maximum-paths ibgp 9\n exit-address-family\n address-family ipv6 unicast\n  maximum-paths 4\n"
    )
    assert found.relaxed
    assert found.most_paths == (2, 4)


def test_people_count_naturally() -> None:
    assert sorted(["eth10", "eth9", "e1-2", "Gi0/0/1"], key=natural) == ["Gi0/0/1", "e1-2", "eth9", "eth10"]
