r"""PFC-2: which frames pause what, and for how long; nobody else hears of them, and every one is counted.

host1  host2
   \    /           host3 sends MAC control frames to leaf1:eth3, below its own queues, as a NIC's MAC does;
   leaf1            packets from host1 to host3 show whether leaf1's port is held back
     | eth3
   host3            at 100 Mbit/s a quantum of 512 bit times is 5.12 µs: 65535 of them 335.5 ms
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scapy.contrib.mac_control import MACControlClassBasedFlowControl, MACControlPause
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from labs.dataplane.asic import SoftAsic
from labs.lab import Lab
from labs.load_bridge import MacPort, Probe
from labs.telemetry.asic_counters import PortCounters
from labs.testing import MBIT, MILLISECOND, wait_until
from traffic.pauses import SHORTEST_FRAME, pfc_frame, quanta_of

pytestmark = pytest.mark.valid_of(3)  # what starves or disturbs a run is not the fabric's fault

GROUP = "01:80:c2:00:00:01"
MOST_QUANTA = 65_535
RATE = 100 * MBIT
LOSSLESS = (3, 4)
PACKETS = 20
WITHIN_S = 5.0
# 20 packets of 1066 bytes take 1.7 ms at 100 Mbit/s; a pause of 65535 quanta would hold them for 335 ms.
AT_ONCE_S = 0.2
WITHOUT_WATCHDOG = "base: pfc_only\nPFC_WD: ~\n"

Play = Callable[..., object]
Note = Callable[[object], None]


@pytest.fixture
def sink(lab: Lab) -> Iterator[MacPort]:
    with MacPort(lab, "host3") as port:
        yield port


@pytest.fixture
def probe(lab: Lab) -> Iterator[Probe]:
    with Probe(lab, "host1", "host3") as packets:
        yield packets


def counted(asic: SoftAsic) -> PortCounters:
    """The port that host3's frames come to."""
    return asic.counters().port("leaf1", "eth3")


def arrive(probe: Probe, *, within: float) -> int:
    """Send packets; how many arrive in time."""
    probe.send(PACKETS)
    count = 0

    def more() -> int:
        nonlocal count
        count += probe.received()
        return count

    wait_until("packets arrive", more, lambda now: now == PACKETS, within=within, most=0.02)
    return count


def crafted(src: bytes, vector: int, quanta: dict[int, int]) -> bytes:
    """An 802.1Qbb frame as scapy makes it, which did not learn it from us."""
    fields: dict[str, Any] = {f"c{n}_enabled": vector >> n & 1 for n in range(8)} | {
        f"c{n}_pause_time": q for n, q in quanta.items()
    }
    return bytes(Ether(dst=GROUP, src=src.hex(":")) / MACControlClassBasedFlowControl(**fields)).ljust(
        SHORTEST_FRAME, b"\0"
    )


@pytest.mark.lab("star_3", profile="pfc_only")
def test_frames_are_counted_exactly(asic: SoftAsic, sink: MacPort) -> None:
    """10 frames for a priority are 10 more for that priority, and 0 for every other; XON is counted by itself.

    Bound: exact, as in SONiC's test_pfc_counters. Our own frames are those that scapy makes, byte for byte.
    """
    start = counted(asic)
    for priority in range(8):
        assert crafted(sink.mac, 1 << priority, {priority: 7}) == pfc_frame(sink.mac, {priority: 7})
        for quanta in (1, 0):
            before = counted(asic)
            for _ in range(10):
                sink.pause({priority: quanta})
            after = landed(asic, before, 10)
            only = tuple(10 * (one == priority) for one in range(8))
            assert grown(before.pfc_rx, after.pfc_rx) == (only if quanta else (0,) * 8)
            assert grown(before.pfc_xon_rx, after.pfc_xon_rx) == ((0,) * 8 if quanta else only)
    assert counted(asic).pause_802_3x == start.pause_802_3x


def landed(asic: SoftAsic, before: PortCounters, frames: int) -> PortCounters:
    """What is counted once so many more frames are: another processor than the sender's takes them in."""

    def more(now: PortCounters) -> int:
        pfc = sum(grown(before.pfc_rx, now.pfc_rx)) + sum(grown(before.pfc_xon_rx, now.pfc_xon_rx))
        return pfc + now.pause_802_3x - before.pause_802_3x

    waited = wait_until(
        "the frames are counted", lambda: counted(asic), lambda now: more(now) >= frames, within=WITHIN_S
    )
    assert waited.held, waited
    return waited.last


def grown(before: tuple[int, ...], after: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(b - a for a, b in zip(before, after, strict=True))


@pytest.mark.lab("star_3", profile="pfc_only")
@pytest.mark.parametrize(
    "ignored", ["bit clear", "lossy priority", "802.3x", "another opcode", "to the port's own MAC"]
)
def test_frames_that_pause_nothing(
    lab: Lab, asic: SoftAsic, play: Play, sink: MacPort, probe: Probe, ignored: str
) -> None:
    """A priority whose bit is clear, a lossy priority, 802.3x and what is no pause at all hold nothing back.

    Bound: no time paused, no gate shut, and 20 packets arrive within 0.2 s where a pause lasts 335 ms. Control: with
    the bit set for priority 3, no more than the two packets arrive that a gate lets pass as it shuts.
    """
    play(WITHOUT_WATCHDOG)
    ether = Ether(dst=GROUP, src=sink.mac.hex(":"))
    with MacPort(lab, "leaf1", "eth3") as far:
        own = far.mac
    frames = {
        "bit clear": crafted(sink.mac, 0, {3: MOST_QUANTA}),
        "lossy priority": crafted(sink.mac, 1 << 1, {1: MOST_QUANTA}),
        "802.3x": bytes(ether / MACControlPause(pause_time=MOST_QUANTA)),
        "another opcode": bytes(ether / Raw(b"\x88\x08\x01\x02\x00\x08" + b"\xff" * 40)),
        "to the port's own MAC": own + crafted(sink.mac, 8, {3: MOST_QUANTA})[6:],
    }
    before = counted(asic)
    for _ in range(3):
        sink.send(frames[ignored].ljust(SHORTEST_FRAME, b"\0"))
    assert arrive(probe, within=AT_ONCE_S) == PACKETS
    after = landed(asic, before, 3 * (ignored in {"802.3x", "lossy priority"}))
    assert (after.paused_ns, after.gates_closed) == (before.paused_ns, 0)
    assert after.pause_802_3x - before.pause_802_3x == 3 * (ignored == "802.3x")
    assert after.pfc_rx[1] - before.pfc_rx[1] == 3 * (ignored == "lossy priority")
    assert after.pfc_rx[3] == before.pfc_rx[3]

    sink.pause({3: MOST_QUANTA})
    assert wait_until("the gate is shut", lambda: counted(asic).gates_closed, bool, within=WITHIN_S).held
    assert arrive(probe, within=AT_ONCE_S / 2) <= 2
    sink.pause({3: 0})


@pytest.mark.lab("star_3", profile="pfc_only")
def test_pfc_goes_no_further(lab: Lab, asic: SoftAsic, sink: MacPort) -> None:
    """A pause is for the port at the other end of the cable: no other host hears it, leaf1 itself sends none.

    Bound: none of 50 frames, of priorities lossless and lossy. Control: a frame that leaf1's port to host1 sends by
    hand is heard there.
    """
    with (
        MacPort(lab, "host1", listens=True) as one,
        MacPort(lab, "host2", listens=True) as two,
        MacPort(lab, "leaf1", "eth1") as leaf,
    ):
        before = asic.counters()
        for number in range(50):
            sink.pause({number % 8: 1})
        landed = wait_until(
            "leaf1 has them",
            lambda: asic.counters() - before,
            lambda now: sum(now.port("leaf1", "eth3").pfc_rx) == 50,
            within=WITHIN_S,
        )
        assert landed.held, landed
        heard = {str(port): sum(port.pfc_rx) + sum(port.pfc_tx) for port in landed.last.ports if port.name != "eth3"}
        assert heard == dict.fromkeys(heard, 0)
        assert (one.heard(), two.heard()) == (0, 0)
        leaf.pause({3: 1})
        assert wait_until("host1 hears leaf1", one.heard, bool, within=WITHIN_S).held


@pytest.mark.lab("star_3", profile="pfc_only")
def test_a_pause_lasts_its_quanta(asic: SoftAsic, play: Play, sink: MacPort, probe: Probe, note: Note) -> None:
    """A pause ends by itself after its quanta; a later frame replaces it, longer or shorter; 0 quanta end it at once.

    Bound: 100 ms of quanta hold packets back for 100 ms, and what the timer of a process may be late: 20 ms, twice the
    longest reaction seen on a workstation that was busy.
    """
    play(WITHOUT_WATCHDOG)
    late = 20 * MILLISECOND
    before = counted(asic)
    sink.pause({3: quanta_of(0.1, RATE)})
    assert arrive(probe, within=WITHIN_S) == PACKETS
    alone = (counted(asic).paused_ns[3] - before.paused_ns[3]) / 1e9
    note(f"100 ms of quanta: paused {alone * 1e3:.2f} ms")
    assert 0.1 <= alone < 0.1 + late

    sink.pause({3: MOST_QUANTA, 4: MOST_QUANTA})
    sink.pause({3: quanta_of(0.05, RATE)})
    assert arrive(probe, within=AT_ONCE_S) == PACKETS
    after = counted(asic)
    replaced = (after.paused_ns[3] - before.paused_ns[3]) / 1e9 - alone
    note(f"65535 quanta, then 50 ms: paused {replaced * 1e3:.2f} ms")
    assert 0.05 <= replaced < 0.05 + late
    assert after.gates_closed == 1 << 4, "the other priority's pause stays"
    sink.pause({4: 0})
    ended = wait_until("nothing is paused", lambda: counted(asic).gates_closed, lambda shut: not shut, within=AT_ONCE_S)
    assert ended.held, ended
