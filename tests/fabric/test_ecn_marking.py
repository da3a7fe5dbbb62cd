"""ECN-1: packets are marked as they leave, by the depth they leave behind, as SONiC's WRED curve says.

    host1 ──> leaf1 ══╪══> host2      host2 pauses priority 3 (802.1Qbb): N packets wait in queue 3 of leaf1:eth2.
                     pause            Then it lets them go: the j-th leaves (N − j) · size bytes behind.

Nothing of this depends on time: a burst counts when all its packets waited, which the queue's own depth says, before
the first one left. At 1 Gbit/s a pause of 65535 quanta lasts 33.6 ms; it is said again every 250 packets, which take
Python some 5 ms. A workstation that sleeps longer than that lets packets go too early; such a burst is left out.

Sizes: 470 bytes of payload make frames of 512, so the shipped curve (102400 to 409600 bytes, 20 %) spans 600 packets,
100 in each of six steps. The most that is held, 450 KB, is far from where leaf1 would pause host1 (1.4 MB).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from labs import kernel
from labs.dataplane.asic import SoftAsic
from labs.dataplane.intent import Wred
from labs.dataplane.load import load_profile
from labs.lab import Lab
from labs.load_bridge import MacPort, five_tuple
from labs.telemetry.asic_counters import AsicCounters, QueueCounters
from labs.testing import SECOND, RunInvalid, wait_until
from labs.verdicts.ecn import Left, marked_at_dequeue, no_marks, packets_needed, wred_curve
from topologies.ecmp import ROCE_PORT

FRAME = 512
PAYLOAD = FRAME - 14 - 20 - 8
PRIORITY = DSCP = QUEUE = 3
NOT_ECT, ECT0, CE = 0, 2, 3
QUANTA = 65535
SAID_AGAIN_EVERY = 250
WITHIN = 5 * SECOND
STEPS = 6
# Two curves are judged here: one false alarm in a million runs of this file.
FALSE_ALARM = 1e-6 / 2
# Past the end of the shipped curve (800 frames) by 100 frames: also where every seventh that cannot be marked is lost.
MARKED_BURST, DROPPED_BURST = 900, 960
SEQUENCE = struct.Struct("!I")
# What starves or disturbs a run is not the fabric's fault: one valid run of at most three.
pytestmark = [pytest.mark.lab("pair", profile="roce_default"), pytest.mark.valid_of(3)]
SNDBUFFORCE, RCVBUFFORCE = 32, 33  # Linux's: Python has no names for them

# Without the watchdog, which takes a pause that lasts for a storm.
HELD = "base: %s\nPFC_WD: ~\nPORT_QOS_MAP:\n  '*': {pfcwd_sw_enable: ~}\n"
# The step lies between two depths: 100 frames behind are 51200 bytes, 99 are 50688.
STEP_BEHIND = 100
STEP = Wred(FRAME * STEP_BEHIND - 257, FRAME * STEP_BEHIND - 256, 100, drop=True, ecn=True)


@dataclass(frozen=True, slots=True)
class Arrived:
    """One packet as host2 took it."""

    sequence: int
    ecn: int


class Held:
    """Sends bursts from host1 to host2 that wait in leaf1's queue until all of them are there."""

    def __init__(self, lab: Lab, asic: SoftAsic, stack: ExitStack) -> None:
        self.asic = asic
        self.wire = stack.enter_context(MacPort(lab, "host2"))
        dst = five_tuple(lab, "host1", "host2").dst
        lab.node("host1").kernel("ping", "-c", "1", "-W", "2", dst)  # a neighbour not known yet costs packets
        with kernel.inside_netns(lab.deployment.netns("host1")):
            self.out = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        with kernel.inside_netns(lab.deployment.netns("host2")):
            self.into = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.out.setsockopt(socket.SOL_SOCKET, SNDBUFFORCE, 1 << 24)
        self.into.setsockopt(socket.SOL_SOCKET, RCVBUFFORCE, 1 << 25)
        self.into.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        self.into.settimeout(WITHIN)
        self.into.bind((dst, ROCE_PORT))
        self.out.connect((dst, ROCE_PORT))
        self.out.settimeout(WITHIN)

    def ask_and_look(self) -> AsicCounters:
        """Say the pause once more, and read all counters."""
        self.wire.pause({PRIORITY: QUANTA})
        return self.asic.counters()

    def queue(self) -> QueueCounters:
        """The queue that is held."""
        return self.asic.counters().queue("leaf1", "eth2", QUEUE)

    def burst(self, packets: int, ecn: int) -> list[Arrived] | None:
        """Hold a burst, let it go, and return what arrived, in its order; None when the hold broke."""
        self.out.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, DSCP << 2 | ecn)
        before = self.queue()
        assert before.depth_packets == 0, f"{before} is not empty before the burst"
        shut = wait_until("the gate is shut", self.ask_and_look, _shut, within=WITHIN, most=0.02)
        assert shut.held, shut
        for number in range(packets):
            if number % SAID_AGAIN_EVERY == 0:
                self.wire.pause({PRIORITY: QUANTA})
            self.out.send(SEQUENCE.pack(number).ljust(PAYLOAD, b"\0"))
        self.wire.pause({PRIORITY: QUANTA})
        came = wait_until("all packets came", self.queue, lambda now: _came(before, now) == packets, within=WITHIN)
        assert came.held, (str(came), came.last)
        waiting = came.last.depth_packets
        whole = came.last.sent_packets == before.sent_packets
        self.wire.pause({PRIORITY: 0})
        got = [self.take() for _ in range(waiting + came.last.sent_packets - before.sent_packets)]
        empty = wait_until("the queue is empty", self.queue, lambda now: now.depth_packets == 0, within=WITHIN)
        assert empty.held, (str(empty), empty.last)
        sequences = [one.sequence for one in got]
        assert sequences == sorted(set(sequences)), "packets of a queue have changed places"
        return got if whole else None

    def take(self) -> Arrived:
        """The next packet at host2."""
        data, control, _, _ = self.into.recvmsg(PAYLOAD, 64)
        tos = next(value[0] for level, kind, value in control if (level, kind) == (socket.IPPROTO_IP, socket.IP_TOS))
        return Arrived(SEQUENCE.unpack_from(data)[0], tos & 3)

    def bursts(self, valid: int, packets: int, ecn: int) -> list[list[Arrived]]:
        """`valid` bursts that were held to their last packet, of at most twice as many."""
        found: list[list[Arrived]] = []
        for _ in range(2 * valid):
            got = self.burst(packets, ecn)
            if got is not None:
                found.append(got)
            if len(found) == valid:
                return found
        raise RunInvalid(f"{len(found)} of {2 * valid} bursts were held to their last packet, {valid} are needed")


def _shut(now: AsicCounters) -> bool:
    return bool(now.port("leaf1", "eth2").gates_closed & 1 << PRIORITY)


def _came(before: QueueCounters, now: QueueCounters) -> int:
    gone = now.left_packets - before.left_packets + now.refused_packets - before.refused_packets
    return now.depth_packets + gone + now.ingress_packets - before.ingress_packets


def left_behind(burst: list[Arrived]) -> list[Left]:
    """What each packet of a held burst left behind, and whether it came marked."""
    return [Left(FRAME * (len(burst) - place), one.ecn == CE) for place, one in enumerate(burst, 1)]


def found_before(burst: list[Arrived], sent: int) -> list[Left]:
    """What each packet sent found in the queue when it came, and whether it was dropped."""
    arrived = {one.sequence for one in burst}
    samples, depth = [], 0
    for number in range(sent):
        samples.append(Left(FRAME * depth, number not in arrived))
        depth += number in arrived
    return samples


@pytest.fixture
def held(lab: Lab, asic: SoftAsic) -> Iterator[Held]:
    """A way to hold bursts in leaf1's queue."""
    with ExitStack() as stack:
        yield Held(lab, asic, stack)


@pytest.fixture
def played(held: Held, request: pytest.FixtureRequest, tmp_path: Path) -> Wred | None:
    """What the queue's curve is, once the profile that the test asks for is in force."""
    file = tmp_path / "held.yaml"
    file.write_text(request.param)
    profile = load_profile(str(file))
    held.asic.apply(profile)
    return profile.port("leaf1", "eth2").queues[QUEUE].wred


def profile(text: str) -> pytest.MarkDecorator:
    """Play this profile."""
    return pytest.mark.parametrize("played", [text], indirect=True, ids=[""])


@profile(HELD % "roce_default")
def test_marks_follow_the_curve(held: Held, played: Wred) -> None:
    """ECT packets at six depths between the ends, and beyond both, against p(q); and against a steeper curve: false.

    A step needs 12 000 packets to notice a tenth of 20 % and has 100 of each burst: 120 bursts, some 40 ms each.
    """
    needed = -(-packets_needed(played, STEPS, FALSE_ALARM) // 100)
    before = held.queue().marked_packets
    bursts = held.bursts(needed + 2, MARKED_BURST, ECT0)
    samples = [one for burst in bursts for one in left_behind(burst)]
    assert wred_curve(samples, played, steps=STEPS, false_alarm=FALSE_ALARM)
    assert held.queue().marked_packets - before >= sum(one.marked for one in samples)
    steeper = Wred(played.min_bytes, played.max_bytes, played.probability_percent + 4, drop=True, ecn=True)
    other = wred_curve(samples, steeper, steps=STEPS, false_alarm=FALSE_ALARM)
    assert not other.held


@profile(HELD % "roce_default")
def test_what_cannot_be_marked_is_dropped_by_the_same_curve(held: Held, played: Wred) -> None:
    """Not-ECT packets: the depth that counts is the one they find when they come. Nothing of them is marked."""
    needed = -(-packets_needed(played, STEPS, FALSE_ALARM) // 100)
    before = held.queue()
    bursts = held.bursts(needed + 2, DROPPED_BURST, NOT_ECT)
    samples = [one for burst in bursts for one in found_before(burst, DROPPED_BURST)]
    assert wred_curve(samples, played, steps=STEPS, false_alarm=FALSE_ALARM)
    after = held.queue()
    assert after.wred_packets - before.wred_packets >= sum(one.marked for one in samples)
    assert after.marked_packets == before.marked_packets
    assert {one.ecn for burst in bursts for one in burst} == {NOT_ECT}


@profile(HELD % "pfc_only")
def test_nothing_is_marked_with_marking_off(held: Held, played: Wred | None) -> None:
    """Control of the two above: without WRED the same bursts arrive whole and unmarked. One burst would show 160."""
    assert played is None
    before = held.queue()
    wred = load_profile("roce_default").port("leaf1", "eth2").queues[QUEUE].wred
    assert wred is not None
    bursts = held.bursts(3, MARKED_BURST, ECT0)
    assert no_marks([one for burst in bursts for one in left_behind(burst)], wred)
    assert [len(burst) for burst in held.bursts(3, DROPPED_BURST, NOT_ECT)] == 3 * [DROPPED_BURST]
    after = held.queue()
    assert (after.marked_packets, after.wred_packets) == (before.marked_packets, before.wred_packets)


@profile(
    HELD % "roce_default"
    + f"""WRED_PROFILE:
  AZURE_LOSSLESS:
    green_min_threshold: {STEP.min_bytes}
    green_max_threshold: {STEP.max_bytes}
    green_drop_probability: 100
"""
)
def test_the_front_of_a_burst_is_marked(held: Held, played: Wred) -> None:
    """A step instead of a curve: the change comes after the packet that leaves 100 frames behind, to the packet.

    201 packets: those that leave 200 … 100 behind are marked, 101 of them, and the last 100 are not. Read backwards,
    which is what marking on arrival would give, the verdict is false.
    """
    assert played == STEP
    for burst in held.bursts(5, 2 * STEP_BEHIND + 1, ECT0):
        marks = [one.ecn == CE for one in burst]
        sent = 2 * STEP_BEHIND + 1
        assert marked_at_dequeue(marks, sent=sent, frame_bytes=FRAME, curve=STEP)
        assert marks == [True] * (STEP_BEHIND + 1) + [False] * STEP_BEHIND
        assert not marked_at_dequeue(marks[::-1], sent=sent, frame_bytes=FRAME, curve=STEP).held


@profile(HELD % "roce_default")
def test_what_came_marked_stays_marked(held: Held, played: Wred) -> None:
    """CE packets arrive as CE at any depth, and the queue takes no credit: its count of marks does not move."""
    before = held.queue()
    for burst in held.bursts(3, MARKED_BURST, CE):
        assert len(burst) == MARKED_BURST, f"dropped although marked, with {played}"
        assert {one.ecn for one in burst} == {CE}
    assert held.queue().marked_packets == before.marked_packets
