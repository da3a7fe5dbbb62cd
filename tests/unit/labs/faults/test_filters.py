"""What the classic BPF of a port without a soft ASIC lets go on, run by an interpreter of its few instructions."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from labs.dataplane.abi import Match
from labs.dataplane.wires import Impairment
from labs.faults.filters import DROP, GO_ON, RANDOM, programs


def run(program: str, frame: bytes, drawn: int = 0) -> int:
    """What a program returns for a frame. Reading past its end returns 0, as in the kernel."""
    count, *lines = program.split(",")
    code = [tuple(map(int, line.split())) for line in lines]
    assert len(code) == int(count)
    accumulator = index = at = 0
    while True:
        operation, holds, fails, operand = code[at]
        at += 1
        if operation == 0x06:
            return operand
        if operation in {0x20, 0x28, 0x30, 0x48}:
            size = {0x20: 4, 0x28: 2, 0x30: 1, 0x48: 2}[operation]
            start = operand + (index if operation == 0x48 else 0)
            if operand == RANDOM:
                accumulator = drawn
            elif start + size > len(frame):
                return 0
            else:
                accumulator = int.from_bytes(frame[start : start + size])
        elif operation == 0xB1:
            index = 4 * (frame[operand] & 15)
        else:
            met = {0x15: accumulator == operand, 0x45: bool(accumulator & operand), 0x35: accumulator >= operand}
            at += holds if met[operation] else fails


def drops(wrong: Impairment, frame: bytes, drawn: int = 0) -> bool:
    """Whether any of the programs drops a frame."""
    said = {run(program, frame, drawn) for program in programs(wrong)}
    assert said <= {DROP, GO_ON, 0}
    return DROP in said


def a_frame(sport: int = 1, dport: int = 4791, *, tcp: bool = False, v6: bool = False, **ip: Any) -> bytes:
    """A frame with ports."""
    packet = (IPv6() if v6 else IP(src="10.0.0.1", dst="10.0.0.2", **ip)) / (TCP if tcp else UDP)(
        sport=sport, dport=dport
    )
    return bytes(Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02") / packet / bytes(40))


def test_a_chance_near_one_is_a_number_that_a_program_can_hold() -> None:
    """Rounded to 32 bits it is 2^32, which is none: it drops everything. The smallest chance drops one draw of all."""
    frame = a_frame()
    for lose in (1.0, 1 - 2.0**-34):
        assert all(drops(Impairment(lose=lose), frame, drawn) for drawn in (0, 2**32 - 1)), lose
    below = programs(Impairment(lose=1 - 2.0**-32))[0]
    assert (run(below, frame, 2**32 - 2), run(below, frame, 2**32 - 1)) == (DROP, GO_ON)
    least = programs(Impairment(lose=2.0**-32))[0]
    assert (run(least, frame, 0), run(least, frame, 1)) == (DROP, GO_ON)


ARP = bytes(Ether(dst="ff:ff:ff:ff:ff:ff", src="02:00:00:00:00:02", type=0x0806)) + bytes(46)


def test_everything() -> None:
    assert all(drops(Impairment(blackhole={}), frame) for frame in (ARP, a_frame(), a_frame(v6=True)))


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [("src", "10.0.0.1", "10.0.0.9"), ("dst", "10.0.0.2", "10.0.0.9"), ("sport", 1, 2), ("dport", 4791, 4792)],
)
def test_a_five_tuple_is_matched_field_by_field(name: str, right: object, wrong: object) -> None:
    whole: dict[str, str | int] = {"src": "10.0.0.1", "dst": "10.0.0.2", "sport": 1, "dport": 4791, "protocol": 17}
    for flow in (whole | {name: right}, {name: right}):
        assert drops(Impairment(blackhole=flow), a_frame())  # type: ignore[arg-type]
        assert not drops(Impairment(blackhole=flow | {name: wrong}), a_frame())  # type: ignore[arg-type]
        assert not drops(Impairment(blackhole=flow), a_frame(v6=True))  # type: ignore[arg-type]
        assert not drops(Impairment(blackhole=flow), ARP)  # type: ignore[arg-type]


def test_protocols_fragments_and_options() -> None:
    by_port, by_protocol = Impairment(blackhole={"dport": 4791}), Impairment(blackhole={"protocol": 6})
    assert drops(by_port, a_frame(tcp=True))
    assert [drops(by_protocol, a_frame(tcp=tcp)) for tcp in (True, False)] == [True, False]
    assert not drops(by_port, a_frame(frag=1)), "a fragment has no ports"
    assert drops(by_port, a_frame(options=[(b"\x01")] * 4)), "a longer header"


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize("wanted", [Match.BGP, Match.BFD, Match.BGP | Match.BFD])
def test_what_keeps_sessions_and_nothing_else(wanted: Match, *, v6: bool) -> None:
    wrong = Impairment(control=int(wanted))
    bgp = [a_frame(179, 40000, tcp=True, v6=v6), a_frame(40000, 179, tcp=True, v6=v6)]
    bfd = [a_frame(49152, port, v6=v6) for port in (3784, 3785)]
    assert {drops(wrong, frame) for frame in bgp} == {bool(wanted & Match.BGP)}
    assert {drops(wrong, frame) for frame in bfd} == {bool(wanted & Match.BFD)}
    assert not any(drops(wrong, frame) for frame in (a_frame(v6=v6), a_frame(179, 179, v6=v6), ARP))


def test_a_chance() -> None:
    tenth = Impairment(lose=0.1)
    drawn = (0, 2**32 // 10 - 1, 2**32 // 10 + 1, 2**32 - 1)
    assert [drops(tenth, ARP, one) for one in drawn] == [True, True, False, False]
    assert drops(Impairment(lose=1.0), ARP, 2**32 - 1)
    assert not programs(Impairment())
