"""Plays a graph of sends with iperf3: a flow a message, begun when all it waits for are done.

    plans = iperf3_plans(graph, placement, addresses)
    run = start_iperf3(plans, lambda node, argv: in_network(node, netns(node), argv))
    report = run.finish(timeout=60)

Before an iteration begins, every server of it listens: that time counts for nobody. Within it every message costs a
client's start, its control connection and its end, some 10 to 20 ms, and these are in the iteration's time as they
are in its busbw, a lower bound therefore. `overhead_s` tells how much that was: the time but for the longest chain of
messages, each as long as iperf3 itself says that it sent. What a flow gives as its time is iperf3's own.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from topologies.errors import RailbedError
from traffic.engines.base import Process
from traffic.engines.graph_engine import CarriedFlow, Unchecked
from traffic.engines.iperf3_plan import Iperf3Plans, MessageFlow
from traffic.engines.iperf3_report import Received, error_in, received_in
from traffic.engines.on_host import program
from traffic.engines.rnic import Starts
from traffic.errors import TrafficError

# How long a client is waited for before it is looked whether everything is to end.
LOOK_S = 0.25
# Beside the listening itself: a Python that starts on a workstation that is busy.
ASK_S = 30.0


@dataclass(frozen=True, slots=True)
class FlowRun:
    """One flow in one iteration: when its client was begun and had ended (CLOCK_MONOTONIC), and what it says."""

    flow: MessageFlow
    begun_s: float
    ended_s: float
    received: Received | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """One iteration. `prepared_s` went before it, until every server listened."""

    prepared_s: float
    begun_s: float
    ended_s: float
    runs: tuple[FlowRun, ...]

    @property
    def took_s(self) -> float:
        """From the first client's begin to the last one's end."""
        return self.ended_s - self.begun_s

    def carrying_s(self, plans: Iperf3Plans) -> float:
        """The longest chain of flows, each as long as it sent."""
        sent = {run.flow.number: run.received.seconds for run in self.runs if run.received}
        ends: dict[int, float] = {}
        for flow in plans.flows:
            begin = max((ends[number] for number in flow.after), default=0.0)
            ends[flow.number] = begin + flow.compute_s + sent.get(flow.number, 0.0)
        return max(ends.values(), default=0.0)


@dataclass(frozen=True, slots=True)
class Iperf3Report(Unchecked):
    """What became of a graph. `turns` are the iterations that were begun, the last one perhaps not to its end."""

    plans: Iperf3Plans
    turns: tuple[Turn, ...]
    errors: tuple[str, ...] = ()

    @property
    def retransmits(self) -> int | None:
        """TCP segments that were sent again; None for UDP."""
        found = [one.retransmits for one in self._received() if one.retransmits is not None]
        return sum(found) if found else None

    @property
    def ce(self) -> int | None:
        """iperf3 does not look at congestion marks."""
        return None

    @property
    def lost_packets(self) -> int:
        """Of UDP those that did not come. What TCP sends again need not be lost: its probes are none of them."""
        return sum(one.lost_packets or 0 for one in self._received())

    @property
    def dscp(self) -> int:
        """The class the packets were sent in."""
        return self.plans.settings.dscp

    @property
    def flows(self) -> tuple[CarriedFlow, ...]:
        """Every flow of the last iteration that came to its end."""
        found = []
        for run in self.turns[-1].runs if self.turns else ():
            if (got := run.received) is None:
                continue
            src, dst = self.plans.host(run.flow.src), self.plans.host(run.flow.dst)
            five_tuple = replace(got.five_tuple, dscp=self.dscp)
            found.append(CarriedFlow(src, dst, five_tuple, got.bytes, got.seconds, None,
                                     got.retransmits, got.lost_packets))  # fmt: skip
        return tuple(found)

    def took_s(self, warmup: int = 0) -> float | None:
        """The mean of an iteration's time but for the first `warmup`; None when not all were done."""
        counted = self._counted(warmup)
        return sum(turn.took_s for turn in counted) / len(counted) if counted else None

    def overhead_s(self, warmup: int = 0) -> float | None:
        """What of that went by beside the sending: processes, control connections, reports."""
        counted = self._counted(warmup)
        if not counted:
            return None
        return sum(turn.took_s - turn.carrying_s(self.plans) for turn in counted) / len(counted)

    def _counted(self, warmup: int) -> tuple[Turn, ...]:
        done = len(self.turns) == self.plans.iterations and not self.errors
        return self.turns[warmup:] if done else ()

    def _received(self) -> Iterator[Received]:
        return (run.received for turn in self.turns for run in turn.runs if run.received)


def start_iperf3(plans: Iperf3Plans, start: Starts, *, ready_s: float = 10.0) -> Iperf3Run:
    """Start the first iteration; returns once its servers listen and it has begun.

    Args:
        start: `labs.channels.namespaces.in_network` for the node, in a lab.
        ready_s: how long servers may take to listen.

    Raises TrafficError for a server that does not listen (missing program, port in use); nothing is left running then.
    """
    run = Iperf3Run(plans, start, ready_s)
    run.begin()
    return run


@dataclass
class Iperf3Run:
    """A graph under way."""

    plans: Iperf3Plans
    start: Starts
    ready_s: float
    clock: Callable[[], float] = time.monotonic
    _turns: list[Turn] = field(default_factory=list, init=False)
    _errors: list[str] = field(default_factory=list, init=False)
    _halt: threading.Event = field(default_factory=threading.Event, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)

    def begin(self) -> None:
        """Prepare the first iteration here, so that what does not start raises here; then go on beside the caller."""
        with ExitStack[None]() as undo:
            since = self.clock()
            self._prepare(undo)
            servers = undo.pop_all()
            self._thread = threading.Thread(target=self._play, args=(since, servers), name="iperf3 graph")
            self._thread.start()

    def finish(self, timeout: float) -> Iperf3Report:
        """Wait until all iterations are done, at most `timeout` seconds, and report. Leaves no process behind."""
        try:
            self._join(timeout)
            if self._thread is not None and self._thread.is_alive():
                self._errors.append(f"not done within {timeout:g} s")
        finally:
            report = self.stop()
        return report

    def stop(self) -> Iperf3Report:
        """End it now and report what was done until now. Leaves no process behind."""
        self._halt.set()
        self._join(None)
        return Iperf3Report(self.plans, tuple(self._turns), tuple(self._errors))

    def _join(self, timeout: float | None) -> None:
        if self._thread is not None:
            self._thread.join(timeout)

    def _play(self, since: float, servers: ExitStack[None]) -> None:
        """All iterations, until one fails."""
        for number in range(self.plans.iterations):
            try:
                if number:
                    since = self.clock()
                    with ExitStack[None]() as undo:
                        self._prepare(undo)
                        servers = undo.pop_all()
                with servers:
                    self._turns.append(self._turn(self.clock() - since))
            except (RailbedError, OSError) as error:
                self._errors.append(f"iteration {number + 1}: {error}")
            if self._errors or self._halt.is_set():
                return

    def _prepare(self, undo: ExitStack[None]) -> None:
        """Have every server listen. Each ends by itself when its one client has."""
        servers: dict[MessageFlow, Process] = {}
        hosts: dict[str, list[MessageFlow]] = {}
        for flow in self.plans.carried:
            host = self.plans.host(flow.src)
            servers[flow] = self._started(host, self.plans.server_argv(flow))
            undo.callback(servers[flow].stop)
            hosts.setdefault(host, []).append(flow)
        asked = {}
        for host, some in hosts.items():
            ports = [str(flow.port) for flow in some]
            asked[host] = self._started(host, (*program("sockets"), f"{self.ready_s:g}", "listening", *ports))
            undo.callback(asked[host].stop)
        for host, asking in asked.items():
            late = set(json.loads(asking.wait(self.ready_s + ASK_S).stdout))
            for flow in hosts[host]:
                # A server that has ended did so because its port was taken: whoever holds it listens there too.
                if not servers[flow].running or str(flow.port) in late:
                    raise self._deaf(flow, servers[flow])

    def _deaf(self, flow: MessageFlow, server: Process) -> TrafficError:
        ended = server.stop()
        because = error_in(ended.stdout) or ended.stderr.strip() or f"not within {self.ready_s:g} s"
        at = f"{self.plans.at[flow.src]} port {flow.port}"
        return TrafficError(f"{self.plans.host(flow.src)}: iperf3 does not listen on {at}: {because}")

    def _started(self, host: str, argv: tuple[str, ...]) -> Process:
        try:
            return self.start(host, argv)
        except (RailbedError, OSError, KeyError) as error:
            raise TrafficError(f"{host}: {argv[0]} does not start: {error}") from error

    def _turn(self, prepared_s: float) -> Turn:
        """One iteration: begin what waits for nobody, then whatever a flow's end sets free. What fails frees none."""
        waits = {flow.number: set(flow.after) for flow in self.plans.flows}
        frees: dict[int, list[MessageFlow]] = {}
        for flow in self.plans.flows:
            for number in flow.after:
                frees.setdefault(number, []).append(flow)
        runs: list[FlowRun] = []
        begun = self.clock()
        with ThreadPoolExecutor(max_workers=max(1, len(self.plans.flows))) as pool:
            under_way = {pool.submit(self._flow, flow) for flow in self.plans.flows if not flow.after}
            while under_way:
                ended, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                for run in map(Future.result, ended):
                    runs.append(run)
                    if run.error is not None:
                        continue
                    for flow in frees.get(run.flow.number, ()):
                        waits[flow.number].discard(run.flow.number)
                        if not waits[flow.number]:
                            under_way.add(pool.submit(self._flow, flow))
        self._errors += [run.error for run in runs if run.error]
        return Turn(prepared_s, begun, max((run.ended_s for run in runs), default=begun), tuple(runs))

    def _flow(self, flow: MessageFlow) -> FlowRun:
        """One flow to its end."""
        if flow.compute_s:
            self._halt.wait(flow.compute_s)
        begun = self.clock()
        if flow.is_local:
            return FlowRun(flow, begun, begun, None)
        if self._halt.is_set():
            return FlowRun(flow, begun, begun, None, f"{self.plans.named(flow)}: was not begun")
        try:
            text = self._client(flow)
        except (RailbedError, OSError) as error:
            return FlowRun(flow, begun, self.clock(), None, f"{self.plans.named(flow)}: {error}")
        ended = self.clock()
        received = received_in(text)
        if isinstance(received, Received) and received.bytes >= flow.size:
            return FlowRun(flow, begun, ended, received)
        because = received if isinstance(received, str) else f"{received.bytes} of {flow.size} bytes came"
        return FlowRun(flow, begun, ended, None, f"{self.plans.named(flow)}: {because}")

    def _client(self, flow: MessageFlow) -> str:
        """What the client writes, once it has ended or everything is to."""
        client = self._started(self.plans.host(flow.dst), self.plans.client_argv(flow))
        try:
            while not self._halt.is_set():
                try:
                    return client.wait(LOOK_S).stdout
                except RailbedError:  # it is still running
                    continue
        finally:
            ended = client.stop()
        return ended.stdout
