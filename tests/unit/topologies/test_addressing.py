from __future__ import annotations

import itertools
from collections import Counter
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from topologies import addressing
from topologies.builders import dual_plane, leaf_spine, rails
from topologies.errors import SpecError
from topologies.fabric import Fabric, Link, Node, Port, Tier
from topologies.load import catalog, load_fabric

CLOS = leaf_spine(2, 4, 2)


def _everything(fabric: Fabric) -> dict[object, str]:
    """Every address and MAC of a fabric, by what has it."""
    found: dict[object, str] = {}
    for node in fabric.nodes:
        for port in fabric.ports(node):
            found["mac", str(port)] = addressing.mac(fabric, port)
    for family in (4, 6):
        for node in fabric.switches:
            found[family, node.name] = str(addressing.loopback(fabric, node, family))
        for link in fabric.links:
            for port in link.ends:
                found[family, str(port)] = str(addressing.port_interface(fabric, port, family).ip)
        for host in fabric.hosts:
            for card in addressing.nics(fabric, host):
                if card.shared:
                    address = addressing.host_address(fabric, host, card.number, family)
                    found[family, f"{host}/{card.number}"] = str(address)
    return found


def test_the_plan_by_hand() -> None:
    assert str(addressing.loopback(CLOS, CLOS.node("leaf1"))) == "10.1.0.1"
    assert str(addressing.loopback(CLOS, CLOS.node("spine2"))) == "10.2.0.2"
    assert str(addressing.loopback(CLOS, Node("core1", Tier.CORE, 1))) == "10.3.0.1"
    assert str(addressing.loopback(CLOS, Node("leaf300", Tier.LEAF, 300))) == "10.1.1.44"
    assert addressing.loopback(CLOS, CLOS.node("leaf4"), 6) == ip_address("fd00:1::4")
    # leaf2 is number 2, its first host stands on port 3: 10.64.0.0 + 2·2¹¹ + 3·2.
    link = CLOS.link("host3:leaf2")
    assert addressing.port_interface(CLOS, link.b) == ip_interface("10.64.16.6/31")
    assert addressing.port_interface(CLOS, link.a) == ip_interface("10.64.16.7/31")
    assert addressing.port_interface(CLOS, link.b, 6) == ip_interface("fd00:64:2:3::1/64")
    assert addressing.port_interface(CLOS, link.a, 6) == ip_interface("fd00:64:2:3::2/64")
    # leaf2's uplink to spine2 is its port 2: 10.128.0.0 + ((1·2¹⁰ + 2)·2¹⁰ + 2)·2.
    link = CLOS.link("leaf2:spine2")
    assert addressing.port_interface(CLOS, link.a) == ip_interface("10.160.16.4/31")
    assert addressing.port_interface(CLOS, link.b) == ip_interface("10.160.16.5/31")
    assert addressing.port_interface(CLOS, link.a, 6) == ip_interface("fd00:128:1002:2::/127")
    assert addressing.port_interface(CLOS, link.b, 6) == ip_interface("fd00:128:1002:2::1/127")
    assert addressing.mac(CLOS, CLOS.ports("spine2")[3]) == "02:52:20:00:02:04"


def test_a_host_answers_under_its_port_or_its_card() -> None:
    assert str(addressing.host_address(CLOS, "host3")) == "10.64.16.7"
    assert str(addressing.gateway(CLOS, CLOS.ports("host3")[0])) == "10.64.16.6"
    planes = dual_plane(2, 2, 4)
    assert str(addressing.host_address(planes, "host3")) == "10.32.0.49"
    assert addressing.host_address(planes, "host3", family=6) == ip_address("fd00:32:0:3::1")
    assert addressing.host_prefix(planes, "host3") == ip_network("10.32.0.49/32")
    both = rails(2, 4, 4)
    assert [card.number for card in addressing.nics(both, "host1")] == [1, 2]
    assert str(addressing.host_address(both, "host1", nic=2)) == "10.64.16.7"


def test_what_switches_announce() -> None:
    announced = addressing.originated(CLOS)
    assert [str(prefix) for prefix in announced["leaf1"]] == [
        "10.1.0.1/32",
        "fd00:1::1/128",
        "10.64.8.6/31",
        "fd00:64:1:3::/64",
        "10.64.8.8/31",
        "fd00:64:1:4::/64",
    ]
    assert [str(prefix) for prefix in announced["spine1"]] == ["10.2.0.1/32", "fd00:2::1/128"]
    planes = addressing.originated(dual_plane(2, 2, 4))
    for leaf in ("plane1-leaf2", "plane2-leaf2"):
        assert {ip_network("10.32.0.49/32"), ip_network("fd00:32:0:3::1/128")} <= set(planes[leaf])


@pytest.mark.parametrize("name", catalog())
def test_no_address_twice(name: str) -> None:
    fabric = load_fabric(name)
    counted = Counter(_everything(fabric).values())
    assert not [address for address, times in counted.items() if times > 1]


@pytest.mark.parametrize("name", catalog())
def test_no_subnet_overlaps_another(name: str) -> None:
    fabric = load_fabric(name)
    for family in (4, 6):
        subnets = [addressing.link_subnet(fabric, link, family) for link in fabric.links]
        subnets += [addressing.loopback_prefix(fabric, node, family) for node in fabric.switches]
        spans = sorted((int(one.network_address), int(one.broadcast_address)) for one in subnets)
        assert all(before[1] < after[0] for before, after in itertools.pairwise(spans))
        whole = addressing.ALL_V4 if family == 4 else addressing.ALL_V6
        assert all(int(whole.network_address) <= low <= int(whole.broadcast_address) for low, _ in spans)


@pytest.mark.parametrize("name", [name for name in catalog() if name != "clos_16x48"])
def test_taking_out_a_link_or_node_changes_no_address(name: str) -> None:
    fabric = load_fabric(name)
    before = _everything(fabric)
    for gone in (fabric.links[0], fabric.links[-1], fabric.switches[0], fabric.hosts[0]):
        after = _everything(fabric.without(gone))
        assert after == {what: before[what] for what in after}
        assert len(after) < len(before)


def test_a_card_keeps_its_address_when_one_of_its_links_is_cut() -> None:
    planes = dual_plane(2, 2, 4)
    cut = planes.without("host1:plane1-leaf1")
    assert addressing.host_address(cut, "host1") == addressing.host_address(planes, "host1")
    assert ip_network("10.32.0.17/32") not in addressing.originated(cut)["plane1-leaf1"]
    assert ip_network("10.32.0.17/32") in addressing.originated(cut)["plane2-leaf1"]


def test_the_far_ends_of_the_plan_stay_apart() -> None:
    """The largest numbers that `build()` lets through must not run into the next range."""
    leaf, spine, host = Node("l", Tier.LEAF, 1023), Node("s", Tier.SPINE, 1023), Node("h", Tier.HOST, 65535)
    to_host = Link("h:l", Port("h", "eth1", 1, 15), Port("l", "eth1023", 1023))
    up = Link("l:s", Port("l", "eth1022", 1022), Port("s", "eth1023", 1023))
    fabric = Fabric("far", (leaf, spine, host), (to_host, up))
    assert addressing.link_subnet(fabric, to_host).subnet_of(ip_network("10.64.0.0/10"))  # type: ignore[arg-type]
    assert addressing.link_subnet(fabric, up).subnet_of(ip_network("10.128.0.0/9"))  # type: ignore[arg-type]
    assert addressing.nic_address(host, 15) in ip_network("10.32.0.0/11")
    assert addressing.link_subnet(fabric, up, 6) == ip_network("fd00:128:13ff:3fe::/127")
    assert addressing.mac(fabric, to_host.b) == "02:52:13:03:ff:ff"
    core = Link("c:d", Port("c", "eth1023", 1023), Port("d", "eth1", 1))
    cores = Fabric("cores", (Node("c", Tier.CORE, 1023), Node("d", Tier.CORE, 1)), (core,))
    assert addressing.link_subnet(cores, core) == ip_network("10.255.255.254/31")


def test_refusals() -> None:
    with pytest.raises(SpecError, match="hosts have no loopback"):
        addressing.loopback(CLOS, CLOS.node("host1"))
    with pytest.raises(SpecError, match="only hosts have network cards"):
        addressing.nics(CLOS, "leaf1")
    with pytest.raises(SpecError, match="no linked network card 2 on host1; allowed: 1"):
        addressing.host_address(CLOS, "host1", nic=2)
    with pytest.raises(SpecError, match="no link is left"):
        addressing.host_address(CLOS.without("host1:leaf1"), "host1")
    with pytest.raises(SpecError, match="IP family 5"):
        addressing.host_address(CLOS, "host1", family=5)
    with pytest.raises(SpecError, match="no port"):
        addressing.port_interface(CLOS.without("host1:leaf1"), CLOS.ports("host1")[0])
    bad = Fabric("bad", CLOS.nodes, (Link("host1:spine1", Port("host1", "eth1", 1, 1), Port("spine1", "eth1", 1)),))
    with pytest.raises(SpecError, match="hosts are cabled to leaves only"):
        addressing.link_subnet(bad, bad.links[0])


def test_macs_are_local_and_unicast() -> None:
    first = int(addressing.mac(CLOS, CLOS.ports("host1")[0])[:2], 16)
    assert first & 0b11 == 0b10
