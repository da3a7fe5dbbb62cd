"""RoCEv2 packets as scapy makes them, with the RDMA extended transport header that scapy lacks.

From the IP header on: what carries them is a raw socket, and the kernel finds the way. The ICRC is scapy's own, over
an IP identification that is never 0, which the kernel leaves alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from scapy.contrib.roce import BTH
from scapy.fields import IntField, XIntField, XLongField
from scapy.layers.inet import IP, UDP
from scapy.packet import Packet, Raw

ROCE_PORT = 4791
FIRST, MIDDLE, LAST, ONLY = 0x06, 0x07, 0x08, 0x0A  # RDMA WRITE over a reliable connection
HOPS = 64


class RETH(Packet):
    """Where a write goes: virtual address, remote key, length of the whole message."""

    name = "RETH"
    fields_desc = [XLongField("va", 0), XIntField("rkey", 0), IntField("dmalen", 0)]  # noqa: RUF012 - scapy's own way


def write_packets(
    src: str, dst: str, *, sport: int, queue_pair: int, psn: int, size: int, mtu: int, tos: int
) -> Iterator[bytes]:
    """The packets of one RDMA WRITE of `size` bytes, the last of which asks for an acknowledgement."""
    count = math.ceil(size / mtu)
    for index in range(count):
        opcode = ONLY if count == 1 else FIRST if index == 0 else LAST if index == count - 1 else MIDDLE
        part = min(mtu, size - index * mtu)
        pad = -part % 4
        number = (psn + index) & 0xFFFFFF
        packet = IP(src=src, dst=dst, tos=tos, ttl=HOPS, id=1 + number % 0xFFFF)
        packet /= UDP(sport=sport, dport=ROCE_PORT, chksum=0)
        packet /= BTH(opcode=opcode, dqpn=queue_pair, psn=number, ackreq=int(index == count - 1), padcount=pad)
        if opcode in {FIRST, ONLY}:
            packet /= RETH(va=psn * mtu, rkey=queue_pair, dmalen=size)
        yield bytes(packet / Raw(bytes(part + pad)))
