"""The one constructor of fabrics: nodes and cables in, a checked `Fabric` out.

Every builder and the file loader end in `build()`: whatever comes out of it has unique names, ports used once,
endpoints that exist, and AS numbers that eBGP accepts.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from topologies.errors import SpecError, Where
from topologies.fabric import Fabric, Link, Node, Port, Tier
from topologies.units import GBIT

NODE_NAME = re.compile(r"[a-z][a-z0-9-]{0,19}")
# The address plan (topologies/addressing.py) has this much room.
MOST_PER_SWITCH_TIER = 1023
MOST_HOSTS = 65535
MOST_PORTS = 1023
MOST_NICS = 15

_FIRST_PRIVATE_ASN = 4_200_000_000  # RFC 6996: 4200000000 … 4294967294


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a fabric may be. The defaults are what one workstation is asked to carry; raise them knowingly."""

    switches: int = 128
    hosts: int = 1024


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Cable:
    """What is to become a `Link`: two ports in either order, and the rate in bit/s."""

    one: Port
    other: Port
    rate_bps: int = GBIT


def default_asn(tier: Tier, number: int, pod: int | None = None) -> int | None:
    """The AS number RFC 7938 (section 5.2.1) suggests: one a leaf, one for a pod's spines, one for all cores.

    Leaves get 4201000000 + number, spines 4202000000 + pod (0 without pods), cores 4203000000; a host gets None.
    """
    if tier is Tier.HOST:
        return None
    within = {Tier.LEAF: number, Tier.SPINE: pod or 0, Tier.CORE: 0}[tier]
    return _FIRST_PRIVATE_ASN + tier.level * 1_000_000 + within


def build(name: str, nodes: Sequence[Node], cables: Sequence[Cable], *, limits: Limits = DEFAULT_LIMITS) -> Fabric:
    """A checked fabric of `nodes` and `cables`; links are named, and turned so that the lower tier is `a`.

    Raises SpecError for anything that could not be addressed, cabled or routed. Its `where.key` is
    ``nodes.leaf1`` or ``links[0].endpoints``, by position in `cables`.
    """
    check_size(
        sum(node.is_switch for node in nodes),
        sum(not node.is_switch for node in nodes),
        limits,
        where=Where(key="nodes"),
    )
    by_name = _checked_nodes(nodes)
    _check_cables(by_name, cables)
    shared = _shared_cards(cables)
    links: list[Link] = []
    seen: Counter[str] = Counter()
    for cable in cables:
        a, b = (replace(p, shared=(p.node, p.nic) in shared) for p in _lower_first(by_name, cable))
        if f"{b.node}:{a.node}" in seen:  # a second cable between two leaves keeps the order of the first
            a, b = b, a
        ends = f"{a.node}:{b.node}"
        seen[ends] += 1
        links.append(Link(ends if seen[ends] == 1 else f"{ends}#{seen[ends]}", a, b, cable.rate_bps))
    return Fabric(name, tuple(nodes), tuple(links))


def check_size(switches: int, hosts: int, limits: Limits, *, where: Where) -> None:
    """Raises SpecError when there is no switch, or more of anything than `limits` allow."""
    if switches < 1:
        raise SpecError("found no switch", allowed=f"1 to {limits.switches} switches", where=where)
    for found, most, what in ((switches, limits.switches, "switches"), (hosts, limits.hosts, "hosts")):
        if found > most:
            raise SpecError(
                f"found {found} {what} in all",
                allowed=f"at most {most}, unless the fabric raises it with limits: {{{what}: {found}}}",
                where=where,
            )


def _checked_nodes(nodes: Iterable[Node]) -> Mapping[str, Node]:
    by_name: dict[str, Node] = {}
    numbers: dict[tuple[Tier, int], str] = {}
    for node in nodes:
        where = Where(key=f"nodes.{node.name}")
        if not NODE_NAME.fullmatch(node.name):
            raise SpecError(f"found the node name {node.name!r}", allowed=name_rule(), where=Where(key="nodes"))
        if node.name in by_name:
            raise SpecError(f"found {node.name} twice", allowed="each node once", where=where)
        twin = numbers.setdefault((node.tier, node.number), node.name)
        if twin != node.name:
            found = f"found {node.tier} number {node.number} twice ({twin} and {node.name})"
            raise SpecError(found, allowed="each number once in a tier, as addresses derive from it", where=where)
        _check_node(node, where)
        by_name[node.name] = node
    return by_name


def _check_node(node: Node, where: Where) -> None:
    most = MOST_PER_SWITCH_TIER if node.is_switch else MOST_HOSTS
    if not 1 <= node.number <= most:
        raise SpecError(f"found number {node.number}", allowed=f"1 to {most} for a {node.tier}", where=where)
    if node.is_switch and not 1 <= (node.asn or 0) < 2**32 - 1:
        raise SpecError(f"found AS number {node.asn}", allowed="1 to 4294967294", where=where)
    if not node.is_switch and node.asn is not None:
        raise SpecError(
            f"found AS number {node.asn} on a host",
            allowed="an AS number on switches only: hosts run no BGP",
            where=where,
        )


def _check_cables(by_name: Mapping[str, Node], cables: Sequence[Cable]) -> None:
    used: dict[tuple[str, str], int] = {}
    numbers: dict[tuple[str, int], str] = {}
    for index, cable in enumerate(cables):
        where = Where(key=f"links[{index}].endpoints")
        for port in (cable.one, cable.other):
            _check_port(by_name, port, where)
            if used.setdefault((port.node, port.name), index) != index:
                first = cables[used[port.node, port.name]]
                found = f"found {port} again: it is already cabled as {first.one} – {first.other}"
                raise SpecError(found, allowed="one cable a port", where=where)
            if numbers.setdefault((port.node, port.number), port.name) != port.name:
                raise SpecError(f"found port number {port.number} of {port.node} twice", allowed="once", where=where)
        _check_ends(by_name[cable.one.node], by_name[cable.other.node], where)
        if cable.rate_bps < 1:
            raise SpecError(f"found a rate of {cable.rate_bps} bit/s", allowed="at least 1", where=where)
    cabled = {name for name, _ in used}
    for node in by_name.values():
        if node.name not in cabled:
            found = f"found a {'switch' if node.is_switch else 'host'} without a link"
            raise SpecError(found, allowed="at least one link", where=Where(key=f"nodes.{node.name}"))


def _check_port(by_name: Mapping[str, Node], port: Port, where: Where) -> None:
    node = by_name.get(port.node)
    if node is None:
        raise SpecError(f"found {port}, but there is no node {port.node}", allowed=some(by_name), where=where)
    if not 1 <= port.number <= MOST_PORTS:
        raise SpecError(f"found {port}", allowed=f"ports eth1 to eth{MOST_PORTS}", where=where)
    if not node.is_switch and not 1 <= (port.nic or 0) <= MOST_NICS:
        found = f"found network card {port.nic} at {port}"
        raise SpecError(found, allowed=f"cards 1 to {MOST_NICS} of a host", where=where)


def _check_ends(one: Node, other: Node, where: Where) -> None:
    if one is other:
        found = f"found a cable from {one} to itself"
        raise SpecError(found, allowed="two different nodes", where=where)
    for near, far in ((one, other), (other, one)):
        if not near.is_switch and far.tier is not Tier.LEAF:
            found = f"found a cable from host {near} to {far}, a {far.tier}"
            raise SpecError(found, allowed="hosts are cabled to leaves only", where=where)
    if one.asn == other.asn:
        raise SpecError(
            f"found a cable from {one} to {other}, both AS {one.asn}",
            allowed="switches of different AS numbers: eBGP refuses a route that carries its own",
            where=where,
        )


def _lower_first(by_name: Mapping[str, Node], cable: Cable) -> tuple[Port, Port]:
    one, other = by_name[cable.one.node], by_name[cable.other.node]
    if one.tier.level > other.tier.level:
        return cable.other, cable.one
    return cable.one, cable.other


def _shared_cards(cables: Iterable[Cable]) -> frozenset[tuple[str, int | None]]:
    """The network cards with more than one port, as (host, nic)."""
    ports: dict[tuple[str, int | None], int] = defaultdict(int)
    for cable in cables:
        for port in (cable.one, cable.other):
            ports[port.node, port.nic] += port.nic is not None
    return frozenset(card for card, count in ports.items() if count > 1)


def name_rule() -> str:
    """What a node may be called, in words."""
    return "a lower-case letter, then up to 19 of a-z, 0-9 and -"


def some(names: Iterable[object], most: int = 12) -> str:
    """A list of names for an error message, cut after `most`."""
    listed = [str(name) for name in names]
    return ", ".join(listed[:most]) + (f" … ({len(listed)} in all)" if len(listed) > most else "")
