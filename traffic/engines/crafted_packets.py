"""RoCEv2 packets as scapy makes them, with the RDMA extended transport header that scapy lacks.

From the IP header on: what carries them is a raw socket, and the kernel finds the way. The ICRC is scapy's own, over
an IP identification that is never 0, which the kernel leaves alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from scapy.contrib.roce import BTH
from scapy.fields import IntField, XIntField, XLongField
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet, Raw, bind_layers

from topologies.ecmp import ROCE_PORT
from traffic.engines.crafted_bursts import FIRST, ONLY, Crafted, CraftedBurst, RocePacket, write_of
from traffic.pauses import pfc_frame

HOPS = 64
NO_ADDRESS = bytes(6)

Addresses = Callable[[str, int, int], str]
"""The address of a host's card in a family: ``addresses("host1", 1, 4)``. Raises SpecError for none."""


class RETH(Packet):
    """Where a write goes: virtual address, remote key, length of the whole message."""

    name = "RETH"
    fields_desc = [XLongField("va", 0), XIntField("rkey", 0), IntField("dmalen", 0)]  # noqa: RUF012 - scapy's own way


bind_layers(BTH, RETH, opcode=FIRST)
bind_layers(BTH, RETH, opcode=ONLY)


def packet_bytes(src: str, dst: str, packet: RocePacket) -> bytes:
    """A packet from its IP header on. No UDP checksum, as RoCEv2 has it (annex A17)."""
    tos, pad = packet.dscp << 2 | packet.ecn, -packet.payload_bytes % 4
    made: Packet
    if ":" in src:
        made = IPv6(src=src, dst=dst, tc=tos, fl=packet.flow_label, hlim=HOPS)
    else:
        made = IP(src=src, dst=dst, tos=tos, ttl=HOPS, id=packet.ip_id)
    made /= UDP(sport=packet.sport, dport=ROCE_PORT, chksum=0)
    made /= BTH(
        opcode=packet.opcode,
        dqpn=packet.queue_pair,
        psn=packet.psn,
        ackreq=int(packet.ack_request),
        padcount=pad,
    )
    if packet.opcode in {FIRST, ONLY}:
        length = packet.payload_bytes if packet.write_bytes is None else packet.write_bytes
        made /= RETH(va=packet.address, rkey=packet.remote_key, dmalen=length)
    return bytes(made / Raw(bytes(packet.payload_bytes + pad)))


def write_packets(
    src: str, dst: str, *, sport: int, queue_pair: int, psn: int, size: int, mtu: int, tos: int
) -> Iterator[bytes]:
    """The packets of one RDMA WRITE of `size` bytes, the last of which asks for an acknowledgement."""
    like = RocePacket(
        sport=sport,
        queue_pair=queue_pair,
        psn=psn,
        dscp=tos >> 2,
        ecn=tos & 3,
        address=psn * mtu,
        remote_key=queue_pair,
    )
    for packet in write_of(size, mtu, like):
        yield packet_bytes(src, dst, packet)


def dumped(burst: Crafted, addresses: Addresses, *, mac: bytes = NO_ADDRESS) -> tuple[bytes, ...]:
    """Every packet of a burst as it leaves, in order: from the IP header on, pauses as whole frames from `mac`."""
    if not isinstance(burst, CraftedBurst):
        return tuple(pfc_frame(mac, quanta) for _, quanta, times in burst.frames for _ in range(times))
    made = class_packets(burst, addresses)
    return tuple(made[place][number] for place, number in burst.order)


def class_packets(burst: CraftedBurst, addresses: Addresses) -> tuple[tuple[bytes, ...], ...]:
    """The different packets of every class."""
    src = addresses(burst.src, burst.src_nic, burst.family)
    dst = addresses(burst.dst, burst.dst_nic, burst.family)
    return tuple(tuple(packet_bytes(src, dst, one) for one in some.packets) for some in burst.classes)
