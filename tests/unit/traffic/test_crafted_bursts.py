"""Crafted bursts: exactly what is named differs, ICRC and layouts by somebody else's arithmetic, what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import zlib
from dataclasses import fields
from pathlib import Path

import pytest
from scapy.contrib.mac_control import MACControlClassBasedFlowControl
from scapy.contrib.roce import BTH
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.utils import wrpcap

from labs.errors import CapabilityMissing
from topologies.errors import SpecError
from traffic.engines.crafted_bursts import (
    Crafted,
    CraftedBurst,
    Ecn,
    PacketClass,
    PauseBurst,
    RocePacket,
    differing,
    ecn_probe,
    entropy_set,
    pause_frames,
    roce_write,
)
from traffic.engines.crafted_packets import RETH, dumped
from traffic.engines.crafted_sending import Wiring, burst_plans, packet_key
from traffic.pauses import pfc_frame, quanta_of

MAC = bytes.fromhex("025200000101")
# Where each field stands in a packet that begins with its IP header: place, bytes.
PLACES = {4: {"sport": (20, 2), "queue_pair": (33, 3), "psn": (37, 3)}}
PLACES[6] = {name: (at + 20, size) for name, (at, size) in PLACES[4].items()} | {"flow_label": (1, 3)}


def address(host: str, nic: int, family: int) -> str:
    number = int(host.removeprefix("h"))
    return f"10.0.{nic}.{number}" if family == 4 else f"fd00::{nic}:{number}"


def far_end(node: str, port: str) -> tuple[str, str]:
    return f"{node}-peer", f"{port}x"


WIRING = Wiring(address, far_end)


def icrc(packet: bytes) -> bytes:
    """Annex A17 by hand: CRC32 of eight bytes of ones and the packet, all that may change on its way set to ones."""
    masked = bytearray(packet[:-4])
    v6 = packet[0] >> 4 == 6
    udp = 40 if v6 else 20
    if v6:
        masked[0] |= 0x0F  # traffic class and flow label
        masked[1:4] = b"\xff\xff\xff"
        masked[7] = 0xFF  # hop limit
    else:
        masked[1] = masked[8] = masked[10] = masked[11] = 0xFF  # TOS, TTL, checksum
    masked[udp + 6] = masked[udp + 7] = 0xFF  # UDP checksum
    masked[udp + 8 + 4] = 0xFF  # FECN, BECN and what is reserved
    return zlib.crc32(b"\xff" * 8 + bytes(masked)).to_bytes(4, "little")


def changing(packets: tuple[bytes, ...]) -> set[int]:
    """The places of the bytes that are not the same in all packets."""
    assert len({len(packet) for packet in packets}) == 1
    return {place for place in range(len(packets[0])) if len({packet[place] for packet in packets}) > 1}


@pytest.mark.parametrize(
    ("vary", "family"),
    [
        (("sport",), 4),
        (("sport",), 6),
        (("queue_pair",), 4),
        (("queue_pair",), 6),
        (("psn",), 4),
        (("flow_label",), 6),
        (("sport", "queue_pair"), 4),
        (("sport", "flow_label"), 6),
    ],
)
def test_exactly_the_named_fields_vary(vary: tuple[str, ...], family: int) -> None:
    burst = entropy_set("h1", "h2", 64, vary=vary, seed=7, family=family)
    packets = [one.packets[0] for one in burst.classes]
    for name in (field.name for field in fields(RocePacket)):
        values = {getattr(one, name) for one in packets}
        assert len(values) == (64 if name in vary else 1), name
    made = dumped(burst, address)
    named = {at + byte for name in vary for at, size in [PLACES[family][name]] for byte in range(size)}
    length = len(made[0])
    tail = set(range(length - 4, length))
    assert changing(made) <= named | tail
    assert (changing(made) & tail == set()) == (vary == ("flow_label",)), "the ICRC covers all of them but the label"
    for at, size in (PLACES[family][name] for name in vary):
        assert len({packet[at : at + size] for packet in made}) == 64


def test_nothing_varies_without_being_named() -> None:
    """Negative control of the test above: one byte that differs elsewhere is seen."""
    one, other = dumped(entropy_set("h1", "h2", 2), address)
    touched = bytes([*other[:50], other[50] ^ 1, *other[51:]])
    assert 50 in changing((one, touched))
    assert 50 not in changing((one, other))
    assert differing(RocePacket(), RocePacket(psn=1, sport=7)) == ("sport", "psn")


def test_the_seed_decides_and_ports_are_linuxs() -> None:
    one, same, other = (entropy_set("h1", "h2", 65, seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one != other
    assert all(49152 <= each.packets[0].sport <= 65535 for each in one.classes)


def test_classes_are_sent_by_turns_and_a_write_in_order() -> None:
    burst = entropy_set("h1", "h2", 3, packets=2)
    assert burst.order == ((0, 0), (1, 0), (2, 0), (0, 0), (1, 0), (2, 0))
    assert ecn_probe("h1", "h2", codepoints=(0, 3), packets=2).order == ((0, 0), (1, 0), (0, 1), (1, 1))
    assert roce_write("h1", "h2", size=4 * 1024).order == ((0, 0), (1, 0), (1, 1), (2, 0))


@pytest.mark.parametrize(
    "burst",
    [
        entropy_set("h1", "h2", 5),
        entropy_set("h1", "h2", 5, vary=("flow_label", "queue_pair"), family=6),
        ecn_probe("h1", "h2", packets=3),
        ecn_probe("h1", "h2", packets=3, family=6),
        roce_write("h1", "h2", size=2500),
        roce_write("h1", "h2", size=1, family=6),
        entropy_set("h1", "h2", 1, like=RocePacket(payload_bytes=0)),
    ],
    ids=lambda burst: f"{burst.name} IPv{burst.family}",
)
def test_the_icrc_is_annex_a17s_and_scapy_reads_all_back(burst: CraftedBurst) -> None:
    made = dumped(burst, address)
    assert len(made) == sum(one.count for one in burst.classes)
    for (place, number), data in zip(burst.order, made, strict=True):
        wanted = burst.classes[place].packets[number]
        assert data[-4:] == icrc(data)
        read = IP(data) if burst.family == 4 else IPv6(data)
        assert bytes(read) == data
        bth = read[BTH]
        assert (read[UDP].sport, read[UDP].dport, read[UDP].chksum) == (wanted.sport, 4791, 0)
        assert (bth.opcode, bth.dqpn, bth.psn, bth.ackreq) == (
            wanted.opcode,
            wanted.queue_pair,
            wanted.psn,
            wanted.ack_request,
        )
        assert (read.tos if burst.family == 4 else read.tc) == wanted.dscp << 2 | wanted.ecn
        assert (RETH in read) == (wanted.opcode in {0x06, 0x0A})
        assert len(bytes(bth.payload)) - bth.padcount == wanted.payload_bytes + 16 * (RETH in read)


def test_a_flipped_bit_is_not_annex_a17s() -> None:
    """Negative control of the ICRC: the payload's and the source port's bits count, TTL's and TOS' do not."""
    (data,) = dumped(entropy_set("h1", "h2", 1), address)
    for place, seen in ((-8, True), (21, True), (8, False), (1, False)):
        flipped = bytearray(data)
        flipped[place] ^= 1
        assert (icrc(bytes(flipped)) != data[-4:]) == seen, place


def test_a_write_has_one_reth_of_the_whole_length() -> None:
    burst = roce_write("h1", "h2", size=2500, like=RocePacket(psn=0xFFFFFF, address=4096, remote_key=9))
    first, middle, last = (IP(data) for data in dumped(burst, address))
    assert (first[RETH].va, first[RETH].rkey, first[RETH].dmalen) == (4096, 9, 2500)
    assert [one[BTH].psn for one in (first, middle, last)] == [0xFFFFFF, 0, 1]
    assert [one[BTH].ackreq for one in (first, middle, last)] == [0, 0, 1]
    assert [one.name for one in burst.classes] == ["WRITE First", "WRITE Middle", "WRITE Last"]


def test_codepoints_are_probed_by_turns_with_nothing_else_but_the_number() -> None:
    burst = ecn_probe("h1", "h2", packets=5)
    assert [one.name for one in burst.classes] == ["Not-ECT", "ECT(1)", "ECT(0)", "CE"]
    packets = [burst.classes[place].packets[number] for place, number in burst.order]
    assert [one.ecn for one in packets] == [0, 1, 2, 3] * 5
    assert [one.psn for one in packets] == list(range(20))
    assert all(set(differing(packets[0], one)) <= {"ecn", "psn"} for one in packets)


# --- 802.1Qbb


def test_the_layout_of_802_1qbb() -> None:
    """IEEE 802.1Q-2018, annex and figure of PFC: 6 group, 6 source, EtherType, opcode, vector, 8 quanta, padding."""
    (frame,) = dumped(pause_frames("h1:eth1", {3: 65535, 4: 7}), address, mac=MAC)
    assert frame == (
        bytes.fromhex("0180c2000001") + MAC + bytes.fromhex("8808010100180000 0000 0000 ffff 0007 0000 0000 0000")
    ).ljust(60, b"\0")
    read = Ether(frame)[MACControlClassBasedFlowControl]
    assert [getattr(read, f"c{n}_enabled") for n in range(8)] == [0, 0, 0, 1, 1, 0, 0, 0]
    assert [getattr(read, f"c{n}_pause_time") for n in range(8)] == [0, 0, 0, 65535, 7, 0, 0, 0]


def test_a_pause_is_said_again_and_let_go() -> None:
    burst = pause_frames("h1:eth1", {3: 100}, times=3, every_s=0.01, xon=True)
    frames = dumped(burst, address, mac=MAC)
    assert frames == (pfc_frame(MAC, {3: 100}),) * 3 + (pfc_frame(MAC, {3: 0}),)
    assert frames[-1][16:18] == b"\0\x08", "the class is named, with 0 quanta"
    assert pause_frames("h1:eth1", {3: 0}, xon=True).frames == (("class 3: 0 quanta", {3: 0}, 2),)
    assert quanta_of(0.0335544, 1_000_000_000) == 65536


# --- judged by somebody else


def test_tshark_finds_nothing_malformed(tmp_path: Path) -> None:
    tshark = shutil.which("tshark")
    if tshark is None:
        raise CapabilityMissing("tshark", "it is not on PATH", remedy="apt-get install tshark")
    bursts: tuple[Crafted, ...] = (
        entropy_set("h1", "h2", 3),
        ecn_probe("h1", "h2", packets=2),
        roce_write("h1", "h2", size=2500),
        pause_frames("h1:eth1", {3: 5}, xon=True),
    )
    ethernet = bytes.fromhex("0200000000020200000000010800")
    frames = [
        data if isinstance(burst, PauseBurst) else ethernet + data
        for burst in bursts
        for data in dumped(burst, address, mac=MAC)
    ]
    path = tmp_path / "bursts.pcap"
    wrpcap(str(path), [Ether(frame) for frame in frames])
    names = (
        "_ws.malformed",
        "infiniband.bth.opcode",
        "infiniband.invariant.crc",
        "infiniband.reth.dmalen",
        "macc.opcode",
    )
    argv = [tshark, "-n", "-r", str(path), "-T", "fields", "-E", "separator=|"]
    argv += [word for name in names for word in ("-e", name)]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()
    assert len(said) == len(frames)
    for frame, line in zip(frames, said, strict=True):
        malformed, opcode, crc, length, control = line.split("|")
        assert malformed == "", frame.hex()
        if frame[12:14] == b"\x88\x08":
            assert control == "0x0101"
        else:
            assert (int(opcode), crc) == (frame[42], f"0x{frame[-4:].hex()}")
            assert (length != "") == (frame[42] in {0x06, 0x0A})


# --- what nodes are told


def test_keys_leave_out_what_a_network_may_change() -> None:
    """Another class, congestion field, TTL and header checksum are the same packet; another source port is not."""
    one, other = (
        dumped(entropy_set("h1", "h2", 1, like=RocePacket(dscp=dscp, ecn=ecn)), address)[0]
        for dscp, ecn in ((3, Ecn.ECT_0), (26, Ecn.CE))
    )
    assert one != other
    assert packet_key(one) == packet_key(other)
    (third,) = dumped(entropy_set("h1", "h2", 1, seed=9), address)
    assert packet_key(third) != packet_key(one)
    six = [
        packet_key(dumped(entropy_set("h1", "h2", 1, family=6, like=RocePacket(flow_label=label)), address)[0])
        for label in (1, 2)
    ]
    assert six[0] != six[1]


def test_plans_say_who_sends_and_who_expects_what() -> None:
    bursts = (entropy_set("h1", "h2", 2, packets=3), pause_frames("h2:eth1", {3: 9}, times=2, every_s=0.5))
    plans = burst_plans(bursts, WIRING, rate_bps=1e6)
    assert set(plans.nodes) == {"h1", "h2", "h2-peer"}
    assert plans.nodes["h2"]["receives"] == ["10.0.1.2"]
    assert [count for _, count in plans.nodes["h2"]["expects"]] == [3, 3]
    (send,) = plans.nodes["h1"]["sends"]
    length = len(bytes.fromhex(send["packets"][0][0]))
    assert send["packets"][0][1] == (length + 38) * 8_000, "nanoseconds a packet takes at 1 Mbit/s"
    assert send["order"] == [0, 1, 0, 1, 0, 1]
    assert plans.nodes["h2-peer"]["listens"] == ["eth1x"]
    assert plans.nodes["h2"]["sends"][0]["packets"][0][1] == 500_000_000
    assert json.loads(json.dumps(plans.nodes)).keys() == plans.nodes.keys()
    assert [one.count.five_tuple is None for one in plans.classes] == [False, False, True]


# --- what is refused


@pytest.mark.parametrize(
    ("found", "make"),
    [
        ("vary nothing over IPv4", lambda: entropy_set("h1", "h2", 2, vary=())),
        ("vary dport over IPv4", lambda: entropy_set("h1", "h2", 2, vary=("dport",))),
        ("vary flow_label over IPv4", lambda: entropy_set("h1", "h2", 2, vary=("flow_label",))),
        ("vary sport, sport over IPv4", lambda: entropy_set("h1", "h2", 2, vary=("sport", "sport"))),
        ("5000 packets of different sport", lambda: entropy_set("h1", "h2", 5000)),
        ("0 packets of different sport", lambda: entropy_set("h1", "h2", 0)),
        ("a class without packets", lambda: entropy_set("h1", "h2", 2, packets=0)),
        ("different packets, 400000 in all", lambda: entropy_set("h1", "h2", 4, packets=100_000)),
        ("codepoints 1, 1", lambda: ecn_probe("h1", "h2", codepoints=(1, 1))),
        ("codepoints 4", lambda: ecn_probe("h1", "h2", codepoints=(4,))),
        ("0 packets of each codepoint", lambda: ecn_probe("h1", "h2", packets=0)),
        ("dscp 64; allowed: 0 to 63", lambda: ecn_probe("h1", "h2", dscp=64)),
        ("mtu 1500", lambda: roce_write("h1", "h2", size=9, mtu=1500)),
        ("a write of 0 bytes", lambda: roce_write("h1", "h2", size=0)),
        ("opcode 0x4", lambda: RocePacket(opcode=4)),
        ("ip_id 0", lambda: RocePacket(ip_id=0)),
        ("a pause at 'h1'", lambda: pause_frames("h1", {3: 1})),
        ("pause of classes [8]", lambda: pause_frames("h1:eth1", {8: 1})),
        ("pause of classes []", lambda: pause_frames("h1:eth1", {})),
        ("quanta; allowed: 0 to 65535", lambda: pause_frames("h1:eth1", {3: 65536})),
        ("a pause 0 times", lambda: pause_frames("h1:eth1", {3: 1}, times=0)),
        ("family 5", lambda: CraftedBurst("x", "h1", "h2", (PacketClass("a", (RocePacket(),)),), family=5)),
        ("no burst", lambda: burst_plans((), WIRING)),
        ("a rate of 0 bit/s", lambda: burst_plans((entropy_set("h1", "h2", 1),), WIRING, rate_bps=0)),
        ("from h1 to itself", lambda: burst_plans((entropy_set("h1", "h1", 1),), WIRING)),
        ("cannot tell packets", lambda: burst_plans((entropy_set("h1", "h2", 1), entropy_set("h1", "h2", 1)), WIRING)),
    ],
)
def test_what_makes_no_sense_is_refused(found: str, make: object) -> None:
    assert callable(make)
    with pytest.raises(SpecError) as caught:
        make()
    assert found in str(caught.value)
    assert "; allowed: " in str(caught.value)
