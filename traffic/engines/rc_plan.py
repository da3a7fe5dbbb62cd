"""A graph as plans of `rnic rc`, one a host: its cards, its queue pairs, its part of the graph, what to check. Pure.

A host's ranks are played by one program, named by the first of them: each has its own part of every buffer, they may
share cards, and what they send each other is copied there, as over NVLink.

Two ranks on different hosts that send each other anything share `qps` reliable connections (on each card, where a
rank has several).
A connection's number is drawn from the seed, and with it its UDP source port, as Linux derives one from the other.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise

from topologies.errors import SpecError
from traffic.engines.rc_settings import FIRST_QPN, FIRST_SPORT, Congestion, RcSettings, check_settings
from traffic.graph import Buffer, Graph, Send, checked
from traffic.outcome import ELEMENT, checks
from traffic.placement import Addresses, Placement, Rank

QPN_BITS = PSN_BITS = 24
MOST_CARDS = 16  # RC_NICS in traffic/rnic/rc_plan.h
MOST_QPS = 4096  # RC_QUEUE_PAIRS there
APART = 64  # bytes that ranks' parts of a buffer begin at multiples of
AFTER_A_LINE = 256  # a line has 4000 characters (RC_LINE), a number up to 10


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
    """A message, or a part of one, on its connection (None within a host): send `place` of the graph, from `begin`."""

    number: int
    place: int
    begin: int
    size: int
    connection: Connection | None


@dataclass(frozen=True)
class RcPlans:
    """A graph for rnic: a plan's text for every host that takes part, by its first rank, and what its numbers mean."""

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

    @cached_property
    def leaders(self) -> tuple[int, ...]:
        """For every rank the first one of its host."""
        return leaders(self.placement)


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
    too many cards or connections for a host, settings out of range, a card without an address.
    """
    chosen = settings or RcSettings()
    placed = checked(placement.place(graph))
    _check(placed, placement, chosen)
    connections = _connections(placed, placement, addresses, chosen)
    tasks = _tasks(placed, placement, connections, chosen)
    seats = _Seats(placed, placement)
    lines = _lines(placed, tasks, seats, chosen)
    if check:
        for one in checks(placed):
            ranks = f"ranks={one.first}-{one.last} at={one.from_offset}" + (
                f" every={one.every}" if one.every > 1 else ""
            )
            place = seats.place(one.rank, Buffer.OUTPUT, one.offset)
            lines[seats.leaders[one.rank]].append(f"check {place} bytes={one.size} {ranks}")
    numbers = 1 + max((_own_number(line) for some in lines.values() for line in some), default=0)
    if numbers * iterations > 0xFFFFFFFF:
        raise SpecError(f"{iterations} iterations of {numbers} messages", allowed="2^32 messages in all")
    texts: dict[int, str] = {}
    for leader, some in lines.items():
        host = placement.ranks[leader].host
        cards = _cards(placement, host)
        own = replace(chosen, congestion=Congestion.NONE) if host in chosen.uncontrolled else chosen
        head = _head(placed, leader, own, numbers, iterations)
        nics = _nic_lines(host, cards, chosen, addresses)
        qps = _qp_lines(seats.of(leader), list(cards), connections)
        texts[leader] = "\n".join((head, *seats.lines(leader), *nics, *qps, *some, "end")) + "\n"
    every = tuple(one for some in connections.values() for one in some)
    return RcPlans(placed, placement, chosen, iterations, every, tasks, dict(sorted(texts.items())))


def leaders(placement: Placement) -> tuple[int, ...]:
    """For every rank the first one of its host."""
    first: dict[str, int] = {}
    return tuple(first.setdefault(rank.host, number) for number, rank in enumerate(placement.ranks))


class _Seats:
    """Where in a host's memory each of its ranks has its own: one part after the other, in every buffer."""

    def __init__(self, graph: Graph, placement: Placement) -> None:
        self.leaders = leaders(placement)
        self._graph = graph
        self._of: dict[int, list[int]] = defaultdict(list)
        for rank, leader in enumerate(self.leaders):
            self._of[leader].append(rank)
        self._stride = {buffer: -(-graph.room(buffer) // APART) * APART for buffer in Buffer}

    def of(self, leader: int) -> tuple[int, ...]:
        """A host's ranks."""
        return tuple(self._of[leader])

    def place(self, rank: int, buffer: Buffer, offset: int) -> str:
        """A place in a rank's buffer, in its host's."""
        return f"{buffer}:{self._of[self.leaders[rank]].index(rank) * self._stride[buffer] + offset}"

    def lines(self, leader: int) -> list[str]:
        """A host's buffers, and whose parts of the input they are where there are several."""
        ranks = self._of[leader]
        if len(ranks) == 1:
            return [f"buffer {buffer} {self._graph.room(buffer)}" for buffer in Buffer]
        stride = self._stride[Buffer.INPUT]
        return [
            *(f"buffer {buffer} {self._stride[buffer] * len(ranks)}" for buffer in Buffer),
            *(
                f"holds {place * stride} bytes={self._graph.room(Buffer.INPUT)} rank={rank}"
                for place, rank in enumerate(ranks)
            ),
        ]


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
    for host in dict.fromkeys(placement.hosts):
        if (cards := len(_cards(placement, host))) > MOST_CARDS:
            raise SpecError(f"{host} has {cards} cards", allowed=f"up to {MOST_CARDS}")
    if settings.local_bps is not None and settings.local_bps <= 0:
        raise SpecError(f"local_bps {settings.local_bps}", allowed="more than 0, or None: it takes no time")
    if settings.congestion is not Congestion.NONE and any(_rate(rank, settings) == 0 for rank in placement.ranks):
        raise SpecError(f"{settings.congestion} without a rate", allowed="a rate for every card: it begins there")


def _rate(rank: Rank, settings: RcSettings) -> int:
    return round(rank.rate_bps or settings.rate_bps or 0)


def _cards(placement: Placement, host: str) -> dict[int, Rank]:
    """A host's cards, each with a rank that has it: all of them say the same rate of it."""
    found: dict[int, Rank] = {}
    for rank in placement.ranks:
        for nic in rank.nics if rank.host == host else ():
            found.setdefault(nic, rank)
    return found


def _within(send: Send, placement: Placement) -> bool:
    return placement.ranks[send.src].host == placement.ranks[send.dst].host


def _connections(
    graph: Graph, placement: Placement, addresses: Addresses, settings: RcSettings
) -> dict[tuple[int, int], tuple[Connection, ...]]:
    """By pair of ranks on different hosts, the lower first."""
    pairs = dict.fromkeys(_pair(send) for send in graph if not _within(send, placement))
    draw = random.Random(settings.seed)  # noqa: S311 - to be repeated, not a secret
    taken: dict[str, set[int]] = defaultdict(set)
    found: dict[tuple[int, int], tuple[Connection, ...]] = {}
    for pair in pairs:
        ranks = [placement.ranks[rank] for rank in pair]
        made = []
        for index in range(settings.qps * max(len(rank.nics) for rank in ranks)):
            numbers = [_drawn(draw, taken[rank.host]) for rank in ranks]
            drawn = source_port(*numbers)
            ends = []
            for rank, placed, number in zip(pair, ranks, numbers, strict=True):
                card = placed.nics[index % len(placed.nics)]
                at = addresses(placed.host, card)
                fixed = settings.fixed_port or placed.host in settings.fixed_port_hosts
                sport = FIRST_SPORT if fixed else drawn
                ends.append(End(rank, placed.host, card, at, number, sport, draw.getrandbits(PSN_BITS)))
            made.append(Connection(ends[0], ends[1]))
        found[pair] = tuple(made)
        for host in {one.host for one in ranks}:
            if len(taken[host]) > MOST_QPS:
                raise SpecError(f"more than {MOST_QPS} connections of {host}", allowed=f"{MOST_QPS} a host")
    return found


def _pair(send: Send) -> tuple[int, int]:
    return min(send.src, send.dst), max(send.src, send.dst)


def _drawn(draw: random.Random, taken: set[int]) -> int:
    while (number := draw.randrange(FIRST_QPN, 1 << QPN_BITS)) in taken:
        pass
    taken.add(number)
    return number


def _tasks(
    graph: Graph,
    placement: Placement,
    connections: Mapping[tuple[int, int], tuple[Connection, ...]],
    settings: RcSettings,
) -> tuple[Task, ...]:
    """Every message on its connection; where it is split, a task a part."""
    turns: dict[tuple[int, int], int] = defaultdict(int)
    tasks: list[Task] = []
    for place, send in enumerate(graph):
        if _within(send, placement):
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


def _lines(graph: Graph, tasks: Sequence[Task], seats: _Seats, settings: RcSettings) -> dict[int, list[str]]:
    """Every host's tasks."""
    lines: dict[int, list[str]] = defaultdict(list)
    of_send: dict[int, list[int]] = defaultdict(list)
    gates = _Gates(len(tasks))
    for task in tasks:
        of_send[task.place].append(task.number)
    for task in tasks:
        send = graph.sends[task.place]
        here, there = (lines[seats.leaders[rank]] for rank in (send.src, send.dst))
        after = gates.after([number for place in sorted(set(send.after)) for number in of_send[place]], here)
        begin = f"from={seats.place(send.src, send.from_buffer, send.from_offset + task.begin)}"
        end = f"to={seats.place(send.dst, send.to_buffer, send.to_offset + task.begin)} reduce={int(send.reduce)}"
        local_s = task.size * 8 / settings.local_bps if settings.local_bps and send.src != send.dst else 0.0
        size = f"size={task.size}"
        if task.connection is None:
            when = f"{after} compute_ns={round((send.compute_s + local_s) * 1e9)} step={send.step}"
            here.append(f"copy {task.number} {size} {begin} {end}{when}")
            continue
        when = f"{after} compute_ns={round(send.compute_s * 1e9)} step={send.step}"
        numbers = [task.connection.end(rank).number for rank in (send.src, send.dst)]
        here.append(f"send {task.number} qp={numbers[0]} {size} {begin}{when}")
        there.append(f"expect {task.number} qp={numbers[1]} {size} {end} step={send.step}")
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


def _head(graph: Graph, rank: int, settings: RcSettings, numbers: int, iterations: int) -> str:
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
    return "host " + " ".join(f"{key}={value}" for key, value in words.items())


def _nic_lines(host: str, cards: Mapping[int, Rank], settings: RcSettings, addresses: Addresses) -> list[str]:
    return [
        f"nic {index} src={addresses(host, nic)} rate_bps={_rate(rank, settings)}"
        for index, (nic, rank) in enumerate(cards.items())
    ]


def _qp_lines(
    ranks: Sequence[int], cards: Sequence[int], connections: Mapping[tuple[int, int], tuple[Connection, ...]]
) -> list[str]:
    lines = []
    for pair, some in connections.items():
        for rank in set(pair) & set(ranks):
            for one in some:
                near, far = one.end(rank), one.far(rank)
                lines.append(
                    f"qp {near.number} nic={cards.index(near.card)} dst={far.address} dqpn={far.number} "
                    f"sport={near.sport} psn={near.psn} epsn={far.psn}"
                )
    return lines
