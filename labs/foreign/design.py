"""From what was found of a lab to its design: a Fabric addressed and routed as it was found, and who plays it. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from labs.foreign.found import FoundNode, FoundPeer, kind_of, natural
from labs.foreign.frr_config import FrrConfig, examine
from labs.foreign.tiers import tier_said, tiers
from labs.foreign.topology import ForeignTopology
from labs.spec import LabSpec
from topologies.fabric import Fabric, Link, Node, Port, Tier
from topologies.given import Doubt, GivenDesign, GivenPort, GivenRouter, GivenSession, Prefix

# Made in the design of a file, where nobody has looked yet.
UNREAD = "nothing runs yet"


def design_of_file(topology: ForeignTopology) -> Fabric:
    """What a file alone tells: nodes and cables, tiers by cables and labels; nobody has an address yet."""
    found = {
        name: FoundNode(name, "", node.kind, node.image, node.group, node.labels)
        for name, node in topology.nodes.items()
    }
    single = {name for name in found if len({far for _, (far, _) in topology.links_of(name)}) < 2}
    placed = _tiers(topology, found, {name for name in single if len(found) > 1})
    return _fabric(topology, found, placed, GivenDesign(unpredictable=UNREAD, notes=_notes(topology)))


def design_of(
    topology: ForeignTopology, found: Mapping[str, FoundNode], kinds: tuple[str, ...], seed: int
) -> tuple[Fabric, LabSpec]:
    """The design of a running lab and which of our `kinds` plays each node. Raises SpecError for a wrong label."""
    asked = frozenset(gateway for node in found.values() for gateway in node.gateways)
    through = {name for name, node in found.items() if asked & set(_own_addresses(topology, node))}
    kind = {name: kind_of(node, kinds, routes_for_others=name in through) for name, node in found.items()}
    hosts = {name for name in found if _is_host(topology, found[name], kind[name], through)}
    placed = _tiers(topology, found, hosts)
    fabric = _fabric(topology, found, placed, GivenDesign(_ports(topology, found), notes=_notes(topology)))
    fabric = replace(fabric, given=_routing(fabric, found, kind))
    ipv6 = any(one.version == 6 for port in _ports(topology, found) for one in port.addresses)
    spec = LabSpec(name=topology.name, fabric=topology.name, node_kinds=kind, ipv6=ipv6, lldp=False, seed=seed)
    return fabric, spec


def _is_host(topology: ForeignTopology, node: FoundNode, kind: str, through: set[str]) -> bool:
    """Whether a node routes for nobody. One that cannot be asked is a host where it has links to one node at most."""
    if kind == "frr" or node.name in through:
        return False
    return kind == "host" or len({far for _, (far, _) in topology.links_of(node.name)}) < 2


def _own_addresses(topology: ForeignTopology, node: FoundNode) -> Iterator[object]:
    for (_, port), _ in topology.links_of(node.name):
        yield from (one.ip for one in node.interface(port).addresses)


def _tiers(topology: ForeignTopology, found: Mapping[str, FoundNode], hosts: set[str]) -> Mapping[str, Tier]:
    said = {name: tier for name, node in found.items() if (tier := tier_said(name, node.labels, node.group))}
    return tiers(found, [(a[0], b[0]) for a, b in topology.links], hosts, said)


def _notes(topology: ForeignTopology) -> tuple[str, ...]:
    return tuple(f"not part of the fabric: {link}" for link in topology.outside)


def _fabric(
    topology: ForeignTopology, found: Mapping[str, FoundNode], placed: Mapping[str, Tier], given: GivenDesign
) -> Fabric:
    numbers = _numbers(placed)
    asns = {name: node.bgp.asn for name, node in found.items() if node.bgp}
    nodes = tuple(Node(name, placed[name], numbers[name], asn=asns.get(name)) for name in found)
    ports = {
        (name, interface): Port(name, interface, number, number if placed[name] is Tier.HOST else None)
        for name in found
        for number, interface in enumerate(sorted((p for (_, p), _ in topology.links_of(name)), key=natural), 1)
    }
    links: list[Link] = []
    seen: Counter[str] = Counter()
    for one, other in topology.links:
        a, b = ports[one], ports[other]
        if placed[a.node].level > placed[b.node].level or f"{b.node}:{a.node}" in seen:
            a, b = b, a
        name = f"{a.node}:{b.node}"
        seen[name] += 1
        links.append(Link(name if seen[name] == 1 else f"{name}#{seen[name]}", a, b))
    return Fabric(topology.name, nodes, tuple(links), given)


def _numbers(placed: Mapping[str, Tier]) -> Mapping[str, int]:
    """Each node's place in its tier, in the order people count."""
    by_tier: dict[Tier, list[str]] = defaultdict(list)
    for name in sorted(placed, key=natural):
        by_tier[placed[name]].append(name)
    return {name: number for names in by_tier.values() for number, name in enumerate(names, 1)}


def _ports(topology: ForeignTopology, found: Mapping[str, FoundNode]) -> tuple[GivenPort, ...]:
    return tuple(
        GivenPort(name, port, interface.addresses, interface.mac)
        for name, node in found.items()
        for (_, port), _ in topology.links_of(name)
        for interface in [node.interface(port)]
    )


def _routing(fabric: Fabric, found: Mapping[str, FoundNode], kind: Mapping[str, str]) -> GivenDesign:
    assert fabric.given is not None  # noqa: S101 - made so above
    configs = {switch.name: examine(found[switch.name].config) for switch in fabric.switches}
    routers = tuple(_router(fabric, found[name], config) for name, config in configs.items())
    because = next(_reasons(fabric, found, kind, configs), None)
    return replace(fabric.given, routers=routers, doubts=_doubts(found), unpredictable=because)


def _router(fabric: Fabric, node: FoundNode, config: FrrConfig) -> GivenRouter:
    cabled = {port.name for port in fabric.ports(node.name)}
    loopbacks = (
        one.ip
        for interface in node.interfaces
        if interface.name not in cabled and (interface.name.startswith(("lo", "dummy")))
        for one in interface.addresses
    )
    peers = [peer for peer in node.bgp.peers if not peer.off] if node.bgp else []
    sessions = [GivenSession(link, peer.families) for peer in peers if (link := _link_of(fabric, node.name, peer))]
    return GivenRouter(
        node.name,
        loopbacks=tuple(loopbacks),
        originates=tuple(node.bgp.origins) if node.bgp else (),
        elsewhere=tuple(node.routes),
        sessions=tuple(sessions),
        session_ends=len(peers),
        relaxed=config.relaxed,
        most_paths=config.most_paths,
    )


def _link_of(fabric: Fabric, node: str, peer: FoundPeer) -> str | None:
    """The link that a session runs over: its peer is named by a port of ours, or by the address at the far end."""
    for link in fabric.links_of(node):
        far = link.far(node)
        addresses = fabric.given.port(far.node, far.name).addresses if fabric.given else ()
        if peer.peer == link.end(node).name or peer.peer in {str(one.ip) for one in addresses}:
            return link.name
    return None


def _reasons(
    fabric: Fabric, found: Mapping[str, FoundNode], kind: Mapping[str, str], configs: Mapping[str, FrrConfig]
) -> Iterator[str]:
    """Why the oracle does not hold for this lab."""
    if not fabric.switches:
        yield "no node routes for others"
    for name, config in configs.items():
        node = found[name]
        if kind[name] != "frr":
            what = node.kind if kind[name] == "plain" else "static routes"
            yield f"{name} ({what}) routes without BGP, or cannot be asked"
        elif config.unpredictable:
            yield f"{name} {config.unpredictable}"
        elif node.bgp is None:
            yield f"{name} runs no BGP"
        else:
            yield from _of_peers(fabric, name, node.bgp.asn, [peer for peer in node.bgp.peers if not peer.off])


def _of_peers(fabric: Fabric, name: str, asn: int, peers: Sequence[FoundPeer]) -> Iterator[str]:
    for peer in peers:
        link = _link_of(fabric, name, peer)
        if link is None:
            yield f"{name} has a session with {peer.peer}, which is at the far end of no link"
        elif asn in {peer.asn, fabric.node(fabric.link(link).far(name).node).asn}:
            yield f"{name} speaks iBGP with {peer.peer}"


def _doubts(found: Mapping[str, FoundNode]) -> tuple[Doubt, ...]:
    """Prefixes announced with different origins or metrics: these decide before equal paths are shared."""
    said: dict[Prefix, set[tuple[str, int]]] = defaultdict(set)
    for node in found.values():
        for prefix, attributes in (node.bgp.origins if node.bgp else {}).items():
            said[prefix].add(attributes)
    return tuple(
        Doubt(prefix, "several announce it with different origins or metrics")
        for prefix, attributes in said.items()
        if len(attributes) > 1
    )
