"""Sends paced raw UDP packets and accounts for every one of them, with the native `rnic` (traffic/rnic).

For what iperf3 and Python cannot give: hundreds of flows that keep a rate to the packet, marks and delays counted
per flow, and a report that says whether the run can vouch for itself. Rates are wire bit/s: payload, UDP, IP,
Ethernet, preamble, gap and FCS. `rnic` is the workstation's own program, run in a node's network namespace, so a
node's image needs nothing. traffic/rnic/main.c lists how it differs from a real NIC.

    raw = start_raw(flows, lambda node, argv: in_network(node, netns(node), argv))
    report = raw.finish(timeout=30)
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple, Protocol

from topologies.errors import RailbedError, SpecError
from traffic.engines.base import CommandResult, Process
from traffic.engines.rnic_report import (
    RawReceived,
    RawSent,
    ReceiverReport,
    SenderReport,
    receiver_report,
    sender_report,
)
from traffic.errors import TrafficError
from traffic.flows import FiveTuple, Transport

HEADER_BYTES = 28
MOST_PAYLOAD_BYTES = 65507
MOST_FLOWS_OF_A_NODE = 4096  # PLAN_FLOWS in traffic/rnic/plan.h
# How far ahead the common start is set: every sender reads one line until then.
LEAD_S = 0.05
# How long receivers wait without a packet, once every sender has ended, for those still on the way.
LINGER_S = 0.5
# What a receiver may take beyond that to write its report.
REPORTED_S = 10.0
# No program lives longer, and none longer than whoever started it.
MOST_S = 3600
# One record of a receiver's log: struct log_record in traffic/rnic/recv.c.
LOGGED = struct.Struct("<QQIHBx")


class SpokenTo(Process, Protocol):
    """A command in the background that reads its standard input while it runs."""

    def write(self, text: str) -> None:
        """Write to its standard input; nothing happens when it has ended."""
        ...

    def said(self) -> str:
        """All it has written so far."""
        ...


class Starts(Protocol):
    """Starts the workstation's own program in a node's network namespace."""

    def __call__(self, node: str, argv: tuple[str, ...]) -> SpokenTo:
        """Start it in the background; the caller stops it."""
        ...


@dataclass(frozen=True, slots=True)
class RawFlow:
    """UDP packets of one five-tuple from node `src` to node `dst`.

    Ends after `packets` or `duration_s`, whichever comes first; with neither, when it is stopped. `payload_bytes`
    holds a header of 28. `rate_bps` is wire bit/s; None is as fast as the host's port takes it. `burst` packets are
    sent back to back at the same mean rate. `pattern` fills the payload with what the receiver then verifies.
    `skip_every` is for tests: every n-th sequence number is left out.
    """

    src: str
    dst: str
    five_tuple: FiveTuple
    packets: int | None = None
    duration_s: float | None = None
    payload_bytes: int = 1024
    rate_bps: int | None = None
    dscp: int = 0
    ecn: int = 0
    burst: int = 1
    start_s: float = 0.0
    pattern: bool = False
    skip_every: int | None = None
    sndbuf_bytes: int | None = None

    def line(self, number: int) -> str:
        """The flow as a line of a plan; traffic/rnic/plan.h reads it."""
        t = self.five_tuple
        settings = {
            "count": self.packets,
            "duration_ms": None if self.duration_s is None else round(self.duration_s * 1000),
            "bytes": self.payload_bytes,
            "rate_bps": self.rate_bps,
            "dscp": self.dscp,
            "ecn": self.ecn,
            "burst": self.burst,
            "start_ms": round(self.start_s * 1000),
            "pattern": int(self.pattern),
            "skip": self.skip_every,
            "sndbuf": self.sndbuf_bytes,
        }
        words = [f"{key}={value}" for key, value in settings.items() if value is not None]
        return f"flow {number} src={t.src} dst={t.dst} sport={t.sport} dport={t.dport} {' '.join(words)}\n"


@dataclass(frozen=True, slots=True)
class RawResult:
    """What became of one flow. `received` is None when nothing of it arrived."""

    flow: RawFlow
    sent: RawSent
    received: RawReceived | None

    @property
    def received_packets(self) -> int:
        """Packets that arrived, each once."""
        return self.received.unique_packets if self.received else 0

    @property
    def lost_packets(self) -> int:
        """Packets that left the sender and did not arrive."""
        return self.sent.packets - self.received_packets

    @property
    def ce_packets(self) -> int:
        """Packets that arrived with a congestion mark, copies included."""
        return self.received.ce if self.received else 0


@dataclass(frozen=True, slots=True)
class RawReport:
    """What became of the flows, in their order. `senders` and `receivers` are by node."""

    results: tuple[RawResult, ...]
    senders: Mapping[str, SenderReport]
    receivers: Mapping[str, ReceiverReport]

    @property
    def invalid_because(self) -> tuple[str, ...]:
        """Why the run cannot vouch for its numbers; nothing when it can."""
        return (
            *(
                f"{one.flow.src}: flow {one.flow.five_tuple}: {one.sent.paced_because}"
                for one in self.results
                if one.sent.paced_because
            ),
            *(
                f"{name}: {one.overflow} packets found the receiver's socket full"
                for name, one in self.receivers.items()
                if one.overflow
            ),
            *(
                f"{name}: {one.flows_left_out} packets belonged to more flows than the receiver counts"
                for name, one in self.receivers.items()
                if one.flows_left_out
            ),
        )

    @property
    def valid(self) -> bool:
        """True when every flow kept its schedule and every receiver its packets."""
        return not self.invalid_because

    @property
    def strangers(self) -> int:
        """Packets to the receivers' ports that were none of ours."""
        return sum(one.strangers for one in self.receivers.values())

    def __iter__(self) -> Iterator[RawResult]:
        return iter(self.results)


class LoggedPacket(NamedTuple):
    """One packet as it arrived. `flow` counts from 1, in the order flows were given."""

    arrived_ns: int
    sequence: int
    flow: int
    sport: int
    tos: int

    @property
    def ce(self) -> bool:
        """True with a congestion mark."""
        return self.tos & 3 == 3


def read_log(path: Path) -> Iterator[LoggedPacket]:
    """Every packet of a receiver's log, in the order it was taken. Raises TrafficError for what is no such log."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TrafficError(f"the receiver's log cannot be read: {error}") from error
    if len(data) % LOGGED.size:
        raise TrafficError(f"{path}: {len(data)} bytes are no log of {LOGGED.size}-byte records")
    return map(LoggedPacket._make, LOGGED.iter_unpack(data))


def rnic_binary() -> str:
    """Where `rnic` is: in the folder RAILBED_NATIVE names, or in build/native. Raises TrafficError when it is not."""
    named = os.environ.get("RAILBED_NATIVE")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "build" / "native"
    binary = folder.resolve() / "rnic"
    if not os.access(binary, os.X_OK):
        raise TrafficError(f"{binary} is not there: run `make native`")
    return str(binary)


def start_raw(
    flows: Sequence[RawFlow],
    start: Starts,
    *,
    logs: Mapping[str, Path] | None = None,
    options: Sequence[str] = (),
    ready_s: float = 10.0,
    binary: str | None = None,
) -> RawRun:
    """Start every receiver, then every sender; returns once all of them have been told when to begin.

    Args:
        start: `labs.channels.namespaces.in_network` for the node, in a lab.
        logs: receiving node to a file for what arrived, packet by packet; see `read_log`.
        options: further arguments of every `rnic send`, e.g. ``("--spin-us", "100")``.
        ready_s: how long programs may take to open their sockets.
        binary: another `rnic` than `rnic_binary()`.

    Raises SpecError for flows that cannot be played, TrafficError for a program that does not start; nothing is
    left running then.
    """
    _check(flows)
    rnic = binary or rnic_binary()
    bounds = ("--max-s", str(MOST_S), "--tied")
    numbered = list(enumerate(flows, start=1))
    with ExitStack[None]() as undo:
        receivers: dict[str, SpokenTo] = {}
        for node in dict.fromkeys(one.dst for one in flows):
            log = (logs or {}).get(node)
            argv = (rnic, "recv", *_receiver_arguments([one for one in flows if one.dst == node], log), *bounds)
            receivers[node] = _started(start, node, argv, undo)
        for node, process in receivers.items():
            _await_ready(node, process, ready_s)
        senders: dict[str, SpokenTo] = {}
        for node in dict.fromkeys(one.src for one in flows):
            senders[node] = _started(start, node, (rnic, "send", *options, *bounds), undo)
            senders[node].write("".join(one.line(number) for number, one in numbered if one.src == node) + "end\n")
        for node, process in senders.items():
            _await_ready(node, process, ready_s)
        began_ns = time.monotonic_ns() + int(LEAD_S * 1e9)
        for process in senders.values():
            process.write(f"go {began_ns}\n")
        return RawRun(tuple(flows), senders, receivers, undo.pop_all(), began_ns)


@dataclass
class RawRun:
    """Raw flows under way. `began_ns` is the workstation's monotonic clock when they start."""

    flows: tuple[RawFlow, ...]
    senders: Mapping[str, SpokenTo]
    receivers: Mapping[str, SpokenTo]
    processes: ExitStack[None]
    began_ns: int
    clock: Callable[[], float] = time.monotonic
    _report: RawReport | None = field(default=None, init=False)

    def finish(self, timeout: float) -> RawReport:
        """Wait until every flow has been sent, at most `timeout` seconds, and report. Leaves no process behind.

        A sender that has not ended by then is told to; its report has what it sent until then.
        """
        deadline = self.clock() + timeout
        return self._collect(lambda process: _ended(process, max(0.0, deadline - self.clock())))

    def stop(self) -> RawReport:
        """End every flow now and report what was sent until now. Leaves no process behind."""
        return self._collect(lambda process: process.stop())

    def _collect(self, end: Callable[[SpokenTo], CommandResult]) -> RawReport:
        if self._report is not None:
            return self._report
        with self.processes:
            sent = {node: sender_report(node, end(process)) for node, process in self.senders.items()}
            packets = self._packets_by_receiver(sent)
            for node, process in self.receivers.items():
                process.write(f"expect {packets[node]} {LINGER_S * 1000:.0f}\n")
            got = {
                node: receiver_report(node, _ended(process, LINGER_S + REPORTED_S))
                for node, process in self.receivers.items()
            }
        self._report = _joined(self.flows, sent, got)
        return self._report

    def _packets_by_receiver(self, sent: Mapping[str, SenderReport]) -> dict[str, int]:
        packets = dict.fromkeys(self.receivers, 0)
        for number, flow in enumerate(self.flows, start=1):
            packets[flow.dst] += _found(sent[flow.src].flows, number, flow.src).packets
        return packets


def _joined(flows: Sequence[RawFlow], sent: Mapping[str, SenderReport], got: Mapping[str, ReceiverReport]) -> RawReport:
    results = []
    for number, flow in enumerate(flows, start=1):
        t = flow.five_tuple
        # A packet that came by another name than it was sent under (translated, or not ours) is not this flow's.
        arrived = [
            one
            for one in got[flow.dst].flows
            if (one.flow, one.sport, one.dport) == (number, t.sport, t.dport)
            and ip_address(one.src) == ip_address(t.src)
        ]
        results.append(RawResult(flow, _found(sent[flow.src].flows, number, flow.src), arrived[0] if arrived else None))
    return RawReport(tuple(results), sent, got)


def _found(flows: Sequence[RawSent], number: int, node: str) -> RawSent:
    for one in flows:
        if one.flow == number:
            return one
    raise TrafficError(f"{node}: rnic send does not report flow {number}")


def _receiver_arguments(flows: Sequence[RawFlow], log: Path | None) -> tuple[str, ...]:
    ports = sorted({one.five_tuple.dport for one in flows})
    addresses = dict.fromkeys(one.five_tuple.dst for one in flows)
    return (
        *("--port", ",".join(map(str, ports))),
        *(word for address in addresses for word in ("--bind", address)),
        *(("--check",) if any(one.pattern for one in flows) else ()),
        *(("--log", str(log)) if log else ()),
    )


def _started(start: Starts, node: str, argv: tuple[str, ...], undo: ExitStack[None]) -> SpokenTo:
    process = start(node, argv)
    undo.callback(process.stop)
    return process


def _await_ready(node: str, process: SpokenTo, ready_s: float) -> None:
    try:
        process.wait_ready("ready to", ready_s)  # more than a word: "Address already in use" holds that too
    except RailbedError as error:
        because = process.stop().stderr.strip() or str(error)
        raise TrafficError(f"{node}: rnic does not start: {because[-400:]}") from error


def _ended(process: SpokenTo, timeout: float) -> CommandResult:
    try:
        return process.wait(timeout)
    except RailbedError:
        return process.stop()


def _check(flows: Sequence[RawFlow]) -> None:
    if not flows or len({one.five_tuple for one in flows}) < len(flows):
        raise SpecError(f"{len(flows)} raw flows, some of one five-tuple", allowed="1 or more, each its own five-tuple")
    for node in dict.fromkeys(one.src for one in flows):
        count = sum(one.src == node for one in flows)
        if count > MOST_FLOWS_OF_A_NODE:
            raise SpecError(f"{count} raw flows from {node}", allowed=f"up to {MOST_FLOWS_OF_A_NODE}")
    for one in flows:
        _check_flow(one)


def _check_flow(one: RawFlow) -> None:
    bounds = {
        "packets": (one.packets, 1, 1 << 48),
        "duration_s": (one.duration_s, 0.001, MOST_S),
        "payload_bytes": (one.payload_bytes, HEADER_BYTES, MOST_PAYLOAD_BYTES),
        "rate_bps": (one.rate_bps, 1, 10**12),
        "dscp": (one.dscp, 0, 63),
        "ecn": (one.ecn, 0, 3),
        "burst": (one.burst, 1, 65535),
        "start_s": (one.start_s, 0, MOST_S),
        "skip_every": (one.skip_every, 2, 1 << 48),
        "sndbuf_bytes": (one.sndbuf_bytes, 1, 1 << 30),
        "sport": (one.five_tuple.sport, 1, 65535),
        "dport": (one.five_tuple.dport, 1, 65535),
    }
    if one.five_tuple.transport is not Transport.UDP:
        raise SpecError(f"raw flow {one.five_tuple}", allowed="udp")
    for name, (value, least, most) in bounds.items():
        if value is not None and not least <= value <= most:
            raise SpecError(f"raw flow {one.five_tuple}: {name} is {value}", allowed=f"from {least} to {most}")
