"""The path of a flow, hop by hop, as each node's own kernel answers for that five-tuple."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from labs.errors import NotReady
from labs.node import LiveNode
from topologies.fabric import Fabric
from traffic.flows import FiveTuple

# A path longer than this goes round in a circle: no fabric of four tiers has more switches in a row than seven.
MOST_HOPS = 16


@dataclass(frozen=True, slots=True)
class Hop:
    """One node of a path: where the flow came in (None at its source) and where it leaves."""

    node: str
    in_port: str | None
    out_port: str


@dataclass(frozen=True, slots=True)
class Path:
    """A flow's path. `end` is where it arrives; `broken` says why it does not get there."""

    five_tuple: FiveTuple
    hops: tuple[Hop, ...]
    end: str | None
    broken: str | None = None

    @property
    def ports(self) -> tuple[str, ...]:
        """The ports the flow leaves by: ``("host1:eth1", "leaf1:eth2", …)``."""
        return tuple(f"{hop.node}:{hop.out_port}" for hop in self.hops)

    def __str__(self) -> str:
        way = " > ".join(self.ports)
        return f"{way} > {self.end}" if self.end else f"{way}: {self.broken}"


def paths(
    fabric: Fabric, nodes: Mapping[str, LiveNode], flows: Sequence[FiveTuple], sources: Sequence[str]
) -> tuple[Path, ...]:
    """Follow flows from their source hosts through the fabric; all flows at one node are asked in one go.

    The kernel is asked with the full five-tuple and the port the flow comes in by, so that its answer is the
    member its multipath hash picks. That holds for connected sockets too only where the hash does not obey what
    the packet carries (EcmpHash.policy).
    """
    found: list[list[Hop]] = [[] for _ in flows]
    ends: dict[int, tuple[str | None, str | None]] = {}
    front: dict[int, tuple[str, str | None]] = {i: (source, None) for i, source in enumerate(sources)}
    while front:
        following: dict[int, tuple[str, str | None]] = {}
        for name in dict.fromkeys(node for node, _ in front.values()):
            here = [i for i, (node, _) in front.items() if node == name]
            asked = [(flows[i], front[i][1]) for i in here]
            for i, answer in zip(here, _lookups(nodes[name], asked), strict=True):
                if isinstance(answer, str) and answer == "local":
                    ends[i] = (name, None)
                elif answer is None or len(found[i]) >= MOST_HOPS:
                    ends[i] = (None, f"{name} has no route" if answer is None else "the path is a circle")
                else:
                    found[i].append(Hop(name, front[i][1], answer))
                    far = fabric.link_at(name, answer).far(name)
                    following[i] = (far.node, far.name)
        front = following
    return tuple(Path(flow, tuple(found[i]), *ends[i]) for i, flow in enumerate(flows))


def _lookups(node: LiveNode, asked: Sequence[tuple[FiveTuple, str | None]]) -> list[str | None]:
    """For each flow: the port it leaves by, ``local`` where it arrives, None where there is no route."""
    batch = "".join(" ".join(_route_get(flow, port)) + "\n" for flow, port in asked)
    said = node.channel.run("ip", "-j", "-batch", "-", stdin=batch)
    if said.ok:
        answers = [json.loads(line) for line in _documents(said.stdout)]
        if len(answers) == len(asked):
            return [_answer(answer) for answer in answers]
    return [_lookup(node, flow, port) for flow, port in asked]


def _lookup(node: LiveNode, flow: FiveTuple, port: str | None) -> str | None:
    said = node.channel.run("ip", "-j", *_route_get(flow, port))
    if said.ok:
        return _answer(json.loads(said.stdout))
    if "unreachable" in said.stderr or "No route" in said.stderr or "Invalid cross-device" in said.stderr:
        return None
    raise NotReady(f"{node.name}: ip route get: {said.stderr.strip()}")


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


def _answer(routes: Sequence[Mapping[str, object]]) -> str | None:
    route = routes[0]
    if route.get("type") == "local":
        return "local"
    return str(route["dev"]) if "dev" in route and route.get("type", "unicast") == "unicast" else None
