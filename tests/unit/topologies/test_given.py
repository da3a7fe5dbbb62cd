from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from topologies import addressing
from topologies.builders import leaf_spine
from topologies.errors import SpecError, Unpredictable
from topologies.fabric import Fabric
from topologies.given import Doubt, GivenDesign, GivenPort, GivenRouter, GivenSession
from topologies.load import fabric_from_dict, fabric_to_dict
from topologies.routing import equal_cost_paths, next_hops, route_tables, unpredicted

CLOS = leaf_spine(2, 4, 1)


def as_given(fabric: Fabric, **changes: object) -> Fabric:
    """The same fabric, its plan turned into what was read: a lab whose author happened to choose our addresses."""
    ports = tuple(
        GivenPort(
            port.node,
            port.name,
            tuple(addressing.port_interface(fabric, port, family) for family in (4, 6)),
            addressing.mac(fabric, port),
        )
        for node in fabric.nodes
        for port in fabric.ports(node)
    )
    routers = tuple(
        GivenRouter(
            switch.name,
            tuple(addressing.loopback(fabric, switch, family) for family in (4, 6)),
            addressing.originated(fabric)[switch.name],
            sessions=tuple(
                GivenSession(link.name, (4, 6)) for link in fabric.links_of(switch) if link in fabric.fabric_links
            ),
            session_ends=sum(link in fabric.fabric_links for link in fabric.links_of(switch)),
            relaxed=True,
        )
        for switch in fabric.switches
    )
    return replace(fabric, given=replace(GivenDesign(ports, routers), **changes))  # type: ignore[arg-type]


def with_router(fabric: Fabric, name: str, **changes: object) -> Fabric:
    assert fabric.given is not None
    routers = tuple(
        replace(router, **changes) if router.node == name else router  # type: ignore[arg-type]
        for router in fabric.given.routers
    )
    return replace(fabric, given=replace(fabric.given, routers=routers))


GIVEN = as_given(CLOS)


def test_what_is_given_is_what_every_question_is_answered_by() -> None:
    for host in CLOS.hosts:
        for family in (4, 6):
            assert addressing.host_address(GIVEN, host, 1, family) == addressing.host_address(CLOS, host, 1, family)
            assert addressing.host_prefix(GIVEN, host, 1, family) == addressing.host_prefix(CLOS, host, 1, family)
    for node in CLOS.nodes:
        for port in CLOS.ports(node):
            assert addressing.mac(GIVEN, port) == addressing.mac(CLOS, port)
    assert addressing.attached(GIVEN) == addressing.attached(CLOS)
    assert GIVEN.session_ends == CLOS.session_ends == 16


def test_other_addresses_than_the_plans() -> None:
    assert GIVEN.given is not None
    port = GivenPort("host1", "eth1", (ip_interface("192.0.2.7/25"),), "aa:00:00:00:00:01")
    ports = tuple(port if found.node == "host1" else found for found in GIVEN.given.ports)
    routers = (GivenRouter("leaf1", originates=(ip_network("192.0.2.0/24"), ip_network("192.0.0.0/16"))),)
    fabric = replace(CLOS, given=GivenDesign(ports, routers))
    assert addressing.host_address(fabric, "host1") == ip_address("192.0.2.7")
    assert addressing.host_prefix(fabric, "host1") == ip_network("192.0.2.0/24"), "the longest that is announced"
    assert addressing.mac(fabric, fabric.ports("host1")[0]) == "aa:00:00:00:00:01"
    assert not addressing.has_address(fabric, "host1", 1, 6)
    with pytest.raises(SpecError, match="host1:eth1 has no IPv6 address"):
        addressing.port_interface(fabric, fabric.ports("host1")[0], 6)
    with pytest.raises(SpecError, match="leaf1 has no IPv4 loopback"):
        addressing.loopback(fabric, fabric.node("leaf1"))
    with pytest.raises(SpecError, match="found host"):
        addressing.loopback(fabric, fabric.node("host1"))


def test_a_host_port_without_an_address_is_no_card() -> None:
    fabric = replace(CLOS, given=GivenDesign())
    assert addressing.nics(fabric, "host1") == ()
    assert not addressing.has_address(fabric, "host1", 1, 4)


def test_it_is_kept_without_a_link_and_in_json() -> None:
    assert CLOS.without("leaf1:spine1").given is None
    assert GIVEN.without("leaf1:spine1").given == GIVEN.given
    assert fabric_from_dict(fabric_to_dict(GIVEN)) == GIVEN
    assert hash(GIVEN) == hash(fabric_from_dict(fabric_to_dict(GIVEN)))


@pytest.mark.parametrize("cut", [(), ("leaf1:spine1",), ("spine2",), ("leaf2:spine1", "leaf3:spine2")])
def test_the_oracle_says_the_same(cut: tuple[str, ...]) -> None:
    """With multipath-relax and equal AS numbers on the spines nothing hangs on chance."""
    assert route_tables(GIVEN.without(*cut)) == route_tables(CLOS.without(*cut))
    assert not unpredicted(GIVEN.without(*cut))


def test_no_session_no_route() -> None:
    """leaf1 has configured no session on its first uplink: it uses the other, and spine1 has no way to it."""
    fabric = with_router(GIVEN, "leaf1", sessions=(GivenSession("leaf1:spine2", (4,)),))
    assert next_hops(fabric, "leaf1", "host2") == {"eth2"}
    assert next_hops(fabric, "spine1", "host1") == set()
    assert next_hops(fabric, "leaf1", "host2", family=6) == set()


def test_what_is_had_elsewhere_is_not_learned() -> None:
    prefix = addressing.host_prefix(GIVEN, "host2")
    fabric = with_router(GIVEN, "leaf1", elsewhere=(prefix,))
    assert prefix not in route_tables(fabric)["leaf1"]
    assert prefix in route_tables(fabric)["leaf3"]


def test_without_relax_equal_paths_need_equal_numbers() -> None:
    """Spines of one AS number: the paths are identical. Of two: it hangs on which came first."""
    strict = GIVEN
    for name in ("leaf1", "leaf2", "leaf3", "leaf4"):
        strict = with_router(strict, name, relaxed=False)
    assert not unpredicted(strict)
    apart = replace(
        GIVEN, nodes=tuple(replace(n, asn=n.asn + n.number) if n.name.startswith("spine") and n.asn else n
                           for n in GIVEN.nodes)
    )  # fmt: skip
    prefix = addressing.host_prefix(GIVEN, "host2")
    assert next_hops(apart, "leaf1", prefix) == {"eth1", "eth2"}, "relaxed: both"
    chance = with_router(apart, "leaf1", relaxed=False)
    assert "no multipath-relax" in unpredicted(chance)[prefix]
    assert prefix not in route_tables(chance)["leaf1"]
    assert prefix not in route_tables(chance)["leaf3"], "what is not known of one switch is judged at none"
    with pytest.raises(Unpredictable, match="leaf1 is offered 2 different AS paths"):
        next_hops(chance, "leaf1", "host2")


def test_fewer_paths_than_there_are() -> None:
    fabric = with_router(GIVEN, "leaf1", most_paths=(1, 64))
    v4, v6 = (addressing.host_prefix(GIVEN, "host2", family=family) for family in (4, 6))
    assert "takes 1 (maximum-paths)" in unpredicted(fabric)[v4]
    assert next_hops(fabric, "leaf1", v6) == {"eth1", "eth2"}
    assert not unpredicted(with_router(GIVEN, "leaf1", most_paths=(2, 2)))


def test_doubts_and_labs_that_are_not_predicted() -> None:
    prefix = addressing.host_prefix(GIVEN, "host2")
    doubted = as_given(CLOS, doubts=(Doubt(prefix, "two announce it"),))
    assert unpredicted(doubted) == {prefix: "two announce it"}
    with pytest.raises(Unpredictable, match="two announce it"):
        equal_cost_paths(doubted, "host1", "host2")
    assert equal_cost_paths(doubted, "host1", "host3")
    with pytest.raises(Unpredictable, match="r1 runs OSPF"):
        route_tables(as_given(CLOS, unpredictable="r1 runs OSPF"))
