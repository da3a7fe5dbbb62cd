"""Crafted bursts: RoCEv2 packets that differ in exactly what is named, ECN probes, 802.1Qbb pauses. Pure.

    entropy_set("host1", "host3", count=65, packets=100)     65 flows that differ in their source port alone
    ecn_probe("host1", "host3")                              Not-ECT, ECT(1), ECT(0) and CE, by turns
    roce_write("host1", "host3", size=64 * KIB)              one RDMA WRITE, its RETH in the first packet
    pause_frames("host1:eth1", {3: 65535}, xon=True)         pause a class, and let it go on

What they say stands in `RocePacket` and in quanta. `crafted_packets` makes bytes of them, `crafted_sending` sends them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import IntEnum
from itertools import zip_longest
from typing import Any

from topologies.errors import SpecError
from traffic.engines.rc_settings import FIRST_QPN, FIRST_SPORT, MTUS
from traffic.pauses import MOST_QUANTA, PRIORITIES

FIRST, MIDDLE, LAST, ONLY = 0x06, 0x07, 0x08, 0x0A  # RDMA WRITE over a reliable connection
OPCODES = {FIRST: "WRITE First", MIDDLE: "WRITE Middle", LAST: "WRITE Last", ONLY: "WRITE Only"}
# Of one burst. Python sends some 20 000 packets a second on a processor.
MOST_PACKETS = 262_144
# scapy crafts some 450 a second on a processor: ten seconds of one, before anything is sent.
MOST_CRAFTED = 4096
# Linux draws RoCEv2's source ports from FIRST_SPORT on. Queue pair 0xFFFFFF is multicast's.
DRAWN = {
    "sport": range(FIRST_SPORT, 1 << 16),
    "queue_pair": range(FIRST_QPN, (1 << 24) - 1),
    "flow_label": range(1, 1 << 20),
    "psn": range(1 << 24),
}
RANGES = {
    "sport": range(1, 1 << 16),
    "queue_pair": range(1 << 24),
    "psn": range(1 << 24),
    "flow_label": range(1 << 20),
    "dscp": range(64),
    "ecn": range(4),
    "payload_bytes": range(MTUS[-1] + 1),
    "ip_id": range(1, 1 << 16),  # the kernel fills in one that is 0, and the ICRC covers it
    "address": range(1 << 64),
    "remote_key": range(1 << 32),
}


class Ecn(IntEnum):
    """The congestion field of an IP header (RFC 3168)."""

    NOT_ECT = 0
    ECT_1 = 1
    ECT_0 = 2
    CE = 3

    def __str__(self) -> str:
        return ("Not-ECT", "ECT(1)", "ECT(0)", "CE")[self]


@dataclass(frozen=True, slots=True)
class RocePacket:
    """One packet of an RDMA WRITE as it leaves its card. `write_bytes` is the RETH's length: of the whole message.

    `opcode` ONLY and FIRST carry a RETH (`address`, `remote_key`, `write_bytes`; None is this packet's payload).
    `flow_label` is IPv6's and of no account over IPv4, `ip_id` IPv4's. Raises SpecError for what fits no header.
    """

    sport: int = FIRST_SPORT
    queue_pair: int = 0x800001
    psn: int = 0
    flow_label: int = 0
    dscp: int = 3
    ecn: int = Ecn.ECT_0
    payload_bytes: int = 64
    opcode: int = ONLY
    ack_request: bool = False
    address: int = 0
    remote_key: int = 1
    write_bytes: int | None = None
    ip_id: int = 1

    def __post_init__(self) -> None:
        for name, allowed in RANGES.items():
            if getattr(self, name) not in allowed:
                raise SpecError(f"{name} {getattr(self, name)}", allowed=f"{allowed[0]} to {allowed[-1]}")
        if self.opcode not in OPCODES:
            raise SpecError(f"opcode {self.opcode:#x}", allowed=", ".join(f"{one:#x}" for one in OPCODES))


@dataclass(frozen=True, slots=True)
class PacketClass:
    """Packets that are counted together: each of `packets` is sent `times`. Those of a class share a five-tuple."""

    name: str
    packets: tuple[RocePacket, ...]
    times: int = 1

    @property
    def count(self) -> int:
        """How many packets are to be sent."""
        return len(self.packets) * self.times


@dataclass(frozen=True, slots=True)
class CraftedBurst:
    """RoCEv2 packets from one host's card to another's. `by_turns`: a packet of each class in turn, else in order."""

    name: str
    src: str
    dst: str
    classes: tuple[PacketClass, ...]
    family: int = 4
    src_nic: int = 1
    dst_nic: int = 1
    by_turns: bool = True

    def __post_init__(self) -> None:
        crafted, count = sum(len(one.packets) for one in self.classes), sum(one.count for one in self.classes)
        if not self.classes or any(not one.packets or one.times < 1 for one in self.classes):
            raise SpecError(f"{self.name}: a class without packets", allowed="1 or more packets in every class")
        if crafted > MOST_CRAFTED or count > MOST_PACKETS:
            allowed = f"{MOST_CRAFTED} different ones, {MOST_PACKETS} in all"
            raise SpecError(f"{self.name}: {crafted} different packets, {count} in all", allowed=allowed)
        if self.family not in {4, 6}:
            raise SpecError(f"{self.name}: family {self.family}", allowed="4, 6")

    @property
    def order(self) -> tuple[tuple[int, int], ...]:
        """What is sent, packet by packet: places of a class and of a packet in it."""
        sequences = [
            [(place, number) for _ in range(one.times) for number in range(len(one.packets))]
            for place, one in enumerate(self.classes)
        ]
        if not self.by_turns:
            return tuple(one for sequence in sequences for one in sequence)
        return tuple(one for turn in zip_longest(*sequences) for one in turn if one is not None)


@dataclass(frozen=True, slots=True)
class PauseBurst:
    """802.1Qbb frames from a port to the one at the other end of its cable.

    `quanta` by priority is said `times`, every `every_s` seconds; with `xon` 0 quanta follow, which lets them go on.
    """

    node: str
    port: str
    quanta: Mapping[int, int]
    times: int = 1
    every_s: float = 0.0
    xon: bool = False
    name: str = field(default="pause", init=False)

    def __post_init__(self) -> None:
        if not self.quanta or any(one not in range(PRIORITIES) for one in self.quanta):
            raise SpecError(f"pause of classes {sorted(self.quanta)}", allowed="some of 0 to 7")
        if any(one not in range(MOST_QUANTA + 1) for one in self.quanta.values()):
            raise SpecError(f"pause of {dict(self.quanta)} quanta", allowed=f"0 to {MOST_QUANTA}")
        if not 1 <= self.times <= MOST_PACKETS or not 0 <= self.every_s < math.inf:
            allowed = f"1 to {MOST_PACKETS} times, every 0 seconds or more"
            raise SpecError(f"a pause {self.times} times every {self.every_s:g} s", allowed=allowed)

    @property
    def frames(self) -> tuple[tuple[str, Mapping[int, int], int], ...]:
        """What is said, in order: name, quanta by priority, how often."""
        said = [(_pause_name(self.quanta), self.quanta, self.times)]
        if self.xon:
            let_go = dict.fromkeys(self.quanta, 0)
            said.append((_pause_name(let_go), let_go, 1))
        if len(said) == 2 and said[0][1] == said[1][1]:
            return ((said[0][0], self.quanta, self.times + 1),)
        return tuple(said)


Crafted = CraftedBurst | PauseBurst


def entropy_set(
    src: str,
    dst: str,
    count: int,
    *,
    vary: Sequence[str] = ("sport",),
    packets: int = 1,
    seed: int = 0,
    like: RocePacket | None = None,
    family: int = 4,
    src_nic: int = 1,
    dst_nic: int = 1,
) -> CraftedBurst:
    """`count` packets, `packets` times each, that differ in exactly the fields `vary` names and in nothing else.

    Args:
        vary: some of sport (from 49152 on, as Linux draws it), queue_pair, flow_label (IPv6), psn. No two packets have
            the same value of a field. ("queue_pair",) is what cards send whose source port is fixed.
        like: what all of them have in common.
    """
    common = like or RocePacket()
    wrong = [name for name in vary if name not in DRAWN or (name == "flow_label" and family != 6)]
    if wrong or not vary or len(set(vary)) < len(vary):
        raise SpecError(f"vary {', '.join(vary) or 'nothing'} over IPv{family}", allowed=_allowed(family))
    most = min(len(DRAWN[name]) for name in vary)
    if not 1 <= count <= min(most, MOST_CRAFTED):
        raise SpecError(f"{count} packets of different {' and '.join(vary)}", allowed=f"1 to {min(most, MOST_CRAFTED)}")
    draw = random.Random(seed)  # noqa: S311 - to be repeated, not a secret
    drawn = {name: draw.sample(DRAWN[name], count) for name in vary}
    classes = []
    for number in range(count):
        values: dict[str, Any] = {name: some[number] for name, some in drawn.items()}
        named = ", ".join(f"{name} {value}" for name, value in values.items())
        classes.append(PacketClass(named, (replace(common, **values),), packets))
    return CraftedBurst(f"entropy of {', '.join(vary)}", src, dst, tuple(classes), family, src_nic, dst_nic)


def ecn_probe(
    src: str,
    dst: str,
    *,
    codepoints: Sequence[int] = tuple(Ecn),
    packets: int = 25,
    dscp: int = 3,
    like: RocePacket | None = None,
    family: int = 4,
    src_nic: int = 1,
    dst_nic: int = 1,
) -> CraftedBurst:
    """`packets` of each codepoint by turns, so that all meet the same queues. The sequence number tells them apart."""
    if not codepoints or len(set(codepoints)) < len(codepoints) or any(one not in RANGES["ecn"] for one in codepoints):
        raise SpecError(f"codepoints {', '.join(map(str, codepoints))}", allowed="each of 0, 1, 2, 3 once at most")
    if not 1 <= packets * len(codepoints) <= MOST_CRAFTED:
        raise SpecError(f"{packets} packets of each codepoint", allowed=f"1 to {MOST_CRAFTED // len(codepoints)}")
    common = replace(like or RocePacket(), dscp=dscp)
    classes = [
        PacketClass(
            str(Ecn(ecn)),
            tuple(
                replace(common, ecn=ecn, psn=(common.psn + number * len(codepoints) + place) % (1 << 24))
                for number in range(packets)
            ),
        )
        for place, ecn in enumerate(codepoints)
    ]
    return CraftedBurst("ECN probe", src, dst, tuple(classes), family, src_nic, dst_nic)


def roce_write(
    src: str,
    dst: str,
    *,
    size: int,
    mtu: int = 1024,
    like: RocePacket | None = None,
    family: int = 4,
    src_nic: int = 1,
    dst_nic: int = 1,
) -> CraftedBurst:
    """One RDMA WRITE of `size` bytes; its first, middle and last packets are classes. `like` has the RETH's address."""
    if mtu not in MTUS:
        raise SpecError(f"mtu {mtu}", allowed=", ".join(map(str, MTUS)))
    if not 1 <= size <= mtu * MOST_CRAFTED:
        raise SpecError(f"a write of {size} bytes", allowed=f"1 to {mtu * MOST_CRAFTED} with mtu {mtu}")
    found: dict[int, list[RocePacket]] = {}
    for packet in write_of(size, mtu, like or RocePacket()):
        found.setdefault(packet.opcode, []).append(packet)
    classes = tuple(PacketClass(OPCODES[opcode], tuple(some)) for opcode, some in found.items())
    return CraftedBurst(f"write of {size} bytes", src, dst, classes, family, src_nic, dst_nic, by_turns=False)


def write_of(size: int, mtu: int, like: RocePacket) -> tuple[RocePacket, ...]:
    """The packets of one RDMA WRITE, numbered from `like`'s psn; the last asks for an acknowledgement."""
    count = math.ceil(size / mtu)
    found = []
    for index in range(count):
        psn = (like.psn + index) & 0xFFFFFF
        found.append(
            replace(
                like,
                psn=psn,
                ip_id=1 + psn % 0xFFFF,
                opcode=ONLY if count == 1 else FIRST if index == 0 else LAST if index == count - 1 else MIDDLE,
                payload_bytes=min(mtu, size - index * mtu),
                ack_request=index == count - 1,
                write_bytes=size,
            )
        )
    return tuple(found)


def pause_frames(
    at: str, classes: Mapping[int, int], *, times: int = 1, every_s: float = 0.0, xon: bool = False
) -> PauseBurst:
    """Frames that pause classes for so many quanta of 512 bit times; `at` is the port that sends, ``host1:eth1``.

    Args:
        times: how often it is said, `every_s` seconds apart: a pause lasts as long as it is refreshed in time.
        xon: say 0 quanta at the end, `every_s` later.
    """
    node, _, port = at.partition(":")
    if not node or not port:
        raise SpecError(f"a pause at {at!r}", allowed="NODE:PORT, as in host1:eth1")
    return PauseBurst(node, port, dict(classes), times, every_s, xon)


def differing(one: RocePacket, other: RocePacket) -> tuple[str, ...]:
    """The names of the fields in which two packets differ."""
    return tuple(each.name for each in fields(RocePacket) if getattr(one, each.name) != getattr(other, each.name))


def _allowed(family: int) -> str:
    return ", ".join(name for name in DRAWN if name != "flow_label" or family == 6) + ", each once at most"


def _pause_name(quanta: Mapping[int, int]) -> str:
    return ", ".join(f"class {one}: {count} quanta" for one, count in sorted(quanta.items()))
