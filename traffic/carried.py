"""What a graph over reliable connections puts on every port: frames and their bytes, with headers and answers. Pure.

A frame here is what a switch counts: Ethernet to ICRC, without preamble, FCS and gap.

    WRITE   Ethernet 14 | IPv4 20 or IPv6 40 | UDP 8 | BTH 12 | RETH 16 on a message's first | immediate 4 on its last |
            payload, to a multiple of 4 | ICRC 4
    ACK     the same, with an AETH of 4 and no payload

Data follows from the plan alone. An answer is asked for at a message's end and at every n-th packet of a connection
(traffic/rnic/requester.h), and the receiver sends one for all it finds asked at one look (rc_queue_pair.c): so what is
asked for is the most it sends, as long as no window fills and nothing is lost. How many it sent its report says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from traffic.engines.rc_plan import Connection, RcPlans
from traffic.engines.rc_settings import RcSettings, Recovery

ETHERNET, UDP, BTH, RETH, AETH, IMMEDIATE, ICRC = 14, 8, 12, 16, 4, 4, 4
IP_BYTES = {4: 20, 6: 40}

Hop = tuple[str, str | None, str]
"""A node of a path: its name, the port a flow comes in by (None at its source) and the port it leaves by."""
PortName = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Carried:
    """Frames, and their bytes."""

    frames: int = 0
    bytes: int = 0

    def __add__(self, other: Carried) -> Carried:
        return Carried(self.frames + other.frames, self.bytes + other.bytes)

    def __mul__(self, times: int) -> Carried:
        return Carried(self.frames * times, self.bytes * times)


@dataclass(frozen=True, slots=True)
class FlowBytes:
    """One direction of a connection, from rank `src`, in all iterations.

    `asked` answers are asked for, each a frame of `answer_bytes` that goes the other way.
    """

    connection: Connection
    src: int
    data: Carried
    asked: int
    answer_bytes: int

    @property
    def key(self) -> tuple[int, int]:
        """The rank that sends, and its queue pair's number."""
        return self.src, self.connection.end(self.src).number


def message(size: int, settings: RcSettings, *, family: int = 4) -> Carried:
    """The frames of one message."""
    packets = max(1, -(-size // settings.mtu))
    last = size - (packets - 1) * settings.mtu
    addressed = packets if settings.recovery is Recovery.SELECTIVE_REPEAT else 1
    around = ETHERNET + IP_BYTES[family] + UDP + BTH + ICRC
    payload = (packets - 1) * settings.mtu + -(-last // 4) * 4
    return Carried(packets, packets * around + addressed * RETH + IMMEDIATE + payload)


def answer(*, family: int = 4) -> int:
    """Bytes of an acknowledgement's frame."""
    return ETHERNET + IP_BYTES[family] + UDP + BTH + AETH + ICRC


def asked_every(settings: RcSettings) -> int:
    """Packets from one answer asked for to the next, beside messages' ends (rc_plan.h)."""
    return 16 if settings.window >= 64 else -(-settings.window // 4)


def flows(plans: RcPlans) -> tuple[FlowBytes, ...]:
    """What each direction of each connection carries: nothing where nothing is sent."""
    sizes: dict[tuple[int, int], list[int]] = {}
    for task in plans.tasks:
        if task.connection is not None:
            src = plans.graph.sends[task.place].src
            sizes.setdefault((src, task.connection.end(src).number), []).append(task.size)
    found = []
    for connection in plans.connections:
        for end in (connection.one, connection.other):
            family = 6 if ":" in end.address else 4
            messages = [message(size, plans.settings, family=family) for size in sizes.get((end.rank, end.number), ())]
            data = sum(messages, Carried()) * plans.iterations
            frames = [one.frames for one in messages] * plans.iterations
            asked = _asked(frames, asked_every(plans.settings))
            found.append(FlowBytes(connection, end.rank, data, asked, answer(family=family)))
    return tuple(found)


def _asked(messages: Iterable[int], every: int) -> int:
    """Answers asked for by messages of so many packets, one after the other."""
    sent = ends = 0
    for packets in messages:
        sent += packets
        ends += sent % every != 0
    return sent // every + ends


def at_ports(
    found: Iterable[FlowBytes],
    ways: Mapping[tuple[int, int], Sequence[Hop]],
    answers: Mapping[tuple[int, int], int] | None = None,
) -> Mapping[PortName, Carried]:
    """What leaves by each port on the way, hosts' own among them.

    Args:
        ways: the path from each end of each connection, by `FlowBytes.key`.
        answers: how many were sent to each flow's data, by its key; None for as many as were asked for.
    """
    ports: dict[PortName, Carried] = {}
    for flow in found:
        count = flow.asked if answers is None else answers[flow.key]
        far = flow.connection.far(flow.src)
        back = Carried(count, count * flow.answer_bytes)
        for key, carried in ((flow.key, flow.data), ((far.rank, far.number), back)):
            for node, _, port in ways[key] if carried.frames else ():
                ports[node, port] = ports.get((node, port), Carried()) + carried
    return ports


def busiest_s(ports: Mapping[PortName, Carried], rates_bps: Mapping[PortName, float], *, gap_bytes: int = 24) -> float:
    """The least time for all this: that of the port that needs longest.

    Args:
        gap_bytes: what a frame takes of the line beyond its length: preamble, FCS, gap.
    """
    times = ((one.bytes + one.frames * gap_bytes) * 8 / rates_bps[port] for port, one in ports.items())
    return max(times, default=0.0)
