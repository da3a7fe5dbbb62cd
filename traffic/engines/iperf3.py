"""Plays a plan with iperf3 (3.9 or newer): one server and one client for each flow.

Differences from an ideal sender that a reader of the results should know:

- Beside a flow's streams runs one TCP control connection to the same port. Its few packets are hashed on their
  own, so a flow's packets and its control connection may take different paths, and a flow whose control
  connection is cut ends with an error.
- A stream's source port is the kernel's choice; its five-tuple is read from the report.
- A size is counted over all streams and rounded up to whole blocks. A TCP flow with a size is done when its last
  byte is in the sender's socket, and the server stops reading then: `duration_s` and `received_bytes` leave out
  what two socket buffers hold, which for a size of a few MB may be nearly all of it.
- A duration is a whole number of seconds: iperf3 reads 0.5 as 0, and 0 is endless.
- UDP packets still on the way at the end count as lost. `packet_burst` counts exactly.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

from topologies.errors import RailbedError, SpecError
from traffic.engines.base import Process, RunsCommands
from traffic.engines.iperf3_report import error_in, flow_result
from traffic.engines.on_host import program
from traffic.errors import TrafficError
from traffic.flows import Flow, TrafficPlan, TrafficReport, Transport

T = TypeVar("T")
R = TypeVar("R")

MOST_STREAMS = 128  # iperf3's own limit
# A server ends by itself once its client has; this is for one whose client was cut off.
SERVER_ENDS_S = 2.0
# A server whose client never comes ends by itself after this and the plan's duration, also when nobody stops it.
IDLE_S = 60


@dataclass(frozen=True, slots=True)
class Placed:
    """A flow with its addresses and its port on the receiver."""

    flow: Flow
    src: str
    dst: str
    port: int

    @property
    def begun_when(self) -> str:
        """What on_host/sockets.py is asked about it."""
        return f"{self.flow.transport}/{self.port}/{self.flow.streams}"


@dataclass(frozen=True, slots=True)
class _Run:
    """A flow under way."""

    placed: Placed
    server: Process
    client: Process
    started_s: float


@dataclass(frozen=True, slots=True)
class Iperf3:
    """The engine.

    Args:
        addresses: (host, network card from 1, family 4 or 6) to the address flows use there, as text.
        base_port: the k-th flow of a plan to one host uses port `base_port` + k there. Plans that run at the same
            time to one host need different ones.
        interval_s: how fine intervals are, 0.1 s or more.
        ready_s: how long servers may take to listen, and clients to connect. A client that does not is no error
            here: its flow's result says so.
        clock: seconds that only rise.
    """

    addresses: Callable[[str, int, int], str]
    base_port: int = 5201
    interval_s: float = 0.1
    ready_s: float = 10.0
    clock: Callable[[], float] = time.monotonic

    def start(self, plan: TrafficPlan, hosts: Mapping[str, RunsCommands]) -> RunningIperf3:
        """Start every flow; returns once all of them are sending, or could not connect.

        Raises SpecError for a flow iperf3 cannot play or a host that is not in `hosts`, TrafficError for a server
        that does not listen; nothing is left running then.
        """
        placed = self.place(plan, hosts)
        with ExitStack[None]() as undo:
            servers = self._start_servers(placed, hosts, undo)
            self._await_listening(placed, servers, hosts)

            def client(one: Placed, server: Process) -> _Run:
                began = self.clock()
                process = hosts[one.flow.src].start(*self.client_argv(one))
                undo.callback(process.stop)
                return _Run(one, server, process, began)

            runs = _each(lambda pair: client(*pair), list(zip(placed, servers, strict=True)))
            self._ask(placed, hosts, "begun", lambda one: one.begun_when)
            return RunningIperf3(plan, tuple(runs), undo.pop_all(), self.clock)

    def place(self, plan: TrafficPlan, hosts: Mapping[str, RunsCommands]) -> tuple[Placed, ...]:
        """Every flow with its addresses and port. Raises SpecError; starts nothing."""
        unknown = sorted(set(plan.hosts) - hosts.keys())
        if unknown:
            raise SpecError(f"plan {plan.name} names no host here: {', '.join(unknown)}", allowed=", ".join(hosts))
        taken: Counter[str] = Counter()
        placed = []
        for flow in plan:
            _check(flow)
            port = self.base_port + taken[flow.dst]
            taken[flow.dst] += 1
            if port > 65535:
                raise SpecError(f"{taken[flow.dst]} flows to {flow.dst} from port {self.base_port}", allowed="to 65535")
            src = self.addresses(flow.src, flow.src_nic, flow.family)
            placed.append(Placed(flow, src, self.addresses(flow.dst, flow.dst_nic, flow.family), port))
        return tuple(placed)

    def server_argv(self, placed: Placed, *, idle_timeout: bool) -> tuple[str, ...]:
        """The receiver's command: serve one test (``-1``), then end."""
        idle = IDLE_S + math.ceil(self.ready_s)
        return (
            *("iperf3", "-s", "-1", "-J", f"-{placed.flow.family}", "-B", placed.dst, "-p", str(placed.port)),
            *("-i", f"{self.interval_s:g}"),
            *(("--idle-timeout", str(idle)) if idle_timeout else ()),
        )

    def client_argv(self, placed: Placed) -> tuple[str, ...]:
        """The sender's command."""
        flow = placed.flow
        udp = flow.transport is Transport.UDP
        amount = ("-n", str(flow.size_bytes)) if flow.size_bytes is not None else ("-t", f"{flow.duration_s:.0f}")
        # iperf3 sends UDP at 1 Mbit/s unless told, where 0 is: as fast as it goes.
        rate = 0 if flow.rate_bps is None else max(1, flow.rate_bps // flow.streams)
        return (
            *("iperf3", "-c", placed.dst, "-J", f"-{flow.family}", "-B", placed.src, "-p", str(placed.port)),
            *("-i", f"{self.interval_s:g}", *amount, "-P", str(flow.streams)),
            *("--connect-timeout", str(int(self.ready_s * 1000))),
            *(("-u",) if udp else ()),
            *(("-b", str(rate)) if udp or rate else ()),
            *(("-l", str(flow.payload_bytes)) if flow.payload_bytes is not None else ()),
        )

    def _start_servers(
        self, placed: tuple[Placed, ...], hosts: Mapping[str, RunsCommands], undo: ExitStack[None]
    ) -> list[Process]:
        receivers = list(dict.fromkeys(one.flow.dst for one in placed))
        known = _each(lambda name: "--idle-timeout" in hosts[name].run("iperf3", "--help").stdout, receivers)
        knows = dict(zip(receivers, known, strict=True))

        def server(one: Placed) -> Process:
            process = hosts[one.flow.dst].start(*self.server_argv(one, idle_timeout=knows[one.flow.dst]))
            undo.callback(process.stop)
            return process

        return _each(server, placed)

    def _await_listening(
        self, placed: tuple[Placed, ...], servers: list[Process], hosts: Mapping[str, RunsCommands]
    ) -> None:
        late = self._ask(placed, hosts, "listening", lambda one: str(one.port))
        for one, server in zip(placed, servers, strict=True):
            # A server that ended at once did so because its port was taken: whoever holds it listens there too.
            if server.running and (one.flow.dst, str(one.port)) not in late:
                continue
            ended = server.stop()
            because = error_in(ended.stdout) or ended.stderr.strip() or f"not within {self.ready_s:g} s"
            raise TrafficError(f"{one.flow.dst}: iperf3 does not listen on {one.dst} port {one.port}: {because}")

    def _ask(
        self,
        placed: tuple[Placed, ...],
        hosts: Mapping[str, RunsCommands],
        what: str,
        wanted: Callable[[Placed], str],
    ) -> set[tuple[str, str]]:
        """Wait on every receiver until its sockets are as wanted; returns (host, what is not) past `ready_s`."""
        receivers: dict[str, list[str]] = {}
        for one in placed:
            receivers.setdefault(one.flow.dst, []).append(wanted(one))

        def missing(name: str) -> list[tuple[str, str]]:
            argv = (*program("sockets"), f"{self.ready_s:g}", what, *receivers[name])
            return [(name, one) for one in _listed(hosts[name].run(*argv, timeout=self.ready_s + 30).stdout)]

        return {late for found in _each(missing, list(receivers)) for late in found}


class RunningIperf3:
    """A plan under way."""

    def __init__(
        self, plan: TrafficPlan, runs: tuple[_Run, ...], processes: ExitStack[None], clock: Callable[[], float]
    ) -> None:
        self._plan = plan
        self._runs = runs
        self._processes = processes
        self._clock = clock
        self._report: TrafficReport | None = None

    def finish(self, timeout: float) -> TrafficReport:
        """Wait until every flow has ended, at most `timeout` seconds, and report. Leaves no process behind.

        A flow that has not ended by then is ended; its result has what it sent until then, and says so.
        """
        deadline = self._clock() + timeout

        def end(run: _Run) -> str | None:
            try:
                run.client.wait(max(0.0, deadline - self._clock()))
            except RailbedError:
                return f"did not end within {timeout:g} s"
            return None

        return self._collect(end)

    def stop(self) -> TrafficReport:
        """End every flow now and report what was sent until now. Leaves no process behind."""
        return self._collect(lambda _: None)

    def _collect(self, end: Callable[[_Run], str | None]) -> TrafficReport:
        """End clients by `end` and for good, then servers. That the reports speak of an interrupt is then no error."""
        if self._report is not None:
            return self._report
        with self._processes:
            errors = [end(run) for run in self._runs]  # here, not in threads: an interrupt ends it at once
            sent = _each(lambda run: run.client.stop().stdout, self._runs)
            arrived = _each(lambda run: _ended(run.server), self._runs)
        results = [
            flow_result(run.placed.flow, client, server, started_s=run.started_s, error=error)
            for run, client, server, error in zip(self._runs, sent, arrived, errors, strict=True)
        ]
        self._report = TrafficReport(self._plan, "iperf3", tuple(results))
        return self._report


def _ended(server: Process) -> str:
    try:
        return server.wait(SERVER_ENDS_S).stdout
    except RailbedError:
        return server.stop().stdout


def _check(flow: Flow) -> None:
    if (flow.size_bytes is None) == (flow.duration_s is None):
        raise SpecError(f"flow {flow} has a size and a duration, or neither", allowed="exactly one of the two")
    if flow.size_bytes is not None and flow.size_bytes < 1:
        raise SpecError(f"flow {flow}: size_bytes is {flow.size_bytes}", allowed="1 or more")
    if flow.duration_s is not None and (flow.duration_s < 1 or flow.duration_s != int(flow.duration_s)):
        raise SpecError(f"flow {flow}: duration_s is {flow.duration_s:g}", allowed="whole seconds, 1 or more (iperf3)")
    if not 1 <= flow.streams <= MOST_STREAMS:
        raise SpecError(f"flow {flow}: streams is {flow.streams}", allowed=f"1 to {MOST_STREAMS} (iperf3)")


def _listed(text: str) -> list[str]:
    return [str(one) for one in json.loads(text)]


def _each(act: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """`act` on every item at the same time; the first error is raised once all have ended."""
    listed = list(items)
    with ThreadPoolExecutor(max_workers=max(1, min(32, len(listed)))) as pool:
        return list(pool.map(act, listed))
