"""A graph as bursts of packets that scapy crafts: RoCEv2 writes, numbered so that every one can be missed. Pure.

What a rank sends another is one queue pair's RDMA WRITEs: its packets' sequence numbers go up through the graph, so a
packet that comes says which message it is of. Every iteration sends the same packets again, and a message has come
when each of its packets has come once more. Nobody acknowledges or repeats: what is lost stays lost, and is counted.
"""

from __future__ import annotations

import json
import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from topologies.errors import SpecError
from traffic.bounds import wire_efficiency
from traffic.engines.rc_plan import source_port
from traffic.engines.rc_settings import FIRST_QPN, FIRST_SPORT, MTUS
from traffic.graph import Graph, checked
from traffic.placement import Addresses, Placement

# Packets of one iteration. scapy crafts some 450 a second on a processor: ten seconds on one, before anything begins.
MOST_PACKETS = 4096
# Of all iterations together: Python sends and receives some 20 000 a second on a processor, so half a minute of one.
MOST_PACKETS_IN_ALL = 262_144


@dataclass(frozen=True, slots=True)
class CraftedSettings:
    """How packets are made: payload bytes of a packet, class, congestion field, source ports."""

    mtu: int = 4096
    dscp: int = 26
    ecn: int = 2
    fixed_port: bool = False
    seed: int = 0

    @property
    def efficiency(self) -> float:
        """The payload's share of the wire."""
        return wire_efficiency(self.mtu)


@dataclass(frozen=True, slots=True)
class QueuePairWay:
    """What one rank sends another: the receiver's queue pair, the source port, how many packets an iteration has."""

    src: int
    dst: int
    queue_pair: int
    sport: int
    packets: int
    size: int


@dataclass(frozen=True)
class CraftedPlans:
    """A graph for scapy: a plan's text for every rank that takes part. `first_psn` is of every message, by place."""

    graph: Graph
    placement: Placement
    settings: CraftedSettings
    iterations: int
    ways: tuple[QueuePairWay, ...]
    at: tuple[str, ...]
    first_psn: Mapping[int, int]
    texts: Mapping[int, str] = field(repr=False)

    @property
    def packets(self) -> int:
        """Of one iteration."""
        return sum(way.packets for way in self.ways)

    def host(self, rank: int) -> str:
        """A rank's host."""
        return self.placement.ranks[rank].host

    def of(self, way: QueuePairWay) -> tuple[int, ...]:
        """The places of the messages it carries."""
        return tuple(place for place in self.first_psn
                     if (self.graph.sends[place].src, self.graph.sends[place].dst) == (way.src, way.dst))  # fmt: skip

    def named(self, way: QueuePairWay) -> str:
        """A queue pair's flow for people."""
        ends = f"{self.at[way.src]}:{way.sport} > {self.at[way.dst]}"
        return (
            f"{self.host(way.src)} to {self.host(way.dst)} (rank {way.src} to {way.dst}, {ends}, qp {way.queue_pair})"
        )


def crafted_plans(
    graph: Graph,
    placement: Placement,
    addresses: Addresses,
    settings: CraftedSettings | None = None,
    *,
    iterations: int = 1,
) -> CraftedPlans:
    """What every rank is to craft, send and expect.

    Raises SpecError for what cannot be played: a graph that is wrong, more packets than scapy crafts in reasonable
    time, ranks of one host that send each other, that share a card or have several, settings out of range.
    """
    chosen = settings or CraftedSettings()
    placed = checked(placement.place(graph))
    _check(placed, placement, chosen)
    counts = [math.ceil(send.size / chosen.mtu) if not send.is_local else 0 for send in placed]
    _check_count(placed, sum(counts), iterations, chosen.mtu)
    at = tuple(addresses(rank.host, rank.nics[0]) for rank in placement.ranks)
    ways, first = _ways(placed, counts, chosen)
    texts = _texts(placed, placement, chosen, iterations, ways, at, counts, first)
    return CraftedPlans(placed, placement, chosen, iterations, tuple(ways.values()), at, first, texts)


def _check_count(graph: Graph, packets: int, iterations: int, mtu: int) -> None:
    allowed = f"up to {MOST_PACKETS} an iteration, {MOST_PACKETS_IN_ALL} in all: a smaller size, a larger --mtu"
    if packets > MOST_PACKETS:
        raise SpecError(f"scapy: {graph.name} is {packets} packets of {mtu} bytes", allowed=allowed)
    if packets * iterations > MOST_PACKETS_IN_ALL:
        found = f"scapy: {iterations} iterations of {packets} packets"
        raise SpecError(found, allowed=f"{allowed}, or fewer iterations")


def _check(graph: Graph, placement: Placement, settings: CraftedSettings) -> None:
    for word, value, most in (("dscp", settings.dscp, 63), ("ecn", settings.ecn, 3)):
        if not 0 <= value <= most:
            raise SpecError(f"{word} {value}", allowed=f"from 0 to {most}")
    if settings.mtu not in MTUS:
        raise SpecError(f"mtu {settings.mtu}", allowed=", ".join(map(str, MTUS)))
    cards: dict[tuple[str, int], int] = {}
    for number, rank in enumerate(placement.ranks):
        if len(rank.nics) > 1:
            raise SpecError(f"rank {number} has {len(rank.nics)} cards", allowed="one: a burst leaves by one card")
        before = cards.setdefault((rank.host, rank.nics[0]), number)
        if before != number:
            found = f"ranks {before} and {number} share card {rank.nics[0]} of {rank.host}"
            raise SpecError(found, allowed="a card for each rank: its port belongs to one process")
    for send in graph:
        host = placement.ranks[send.src].host
        if not send.is_local and host == placement.ranks[send.dst].host:
            found = f"rank {send.src} sends to rank {send.dst}, both on {host}"
            raise SpecError(found, allowed="messages between hosts: no packet leaves a host for itself")


def _ways(
    graph: Graph, counts: Sequence[int], settings: CraftedSettings
) -> tuple[dict[tuple[int, int], QueuePairWay], dict[int, int]]:
    """By (sender, receiver), and where each message's numbers begin."""
    draw = random.Random(settings.seed)  # noqa: S311 - to be repeated, not a secret
    packets: dict[tuple[int, int], int] = defaultdict(int)
    sizes: dict[tuple[int, int], int] = defaultdict(int)
    first: dict[int, int] = {}
    for place, send in enumerate(graph):
        if send.is_local:
            continue
        first[place] = packets[send.src, send.dst]
        packets[send.src, send.dst] += counts[place]
        sizes[send.src, send.dst] += send.size
    ways = {}
    for number, (src, dst) in enumerate(packets):
        other = draw.randrange(FIRST_QPN, 1 << 24)
        pair = FIRST_QPN + number
        sport = FIRST_SPORT if settings.fixed_port else source_port(pair, other)
        ways[src, dst] = QueuePairWay(src, dst, pair, sport, packets[src, dst], sizes[src, dst])
    return ways, first


def _texts(
    graph: Graph,
    placement: Placement,
    settings: CraftedSettings,
    iterations: int,
    ways: Mapping[tuple[int, int], QueuePairWay],
    at: Sequence[str],
    counts: Sequence[int],
    first: Mapping[int, int],
) -> dict[int, str]:
    """Every rank's plan as a line of JSON, as traffic/engines/crafted_rank.py reads it."""
    sends: dict[int, list[dict[str, object]]] = defaultdict(list)
    expects: dict[int, list[dict[str, object]]] = defaultdict(list)
    for place, send in enumerate(graph):
        task: dict[str, object] = {
            "number": place, "after": list(send.after), "compute_s": send.compute_s,
            "size": 0 if send.is_local else send.size, "packets": counts[place],
        }  # fmt: skip
        if not send.is_local:
            way = ways[send.src, send.dst]
            task |= {"dst": at[send.dst], "sport": way.sport, "queue_pair": way.queue_pair, "psn": first[place]}
            queue = {key: task[key] for key in ("number", "packets", "queue_pair", "psn")}
            expects[send.dst].append(queue)
        sends[send.src].append(task)
    return {
        rank: json.dumps(
            {
                "rank": rank, "address": at[rank], "rate_bps": placement.ranks[rank].rate_bps or 0,
                "iterations": iterations, "mtu": settings.mtu, "tos": settings.dscp << 2 | settings.ecn,
                "sends": sends[rank], "expects": expects[rank],
            }
        ) + "\n"
        for rank in range(graph.ranks) if sends[rank] or expects[rank]
    }  # fmt: skip
