"""The random packets are what they are said to be: scapy reads the same from them. And there are some of every kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from scapy.contrib.roce import BTH
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet as Layers

from topologies.ecmp import Headers, Inner

if TYPE_CHECKING:
    from tests.dataplane.hash_engine.conftest import Packet

READ = 3000  # by scapy, which takes its time
MORE_FRAGMENTS = 1


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def network(eth: Layers) -> tuple[Layers, int] | None:
    """The IP header and its protocol."""
    if IP in eth and eth.type == 0x0800:
        return eth[IP], eth[IP].proto
    if IPv6 in eth and eth.type == 0x86DD:
        return eth[IPv6], eth[IPv6].nh
    return None


def ports(ip: Layers) -> tuple[int | None, int | None]:
    if ip.version == 4 and (ip.frag or ip.flags.value & MORE_FRAGMENTS):
        return None, None
    transport = next((ip.getlayer(kind) for kind in (TCP, UDP) if isinstance(ip.payload, kind)), None)
    return (None, None) if transport is None else (transport.sport, transport.dport)


def inner_of(eth: Layers) -> Inner:
    macs = mac(eth.src), mac(eth.dst)
    found = network(eth)
    if found is None:
        return Inner(*macs, eth.type)
    ip, protocol = found
    ends = ip_address(ip.src).packed, ip_address(ip.dst).packed
    return Inner(*macs, eth.type, protocol, *ends, *ports(ip))


def headers_by_scapy(packet: Packet) -> Headers:
    eth = Ether(packet.frame)
    found = network(eth)
    assert found is not None
    ip, protocol = found
    sport, dport = ports(ip)
    bth = ip.getlayer(BTH) if dport == 4791 else None
    tunnel = ip.getlayer(VXLAN) if dport == 4789 else None
    return Headers(
        packet.headers.in_port,
        mac(eth.src),
        mac(eth.dst),
        eth.type,
        protocol,
        ip_address(ip.src).packed,
        ip_address(ip.dst).packed,
        sport,
        dport,
        flow_label=ip.fl if ip.version == 6 else None,
        queue_pair=bth.dqpn if bth else None,
        adaptive=bool(bth and bth.resv7 & 0x40),
        inner=inner_of(tunnel[Ether]) if tunnel and Ether in tunnel.payload else None,
    )


def test_scapy_reads_the_same(packets: Sequence[Packet]) -> None:
    """Of those of which nothing was cut off: scapy guesses at what it cannot read."""
    some = [packet for packet in packets[:READ] if packet.whole]
    assert len(some) > READ * 0.9
    for packet in some:
        assert headers_by_scapy(packet) == packet.headers, packet


KINDS: Mapping[str, Callable[[Headers], bool]] = {
    "TCP over IPv4": lambda said: (said.ethertype, said.protocol) == (0x0800, 6) and said.sport is not None,
    "TCP over IPv6": lambda said: (said.ethertype, said.protocol) == (0x86DD, 6) and said.sport is not None,
    "a fragment of IPv4": lambda said: (said.ethertype, said.protocol) == (0x0800, 17) and said.sport is None,
    "a fragment of IPv6": lambda said: (said.ethertype, said.protocol) == (0x86DD, 44),
    "RoCEv2 over IPv4": lambda said: said.ethertype == 0x0800 and said.queue_pair is not None,
    "RoCEv2 over IPv6": lambda said: said.ethertype == 0x86DD and said.queue_pair is not None,
    "RoCEv2 that may take any way": lambda said: said.adaptive,
    "RoCEv2 cut short": lambda said: said.dport == 4791 and said.queue_pair is None,
    "ICMP": lambda said: said.protocol == 1,
    "ICMPv6": lambda said: said.protocol == 58,
    "GRE": lambda said: said.protocol == 47,
    "VXLAN with IPv4": lambda said: said.inner is not None and said.inner.ethertype == 0x0800,
    "VXLAN with IPv6": lambda said: said.inner is not None and said.inner.ethertype == 0x86DD,
    "VXLAN with ports": lambda said: said.inner is not None and said.inner.sport is not None,
    "VXLAN without ports": lambda said: said.inner is not None and said.inner.src is not None and not said.inner.sport,
    "VXLAN with what is not IP": lambda said: said.inner is not None and said.inner.ethertype == 0x0806,
    "VXLAN cut short": lambda said: said.dport == 4789 and said.inner is None,
}


@pytest.mark.parametrize("kind", KINDS)
def test_there_are_some_of_every_kind(packets: Sequence[Packet], kind: str) -> None:
    assert sum(KINDS[kind](packet.headers) for packet in packets) >= 100


def test_options_and_ports(packets: Sequence[Packet]) -> None:
    """IPv4 options of all lengths, and packets that come in by every port."""
    lengths = Counter(packet.frame[14] & 15 for packet in packets if packet.headers.ethertype == 0x0800)
    assert set(lengths) == {5, 6, 7, 15}
    assert Counter(packet.port for packet in packets).keys() == {1, 2, 3, 4, 7, 8}
