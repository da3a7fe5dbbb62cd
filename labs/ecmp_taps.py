"""Which way single packets take: sent with chosen headers, and heard where they come in.

A tap is a packet socket: it hears what comes into a node, by which port, before the soft ASIC's programs look at it.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Self

from labs.kernel import inside_netns
from labs.lab import Lab
from labs.waiting import wait_until
from topologies.ecmp import ROCE_PORT
from traffic.flows import FiveTuple

SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
SOL_IPV6, IPV6_TCLASS = 41, 67
ETH_P_ALL = 3
UDP = 17
BTH = struct.Struct(">BBHBBHBBHB")  # opcode, flags, partition, reserved, QP 1 + 2, AckReq, reserved, PSN 2 + 1
WITHIN_S = 10.0
MOST_OPEN = 256  # a process may have 1024 files open on many workstations

Seen = tuple[int, int]
"""What a packet is known by again: source port and destination queue pair."""
Ways = Mapping[Seen, str]
"""The port that a packet came in by, ``spine1:eth3``."""


@dataclass(frozen=True, slots=True)
class Packet:
    """One RoCEv2 packet of a flow between two hosts, as far as a switch reads it."""

    five_tuple: FiveTuple
    queue_pair: int = 0
    dscp: int = 3
    adaptive: bool = False

    @property
    def known_by(self) -> Seen:
        """What it is known by again."""
        return self.five_tuple.sport, self.queue_pair

    @property
    def payload(self) -> bytes:
        """A BTH and nothing behind it but room for a sequence number."""
        high, low = self.queue_pair >> 16, self.queue_pair & 0xFFFF
        return BTH.pack(4, 0x40, 0xFFFF, 0, high, low, 0x40 if self.adaptive else 0, 0, 0, 0) + bytes(20)


def sent(lab: Lab, src: str, packets: Iterable[Packet]) -> int:
    """Send packets from a host, in their order, each once; returns how many."""
    count = 0
    with ExitStack() as undo, inside_netns(lab.deployment.netns(src)):
        sockets: dict[tuple[str, int, int], socket.socket] = {}
        for packet in packets:
            t = packet.five_tuple
            key = (t.src, t.sport, packet.dscp)
            if key not in sockets:
                if len(sockets) == MOST_OPEN:
                    sockets.pop(next(iter(sockets))).close()
                sockets[key] = undo.enter_context(_socket(packet))
            sockets[key].sendto(packet.payload, (t.dst, t.dport))
            count += 1
    return count


@contextmanager
def sink(lab: Lab, node: str) -> Iterator[None]:
    """Somebody listens at the RoCEv2 port of a host, so that it answers nothing."""
    with inside_netns(lab.deployment.netns(node)):
        listener = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    with listener:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(("::", ROCE_PORT))
        yield


class Tap:
    """Hears what comes into a node: by which port each RoCEv2 packet came. Use it in a `with` block."""

    def __init__(self, lab: Lab, node: str) -> None:
        with inside_netns(lab.deployment.netns(node)):
            kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
            self._socket = socket.socket(socket.AF_PACKET, kind, socket.htons(ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 28)
        self._socket.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def heard(self) -> Iterator[tuple[str, Seen]]:
        """(port, what the packet is known by) of every RoCEv2 packet since the last time, in order."""
        for _ in range(10_000_000):
            try:
                packet, (port, _, kind, _, _) = self._socket.recvfrom(128)
            except BlockingIOError:
                return
            if kind != socket.PACKET_OUTGOING and (seen := _seen(packet)) is not None:
                yield port, seen


def ways_taken(lab: Lab, src: str, dst: str, packets: Sequence[Packet], nodes: Iterable[str]) -> Ways:
    """Send packets, each once, and say by which port of these nodes each came in.

    Waits until all did, 10 s at most: what was lost on the way, or went another one, is missing then. A neighbour that
    is not known yet costs the first packets: ping before.
    """
    found: dict[Seen, str] = {}
    wanted = {packet.known_by for packet in packets}
    with ExitStack() as undo:
        undo.enter_context(sink(lab, dst))
        taps = {node: undo.enter_context(Tap(lab, node)) for node in nodes}
        sent(lab, src, packets)

        def missing() -> int:
            for node, tap in taps.items():
                found.update((seen, f"{node}:{port}") for port, seen in tap.heard() if seen in wanted)
            return len(wanted - found.keys())

        wait_until("every packet came", missing, lambda left: left == 0, within=WITHIN_S * lab.timeout_scale)
    return found


def _socket(packet: Packet) -> socket.socket:
    t = packet.five_tuple
    family = socket.AF_INET6 if ":" in t.src else socket.AF_INET
    made = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    made.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 1 << 22)
    if family == socket.AF_INET6:
        made.setsockopt(SOL_IPV6, IPV6_TCLASS, packet.dscp << 2)
    else:
        made.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, packet.dscp << 2)
    made.bind((t.src, t.sport))
    return made


def _seen(packet: bytes) -> Seen | None:
    """Source port and queue pair of a packet that begins with its IP header."""
    four = packet[0] >> 4 == 4
    start = (packet[0] & 15) * 4 if four else 40
    if packet[9 if four else 6] != UDP or len(packet) < start + 20:
        return None
    sport, dport = struct.unpack_from(">HH", packet, start)
    if dport != ROCE_PORT:
        return None
    return sport, int.from_bytes(packet[start + 13 : start + 16], "big")
