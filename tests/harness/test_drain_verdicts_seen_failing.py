"""A drained node is in nobody's way; one that still is, is named."""

from __future__ import annotations

from labs.telemetry.samples import RouteTable
from labs.verdicts.drain import drained
from topologies import addressing, routing
from topologies.fabric import Fabric
from topologies.load import load_fabric

FABRIC = load_fabric("clos_2x4")


def tables(fabric: Fabric) -> list[RouteTable]:
    return [RouteTable(node, routes) for node, routes in routing.route_tables(fabric).items()]


def after_drain(node: str) -> list[RouteTable]:
    rest = routing.route_tables(FABRIC.without(node))
    return [
        RouteTable(name, {prefix: rest.get(name, {}).get(prefix) or ports for prefix, ports in routes.items()})
        for name, routes in routing.route_tables(FABRIC).items()
    ]


def test_a_drained_spine_is_in_nobodys_way() -> None:
    assert drained(FABRIC, "spine1", after_drain("spine1"))


def test_a_drained_leaf_keeps_its_hosts() -> None:
    hosts = addressing.host_prefix(FABRIC, "host1")
    left = {table.node: table.routes for table in after_drain("leaf1")}
    assert left["spine1"][hosts] == frozenset({"eth1"})
    assert drained(FABRIC, "leaf1", after_drain("leaf1"))


def test_a_spine_that_is_still_used_is_found() -> None:
    verdict = drained(FABRIC, "spine1", tables(FABRIC))
    assert not verdict
    assert verdict.evidence.rows[0].startswith("leaf1: ")


def test_a_spine_whose_own_address_is_gone_is_found() -> None:
    assert not drained(FABRIC, "spine1", tables(FABRIC.without("spine1")))


def test_without_tables_nothing_is_judged() -> None:
    assert not drained(FABRIC, "spine1", []).valid
