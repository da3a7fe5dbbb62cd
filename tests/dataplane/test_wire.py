"""What goes wrong on a wire: losses, corruption, blackholes; and a host that takes packets slowly.

Random ones draw from a seeded sequence and say the same every time; the interval they have to lie in is one that an
honest probability leaves once in 10^9 times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scipy.stats import binom

from labs.dataplane import abi
from labs.dataplane.abi import EventKind, Match

if TYPE_CHECKING:
    from tests.dataplane.conftest import Bench

PASS, DROP = -1, 2
PORT, HOST = 1, 5
DRAWS = 40_000
PORTS_OFFSET, UDP_PAYLOAD = 14 + 20, 14 + 20 + 8
SOURCE, DESTINATION = "10.0.0.1", "10.0.0.2"


def address(text: str) -> int:
    """An IPv4 address as it stands in memory, in network order."""
    return int.from_bytes(bytes(map(int, text.split("."))), "little")


def honest(seen: int, draws: int, probability: float) -> bool:
    low, high = binom.interval(1 - 1e-9, draws, probability)
    return bool(low <= seen <= high)


# --- losses


@pytest.mark.parametrize("field", ["lose", "bad_fcs"])
@pytest.mark.parametrize("probability", [0.0001, 0.01, 0.5, 0.999])
def test_a_share_is_lost(bench: Bench, udp: Callable[..., bytes], field: str, probability: float) -> None:
    wire = bench.impairments[PORT]
    setattr(wire, field, int(probability * abi.PROBABILITY_ONE))
    bench.ingress(PORT, udp(), repeat=DRAWS)
    counts = {"lose": wire.lost, "bad_fcs": wire.fcs_errors}
    assert honest(counts.pop(field), DRAWS, probability)
    assert set(counts.values()) == {0}


@pytest.mark.parametrize(("probability", "verdict"), [(0, PASS), (abi.PROBABILITY_ONE, DROP)])
def test_never_and_always(bench: Bench, udp: Callable[..., bytes], probability: int, verdict: int) -> None:
    bench.impairments[PORT].lose = probability
    assert {bench.ingress(PORT, udp()).verdict for _ in range(200)} == {verdict}
    assert bench.impairments[PORT].lost == (200 if verdict == DROP else 0)
    assert bench.ports[PORT].random == 0, "nothing is drawn where the answer is known"


def test_losses_are_reproduced_from_the_seed(bench: Bench, udp: Callable[..., bytes]) -> None:
    def lost(seed: int) -> list[int]:
        bench.ports[PORT].seed, bench.ports[PORT].random = seed, 0
        return [i for i in range(400) if bench.ingress(PORT, udp_frame).verdict == DROP]

    udp_frame = udp()
    bench.impairments[PORT].lose = abi.PROBABILITY_ONE // 10
    first = lost(7)
    assert 10 < len(first) < 100
    assert lost(7) == first
    assert lost(8) != first


@pytest.mark.parametrize("every", [1, 2, 7, 100])
def test_every_nth_is_dropped(bench: Bench, udp: Callable[..., bytes], every: int) -> None:
    bench.impairments[PORT].every = every
    dropped = [i for i in range(1, 301) if bench.ingress(PORT, udp()).verdict == DROP]
    assert dropped == list(range(every, 301, every))
    assert bench.impairments[PORT].nth_dropped == len(dropped)


def test_only_the_port_itself_is_impaired(bench: Bench, udp: Callable[..., bytes]) -> None:
    bench.impairments[PORT].lose = abi.PROBABILITY_ONE
    assert [bench.ingress(port, udp()).verdict for port in (1, 2, 3, 5)] == [DROP, PASS, PASS, PASS]


# --- blackholes


MATCHES = {
    Match.SADDR: ("saddr", address(SOURCE), address("10.9.9.9")),
    Match.DADDR: ("daddr", address(DESTINATION), address("10.9.9.9")),
    Match.SPORT: ("sport", int.from_bytes((1111).to_bytes(2), "little"), 1111),
    Match.DPORT: ("dport", int.from_bytes((4791).to_bytes(2), "little"), 4791),
    Match.PROTOCOL: ("protocol", 17, 6),
}


@pytest.mark.parametrize("bits", range(1, 32))
def test_a_blackhole_matches_all_that_it_names(bench: Bench, udp: Callable[..., bytes], bits: int) -> None:
    wire = bench.impairments[PORT]
    named = [match for match in MATCHES if match & bits]
    wire.match = bits
    for field, right, wrong in MATCHES.values():  # what is not named differs, and does not count
        setattr(wire, field, right if field in {MATCHES[match][0] for match in named} else wrong)
    frame = udp(src=SOURCE, dst=DESTINATION, sport=1111, dport=4791)
    assert bench.ingress(PORT, frame).verdict == DROP
    assert bench.ingress(PORT, udp(v6=True)).verdict == PASS, "a five-tuple is IPv4's"
    for match in named:  # negative controls: one difference each
        field, right, wrong = MATCHES[match]
        setattr(wire, field, wrong)
        assert bench.ingress(PORT, frame).verdict == PASS
        setattr(wire, field, right)
    assert wire.blackholed == 1


def test_a_blackhole_for_everything(bench: Bench, udp: Callable[..., bytes]) -> None:
    bench.impairments[PORT].match = Match.ALL
    arp = bytes(Ether(dst="ff:ff:ff:ff:ff:ff", type=0x0806) / bytes(46))
    assert [bench.ingress(PORT, frame).verdict for frame in (udp(), udp(v6=True), arp)] == [DROP] * 3
    assert bench.impairments[PORT].blackholed == 3


def test_fragments_have_no_ports(bench: Bench, udp: Callable[..., bytes]) -> None:
    wire = bench.impairments[PORT]
    wire.match, wire.dport = Match.DPORT, MATCHES[Match.DPORT][1]
    frame = bytearray(udp(dport=4791))
    assert bench.ingress(PORT, bytes(frame)).verdict == DROP
    frame[20:22] = (0x0001).to_bytes(2)  # fragment offset 8
    assert bench.ingress(PORT, bytes(frame)).verdict == PASS


def tcp_frame(sport: int, dport: int, *, v6: bool) -> bytes:
    return bytes(Ether() / (IPv6() if v6 else IP()) / TCP(sport=sport, dport=dport) / bytes(40))


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize("bits", [Match.BGP, Match.BFD, Match.BGP | Match.BFD])
def test_only_what_keeps_sessions_is_lost(bench: Bench, udp: Callable[..., bytes], bits: Match, *, v6: bool) -> None:
    wire = bench.impairments[PORT]
    wire.match = bits
    bgp = [tcp_frame(179, 40000, v6=v6), tcp_frame(40000, 179, v6=v6)]
    bfd = [udp(v6=v6, sport=49152, dport=port) for port in (3784, 3785)]
    data = [udp(v6=v6), udp(v6=v6, sport=179, dport=179), tcp_frame(3784, 3784, v6=v6)]
    data += [udp(v6=v6, dport=3786), bytes(Ether(type=0x0806) / bytes(46))]
    assert {bench.ingress(PORT, frame).verdict for frame in bgp} == {DROP if bits & Match.BGP else PASS}
    assert {bench.ingress(PORT, frame).verdict for frame in bfd} == {DROP if bits & Match.BFD else PASS}
    assert {bench.ingress(PORT, frame).verdict for frame in data} == {PASS}
    assert wire.blackholed == 2 * bits.bit_count()


# --- corruption


def differing_bits(before: bytes, after: bytes) -> list[int]:
    return [
        at * 8 + bit
        for at, (a, b) in enumerate(zip(before, after, strict=True))
        for bit in range(8)
        if (a ^ b) >> bit & 1
    ]


def test_one_bit_behind_the_transport_header_is_flipped(bench: Bench, udp: Callable[..., bytes]) -> None:
    bench.impairments[PORT].corrupt = abi.PROBABILITY_ONE
    frame, seen = udp(size=UDP_PAYLOAD + 4), set()
    for _ in range(1000):
        ran = bench.ingress(PORT, frame)
        assert ran.verdict == PASS
        (bit,) = differing_bits(frame, ran.frame)
        seen.add(bit)
    # Each of 32 bits is missed by 1000 even draws once in 10^13 times.
    assert seen == set(range(UDP_PAYLOAD * 8, (UDP_PAYLOAD + 4) * 8))
    assert bench.impairments[PORT].corrupted == 1000


def test_the_options_of_tcp_are_no_payload(bench: Bench) -> None:
    bench.impairments[PORT].corrupt = abi.PROBABILITY_ONE
    options = [("NOP", None), ("NOP", None), ("Timestamp", (1, 2))]
    head = Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01") / IP(src=SOURCE, dst=DESTINATION)
    frame = bytes(head / TCP(options=options) / bytes(8))
    assert len(frame) == 14 + 20 + 32 + 8
    for _ in range(200):
        (bit,) = differing_bits(frame, bench.ingress(PORT, frame).frame)
        assert bit >= (14 + 20 + 32) * 8


def test_what_has_no_payload_is_not_corrupted(bench: Bench, udp: Callable[..., bytes]) -> None:
    bench.impairments[PORT].corrupt = abi.PROBABILITY_ONE
    for frame in (udp(size=UDP_PAYLOAD), udp(v6=True), bytes(Ether(dst="02:00:00:00:00:02", type=0x0806) / bytes(46))):
        ran = bench.ingress(PORT, frame)
        assert (ran.verdict, ran.frame) == (PASS, frame)
    assert bench.impairments[PORT].corrupted == 0


# --- a slow receiver


def test_a_slow_receiver_asks_for_a_pause_once_and_then_drops(bench: Bench, udp: Callable[..., bytes]) -> None:
    slow = bench.receivers[HOST]
    slow.xoff_bytes, slow.xon_bytes, slow.limit_bytes = 5000, 1000, 8000
    slow.drain_bps = 8  # a byte a second: nothing drains while this runs
    frame = udp(3, size=1000)
    told = []
    for _ in range(8):
        assert bench.ingress(HOST, frame).verdict == PASS
        told.append([(e.kind, e.port, e.priorities) for e in bench.told()])
    # The sixth is the first above 5000; one that came at the same ns may round a byte away, never more.
    assert told == [[]] * 5 + [[(EventKind.SLOW, HOST, 0b00011000)]] + [[]] * 2
    assert bench.ingress(HOST, frame).verdict == DROP
    assert (slow.dropped, slow.xoff) == (1, 1)
    assert 7990 <= slow.watermark <= 8000
    # asicd clears xoff when there is room again; from then on it may be asked for anew.
    slow.xoff, slow.busy_until_ns = 0, 0
    assert bench.ingress(HOST, frame).verdict == PASS
    assert slow.busy_until_ns > 0
    assert bench.told() == []


def test_a_receiver_that_keeps_up_is_left_alone(bench: Bench, udp: Callable[..., bytes]) -> None:
    slow = bench.receivers[HOST]
    slow.xoff_bytes, slow.limit_bytes = 500, 1000
    assert {bench.ingress(HOST, udp(3, size=1000)).verdict for _ in range(50)} == {PASS}
    assert (slow.busy_until_ns, bench.told()) == (0, [])
    # And no switch has one.
    bench.receivers[PORT].drain_bps = 8
    assert {bench.ingress(PORT, udp(3, size=1000)).verdict for _ in range(50)} == {PASS}


def test_without_pfc_a_slow_receiver_only_drops(bench: Bench, udp: Callable[..., bytes]) -> None:
    slow = bench.receivers[HOST]
    slow.xoff_bytes, slow.limit_bytes, slow.drain_bps = 500, 2000, 8
    bench.profiles[2].pfc_enable = 0
    assert [bench.ingress(HOST, udp(3, size=1000)).verdict for _ in range(3)] == [PASS, PASS, DROP]
    assert (bench.told(), slow.xoff) == ([], 0)
