"""A graph as plans of `rnic rc`, one a rank: its cards, its queue pairs, its part of the graph, what to check. Pure.

Two ranks that send each other anything share `qps` reliable connections (on each card, where a rank has several).
A connection's number is drawn from the seed, and with it its UDP source port, as Linux derives one from the other.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from topologies.errors import SpecError
from traffic.engines.rc_settings import Congestion, RcSettings, check_settings
from traffic.graph import Buffer, Graph, Send, checked
from traffic.outcome import ELEMENT, checks
from traffic.placement import Placement, Rank

FIRST_SPORT = 0xC000  # IB_ROCE_UDP_ENCAP_VALID_PORT_MIN of Linux
FIRST_QPN = 2  # 0 and 1 are for management
QPN_BITS = PSN_BITS = 24
MOST_CARDS = 16  # RC_NICS in traffic/rnic/rc_plan.h
MOST_QPS = 4096  # RC_QUEUE_PAIRS there
AFTER_A_LINE = 256  # a line has 4000 characters (RC_LINE), a number up to 10

Addresses = Callable[[str, int], str]
"""The address of a host's card: ``addresses("host1", 1)``. Raises SpecError for one that is not there."""


@dataclass(frozen=True, slots=True)
class End:
    """One end of a connection: the rank, its host and card (from 1), the address, its number and source port."""

    rank: int
    host: str
    card: int
    address: str
    number: int
    sport: int
    psn: int


@dataclass(frozen=True, slots=True)
class Connection:
    """A reliable connection between two ranks: the lower one's end first."""

    one: End
    other: End

    def end(self, rank: int) -> End:
        """The end at `rank`."""
        return self.one if self.one.rank == rank else self.other

    def far(self, rank: int) -> End:
        """The end that is not at `rank`."""
        return self.other if self.one.rank == rank else self.one


@dataclass(frozen=True, slots=True)
class Task:
    """A message, or a part of one, on its connection (None within a rank): send `place` of the graph, from `begin`."""

    number: int
    place: int
    begin: int
    size: int
    connection: Connection | None


@dataclass(frozen=True)
class RcPlans:
    """A graph for rnic: a plan's text for every rank that takes part, and what its numbers mean."""

    graph: Graph
    placement: Placement
    settings: RcSettings
    iterations: int
    connections: tuple[Connection, ...]
    tasks: tuple[Task, ...]
    texts: Mapping[int, str] = field(repr=False)

    def host(self, rank: int) -> str:
        """A rank's host."""
        return self.placement.ranks[rank].host


def plans(
    graph: Graph,
    placement: Placement,
    addresses: Addresses,
    settings: RcSettings | None = None,
    *,
    iterations: int = 1,
    check: bool = True,
) -> RcPlans:
    """What every rank's `rnic rc` is to read.

    Args:
        iterations: how often the graph is played, one time after the other.
        check: have every rank compare what it ends with to `traffic.outcome.checks`.

    Raises SpecError for what rnic cannot play: a graph that is wrong, elements of another size than 4 that are added,
    ranks that share a card, a host's ranks that send each other, settings out of range, a card without an address.
    """
    chosen = settings or RcSettings()
    placed = checked(placement.place(graph))
    _check(placed, placement, chosen)
    connections = _connections(placed, placement, addresses, chosen)
    tasks = _tasks(placed, connections, chosen)
    lines = _lines(placed, tasks)
    if check:
        for one in checks(placed):
            ranks = f"ranks={one.first}-{one.last} at={one.from_offset}"
            lines[one.rank].append(f"check output:{one.offset} bytes={one.size} {ranks}")
    numbers = 1 + max((_own_number(line) for some in lines.values() for line in some), default=0)
    if numbers * iterations > 0xFFFFFFFF:
        raise SpecError(f"{iterations} iterations of {numbers} messages", allowed="2^32 messages in all")
    texts = {
        rank: "\n".join((*_head(placed, placement.ranks[rank], rank, chosen, numbers, iterations, addresses),
                         *_qp_lines(rank, placement.ranks[rank], connections), *lines[rank], "end")) + "\n"
        for rank in range(placed.ranks)
        if lines[rank]
    }  # fmt: skip
    every = tuple(one for some in connections.values() for one in some)
    return RcPlans(placed, placement, chosen, iterations, every, tasks, texts)


def source_port(number: int, other: int) -> int:
    """The UDP source port of a connection between queue pairs of these numbers (Linux: rdma_calc_flow_label)."""
    label = number * other
    label ^= label >> 20
    label ^= label >> 40
    label &= 0xFFFFF
    return (label & 0x3FFF ^ label >> 14) | FIRST_SPORT


def _check(graph: Graph, placement: Placement, settings: RcSettings) -> None:
    check_settings(settings)
    if graph.element_bytes != ELEMENT and any(send.reduce for send in graph):
        raise SpecError(f"{graph.name} adds elements of {graph.element_bytes} bytes", allowed=f"{ELEMENT}: floats")
    _check_places(graph, placement)
    if settings.congestion is not Congestion.NONE and any(_rate(rank, settings) == 0 for rank in placement.ranks):
        raise SpecError(f"{settings.congestion} without a rate", allowed="a rate for every card: it begins there")


def _check_places(graph: Graph, placement: Placement) -> None:
    cards: dict[tuple[str, int], int] = {}
    for number, rank in enumerate(placement.ranks):
        if len(rank.nics) > MOST_CARDS:
            raise SpecError(f"rank {number} has {len(rank.nics)} cards", allowed=f"up to {MOST_CARDS}")
        for nic in rank.nics:
            before = cards.setdefault((rank.host, nic), number)
            if before != number:
                found = f"ranks {before} and {number} share card {nic} of {rank.host}"
                raise SpecError(found, allowed="a card for each rank: rnic is one process a card")
    for send in graph:
        host = placement.ranks[send.src].host
        if not send.is_local and host == placement.ranks[send.dst].host:
            found = f"rank {send.src} sends to rank {send.dst}, both on {host}"
            raise SpecError(found, allowed="messages between hosts: no packet leaves a host for itself")


def _rate(rank: Rank, settings: RcSettings) -> int:
    return round(rank.rate_bps or settings.rate_bps or 0)


def _connections(
    graph: Graph, placement: Placement, addresses: Addresses, settings: RcSettings
) -> dict[tuple[int, int], tuple[Connection, ...]]:
    """By pair of ranks, the lower first."""
    pairs = dict.fromkeys(_pair(send) for send in graph if not send.is_local)
    draw = random.Random(settings.seed)  # noqa: S311 - to be repeated, not a secret
    taken: dict[int, set[int]] = defaultdict(set)
    found: dict[tuple[int, int], tuple[Connection, ...]] = {}
    counts: dict[int, int] = defaultdict(int)
    for pair in pairs:
        ranks = [placement.ranks[rank] for rank in pair]
        count = settings.qps * max(len(rank.nics) for rank in ranks)
        made = []
        for index in range(count):
            numbers = [_drawn(draw, taken[rank]) for rank in pair]
            sport = FIRST_SPORT if settings.fixed_port else source_port(*numbers)
            ends = []
            for rank, placed, number in zip(pair, ranks, numbers, strict=True):
                card = placed.nics[index % len(placed.nics)]
                at = addresses(placed.host, card)
                ends.append(End(rank, placed.host, card, at, number, sport, draw.getrandbits(PSN_BITS)))
            made.append(Connection(ends[0], ends[1]))
        found[pair] = tuple(made)
        for rank in pair:
            counts[rank] += count
            if counts[rank] > MOST_QPS:
                raise SpecError(f"more than {MOST_QPS} connections of rank {rank}", allowed=f"{MOST_QPS} a rank")
    return found


def _pair(send: Send) -> tuple[int, int]:
    return min(send.src, send.dst), max(send.src, send.dst)


def _drawn(draw: random.Random, taken: set[int]) -> int:
    while (number := draw.randrange(FIRST_QPN, 1 << QPN_BITS)) in taken:
        pass
    taken.add(number)
    return number


def _tasks(
    graph: Graph, connections: Mapping[tuple[int, int], tuple[Connection, ...]], settings: RcSettings
) -> tuple[Task, ...]:
    """Every message on its connection; where it is split, a task a part."""
    turns: dict[tuple[int, int], int] = defaultdict(int)
    tasks: list[Task] = []
    for place, send in enumerate(graph):
        if send.is_local:
            tasks.append(Task(len(tasks), place, 0, send.size, None))
            continue
        over = connections[_pair(send)]
        if not settings.split:
            way = over[turns[send.src, send.dst] % len(over)]
            turns[send.src, send.dst] += 1
            tasks.append(Task(len(tasks), place, 0, send.size, way))
            continue
        cuts = sorted({send.size * part // len(over) // ELEMENT * ELEMENT for part in range(len(over))} | {send.size})
        for way, (begin, end) in zip(over, pairwise(cuts), strict=False):
            tasks.append(Task(len(tasks), place, begin, end - begin, way))
    return tuple(tasks)


def _lines(graph: Graph, tasks: Sequence[Task]) -> dict[int, list[str]]:
    """Every rank's tasks."""
    lines: dict[int, list[str]] = defaultdict(list)
    of_send: dict[int, list[int]] = defaultdict(list)
    gates = _Gates(len(tasks))
    for task in tasks:
        of_send[task.place].append(task.number)
    for task in tasks:
        send = graph.sends[task.place]
        after = gates.after([number for place in sorted(set(send.after)) for number in of_send[place]], lines[send.src])
        begin = f"from={send.from_buffer}:{send.from_offset + task.begin}"
        end = f"to={send.to_buffer}:{send.to_offset + task.begin} reduce={int(send.reduce)}"
        when = f"{after} compute_ns={round(send.compute_s * 1e9)} step={send.step}"
        size = f"size={task.size}"
        if task.connection is None:
            lines[send.src].append(f"copy {task.number} {size} {begin} {end}{when}")
            continue
        numbers = [task.connection.end(rank).number for rank in (send.src, send.dst)]
        lines[send.src].append(f"send {task.number} qp={numbers[0]} {size} {begin}{when}")
        lines[send.dst].append(f"expect {task.number} qp={numbers[1]} {size} {end} step={send.step}")
    return lines


class _Gates:
    """What a task waits for, where a line is too short for it: copies of nothing that wait for a part each."""

    def __init__(self, first: int) -> None:
        self._next = first

    def after(self, numbers: Sequence[int], lines: list[str]) -> str:
        waited = list(numbers)
        while len(waited) > AFTER_A_LINE:
            part, waited = waited[:AFTER_A_LINE], waited[AFTER_A_LINE:]
            lines.append(f"copy {self._next} size=0 from=input:0 to=input:0 after={_joined(part)}")
            waited.append(self._next)
            self._next += 1
        return f" after={_joined(waited)}" if waited else ""


def _joined(numbers: Iterable[int]) -> str:
    return ",".join(map(str, numbers))


def _own_number(line: str) -> int:
    word, number = line.split(maxsplit=2)[:2]
    return 0 if word == "check" else int(number)


def _head(
    graph: Graph, place: Rank, rank: int, settings: RcSettings, numbers: int, iterations: int, addresses: Addresses
) -> list[str]:
    words = {
        "rank": rank,
        "mtu": settings.mtu,
        "mode": settings.recovery,
        "window": settings.window,
        "reorder": settings.reorder,
        "timeout_us": round(settings.timeout_s * 1e6),
        "retries": settings.retries,
        "dscp": settings.dscp,
        "ack_dscp": settings.dscp,
        "cnp_dscp": settings.cnp_dscp,
        "ecn": settings.ecn,
        "cc": settings.congestion,
        "dilation": settings.dilation,
        "delay_ns": round(settings.delay_s * 1e9),
        "numbers": numbers,
        "iterations": iterations,
        "in_place": int(graph.in_place),
    }
    return [
        "host " + " ".join(f"{key}={value}" for key, value in words.items()),
        *(f"buffer {buffer} {graph.room(buffer)}" for buffer in Buffer),
        *(
            f"nic {index} src={addresses(place.host, nic)} rate_bps={_rate(place, settings)}"
            for index, nic in enumerate(place.nics)
        ),
    ]


def _qp_lines(rank: int, place: Rank, connections: Mapping[tuple[int, int], tuple[Connection, ...]]) -> list[str]:
    lines = []
    for pair, some in connections.items():
        for one in some if rank in pair else ():
            near, far = one.end(rank), one.far(rank)
            lines.append(
                f"qp {near.number} nic={place.nics.index(near.card)} dst={far.address} dqpn={far.number} "
                f"sport={near.sport} psn={near.psn} epsn={far.psn}"
            )
    return lines
