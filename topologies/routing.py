"""The oracle: what eBGP makes of a fabric, predicted from the design alone.

Every switch speaks eBGP to every switch it is cabled to, takes the shortest AS path, and spreads over all paths
of that length whatever AS numbers they carry ("multipath-relax"). This is not shortest paths in a graph: a
switch refuses a route whose AS path holds its own AS number. With one AS number for all spines, a spine that
lost its link to leaf1 does not come back to it through another leaf (no "valley"): it has no route to leaf1.

What is not modelled: a limit on the number of paths (`maximum_paths`), policy, and the time it takes to converge.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network
from types import MappingProxyType

from topologies.addressing import Prefix, attached, host_nic, host_prefix, loopback_prefix
from topologies.errors import SpecError
from topologies.fabric import Fabric, Node, Port

# The egress ports of a packet, from its host's to the last leaf's.
Path = tuple[Port, ...]
RouteTables = Mapping[str, Mapping[Prefix, frozenset[str]]]
_Graph = Mapping[str, tuple[tuple[str, str], ...]]


@lru_cache(maxsize=64)
def route_tables(fabric: Fabric, family: int | None = None) -> RouteTables:
    """For every switch, each prefix it learns by BGP and the names of its egress ports (parallel links separately).

    `family` 4 or 6 restricts the answer. A prefix that a switch announces itself is not among those it learns.
    """
    origins: dict[Prefix, list[str]] = defaultdict(list)
    for switch, prefixes in attached(fabric).items():
        for prefix in prefixes:
            if family in {None, prefix.version}:
                origins[prefix].append(switch)
    groups: dict[tuple[str, ...], list[Prefix]] = defaultdict(list)
    for prefix, switches in origins.items():
        groups[tuple(switches)].append(prefix)
    graph = _graph(fabric)
    tables: dict[str, dict[Prefix, frozenset[str]]] = {switch.name: {} for switch in fabric.switches}
    for announcers, shared in groups.items():
        for switch, ports in _learned(fabric, graph, announcers).items():
            tables[switch].update(dict.fromkeys(shared, ports))
    return MappingProxyType({switch: MappingProxyType(table) for switch, table in tables.items()})


def next_hops(
    fabric: Fabric, node: str | Node, dst: Prefix | str | Node, *, nic: int = 1, family: int = 4
) -> frozenset[str]:
    """The ports by which `node` sends on what is for `dst`; empty when it has no way, or is `dst` itself.

    Args:
        node: a switch, or a host: then the ports of its card `nic` whose leaf has a way.
        dst: a prefix that the fabric announces, a host (its card `nic` is meant) or a switch (its loopback).
        family: 4 or 6, for a `dst` given by name.
    """
    at, prefix, ways = fabric.node(str(node)), _prefix(fabric, dst, nic, family), _ways(fabric)
    ports = ways.egress(at.name, prefix) if at.is_switch else _useful_ports(fabric, at, nic, prefix, ways)
    return frozenset(port.name for port in ports)


def fan_out(fabric: Fabric, switch: str | Node, dst: Prefix | str | Node, *, nic: int = 1, family: int = 4) -> int:
    """Over how many ports `switch` spreads what is for `dst`."""
    return len(next_hops(fabric, switch, dst, nic=nic, family=family))


def equal_cost_paths(
    fabric: Fabric, src: str | Node, dst: str | Node, *, src_nic: int = 1, dst_nic: int = 1, family: int = 4
) -> tuple[Path, ...]:
    """Every path from one host's card to another's that forwarding may take; empty when there is none.

    A path is the egress port at each node on the way, the last leaf's included; parallel links count
    separately. A source card with two ports counts both, where both lead there. Raises SpecError for a switch.
    """
    start, end = fabric.node(str(src)), fabric.node(str(dst))
    for node in (start, end):
        if node.is_switch:
            raise SpecError(f"found switch {node}", allowed="a host at each end of a path")
    if start == end:
        return ()
    prefix, ways = _prefix(fabric, end, dst_nic, family), _ways(fabric)
    known: dict[str, tuple[Path, ...]] = {end.name: ((),)}
    ports = _useful_ports(fabric, start, src_nic, prefix, ways)
    return tuple((port, *rest) for port in ports for rest in _paths_from(ways.far[port], prefix, ways, known))


@dataclass(frozen=True)
class _Ways:
    """How a fabric forwards: `own` prefixes of each switch, those it learned, and the node behind each port."""

    own: Mapping[str, Mapping[Prefix, tuple[Port, ...]]]
    learned: RouteTables
    ports: Mapping[str, tuple[Port, ...]]
    far: Mapping[Port, str]

    def egress(self, switch: str, prefix: Prefix | None) -> tuple[Port, ...]:
        """The ports of a switch for a prefix, those of its own hosts included, by number."""
        if prefix is None:
            return ()
        if prefix in self.own[switch]:
            return self.own[switch][prefix]
        names = self.learned[switch].get(prefix, frozenset())
        return tuple(port for port in self.ports[switch] if port.name in names)


@lru_cache(maxsize=64)
def _ways(fabric: Fabric) -> _Ways:
    far = {port: link.far(port.node).node for link in fabric.links for port in link.ends}
    ports = {node.name: fabric.ports(node) for node in fabric.nodes}
    return _Ways(attached(fabric), route_tables(fabric), ports, far)


def _paths_from(node: str, prefix: Prefix | None, ways: _Ways, known: dict[str, tuple[Path, ...]]) -> tuple[Path, ...]:
    """The paths from a switch to the host behind `prefix`. Every hop shortens the AS path, so this ends."""
    if node not in known:
        known[node] = tuple(
            (port, *rest)
            for port in ways.egress(node, prefix)
            for rest in _paths_from(ways.far[port], prefix, ways, known)
        )
    return known[node]


def _useful_ports(fabric: Fabric, host: Node, nic: int, prefix: Prefix | None, ways: _Ways) -> tuple[Port, ...]:
    """The ports of a host's card whose leaf has a way to `prefix`."""
    try:
        card = host_nic(fabric, host, nic)
    except SpecError:  # its last link is gone
        return ()
    return tuple(port for port in card.ports if ways.egress(ways.far[port], prefix))


def _prefix(fabric: Fabric, dst: Prefix | str | Node, nic: int, family: int) -> Prefix | None:
    """What the fabric announces for a destination; None for a host's card that has lost its last link."""
    if isinstance(dst, IPv4Network | IPv6Network):
        return dst
    node = fabric.node(str(dst))
    if node.is_switch:
        return loopback_prefix(node, family)
    try:
        return host_prefix(fabric, node, nic, family)
    except SpecError:
        return None


def _graph(fabric: Fabric) -> _Graph:
    """For each switch, the switches it is cabled to, each with that neighbour's port on the link."""
    found: dict[str, list[tuple[str, str]]] = {switch.name: [] for switch in fabric.switches}
    for link in fabric.fabric_links:
        found[link.a.node].append((link.b.node, link.b.name))
        found[link.b.node].append((link.a.node, link.a.name))
    return {name: tuple(edges) for name, edges in found.items()}


def _learned(fabric: Fabric, graph: _Graph, origins: Iterable[str]) -> Mapping[str, frozenset[str]]:
    """The egress ports at every switch that learns what `origins` announce.

    One level at a time: a switch adopts, at its first opportunity, every neighbour of the level before whose
    best path does not hold its own AS number. Refused there, it may still adopt a longer path later.
    """
    paths: dict[str, frozenset[int | None]] = {name: frozenset({fabric.node(name).asn}) for name in origins}
    learned: dict[str, frozenset[str]] = {}
    level = list(paths)
    while level:
        offers: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for name in level:
            for neighbor, port in graph[name]:
                if neighbor not in paths and fabric.node(neighbor).asn not in paths[name]:
                    offers[neighbor].append((name, port))
        for name, taken in offers.items():
            # Between equals BGP prefers the lowest router id, and advertises that one path only.
            best = min((fabric.node(offer).tier.level, fabric.node(offer).number, offer) for offer, _ in taken)[-1]
            paths[name] = paths[best] | {fabric.node(name).asn}
            learned[name] = frozenset(port for _, port in taken)
        level = list(offers)
    return learned
