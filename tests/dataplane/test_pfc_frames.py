"""MAC control frames, as scapy writes them: what is counted, what asicd is told, and that none goes further."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from scapy.contrib.mac_control import MACControlClassBasedFlowControl, MACControlPause
from scapy.layers.l2 import Ether

from labs.dataplane import abi
from labs.dataplane.abi import EventKind

if TYPE_CHECKING:
    from tests.dataplane.conftest import Bench

PASS, DROP = -1, 2
PORT, HOST = 1, 5
GROUP = "01:80:c2:00:00:01"


def pfc(
    quanta: dict[int, int], *, to: str = GROUP, source: str = "02:00:00:00:00:09", vector: int | None = None
) -> bytes:
    """A PFC frame; `vector`: the class-enable vector, by default the priorities that have quanta."""
    enabled = sum(1 << p for p in quanta) if vector is None else vector
    fields: dict[str, Any] = {f"c{p}_enabled": bool(enabled & 1 << p) for p in range(8)}
    fields |= {f"c{p}_pause_time": time for p, time in quanta.items()}
    frame = bytes(Ether(dst=to, src=source, type=0x8808) / MACControlClassBasedFlowControl(**fields))
    return frame.ljust(60, b"\0")


def counted(bench: Bench, port: int = PORT) -> tuple[list[int], list[int]]:
    return list(bench.ports[port].pfc_rx), list(bench.ports[port].pfc_xon_rx)


@pytest.mark.parametrize("port", [PORT, HOST])
@pytest.mark.parametrize("priority", range(8))
def test_every_priority(bench: Bench, port: int, priority: int) -> None:
    assert bench.ingress(port, pfc({priority: 0xABCD})).verdict == DROP
    ones = [int(p == priority) for p in range(8)]
    assert counted(bench, port) == (ones, [0] * 8)
    events = bench.told()
    if priority in {3, 4}:
        quanta = tuple(0xABCD * one for one in ones)
        assert [(e.port, e.kind, e.priorities, e.quanta) for e in events] == [
            (port, EventKind.PFC, 1 << priority, quanta)
        ]
    else:
        assert events == [], "a priority that is not enabled is counted, not honoured"


def test_pause_and_go_on_in_one_frame(bench: Bench) -> None:
    bench.ingress(PORT, pfc({2: 5, 3: 65535, 4: 0, 7: 0}))
    assert counted(bench) == ([0, 0, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0, 0, 1])
    (event,) = bench.told()
    assert event.priorities == 0b00011000
    assert (event.quanta[3], event.quanta[4]) == (65535, 0)


def test_only_the_class_enable_vector_counts(bench: Bench) -> None:
    assert bench.ingress(PORT, pfc(dict.fromkeys(range(8), 99), vector=0)).verdict == DROP
    assert (counted(bench), bench.told()) == (([0] * 8, [0] * 8), [])
    bench.ingress(PORT, pfc(dict.fromkeys(range(8), 99), vector=0b00010001))
    (event,) = bench.told()
    assert (event.priorities, event.quanta[3], event.quanta[4]) == (0b00010000, 0, 99)
    assert counted(bench) == ([1, 0, 0, 0, 1, 0, 0, 0], [0] * 8)


def test_the_vectors_reserved_half_is_ignored(bench: Bench) -> None:
    frame = bytearray(pfc({3: 7}))
    frame[16] = 0xFF
    bench.ingress(PORT, bytes(frame))
    assert counted(bench) == ([0, 0, 0, 1, 0, 0, 0, 0], [0] * 8)
    assert [event.priorities for event in bench.told()] == [0b00001000]


def test_pfc_off_is_counted_only(bench: Bench) -> None:
    bench.profile.pfc_enable = 0
    bench.ingress(PORT, pfc({3: 7}))
    assert (counted(bench)[0][3], bench.told()) == (1, [])


def test_a_sender_without_an_address_is_honoured(bench: Bench) -> None:
    bench.ingress(PORT, pfc({3: 7}, source="00:00:00:00:00:00"))
    assert len(bench.told()) == 1


def test_802_3x_is_ignored(bench: Bench) -> None:
    pause = bytes(Ether(dst=GROUP, src="02:00:00:00:00:09", type=0x8808) / MACControlPause(pause_time=65535))
    assert bench.ingress(PORT, pause.ljust(60, b"\0")).verdict == DROP
    assert (counted(bench), bench.told(), bench.ports[PORT].pause_802_3x) == (([0] * 8, [0] * 8), [], 1)


@pytest.mark.parametrize("opcode", [0x0000, 0x0002, 0x0100, 0x0102, 0xFFFE])
def test_other_opcodes_end_here_too(bench: Bench, opcode: int) -> None:
    frame = bytearray(pfc({3: 7}))
    frame[14:16] = opcode.to_bytes(2)
    assert bench.ingress(PORT, bytes(frame)).verdict == DROP
    assert (counted(bench), bench.told(), bench.ports[PORT].pause_802_3x) == (([0] * 8, [0] * 8), [], 0)


@pytest.mark.parametrize("to", ["01:80:c2:00:00:0e", "02:00:00:00:00:01", "ff:ff:ff:ff:ff:ff", "01:80:c2:00:01:01"])
def test_other_destinations_pass(bench: Bench, to: str) -> None:
    assert bench.ingress(PORT, pfc({3: 7}, to=to)).verdict == PASS
    assert (counted(bench), bench.told()) == (([0] * 8, [0] * 8), [])


@pytest.mark.parametrize("length", [15, 16, 18, 20, 33])
def test_a_frame_cut_short_changes_nothing(bench: Bench, length: int) -> None:
    whole = pfc(dict.fromkeys(range(8), 7))
    assert bench.ingress(PORT, whole[:length]).verdict == DROP
    assert (counted(bench), bench.told()) == (([0] * 8, [0] * 8), [])
    # Negative control: 34 bytes are all that is read.
    assert bench.ingress(PORT, whole[:34]).verdict == DROP
    assert counted(bench)[0] == [1] * 8


def test_pfc_takes_no_room_and_is_not_impaired(bench: Bench) -> None:
    bench.impairments[PORT].lose = abi.PROBABILITY_ONE
    bench.ingress(PORT, pfc({3: 7}))
    assert len(bench.told()) == 1
    assert bench.impairments[PORT].lost == bench.ports[PORT].unstamped == 0


@pytest.mark.parametrize("port", [PORT, HOST])
@pytest.mark.parametrize("to", [GROUP, "02:00:00:00:00:01"])
def test_pfc_that_a_node_sends_itself_leaves_nothing_in_its_queues(bench: Bench, port: int, to: str) -> None:
    """A test's PFC generator is no asicd: it sends through the queues. The far end takes it out all the same."""
    frame = pfc({3: 65535}, to=to)
    assert bench.egress(port, frame).verdict == PASS
    stamp = bench.stamp(port, frame) if any(bench.depth(port, q)[0] for q in range(8)) else 0
    assert bench.ingress(bench.ports[port].peer, frame, stamp).verdict == (DROP if to == GROUP else PASS)
    assert [bench.depth(port, q) for q in range(8)] == [(0, 0)] * 8


# --- what the watchdog does to packets


def test_a_storm_takes_its_queue_and_no_other(bench: Bench, udp: Callable[..., bytes]) -> None:
    queued = udp(3, size=200)
    for _ in range(3):
        bench.egress(1, queued, came=2)
    bench.ports[1].watchdog_drop = 1 << 3
    # What was queued is emptied, what comes for the queue is refused, what comes in by the port for it is dropped.
    assert [bench.cross(1, queued, came=2).verdict for _ in range(3)] == [DROP] * 3
    state = bench.queue(1, 3)
    assert (state.emptied_packets, state.emptied_bytes, state.sent_packets) == (3, 600, 0)
    assert (bench.depth(1, 3), bench.charged(1, 1, 3), bench.group(2, 3).used) == ((0, 0), (0, 0), 0)
    assert bench.egress(1, queued, came=2).verdict == DROP
    assert (state.watchdog_dropped_packets, state.watchdog_dropped_bytes, bench.depth(1, 3)) == (1, 200, (0, 0))
    assert bench.ingress(1, queued).verdict == DROP
    assert bench.impairments[1].watchdog_dropped == 1
    # Other queues go on, and so do frames that are not IP.
    other = udp(4, size=200)
    assert [bench.egress(1, other, came=2).verdict, bench.cross(1, other, came=2).verdict] == [PASS, PASS]
    assert bench.ingress(1, other).verdict == PASS
    # Negative control: the storm is over.
    bench.ports[1].watchdog_drop = 0
    assert [bench.egress(1, queued, came=2).verdict, bench.cross(1, queued, came=2).verdict] == [PASS, PASS]
    assert bench.ingress(1, queued).verdict == PASS
