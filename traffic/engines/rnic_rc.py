"""Plays a graph of sends over RoCEv2 reliable connections, with the native `rnic rc`: one process a host.

    run = start_rc(plans(graph, placement, addresses), lambda node, argv: in_network(node, netns(node), argv))
    report = run.finish(timeout=30)

Data is real: every rank begins with known numbers and checks what it ends with (`report.wrong`). A connection that
fails is an error in the report, which keeps what became of all others; what does not even start raises.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace

from topologies.errors import RailbedError
from traffic.engines.base import CommandResult
from traffic.engines.rc_failures import failed, gone, not_started, overdue
from traffic.engines.rc_plan import RcPlans
from traffic.engines.rc_report import RcRank, RcReport, joined, rank_report
from traffic.engines.rnic import MOST_S, REPORTED_S, SpokenTo, Starts, rnic_binary
from traffic.errors import TrafficError

# How far ahead the common start is set: everybody reads one line until then.
LEAD_S = 0.05
# How long one process is looked at before the next: what is done meanwhile is not missed, it stays done.
LOOK_S = 0.02
# How often whoever watches is told how far it is, and how long one answer to that may take.
TELL_EVERY_S = 0.5
TOLD_S = 2.0
# What runs until it is told to end: the most iterations rnic takes, how far ahead their last is set, and for how long
# it is looked at how fast they are. Where some rank was too far for it, a later one is asked for, twice as far ahead.
MOST_ITERATIONS = 1_000_000
AHEAD_S = 0.5
RATED_S = 0.1
MOST_ASKED = 4
PROGRESS = re.compile(
    r"^progress iterations=(\d+) of=(\d+) messages=(\d+) sent_bytes=(\d+) received_bytes=(\d+) number=(\d+)$",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class RankProgress:
    """How far a host is with all its ranks, of which `rank` is the first.

    `iterations` are done, `of` so many; `messages` were sent and acknowledged, payload bytes sent and received, in all.
    """

    rank: int
    host: str
    iterations: int
    of: int
    messages: int
    sent_bytes: int
    received_bytes: int


Watches = Callable[[Sequence[RankProgress]], None]


def start_rc(plans: RcPlans, start: Starts, *, ready_s: float = 20.0, binary: str | None = None) -> RcRun:
    """Start every rank's process; returns once all of them have been told when to begin.

    Args:
        start: `labs.channels.namespaces.in_network` for the node, in a lab.
        ready_s: how long they may take to open their sockets and to find who their peers are.
        binary: another `rnic` than `rnic_binary()`.

    Raises TrafficError for a host where it does not start (missing, port in use, no neighbour); nothing is left
    running then.
    """
    argv = (binary or rnic_binary(), "rc", "--max-s", str(MOST_S), "--linger-ms", str(MOST_S * 1000), "--tied")
    with ExitStack[None]() as undo:
        processes: dict[int, SpokenTo] = {}
        for rank, text in plans.texts.items():
            process = _started(plans, rank, start, argv)
            undo.callback(process.stop)
            processes[rank] = process
            process.write(text)
        for rank, process in processes.items():
            _await_ready(plans, rank, process, ready_s)
        began_ns = time.monotonic_ns() + int(LEAD_S * 1e9)
        for process in processes.values():
            process.write(f"go {began_ns}\n")
        return RcRun(plans, processes, undo.pop_all(), began_ns)


@dataclass
class RcRun:
    """A graph under way. `began_ns` is the workstation's monotonic clock when it starts."""

    plans: RcPlans
    processes: Mapping[int, SpokenTo]
    undo: ExitStack[None]
    began_ns: int
    clock: Callable[[], float] = time.monotonic
    _report: RcReport | None = field(default=None, init=False)
    _asked: int = field(default=0, init=False)

    def progress(self) -> tuple[RankProgress, ...]:
        """How far the hosts are; those that have ended, or do not answer, are left out."""
        self._asked += 1
        asked = self._asked
        processes = {} if self._report is not None else self.processes
        for process in processes.values():
            process.write(f"progress {asked}\n")
        deadline = self.clock() + TOLD_S
        found = (
            _told(self.plans, rank, process, asked, deadline - self.clock()) for rank, process in processes.items()
        )
        return tuple(one for one in found if one is not None)

    def has_ended(self) -> bool:
        """Whether every rank's process is gone, or has nothing left to do: no further iteration will be done."""
        left = self.progress()
        running = self._report is None and any(process.running for process in self.processes.values())
        return not running or (len(left) == len(self.processes) and all(one.iterations >= one.of for one in left))

    def end_soon(self) -> int:
        """Make an iteration that begins soon the last, so that what it ends with is checked; which number it has.

        Raises TrafficError when some rank was too far for that: then only `stop` ends them all.
        """
        ahead_s, last, odd = AHEAD_S, 0, list[str]()
        most, rate = self._speed()
        for _ in range(MOST_ASKED):
            last = min(max(last, most + 2) + math.ceil(rate * ahead_s), self.plans.iterations)
            for process in self.processes.values():
                process.write(f"last {last}\n")
            told = self.progress()
            odd = [f"{one.host} (rank {one.rank}) ends after {one.of}" for one in told if one.of != last]
            if not odd:
                self.plans = replace(self.plans, iterations=last)
                return last
            most = max((one.iterations for one in told), default=most)
            ahead_s *= 2
        raise TrafficError(f"not all ranks end after {last} iterations: {'; '.join(odd)}")

    def _speed(self) -> tuple[int, float]:
        """How many iterations the foremost rank has done, and how many it does a second: now, or since the begin.

        The larger counts: a moment in which all stand still says nothing of the next.
        """
        begun, first = self.clock(), self._foremost()
        with suppress(RailbedError):
            next(iter(self.processes.values())).wait_ready("done\n", RATED_S)
        most = self._foremost()
        now = self.clock()
        since = max(now - self.began_ns / 1e9, RATED_S)
        return most, max((most - first) / max(now - begun, RATED_S), most / since)

    def _foremost(self) -> int:
        return max((one.iterations for one in self.progress()), default=0)

    def finish(self, timeout: float, watch: Watches | None = None) -> RcReport:
        """Wait until every rank's part is done, at most `timeout` seconds, and report. Leaves no process behind.

        When one fails, those that need it are not waited for; all others are.

        Args:
            watch: is told how far it is, now and then.
        """
        if self._report is None:
            waiting = self._wait(self.clock() + timeout, watch)
            self._report = self._collect()
            if waiting:
                late = overdue(self.plans, waiting, self._report.sends, timeout)
                self._report = replace(self._report, errors=(*self._report.errors, late))
        return self._report

    def stop(self) -> RcReport:
        """End it now and report what was done until now. Leaves no process behind."""
        if self._report is None:
            self._report = self._collect()
        return self._report

    def _wait(self, deadline: float, watch: Watches | None) -> set[int]:
        """Wait; the ranks that are neither done nor known to be in vain."""
        waiting, ended = set(self.processes), set[int]()
        told = self.clock()
        while waiting and self.clock() < deadline:
            if watch is not None and self.clock() - told >= TELL_EVERY_S:
                told = self.clock()
                watch(self.progress())
            for rank in sorted(waiting):
                process = self.processes[rank]
                with suppress(RailbedError):
                    process.wait_ready("done\n", LOOK_S)
                    waiting.discard(rank)
                if rank in waiting and not process.running:
                    waiting.discard(rank)
                    ended.add(rank)
            if ended:
                waiting -= in_vain(self.plans, ended)
        return waiting

    def _collect(self) -> RcReport:
        """Tell everybody to stop, and read what they have to say."""
        ranks: dict[int, RcRank] = {}
        errors: list[str] = []
        with self.undo:
            for process in self.processes.values():
                process.write("stop\n")
            for rank, process in self.processes.items():
                ended = _ended(process)
                try:
                    ranks[rank] = rank_report(self.plans.host(rank), ended)
                except TrafficError as error:
                    errors.append(str(error) if ended.ok else gone(self.plans, rank, ended))
        errors += [because for rank, one in ranks.items() if (because := failed(self.plans, rank, one))]
        return joined(self.plans, ranks, tuple(errors))


def in_vain(plans: RcPlans, failed: set[int]) -> set[int]:
    """The hosts, by first rank, that cannot get to their end without those: what they send or expect needs them."""
    lost = set(failed)
    while True:
        dead: set[int] = set()
        reached = set(lost)
        for place, send in enumerate(plans.graph.sends):
            ends = {plans.leaders[send.src], plans.leaders[send.dst]}
            # Who waits for a lost peer in this iteration sends nothing in the next.
            if ends & (lost if plans.iterations > 1 else failed) or not dead.isdisjoint(send.after):
                dead.add(place)
                reached |= ends
        if reached == lost:
            return lost
        lost = reached


def _started(plans: RcPlans, rank: int, start: Starts, argv: tuple[str, ...]) -> SpokenTo:
    try:
        return start(plans.host(rank), argv)
    except (RailbedError, OSError, KeyError) as error:
        raise TrafficError(not_started(plans, rank, str(error))) from error


def _await_ready(plans: RcPlans, rank: int, process: SpokenTo, ready_s: float) -> None:
    try:
        process.wait_ready("ready to", ready_s)  # more than a word: "Address already in use" holds that too
    except RailbedError as error:
        because = process.stop().stderr.strip() or str(error)
        raise TrafficError(not_started(plans, rank, because)) from error


def _told(plans: RcPlans, rank: int, process: SpokenTo, asked: int, within: float) -> RankProgress | None:
    with suppress(RailbedError):
        process.wait_ready(f" number={asked}\n", max(within, LOOK_S))
    for found in PROGRESS.finditer(process.said()):
        *numbers, number = (int(word) for word in found.groups())
        if number == asked:
            return RankProgress(rank, plans.host(rank), *numbers)
    return None


def _ended(process: SpokenTo) -> CommandResult:
    try:
        return process.wait(REPORTED_S)
    except RailbedError:
        return process.stop()
