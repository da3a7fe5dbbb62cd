"""Plays a graph of sends as bursts of RoCEv2 packets that scapy crafts: one process a rank.

    plans = crafted_plans(graph, placement, addresses)
    run = start_crafted(plans, lambda node, argv: in_network(node, netns(node), argv))
    report = run.finish(timeout=30)

Every packet is made before anything is sent, and every receiver's socket is open before the first one leaves. Nothing
is acknowledged and nothing sent twice: a packet that is lost keeps its message from ever being done, and the report
says how many of which flow are missing.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from topologies.ecmp import ROCE_PORT
from topologies.errors import RailbedError
from traffic.engines.base import CommandResult
from traffic.engines.crafted_plan import CraftedPlans, QueuePairWay
from traffic.engines.graph_engine import CarriedFlow, Unchecked
from traffic.engines.rnic import REPORTED_S, SpokenTo, Starts
from traffic.engines.rnic_report import value_of
from traffic.errors import TrafficError
from traffic.flows import FiveTuple, Transport

# How far ahead the common start is set: everybody reads one line until then.
LEAD_S = 0.05
# How long one process is looked at before the next: what is done meanwhile is not missed, it stays done.
LOOK_S = 0.02
# Crafting the most packets that are allowed, on one processor that is busy with others' too; and loading scapy.
READY_S = 60.0


@dataclass(frozen=True, slots=True)
class CraftedSend:
    """When a message began to leave and had left, in the last iteration; 0 for what did not happen.

    `sent` packets of it left, in all iterations.
    """

    number: int
    sent: int
    begun_ns: int
    done_ns: int


@dataclass(frozen=True, slots=True)
class CraftedExpect:
    """How many packets of a message came, and never came, of all iterations; when the last did, 0 unless all did."""

    number: int
    came: int
    missing: int
    done_ns: int


@dataclass(frozen=True, slots=True)
class CraftedRank:
    """One rank's report. `overflow` packets found its socket full, `strangers` were of no message it expected."""

    rank: int
    began_ns: tuple[int, ...]
    ended_ns: tuple[int, ...]
    sends: tuple[CraftedSend, ...]
    expects: tuple[CraftedExpect, ...]
    overflow: int
    ce: int
    strangers: int


@dataclass(frozen=True, slots=True)
class CraftedReport(Unchecked):
    """What became of a graph. `ranks` are the reports there are; `errors` name what failed, with flow and hosts."""

    plans: CraftedPlans
    ranks: Mapping[int, CraftedRank]
    errors: tuple[str, ...] = ()

    @property
    def retransmits(self) -> int | None:
        """Nobody sends again."""
        return None

    @property
    def ce(self) -> int | None:
        """Packets that arrived with a congestion mark."""
        return sum(one.ce for one in self.ranks.values())

    @property
    def lost_packets(self) -> int:
        """Packets that were sent and never came, or found a socket full: of messages both whose ends have reported."""
        sent = {send.number: send.sent for one in self.ranks.values() for send in one.sends}
        heard = [got for one in self.ranks.values() for got in one.expects if got.number in sent]
        return max(0, sum(sent[got.number] - got.came for got in heard))

    @property
    def dscp(self) -> int:
        """The class the packets were sent in."""
        return self.plans.settings.dscp

    @property
    def flows(self) -> tuple[CarriedFlow, ...]:
        """Every queue pair; what its receiver never got is lost, also what was never sent."""
        began, came = self._times()
        found = []
        for way in self.plans.ways:
            places = self.plans.of(way)
            ends = [came.get(place, (0, 0)) for place in places]
            begins = [began.get(place, 0) for place in places]
            all_done = all(begins) and all(done for done, _ in ends)
            took = (max(done for done, _ in ends) - min(begins)) / 1e9 if all_done else None
            missing = sum(missing for _, missing in ends)
            src, dst = self.plans.at[way.src], self.plans.at[way.dst]
            five_tuple = FiveTuple(src, dst, Transport.UDP, way.sport, ROCE_PORT, self.dscp, way.queue_pair)
            hosts = self.plans.host(way.src), self.plans.host(way.dst)
            found.append(CarriedFlow(*hosts, five_tuple, way.size, took, lost_packets=missing))
        return tuple(found)

    def _times(self) -> tuple[dict[int, int], dict[int, tuple[int, int]]]:
        began = {send.number: send.begun_ns for one in self.ranks.values() for send in one.sends}
        came = {got.number: (got.done_ns, got.missing) for one in self.ranks.values() for got in one.expects}
        return began, came

    def took_s(self, warmup: int = 0) -> float | None:
        """Seconds an iteration took, from the first rank's begin to the last one's end, but for the first `warmup`."""
        count = self.plans.iterations - warmup
        ranks = self.ranks.values()
        if count < 1 or len(ranks) < len(self.plans.texts):
            return None
        if any(len(one.ended_ns) < self.plans.iterations for one in ranks):
            return None
        return (max(one.ended_ns[-1] for one in ranks) - min(one.began_ns[warmup] for one in ranks)) / count / 1e9

    def overhead_s(self, warmup: int = 0) -> float | None:
        """Not told apart: what a packet costs Python is in its time."""
        del warmup
        return None


def start_crafted(plans: CraftedPlans, start: Starts, *, ready_s: float = READY_S) -> CraftedRun:
    """Start every rank's process; returns once all have crafted their packets and been told when to begin.

    Args:
        start: `labs.channels.namespaces.in_network` for the node, in a lab.

    Raises TrafficError for a host where it does not start (no scapy, port in use); nothing is left running then.
    """
    argv = (sys.executable, "-I", "-m", "traffic.engines.crafted_rank")
    with ExitStack[None]() as undo:
        processes: dict[int, SpokenTo] = {}
        for rank, text in plans.texts.items():
            try:
                process = start(plans.host(rank), argv)
            except (RailbedError, OSError, KeyError) as error:
                raise TrafficError(f"{_where(plans, rank)}: scapy does not start: {error}") from error
            undo.callback(process.stop)
            processes[rank] = process
            process.write(text)
        for rank, process in processes.items():
            _await_ready(plans, rank, process, ready_s)
        began_ns = time.monotonic_ns() + int(LEAD_S * 1e9)
        for process in processes.values():
            process.write(f"go {began_ns}\n")
        return CraftedRun(plans, processes, undo.pop_all())


@dataclass
class CraftedRun:
    """A graph under way."""

    plans: CraftedPlans
    processes: Mapping[int, SpokenTo]
    undo: ExitStack[None]
    clock: Callable[[], float] = time.monotonic
    _report: CraftedReport | None = field(default=None, init=False)

    def finish(self, timeout: float) -> CraftedReport:
        """Wait until every rank is done, at most `timeout` seconds, and report. Leaves no process behind.

        Without a process that ended early nobody can be done who needs it: then all are told to stop.
        """
        if self._report is None:
            late = self._wait(self.clock() + timeout)
            self._report = self._collect(tuple(f"{_where(self.plans, rank)}: not done within {timeout:g} s"
                                               for rank in sorted(late)))  # fmt: skip
        return self._report

    def stop(self) -> CraftedReport:
        """End it now and report what was done until now. Leaves no process behind."""
        if self._report is None:
            self._report = self._collect(())
        return self._report

    def _wait(self, deadline: float) -> set[int]:
        """Wait; the ranks that are not done at the deadline, none when one has failed."""
        waiting = set(self.processes)
        while waiting and self.clock() < deadline:
            for rank in sorted(waiting):
                process = self.processes[rank]
                with suppress(RailbedError):
                    process.wait_ready("done\n", LOOK_S)
                    waiting.discard(rank)
                if rank in waiting and not process.running:
                    return set()
        return waiting

    def _collect(self, late: tuple[str, ...]) -> CraftedReport:
        ranks: dict[int, CraftedRank] = {}
        errors: list[str] = []
        with self.undo:
            for process in self.processes.values():
                process.write("stop\n")
            for rank, process in self.processes.items():
                try:
                    ranks[rank] = rank_report(_where(self.plans, rank), _ended(process))
                except TrafficError as error:
                    errors.append(str(error))
        found = CraftedReport(self.plans, ranks, ())
        if late or errors:
            errors += [_missing(self.plans, way, flow) for way, flow in zip(self.plans.ways, found.flows, strict=True)
                       if flow.lost_packets]  # fmt: skip
        return CraftedReport(self.plans, ranks, (*errors, *late))


def rank_report(where: str, ended: CommandResult) -> CraftedRank:
    """What a rank wrote. Raises TrafficError for a program that failed or wrote something else."""
    lines = [line for line in ended.stdout.splitlines() if line.startswith("{")]
    if not ended.ok or not lines:
        raise TrafficError(f"{where}: scapy ended with {ended.status}: {ended.stderr.strip()[-400:]}")
    said = json.loads(lines[-1])
    whole = {
        **said,
        "began_ns": tuple(said["began_ns"]),
        "ended_ns": tuple(said["ended_ns"]),
        "sends": tuple(value_of(where, CraftedSend, one) for one in said["sends"]),
        "expects": tuple(value_of(where, CraftedExpect, one) for one in said["expects"]),
    }
    return value_of(where, CraftedRank, whole)


def _missing(plans: CraftedPlans, way: QueuePairWay, flow: CarriedFlow) -> str:
    return f"{plans.named(way)}: {flow.lost_packets} of {way.packets * plans.iterations} packets did not come"


def _await_ready(plans: CraftedPlans, rank: int, process: SpokenTo, ready_s: float) -> None:
    try:
        process.wait_ready("ready to go", ready_s)
    except RailbedError as error:
        because = process.stop().stderr.strip() or str(error)
        raise TrafficError(f"{_where(plans, rank)}: scapy does not start: {because[-400:]}") from error


def _ended(process: SpokenTo) -> CommandResult:
    try:
        return process.wait(REPORTED_S)
    except RailbedError:
        return process.stop()


def _where(plans: CraftedPlans, rank: int) -> str:
    return f"{plans.host(rank)} (rank {rank})"
