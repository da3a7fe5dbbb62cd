"""The path of a flow, hop by hop, from what each node's own kernel holds and answers for that five-tuple.

Where a switch of the soft ASIC chooses by its hash engine (labs/ecmp_ways.py), from what that goes by at the moment.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network

from labs.ecmp_ways import EngineTables, ways
from labs.errors import CapabilityMissing, NotReady
from labs.node import LiveNode
from topologies.fabric import Fabric
from topologies.hashing import PROTOCOLS, HashedFlow, linux_fields_hash, member
from traffic.flows import FiveTuple

# A path longer than this goes round in a circle: no fabric of four tiers has more switches in a row than seven.
MOST_HOPS = 16
OBEYS_THE_PACKET = "1"  # fib_multipath_hash_policy
DROPPING = frozenset({"blackhole", "prohibit", "unreachable"})
LOCAL = "local"  # a flow's way at the node where it arrives

Ways = tuple[str, ...] | None
"""The ports a flow may leave by, or LOCAL; None where there is no route."""


@dataclass(frozen=True, slots=True)
class Hop:
    """One node of a path: where the flow came in (None at its source) and where it leaves.

    `also` are the other ports its packets may leave by, where the switch has no one answer for a flow.
    """

    node: str
    in_port: str | None
    out_port: str
    also: tuple[str, ...] = ()

    @property
    def ways(self) -> tuple[str, ...]:
        """Every port its packets may leave by."""
        return (self.out_port, *self.also)

    def __str__(self) -> str:
        return f"{self.node}:{self.out_port}" + (f" (one of {', '.join(self.ways)})" if self.also else "")


@dataclass(frozen=True, slots=True)
class Path:
    """A flow's path. `end` is where it arrives; `broken` says why it does not get there.

    Where a hop has several ways, the path goes on by the first.
    """

    five_tuple: FiveTuple
    hops: tuple[Hop, ...]
    end: str | None
    broken: str | None = None

    @property
    def ports(self) -> tuple[str, ...]:
        """The ports the flow leaves by: ``("host1:eth1", "leaf1:eth2", …)``."""
        return tuple(f"{hop.node}:{hop.out_port}" for hop in self.hops)

    @property
    def predicted(self) -> tuple[str | tuple[str, ...], ...]:
        """The same for `path_prediction`: all ports, the first first, where a hop has several ways."""
        return tuple(
            tuple(f"{hop.node}:{port}" for port in hop.ways) if hop.also else f"{hop.node}:{hop.out_port}"
            for hop in self.hops
        )

    def __str__(self) -> str:
        way = " > ".join(str(hop) for hop in self.hops)
        return f"{way} > {self.end}" if self.end else f"{way}: {self.broken}"


def paths(
    fabric: Fabric,
    nodes: Mapping[str, LiveNode],
    flows: Sequence[FiveTuple],
    sources: Sequence[str],
    engine: EngineTables | None = None,
) -> tuple[Path, ...]:
    """Follow flows from their source hosts through the fabric; all flows at one node are asked in one go.

    The kernel is asked with the full five-tuple and the port the flow comes in by, so that its answer is the
    member its multipath hash picks. That holds for connected sockets too only where the hash does not obey what
    the packet carries (EcmpHash.policy). IPv6 in transit: see _Ipv6Hashing. `engine` is the soft ASIC's; where it
    chooses for the flow's class, its answer counts.
    """
    found: list[list[Hop]] = [[] for _ in flows]
    ends: dict[int, tuple[str | None, str | None]] = {}
    front: dict[int, tuple[str, str | None]] = {i: (source, None) for i, source in enumerate(sources)}
    asking = _Asking(fabric, engine)
    while front:
        following: dict[int, tuple[str, str | None]] = {}
        for name in dict.fromkeys(node for node, _ in front.values()):
            here = [i for i, (node, _) in front.items() if node == name]
            asked = [(flows[i], front[i][1]) for i in here]
            for i, answer in zip(here, asking.lookups(nodes[name], asked), strict=True):
                if answer == (LOCAL,):
                    ends[i] = (name, None)
                elif answer is None or len(found[i]) >= MOST_HOPS:
                    ends[i] = (None, _no_way(nodes[name], flows[i].dst) if answer is None else "the path is a circle")
                else:
                    found[i].append(Hop(name, front[i][1], answer[0], answer[1:]))
                    if answer[0] not in {port.name for port in nodes[name].ports}:  # in somebody else's lab
                        ends[i] = (None, f"{name} sends it out of {answer[0]}, which is no port of the fabric")
                        continue
                    far = fabric.link_at(name, answer[0]).far(name)
                    following[i] = (far.node, far.name)
        front = following
    return tuple(Path(flow, tuple(found[i]), *ends[i]) for i, flow in enumerate(flows))


@dataclass(frozen=True, slots=True)
class _Asking:
    """Who is asked at a node: its hash engine where that chooses, else its kernel."""

    fabric: Fabric
    engine: EngineTables | None
    obeyed: set[tuple[str, str]] = field(default_factory=set)

    def lookups(self, node: LiveNode, asked: Sequence[tuple[FiveTuple, str | None]]) -> list[Ways]:
        """For each flow: its ways."""
        found = [self._engine_ways(node, flow, port) for flow, port in asked]
        left = [one for one, known in zip(asked, found, strict=True) if not known]
        said = iter(_lookups(node, left) if left else ())
        return [known or next(said) for known in found]

    def _engine_ways(self, node: LiveNode, flow: FiveTuple, port: str | None) -> Ways:
        """None where the engine leaves the flow to the kernel's own hash."""
        if self.engine is None or port is None or not node.node.is_switch:
            return None
        chosen = ways(self.engine, self.fabric, node.name, port, flow)
        if chosen is not None:
            self._check_obeyed(node, "ipv6" if ":" in flow.dst else "ipv4")
        if chosen is None or chosen.ports:
            return None if chosen is None else chosen.ports
        hops = _live_hops(_listed(node, flow.dst))  # no group: the kernel takes a member by the hash that was set
        if len(hops) < 2:
            return None
        return (_by_hash(hops, chosen.hash >> 1),) if chosen.hash else tuple(str(hop["dev"]) for hop in hops)

    def _check_obeyed(self, node: LiveNode, family: str) -> None:
        """The engine's choice counts only where the kernel takes a packet's hash as it is. Raises NotReady."""
        if (node.name, family) in self.obeyed:
            return
        key = f"net.{family}.fib_multipath_hash_policy"
        policy = node.kernel("sysctl", "-n", key).stdout.strip()
        if policy != OBEYS_THE_PACKET:
            raise NotReady(
                f"{node.name}: {key} is {policy}: its kernel ignores the hash engine",
                remedy="asicd sets it to 1 again within some seconds; find out who changed it",
            )
        self.obeyed.add((node.name, family))


def _lookups(node: LiveNode, asked: Sequence[tuple[FiveTuple, str | None]]) -> list[Ways]:
    """What the kernel answers for each flow."""
    if any(":" in flow.dst and port for flow, port in asked):
        hashing = _Ipv6Hashing(node)
        return [hashing.member(flow) if ":" in flow.dst and port else _lookup(node, flow, port) for flow, port in asked]
    batch = "".join(" ".join(_route_get(flow, port)) + "\n" for flow, port in asked)
    said = node.channel.kernel("ip", "-j", "-batch", "-", stdin=batch)
    if said.ok:
        answers = [json.loads(line) for line in _documents(said.stdout)]
        if len(answers) == len(asked):
            return [_answer(answer) for answer in answers]
    return [_lookup(node, flow, port) for flow, port in asked]


class _Ipv6Hashing:
    """Forwarding of IPv6 at one node: the kernel's own group and settings, the pure model of its hash.

    For IPv4 ``ip route get … iif`` builds the packet it is asked about and hashes that as forwarding does. For IPv6
    it hashes the flow's fields in another way than forwarding hashes a packet's (net/ipv6/route.c,
    rt6_multipath_custom_hash_fl6 beside _skb): with hash policy 3 every second answer would be wrong.
    """

    def __init__(self, node: LiveNode) -> None:
        self._node = node
        keys = ("net.ipv6.fib_multipath_hash_policy", "net.ipv6.fib_multipath_hash_fields")
        said = node.kernel("sysctl", "-n", *keys, "net.ipv4.fib_multipath_hash_seed").stdout.split()
        self._policy, self._fields, self._seed = (int(word) for word in said)
        self._groups: dict[str, Mapping[str, object] | None] = {}

    def member(self, flow: FiveTuple) -> Ways:
        """As `_lookup`. Raises CapabilityMissing where the hash reads more than a five-tuple tells."""
        if flow.dst not in self._groups:
            self._groups[flow.dst] = _listed(self._node, flow.dst)
        route = self._groups[flow.dst]
        if route is None:
            return None
        hops = _live_hops(route)
        if route.get("type") == "local" or len(hops) < 2:
            return _answer([route if route.get("type") == "local" or not hops else hops[0]])
        if self._policy != 3 or not self._seed:
            raise CapabilityMissing(
                "ipv6-path",
                f"{self._node.name} hashes IPv6 by policy {self._policy} with seed {self._seed}; with any but policy 3 "
                "and a seed of its own, the flow label or a random key decides",
                remedy="with the hash engine on, a row of RAILBED_ECMP for the flow's class; else "
                "hash: {all: {policy: 3}} in the lab file",
            )
        hashed = HashedFlow(flow.src, flow.dst, PROTOCOLS[str(flow.transport)], flow.sport, flow.dport)
        return (_by_hash(hops, linux_fields_hash(hashed, fields=self._fields, seed=self._seed)),)


def _listed(node: LiveNode, dst: str) -> Mapping[str, object] | None:
    """The route that forwards to `dst`, its members in the order they own the hash range; None without one.

    ``fibmatch`` of IPv6 begins with the member it happened to pick; only a listing begins with the first.
    """
    family = "-6" if ":" in dst else "-4"
    said = node.channel.kernel("ip", family, "-j", "route", "get", "fibmatch", dst)
    if not said.ok or not said.stdout.strip():
        return None
    match: Mapping[str, object] = json.loads(said.stdout)[0]
    if "nexthops" not in match:
        return match
    listed = json.loads(node.kernel("ip", family, "-j", "route", "show", "exact", str(match["dst"])).stdout)
    return next((route for route in listed if "nexthops" in route), match)


def _live_hops(route: Mapping[str, object] | None) -> list[Mapping[str, object]]:
    """The members that forward."""
    hops = [] if route is None else _hops(route)
    return [hop for hop in hops if not {"linkdown", "dead"} & set(_words(hop.get("flags")))]


def _by_hash(hops: Sequence[Mapping[str, object]], hash31: int) -> str:
    """The port of the member that owns a multipath hash."""
    return str(hops[member(hash31, [int(str(hop.get("weight", 1))) for hop in hops])]["dev"])


def _hops(route: Mapping[str, object]) -> list[Mapping[str, object]]:
    hops = route.get("nexthops")
    return hops if isinstance(hops, list) else [route]


def _words(value: object) -> list[str]:
    return value if isinstance(value, list) else []


def _lookup(node: LiveNode, flow: FiveTuple, port: str | None) -> Ways:
    said = node.channel.kernel("ip", "-j", *_route_get(flow, port))
    if said.ok:
        return _answer(json.loads(said.stdout))
    if "unreachable" in said.stderr or "No route" in said.stderr or "Invalid cross-device" in said.stderr:
        return None
    if _dropping(node, flow.dst):
        return None
    raise NotReady(f"{node.name}: ip route get: {said.stderr.strip()}")


def _no_way(node: LiveNode, dst: str) -> str:
    dropping = _dropping(node, dst)
    return f"{node.name} drops it: its route is {dropping}" if dropping else f"{node.name} has no route"


def _dropping(node: LiveNode, dst: str) -> str:
    """What a route that drops `dst` looks like, as ``blackhole 10.64.8.0/29``; empty where none does.

    ``ip route get`` tells it by its error alone, which others share, with ``fibmatch`` too.
    """
    said = node.channel.kernel("ip", "-6" if ":" in dst else "-4", "-j", "route", "show", "match", dst)
    matching = json.loads(said.stdout or "[]") if said.ok else []
    best = min(matching, key=lambda route: (-_length(route), int(route.get("metric", 0))), default=None)
    return f"{best['type']} {best['dst']}" if best and best.get("type") in DROPPING else ""


def _length(route: Mapping[str, object]) -> int:
    """The prefix length of a listed route: ``ip`` writes default, and an address without a length for a host."""
    dst = str(route["dst"])
    return 0 if dst == "default" else ip_network(dst).prefixlen


def _route_get(flow: FiveTuple, port: str | None) -> tuple[str, ...]:
    words = ("route", "get", flow.dst, "from", flow.src)
    came_in = ("iif", port) if port else ()
    return (*words, *came_in, "ipproto", str(flow.transport), "sport", str(flow.sport), "dport", str(flow.dport))


def _documents(text: str) -> list[str]:
    """Split what ``ip -j -batch`` prints: one JSON array after the other."""
    decoder = json.JSONDecoder()
    found, at = [], 0
    text = text.strip()
    while at < len(text):
        _, end = decoder.raw_decode(text, at)
        found.append(text[at:end])
        at = end + len(text[end:]) - len(text[end:].lstrip())
    return found


def _answer(routes: Sequence[Mapping[str, object]]) -> Ways:
    route = routes[0]
    if route.get("type") == "local":
        return (LOCAL,)
    return (str(route["dev"]),) if "dev" in route and route.get("type", "unicast") == "unicast" else None
