"""Sends counted UDP packets with chosen five-tuples, and counts per five-tuple what arrives.

For predictions that are proved by port counters: which path did this five-tuple take? The packets are real UDP
from real sockets; the rate is low and the receive buffers large, so that every packet a host drops is a finding.
Not a load generator, and no `Engine`: a plan leaves the ports to the engine, here they are the point.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from topologies.errors import RailbedError, SpecError
from traffic.engines.base import CommandResult, Process, RunsCommands
from traffic.engines.on_host import program
from traffic.errors import TrafficError
from traffic.flows import FiveTuple, Transport

# Packets a second of one sending host: 16-packet batches 1.6 ms apart. A Python receiver takes some 300 000 a
# second, a starved one finds room for 20 000 in its buffer (16 MiB at some 800 bytes each).
RATE_PPS = 10_000.0
# How long a sink waits for packets that are still on the way once every sender has ended.
LINGER_S = 2.0


@dataclass(frozen=True, slots=True)
class Burst:
    """`packets` UDP packets of one five-tuple from host `src` to host `dst`, `payload_bytes` each."""

    src: str
    dst: str
    five_tuple: FiveTuple
    packets: int = 100
    payload_bytes: int = 64

    @property
    def as_argument(self) -> str:
        """What on_host/burst.py reads."""
        t = self.five_tuple
        return f"{t.src},{t.sport},{t.dst},{t.dport},{self.packets},{self.payload_bytes}"


@dataclass(frozen=True, slots=True)
class BurstResult:
    """What became of one burst. `error` is the last error its sender met; a packet that met one was not sent."""

    burst: Burst
    sent_packets: int
    received_packets: int
    error: str | None = None

    @property
    def complete(self) -> bool:
        """True when every packet was sent and every one arrived."""
        return self.sent_packets == self.received_packets == self.burst.packets


@dataclass(frozen=True, slots=True)
class BurstReport:
    """What became of the bursts, in their order.

    `dropped_at_sinks` are packets that reached a receiving host and found no room there (the run cannot vouch for
    its counts then), `strangers` those that belonged to none of the bursts.
    """

    results: tuple[BurstResult, ...]
    dropped_at_sinks: int
    strangers: int

    @property
    def complete(self) -> bool:
        """True when every packet was sent and every one arrived."""
        return all(result.complete for result in self.results)


def send_bursts(
    bursts: Sequence[Burst],
    hosts: Mapping[str, RunsCommands],
    *,
    rate_pps: float = RATE_PPS,
    connected: bool = True,
    timeout: float = 60.0,
) -> BurstReport:
    """Send every burst, all hosts at the same time, each dealing out its bursts' packets in turn.

    Args:
        rate_pps: packets a second of each sending host.
        connected: send from connected sockets, as applications do. Their packets carry a hash of the socket's own
            across a veth, which a router with hash policy 1 obeys; from unconnected ones they carry none.
        timeout: seconds for everything.

    Raises SpecError for what is no UDP burst or a host that is not in `hosts`, TrafficError when a host's program
    fails; leaves no process behind.
    """
    _check(bursts, hosts)
    by_src, by_dst = _by(bursts, "src"), _by(bursts, "dst")
    with ExitStack() as undo:
        sinks = {}
        for name, some in by_dst.items():
            sinks[name] = hosts[name].start(*program("burst"), "sink", f"{timeout:g}", *_arguments(some))
            undo.callback(sinks[name].stop)
        for name, process in sinks.items():
            _await_ready(name, process)
        senders = {}
        for name, some in by_src.items():
            mode = "connected" if connected else "unconnected"
            senders[name] = hosts[name].start(*program("burst"), "send", f"{rate_pps:g}", mode, *_arguments(some))
            undo.callback(senders[name].stop)
        sent = {name: _said(name, process.wait(timeout)) for name, process in senders.items()}
        arrived = {name: _said(name, _ended(process)) for name, process in sinks.items()}
    return _report(bursts, by_src, by_dst, sent, arrived)


def _report(
    bursts: Sequence[Burst],
    by_src: Mapping[str, list[Burst]],
    by_dst: Mapping[str, list[Burst]],
    sent: Mapping[str, Mapping[str, Any]],
    arrived: Mapping[str, Mapping[str, Any]],
) -> BurstReport:
    out = {b: pair for name, some in by_src.items() for b, *pair in zip(some, *_columns(sent[name]), strict=True)}
    got = {b: count for name, some in by_dst.items() for b, count in zip(some, arrived[name]["received"], strict=True)}
    return BurstReport(
        tuple(BurstResult(burst, int(out[burst][0]), int(got[burst]), out[burst][1]) for burst in bursts),
        sum(int(one["dropped"]) for one in arrived.values()),
        sum(int(one["strangers"]) for one in arrived.values()),
    )


def _columns(said: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
    return list(said["sent"]), list(said["errors"])


def _check(bursts: Sequence[Burst], hosts: Mapping[str, RunsCommands]) -> None:
    unknown = sorted({name for burst in bursts for name in (burst.src, burst.dst)} - hosts.keys())
    if unknown:
        raise SpecError(f"bursts name no host here: {', '.join(unknown)}", allowed=", ".join(hosts))
    for burst in bursts:
        if burst.five_tuple.transport is not Transport.UDP or burst.packets < 1:
            raise SpecError(f"burst of {burst.packets} packets {burst.five_tuple}", allowed="1 or more packets of udp")
    if not bursts or len({burst.five_tuple for burst in bursts}) < len(bursts):
        raise SpecError(f"{len(bursts)} bursts, some of one five-tuple", allowed="1 or more, each its own five-tuple")


def _by(bursts: Iterable[Burst], side: str) -> dict[str, list[Burst]]:
    found: dict[str, list[Burst]] = {}
    for burst in bursts:
        found.setdefault(getattr(burst, side), []).append(burst)
    return found


def _arguments(bursts: Iterable[Burst]) -> list[str]:
    return [burst.as_argument for burst in bursts]


def _await_ready(name: str, sink: Process) -> None:
    try:
        sink.wait_ready("ready", timeout=10.0)
    except RailbedError as error:
        raise TrafficError(f"{name}: the sink does not start: {error}") from error


def _ended(sink: Process) -> CommandResult:
    """A sink that has every packet ends by itself; another one is told to."""
    try:
        return sink.wait(LINGER_S)
    except RailbedError:
        return sink.stop()


def _said(name: str, ended: CommandResult) -> Mapping[str, Any]:
    lines = [line for line in ended.stdout.splitlines() if line.startswith("{")]
    if not ended.ok or not lines:
        raise TrafficError(f"{name}: packet burst ended with {ended.status}: {ended.stderr.strip()[-400:]}")
    found: Mapping[str, Any] = json.loads(lines[-1])
    return found
