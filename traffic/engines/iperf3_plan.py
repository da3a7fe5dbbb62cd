"""A graph for iperf3: which flow carries which sends, what it waits for, and on which port. Pure.

Every message is a flow of its own, a client and a server that serves it alone (``-1``), in iperf3's reverse mode: the
client stands at the receiver and ends when the last byte was read there. Forwards, iperf3 ends when the last byte is
in the sender's socket, and a message of a few 100 KB has then hardly left.

Sends between the same two ranks that wait for the same ones are one flow.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from topologies.errors import SpecError
from traffic.flows import Transport
from traffic.graph import Graph, Send, checked
from traffic.placement import Addresses, Placement

BASE_PORT = 21000
# Servers of one iteration, which all run before it begins: some 0.8 MB each.
MOST_FLOWS = 512
# Of all iterations together: at some 30 ms of processor time each, two minutes on two processors.
MOST_FLOWS_IN_ALL = 8192
TCP_BLOCK_BYTES = 128 * 1024  # iperf3's own
UDP_BLOCK_BYTES = 4096
UDP_WIRE_BYTES = 66  # on the wire beside a datagram's payload: UDP 8, IPv4 20, Ethernet 14, FCS 4, preamble 8, gap 12
# A receiver's socket, as much as every Linux grants who asks (net.core.rmem_max unless set higher): the kernel doubles
# it, to some 90 datagrams. Without asking it is half of that, and a receiver that is late by 2 ms at 1 Gbit/s loses.
UDP_SOCKET_BYTES = 212992
# Of a TCP segment in packets of 9216 bytes, the labs' default: 40 and an option of 12, Ethernet 38 with all of it.
TCP_EFFICIENCY = 9164 / 9254


@dataclass(frozen=True, slots=True)
class Iperf3Settings:
    """How flows are sent.

    Args:
        transport: TCP as fast as it goes, or UDP at the card's rate, shared evenly by what a rank sends in one step.
        paced: hold TCP to the card's rate too, in the sender.
        dscp: of every packet of a flow.
    """

    transport: Transport = Transport.TCP
    paced: bool = False
    dscp: int = 26
    base_port: int = BASE_PORT
    connect_s: float = 10.0

    @property
    def efficiency(self) -> float:
        """The payload's share of the wire."""
        if self.transport is Transport.TCP:
            return TCP_EFFICIENCY
        return UDP_BLOCK_BYTES / (UDP_BLOCK_BYTES + UDP_WIRE_BYTES)


@dataclass(frozen=True, slots=True)
class MessageFlow:
    """`size` bytes from rank `src` to rank `dst`, once the flows in `after` are done and `src` has computed.

    `port` is the server's, at the sender. Of `size` 0 within a rank it only computes. `rate_bps` is of payload, None
    for as fast as it goes.
    """

    number: int
    src: int
    dst: int
    size: int
    after: tuple[int, ...]
    compute_s: float
    step: int
    port: int
    rate_bps: int | None

    @property
    def is_local(self) -> bool:
        """True when no packet is sent."""
        return self.src == self.dst


@dataclass(frozen=True, slots=True)
class Iperf3Plans:
    """A graph's flows, in an order in which each comes after those it waits for; `at` is each rank's address."""

    graph: Graph
    placement: Placement
    settings: Iperf3Settings
    iterations: int
    flows: tuple[MessageFlow, ...]
    at: tuple[str, ...]

    @property
    def carried(self) -> tuple[MessageFlow, ...]:
        """The flows that are sent."""
        return tuple(flow for flow in self.flows if not flow.is_local)

    def host(self, rank: int) -> str:
        """A rank's host."""
        return self.placement.ranks[rank].host

    def named(self, flow: MessageFlow) -> str:
        """A flow for people."""
        ends = f"{self.at[flow.src]}:{flow.port} > {self.at[flow.dst]}"
        return f"{self.host(flow.src)} to {self.host(flow.dst)} (rank {flow.src} to {flow.dst}, {ends})"

    def server_argv(self, flow: MessageFlow) -> tuple[str, ...]:
        """The sender's command: it waits for the one client, and ends."""
        return ("iperf3", "-s", "-1", "-J", "-4", "-i", "0", "-B", self.at[flow.src], "-p", str(flow.port))

    def client_argv(self, flow: MessageFlow) -> tuple[str, ...]:
        """The receiver's command. A size is whole blocks; where none fit, the last is not full and counts whole."""
        udp = self.settings.transport is Transport.UDP
        block = _block(flow.size, UDP_BLOCK_BYTES if udp else TCP_BLOCK_BYTES)
        return (
            *("iperf3", "-c", self.at[flow.src], "-R", "-J", "-4", "-i", "0"),
            *("-B", self.at[flow.dst], "-p", str(flow.port), "-n", str(flow.size), "-l", str(block)),
            *("-S", str(self.settings.dscp << 2), "--connect-timeout", str(int(self.settings.connect_s * 1000))),
            *(("-u", "-w", str(UDP_SOCKET_BYTES)) if udp else ()),
            *(("-b", str(flow.rate_bps)) if flow.rate_bps is not None else ()),
        )


def iperf3_plans(
    graph: Graph,
    placement: Placement,
    addresses: Addresses,
    settings: Iperf3Settings | None = None,
    *,
    iterations: int = 1,
) -> Iperf3Plans:
    """Which flows carry a graph.

    Raises SpecError for what iperf3 cannot play: a graph that is wrong, ranks of one host that send each other or of
    several cards, more flows than processes may be, UDP without a rate, settings out of range.
    """
    chosen = settings or Iperf3Settings()
    placed = checked(placement.place(graph))
    _check(placed, placement, chosen)
    flows = _flows(placed, placement, chosen)
    sent = sum(not flow.is_local for flow in flows)
    allowed = f"up to {MOST_FLOWS} in an iteration, {MOST_FLOWS_IN_ALL} in all: two processes each"
    if sent > MOST_FLOWS:
        raise SpecError(f"iperf3: {graph.name} of {graph.ranks} ranks is {sent} flows", allowed=allowed)
    if sent * iterations > MOST_FLOWS_IN_ALL:
        raise SpecError(f"iperf3: {iterations} iterations of {sent} flows", allowed=allowed)
    at = tuple(addresses(rank.host, rank.nics[0]) for rank in placement.ranks)
    return Iperf3Plans(placed, placement, chosen, iterations, flows, at)


def _check(graph: Graph, placement: Placement, settings: Iperf3Settings) -> None:
    if not 0 <= settings.dscp <= 63:
        raise SpecError(f"dscp {settings.dscp}", allowed="from 0 to 63")
    paced = settings.paced or settings.transport is Transport.UDP
    for number, rank in enumerate(placement.ranks):
        if len(rank.nics) > 1:
            raise SpecError(f"rank {number} has {len(rank.nics)} cards", allowed="one: a flow leaves by one card")
        if paced and not rank.rate_bps:
            raise SpecError(f"rank {number} on {rank.host} has no rate", allowed="bit/s for a flow that is paced")
    for send in graph:
        host = placement.ranks[send.src].host
        if not send.is_local and host == placement.ranks[send.dst].host:
            found = f"rank {send.src} sends to rank {send.dst}, both on {host}"
            raise SpecError(found, allowed="messages between hosts: no packet leaves a host for itself")


def _flows(graph: Graph, placement: Placement, settings: Iperf3Settings) -> tuple[MessageFlow, ...]:
    """Sends that nothing tells apart but their bytes become one flow."""
    groups: dict[tuple[object, ...], list[Send]] = {}
    carries: list[tuple[object, ...]] = []
    for place, send in enumerate(graph.sends):
        alone = place if send.is_local else None
        key: tuple[object, ...] = (send.src, send.dst, send.step, frozenset(send.after), send.compute_s, alone)
        groups.setdefault(key, []).append(send)
        carries.append(key)
    numbers = {key: number for number, key in enumerate(groups)}
    beside = Counter((some[0].src, some[0].step) for some in groups.values() if not some[0].is_local)
    ports: Counter[str] = Counter()
    flows = []
    for key, some in groups.items():
        one = some[0]
        after = tuple(sorted({numbers[carries[place]] for place in one.after}))
        host = placement.ranks[one.src].host
        port = 0 if one.is_local else settings.base_port + ports[host]
        ports[host] += not one.is_local
        if port > 65535:
            raise SpecError(f"{ports[host]} flows of {host} from port {settings.base_port}", allowed="to 65535")
        rate = _rate(placement.ranks[one.src].rate_bps, beside[one.src, one.step], settings)
        size = 0 if one.is_local else sum(send.size for send in some)
        flows.append(MessageFlow(numbers[key], one.src, one.dst, size, after, one.compute_s, one.step, port, rate))
    return tuple(flows)


def _rate(card_bps: float | None, beside: int, settings: Iperf3Settings) -> int | None:
    if card_bps is None or not (settings.paced or settings.transport is Transport.UDP):
        return None
    return max(1, math.floor(card_bps * settings.efficiency / max(1, beside)))


def _block(size: int, most: int) -> int:
    """Bytes of a block, so that they add up to `size`, as large as can be; else a few more than `size`."""
    fewest = math.ceil(size / most)
    for count in range(fewest, 2 * fewest + 1):
        if size % count == 0:
            return size // count
    return math.ceil(size / fewest)
