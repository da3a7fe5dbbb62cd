"""What `rnic rc` writes when it ends, read into values; and what became of a graph, put together from all of them.

Times are CLOCK_MONOTONIC nanoseconds of the workstation. Nothing is guessed: a field too much or too little is
refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from topologies.ecmp import ROCE_PORT
from traffic.engines.base import CommandResult
from traffic.engines.graph_engine import CarriedFlow
from traffic.engines.rc_plan import Connection, RcPlans
from traffic.engines.rnic_report import nonsense, said_by, value_of
from traffic.flows import FiveTuple, Transport
from traffic.graph import Send

NAMED = 3  # things that a message names before it counts the rest


def as_one(things: Sequence[str], of: str, *, between: str = "; ") -> str:
    """The first few of them, and how many more `of` these there are."""
    more = f"{between}and {len(things) - NAMED} more {of}" if len(things) > NAMED else ""
    return between.join(things[:NAMED]) + more


@dataclass(frozen=True, slots=True)
class RcNic:
    """One card.

    Of the `paced_packets`, which had a schedule, `late_packets` left more than max(2 packets, 200 µs) behind it.
    Packets follow each other in `stretches`: a new one begins at the moment a packet may leave, after there was
    nothing to send, a window was full or the port took nothing. From each stretch's first packet to its last `due_ns`
    lie between when they were due, `took_ns` between when they left; `mean_judged` when stretches are long
    enough to tell a mean rate from them. `paced_ok`: the law of pacing was kept (traffic/rnic/pace.h). `held_back_ns`:
    the port took nothing, as when a class is paused. `host_drops` and `refused` packets never left.
    """

    nic: int
    dev: str
    rate_bps: int
    packets: int
    wire_bytes: int
    busy_ns: int
    paced_packets: int
    late_packets: int
    late_worst_ns: int
    stretches: int
    due_ns: int
    took_ns: int
    mean_judged: bool
    first_ns: int
    last_ns: int
    held_back_ns: int
    held_back_times: int
    host_drops: int
    refused: int
    error: str | None
    paced_ok: bool

    @property
    def late_share(self) -> float:
        """The share of its packets, and so of the time it had something to send, that was behind schedule."""
        return self.late_packets / self.paced_packets if self.paced_packets else 0.0

    @property
    def rate_error(self) -> float | None:
        """By how much the mean rate missed the schedule's, as a share of it; None where too little was sent."""
        return self.due_ns / self.took_ns - 1 if self.mean_judged and self.took_ns else None


@dataclass(frozen=True, slots=True)
class RcQueuePair:
    """One end of a connection. `bins` are wire bytes sent in each `bin_ns` from the start on.

    `naks` were received; `ce` packets came with a congestion mark; `cnps` came, `sent_cnps` went.
    """

    qp: int
    sport: int
    sent_packets: int
    sent_bytes: int
    sent_wire_bytes: int
    retransmitted: int
    timeouts: int
    naks: int
    went_back: int
    sent_past: int
    nonsense: int
    acks: int
    cnps: int
    received_packets: int
    received_bytes: int
    ce: int
    out_of_order: int
    duplicates: int
    beyond_window: int
    sent_naks: int
    sent_acks: int
    sent_cnps: int
    round_trips: int
    round_trip_min_ns: int
    round_trip_mean_ns: int
    round_trip_max_ns: int
    first_ns: int
    last_ns: int
    rate_bps: int
    cuts: int
    failed: bool
    bin_ns: int
    bins: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RcTask:
    """A message sent or expected, or a copy, in the last iteration that was begun; 0 for what did not happen."""

    task: int
    kind: str
    step: int
    bytes: int
    qp: int | None
    ready_ns: int
    begun_ns: int
    done_ns: int


@dataclass(frozen=True, slots=True)
class RcRank:
    """One `rnic rc`. `iterations` were done; `wrong` elements, None where nothing was to be checked or not reached.

    `overflow` packets found its socket full; `left` tasks were not done.
    """

    rank: int
    go_ns: int
    elapsed_ns: int
    cpu_ns: int
    woken_late_ns: int
    ended: str
    failure: str | None
    iterations: int
    wrong: int | None
    left: int
    overflow: int
    foreign: int
    malformed: int
    unknown: int
    corrupt: int
    strangers: int
    misplaced: int
    round_trip_p50_ns: int
    round_trip_p99_ns: int
    began_ns: tuple[int, ...]
    ended_ns: tuple[int, ...]
    nics: tuple[RcNic, ...]
    qps: tuple[RcQueuePair, ...]
    tasks: tuple[RcTask, ...]


def rank_report(node: str, ended: CommandResult) -> RcRank:
    """What an `rnic rc` wrote. Raises TrafficError for a program that failed or wrote something else."""
    said = said_by(node, ended, "rc")
    lists = {key: _list(node, said, key) for key in ("began_ns", "ended_ns", "nics", "qps", "tasks")}
    qps = [{**one, "bins": tuple(_list(node, one, "bins"))} if isinstance(one, dict) else one for one in lists["qps"]]
    whole = {
        **said,
        "began_ns": tuple(lists["began_ns"]),
        "ended_ns": tuple(lists["ended_ns"]),
        "nics": tuple(value_of(node, RcNic, one) for one in lists["nics"]),
        "qps": tuple(value_of(node, RcQueuePair, one) for one in qps),
        "tasks": tuple(value_of(node, RcTask, one) for one in lists["tasks"]),
    }
    return value_of(node, RcRank, whole)


def _list(node: str, said: Mapping[str, Any], key: str) -> list[Any]:
    found = said.get(key)
    if not isinstance(found, list):
        raise nonsense(node, f"{key} is {found!r}, no list")
    return found


@dataclass(frozen=True, slots=True)
class SendResult:
    """What became of a message that left its host, in the last iteration: None for what did not happen.

    `begun_s` is when its first part was handed to its connection, `done_s` when its last byte was in the buffer.
    """

    send: Send
    begun_s: float | None
    done_s: float | None

    @property
    def took_s(self) -> float | None:
        """From the one to the other."""
        return None if self.begun_s is None or self.done_s is None else self.done_s - self.begun_s


@dataclass(frozen=True, slots=True)
class ConnectionResult:
    """One direction of a connection, from rank `src`.

    `bytes` go over it in one iteration; `took_s` is how long that took in the last, from its first message's begin to
    its last one's end, None where one of them has none. `sent` is the sending end's view of all iterations together,
    `received` the other's; None where an end has no report.
    """

    connection: Connection
    src: int
    bytes: int
    took_s: float | None
    sent: RcQueuePair | None
    received: RcQueuePair | None


@dataclass(frozen=True, slots=True)
class RcReport:
    """What became of a graph.

    `ranks` are the reports there are, a host's under its first rank; `errors` name what failed, with flow and hosts.
    """

    plans: RcPlans
    ranks: Mapping[int, RcRank]
    sends: tuple[SendResult, ...]
    connections: tuple[ConnectionResult, ...]
    errors: tuple[str, ...] = ()

    @property
    def error(self) -> str | None:
        """What failed as one message, of many flows the first; None when nothing did."""
        return as_one(self.errors, "failures") or None

    @property
    def wrong(self) -> int | None:
        """Elements that are not what they should be, of all ranks; None where nothing was checked."""
        checked = [one.wrong for one in self.ranks.values() if one.wrong is not None]
        return sum(checked) if checked and len(checked) == len(self._checking) else None

    @property
    def retransmits(self) -> int:
        """Packets that were sent again, of all ranks."""
        return sum(one.retransmitted for one in self._queue_pairs())

    @property
    def ce(self) -> int:
        """Packets that arrived with a congestion mark."""
        return sum(one.ce for one in self._queue_pairs())

    @property
    def timeouts(self) -> int:
        """How often a sender waited in vain for an acknowledgement: lost, like the packet perhaps, or held too long."""
        return sum(one.timeouts for one in self._queue_pairs())

    @property
    def lost_packets(self) -> int:
        """Packets that hosts lost: refused by a kernel, or found a socket full. What switches lost they count."""
        overflow = sum(one.overflow for one in self.ranks.values())
        return overflow + sum(nic.host_drops + nic.refused for nic in self._nics())

    @property
    def done(self) -> int:
        """Iterations that all ranks have done."""
        known = len(self.ranks) == len(self.plans.texts)
        return min((len(one.ended_ns) for one in self.ranks.values()), default=0) if known else 0

    @property
    def late_share(self) -> float:
        """The largest share of a card's packets that left more than max(2 packets, 200 µs) behind their schedule."""
        return max((nic.late_share for nic in self._nics()), default=0.0)

    def late_share_but_for(self, host: str) -> float:
        """The same of the cards of all other hosts: one that is held up sends late."""
        others = [one for rank, one in self.ranks.items() if self.plans.host(rank) != host]
        return max((nic.late_share for one in others for nic in one.nics), default=0.0)

    @property
    def rate_error(self) -> float | None:
        """The mean rate's error of the card that missed its schedule's by most; None where no card's can be told."""
        found = [nic.rate_error for nic in self._nics() if nic.rate_error is not None]
        return max(found, key=abs, default=None)

    @property
    def dscp(self) -> int:
        """The class the packets were sent in."""
        return self.plans.settings.dscp

    @property
    def flows(self) -> tuple[CarriedFlow, ...]:
        """Every direction of a connection that carried something."""
        found = []
        for one in self.connections:
            near, far = one.connection.end(one.src), one.connection.far(one.src)
            ends = near.address, far.address
            five_tuple = FiveTuple(*ends, Transport.UDP, near.sport, ROCE_PORT, self.dscp, far.number)
            ce = one.received.ce if one.received else None
            again = one.sent.retransmitted if one.sent else None
            if one.took_s is not None:
                found.append(CarriedFlow(near.host, far.host, five_tuple, one.bytes, one.took_s, ce, again))
        return tuple(found)

    def overhead_s(self, warmup: int = 0) -> float | None:
        """Not told apart: what a message costs rnic is in its time."""
        del warmup
        return None

    def took_s(self, warmup: int = 0) -> float | None:
        """Seconds an iteration took, from the first rank's begin to the last one's end, but for the first `warmup`.

        None when not all iterations were done.
        """
        wanted = self.plans.iterations
        if wanted <= warmup or self.done < wanted:
            return None
        ranks = self.ranks.values()
        lasted = max(one.ended_ns[wanted - 1] for one in ranks) - min(one.began_ns[warmup] for one in ranks)
        return lasted / (wanted - warmup) / 1e9

    def cut_short(self) -> RcReport:
        """The same, as if no more iterations had been planned than all ranks have done."""
        return replace(self, plans=replace(self.plans, iterations=self.done))

    def _nics(self) -> Iterator[RcNic]:
        return (nic for one in self.ranks.values() for nic in one.nics)

    def _queue_pairs(self) -> Iterator[RcQueuePair]:
        return (qp for one in self.ranks.values() for qp in one.qps)

    @property
    def _checking(self) -> list[int]:
        """The ranks that were to check."""
        return [rank for rank, text in self.plans.texts.items() if "\ncheck " in text]


def joined(plans: RcPlans, ranks: Mapping[int, RcRank], errors: tuple[str, ...] = ()) -> RcReport:
    """Everybody's reports as one."""
    tasks = {(rank, task.kind, task.task): task for rank, one in ranks.items() for task in one.tasks}
    by_send: dict[int, list[_Part]] = {}
    by_way: dict[tuple[int, int], list[_Part]] = {}
    for task in plans.tasks:
        if task.connection is None:
            continue
        send = plans.graph.sends[task.place]
        src, dst = plans.leaders[send.src], plans.leaders[send.dst]
        sent, got = tasks.get((src, "send", task.number)), tasks.get((dst, "expect", task.number))
        part = (task.size, sent.begun_ns if sent else 0, got.done_ns if got else 0)
        by_send.setdefault(task.place, []).append(part)
        by_way.setdefault((send.src, task.connection.end(send.src).number), []).append(part)
    sends = tuple(SendResult(plans.graph.sends[place], *_times(parts)) for place, parts in by_send.items())
    qps = {(rank, qp.qp): qp for rank, one in ranks.items() for qp in one.qps}
    connections = []
    for one in plans.connections:
        for near, far in ((one.one, one.other), (one.other, one.one)):
            parts = by_way.get((near.rank, near.number), [])
            begun, done = _times(parts)
            took = None if begun is None or done is None else done - begun
            ends = (qps.get((plans.leaders[end.rank], end.number)) for end in (near, far))
            connections.append(ConnectionResult(one, near.rank, sum(part[0] for part in parts), took, *ends))
    return RcReport(plans, ranks, sends, tuple(connections), errors)


_Part = tuple[int, int, int]  # bytes, begun_ns, done_ns; 0 for what did not happen


def _times(parts: Sequence[_Part]) -> tuple[float | None, float | None]:
    """When the first began and the last was done, in seconds; None unless all have."""
    begun, done = [part[1] for part in parts], [part[2] for part in parts]
    return (
        min(begun) / 1e9 if begun and all(begun) else None,
        max(done) / 1e9 if done and all(done) else None,
    )
