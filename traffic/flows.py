"""What is to be sent and what arrived, as frozen values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Transport(StrEnum):
    """The transport protocol of a flow."""

    TCP = "tcp"
    UDP = "udp"


@dataclass(frozen=True, slots=True)
class FiveTuple:
    """What a flow-hashing switch tells flows apart by. Addresses are text, as they stand in packets.

    Beside the five: `dscp`, which says by what rule a switch chooses, and for RoCEv2 the destination `queue_pair`,
    which some rules look at; None where it is not known or there is none.
    """

    src: str
    dst: str
    transport: Transport
    sport: int
    dport: int
    dscp: int = 0
    queue_pair: int | None = None

    def __str__(self) -> str:
        dscp = f" dscp {self.dscp}" if self.dscp else ""
        pair = "" if self.queue_pair is None else f" queue pair {self.queue_pair}"
        return f"{self.transport} {self.src}:{self.sport} > {self.dst}:{self.dport}{dscp}{pair}"


@dataclass(frozen=True, slots=True)
class Flow:
    """One flow between two hosts.

    Exactly one of `size_bytes` and `duration_s` is set. `rate_bps` (payload bit/s) is None for as fast as the
    transport goes. `streams` are parallel connections that share `size_bytes` and `rate_bps` between them.
    `src_nic` and `dst_nic` pick the network card of a host with several, from 1.
    """

    src: str
    dst: str
    size_bytes: int | None = None
    duration_s: float | None = None
    transport: Transport = Transport.TCP
    rate_bps: int | None = None
    streams: int = 1
    family: int = 4
    src_nic: int = 1
    dst_nic: int = 1
    payload_bytes: int | None = None

    def __str__(self) -> str:
        return f"{self.src}>{self.dst}"


@dataclass(frozen=True, slots=True)
class TrafficPlan:
    """Flows that start together."""

    name: str
    flows: tuple[Flow, ...]

    @property
    def hosts(self) -> tuple[str, ...]:
        """Every host that sends or receives, each once."""
        return tuple(dict.fromkeys(name for flow in self.flows for name in (flow.src, flow.dst)))

    def __iter__(self) -> Iterator[Flow]:
        return iter(self.flows)


@dataclass(frozen=True, slots=True)
class Interval:
    """What one stream moved between two moments, in seconds from the flow's start."""

    start_s: float
    end_s: float
    sent_bytes: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """What one stream delivered between two moments, in seconds from when its receiver saw it start."""

    start_s: float
    end_s: float
    received_bytes: int


@dataclass(frozen=True, slots=True)
class StreamResult:
    """One connection of a flow: its five-tuple as it was on the wire, and what it moved.

    `intervals` are the sender's view, `arrivals` the receiver's (empty where the engine has none).
    """

    five_tuple: FiveTuple
    sent_bytes: int
    received_bytes: int
    sent_packets: int | None
    lost_packets: int | None
    retransmits: int | None
    intervals: tuple[Interval, ...] = ()
    arrivals: tuple[Arrival, ...] = ()


@dataclass(frozen=True, slots=True)
class FlowResult:
    """What became of one flow. `error` is the engine's message when the flow could not run to its end.

    `started_s` is the engine's monotonic clock when the flow's sender was started, `duration_s` how long it sent.
    """

    flow: Flow
    streams: tuple[StreamResult, ...]
    started_s: float
    duration_s: float
    error: str | None = None

    @property
    def received_bytes(self) -> int:
        """Payload bytes that arrived, all streams together."""
        return sum(stream.received_bytes for stream in self.streams)

    @property
    def sent_bytes(self) -> int:
        """Payload bytes that were sent, all streams together."""
        return sum(stream.sent_bytes for stream in self.streams)


@dataclass(frozen=True, slots=True)
class TrafficReport:
    """What became of a plan, flow by flow, in the plan's order."""

    plan: TrafficPlan
    engine: str
    results: tuple[FlowResult, ...]

    @property
    def received_bytes(self) -> int:
        """Payload bytes that arrived, all flows together."""
        return sum(result.received_bytes for result in self.results)

    def __iter__(self) -> Iterator[FlowResult]:
        return iter(self.results)
