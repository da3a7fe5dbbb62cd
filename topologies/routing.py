"""The oracle: what eBGP makes of a fabric, predicted from the design alone.

Every switch speaks eBGP to every switch it is cabled to, takes the shortest AS path, and spreads over all paths
of that length whatever AS numbers they carry ("multipath-relax"). This is not shortest paths in a graph: a
switch refuses a route whose AS path holds its own AS number. With one AS number for all spines, a spine that
lost its link to leaf1 does not come back to it through another leaf (no "valley"): it has no route to leaf1.

What is not modelled: policy, and the time it takes to converge. A fabric that was read from somebody else's lab
(`Fabric.given`) may lack multipath-relax, limit the number of paths, or leave the choice between equal paths to the
order in which they came. Where that decides what is forwarded, a prefix is not predicted: it is in no table.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network
from types import MappingProxyType

from topologies.addressing import FAMILIES, Prefix, attached, host_nic, host_prefix, loopback_prefix
from topologies.errors import SpecError, Unpredictable
from topologies.fabric import Fabric, Node, Port
from topologies.given import GivenRouter

# The egress ports of a packet, from its host's to the last leaf's.
Path = tuple[Port, ...]
RouteTables = Mapping[str, Mapping[Prefix, frozenset[str]]]
_Graph = Mapping[str, tuple[tuple[str, str], ...]]
_AsPath = tuple[int | None, ...]


def route_tables(fabric: Fabric, family: int | None = None) -> RouteTables:
    """For every switch, each prefix it learns by BGP and the names of its egress ports (parallel links separately).

    `family` 4 or 6 restricts the answer. A prefix that a switch announces itself is not among those it learns.
    Raises Unpredictable for a lab that does not route as the oracle does.
    """
    return _predicted(fabric, family).tables


def unpredicted(fabric: Fabric) -> Mapping[Prefix, str]:
    """The prefixes that are announced and in no table, as their routes hang on chance, each with the reason."""
    return _predicted(fabric, None).doubts


@dataclass(frozen=True)
class _Predicted:
    tables: RouteTables
    doubts: Mapping[Prefix, str]


@lru_cache(maxsize=64)
def _predicted(fabric: Fabric, family: int | None) -> _Predicted:
    given = fabric.given
    if given is not None and given.unpredictable:
        raise Unpredictable(given.unpredictable)
    tables: dict[str, dict[Prefix, frozenset[str]]] = {switch.name: {} for switch in fabric.switches}
    doubts: dict[Prefix, str] = {}
    graphs = {version: _graph(fabric, version) for version in FAMILIES}
    asns = {switch.name: switch.asn for switch in fabric.switches}
    for (version, announcers), shared in _announced(fabric, family).items():
        learned = _learned(fabric, graphs[version or 4], asns, announcers, version)
        known = {prefix: (given.doubt(prefix) or learned.doubt) if given else None for prefix in shared}
        doubts |= {prefix: doubt for prefix, doubt in known.items() if doubt}
        sure = [prefix for prefix, doubt in known.items() if not doubt]
        for switch, ports in learned.ports.items():
            elsewhere = given.router(switch).elsewhere if given else ()
            tables[switch].update(
                dict.fromkeys([one for one in sure if one not in elsewhere] if given else sure, ports)
            )
    frozen = MappingProxyType({switch: MappingProxyType(table) for switch, table in tables.items()})
    return _Predicted(frozen, MappingProxyType(doubts))


def _announced(fabric: Fabric, family: int | None) -> Mapping[tuple[int, tuple[str, ...]], list[Prefix]]:
    """The prefixes that the same switches announce, by those switches and their family.

    In a fabric of ours both families go the same ways: their family is 0, and they are predicted at once.
    """
    origins: dict[Prefix, list[str]] = defaultdict(list)
    for switch, prefixes in attached(fabric).items():
        for prefix in prefixes:
            if family in {None, prefix.version}:
                origins[prefix].append(switch)
    groups: dict[tuple[int, tuple[str, ...]], list[Prefix]] = defaultdict(list)
    for prefix, switches in origins.items():
        groups[prefix.version if fabric.given else 0, tuple(switches)].append(prefix)
    return groups


def next_hops(
    fabric: Fabric, node: str | Node, dst: Prefix | str | Node, *, nic: int = 1, family: int = 4
) -> frozenset[str]:
    """The ports by which `node` sends on what is for `dst`; empty when it has no way, or is `dst` itself.

    Args:
        node: a switch, or a host: then the ports of its card `nic` whose leaf has a way.
        dst: a prefix that the fabric announces, a host (its card `nic` is meant) or a switch (its loopback).
        family: 4 or 6, for a `dst` given by name.

    Raises Unpredictable as `route_tables` does, and for a prefix that is in no table.
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
    """How a fabric forwards: `own` prefixes of each switch, those it learned, the node behind each port.

    `doubts` are the prefixes that nobody can tell of, with the reason.
    """

    own: Mapping[str, Mapping[Prefix, tuple[Port, ...]]]
    learned: RouteTables
    ports: Mapping[str, tuple[Port, ...]]
    far: Mapping[Port, str]
    doubts: Mapping[Prefix, str]

    def egress(self, switch: str, prefix: Prefix | None) -> tuple[Port, ...]:
        """The ports of a switch for a prefix, those of its own hosts included, by number."""
        if prefix is None:
            return ()
        if prefix in self.own[switch]:
            return self.own[switch][prefix]
        if prefix in self.doubts:
            raise Unpredictable(f"{prefix}: {self.doubts[prefix]}")
        names = self.learned[switch].get(prefix, frozenset())
        return tuple(port for port in self.ports[switch] if port.name in names)


@lru_cache(maxsize=64)
def _ways(fabric: Fabric) -> _Ways:
    far = {port: link.far(port.node).node for link in fabric.links for port in link.ends}
    ports = {node.name: fabric.ports(node) for node in fabric.nodes}
    return _Ways(attached(fabric), route_tables(fabric), ports, far, unpredicted(fabric))


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
        return loopback_prefix(fabric, node, family)
    try:
        return host_prefix(fabric, node, nic, family)
    except SpecError:
        return None


def _graph(fabric: Fabric, family: int) -> _Graph:
    """For each switch, those it has a session of that family with, each with that neighbour's port on the link."""
    found: dict[str, list[tuple[str, str]]] = {switch.name: [] for switch in fabric.switches}
    for link in fabric.fabric_links:
        if not all(_speaks(fabric, port.node, link.name, family) for port in link.ends):
            continue
        found[link.a.node].append((link.b.node, link.b.name))
        found[link.b.node].append((link.a.node, link.a.name))
    return {name: tuple(edges) for name, edges in found.items()}


def _speaks(fabric: Fabric, switch: str, link: str, family: int) -> bool:
    """Whether a switch has configured BGP of that family on a link; in a fabric of ours every switch has."""
    if fabric.given is None:
        return True
    return any(one.link == link and family in one.families for one in fabric.given.router(switch).sessions)


@dataclass(frozen=True, slots=True)
class _Learned:
    """The egress ports at every switch that learns something, and why that cannot be told, if it cannot."""

    ports: Mapping[str, frozenset[str]]
    doubt: str | None = None


def _learned(
    fabric: Fabric, graph: _Graph, asns: Mapping[str, int | None], origins: Iterable[str], family: int
) -> _Learned:
    """What becomes of what `origins` announce.

    One level at a time: a switch adopts, at its first opportunity, every neighbour of the level before whose
    best path does not hold its own AS number. Refused there, it may still adopt a longer path later. `paths` holds
    what a switch may tell its neighbours: in a fabric of ours one path, elsewhere each that it may have kept.
    """
    paths: dict[str, frozenset[_AsPath]] = {name: frozenset({(asns[name],)}) for name in origins}
    learned: dict[str, frozenset[str]] = {}
    level = list(paths)
    while level:
        offers: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for name in level:
            seen: set[int | None] = set().union(*paths[name])
            for neighbor, port in graph[name]:
                if neighbor in paths:
                    continue
                if asns[neighbor] not in seen:
                    offers[neighbor].append((name, port))
                elif not all(asns[neighbor] in path for path in paths[name]):
                    return _Learned({}, f"which of several paths {name} tells {neighbor} hangs on which came first")
        for name, taken in offers.items():
            if fabric.given is None:
                kept = paths[_best(fabric, taken)]
            else:
                kept = frozenset(path for offer, _ in taken for path in paths[offer])
                if doubt := _chance(fabric.given.router(name), kept, len(taken), family):
                    return _Learned({}, doubt)
            paths[name] = frozenset((*path, asns[name]) for path in kept)
            learned[name] = frozenset(port for _, port in taken)
        level = list(offers)
    return _Learned(learned)


def _best(fabric: Fabric, taken: Iterable[tuple[str, str]]) -> str:
    """Between equals BGP prefers the lowest router id, and advertises that one path only."""
    return min((fabric.node(offer).tier.level, fabric.node(offer).number, offer) for offer, _ in taken)[-1]


def _chance(router: GivenRouter, told: frozenset[_AsPath], count: int, family: int) -> str | None:
    """Why it hangs on chance which of `count` equally long paths a switch forwards by; None when it does not."""
    most = router.most_paths[family == 6]
    if count > most:
        return f"{router.node} is offered {count} equal paths and takes {most} (maximum-paths)"
    if len(told) > 1 and not router.relaxed:
        return f"{router.node} is offered {len(told)} different AS paths of one length and has no multipath-relax"
    return None
