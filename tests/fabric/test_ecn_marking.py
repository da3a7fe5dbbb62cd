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
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from labs import kernel
from labs.dataplane.asic import SoftAsic
from labs.dataplane.intent import Wred
from labs.dataplane.load import load_profile
from labs.dataplane.profile import Profile
from labs.kinds import driver
from labs.lab import Lab
from labs.telemetry.asic_counters import QueueCounters
from labs.testing import SECOND, RunInvalid, wait_until
from labs.verdicts.ecn import Left, marked_at_dequeue, no_marks, packets_needed, wred_curve
from topologies import addressing

FRAME = 512
PAYLOAD = FRAME - 14 - 20 - 8
PORT = 4791
DSCP = 3
QUEUE = 3
NOT_ECT, ECT1, ECT0, CE = range(4)
QUANTA = 65535
SAID_AGAIN_EVERY = 250
WITHIN = 5 * SECOND
# All questions of all tests of this file together; wred_curve's own bound is for one of them.
FALSE_ALARM = 1e-6 / 4
SEQUENCE = struct.Struct("!I")

# Without the watchdog, which takes a pause that lasts for a storm.
HELD = "base: {base}\nPFC_WD: ~\nPORT_QOS_MAP:\n  '*': {{pfcwd_sw_enable: ~}}\n{more}"
STEP = "WRED_PROFILE:\n  AZURE_LOSSLESS: {green_min_threshold: %d, green_max_threshold: %d, green_drop_probability: 100}"


@dataclass(frozen=True)
class Arrived:
    """One packet as host2 took it."""

    sequence: int
    ecn: int


class Burst:
    """Sends bursts from host1 to host2 that wait in leaf1's queue until all of them are there."""

    def __init__(self, lab: Lab, asic: SoftAsic, stack: ExitStack) -> None:
        self.asic = asic
        self.netdev = driver(lab.node("host2").kind).netdev(lab.node("host2"), "eth1")
        src, dst = (str(addressing.host_address(lab.fabric, host, 1, 4)) for host in ("host1", "host2"))
        lab.node("host1").kernel("ping", "-c", "1", "-W", "2", dst)  # a neighbour not known yet costs packets
        with kernel.inside_netns(lab.deployment.netns("host1")):
            self.out = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        with kernel.inside_netns(lab.deployment.netns("host2")):
            self.into = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            # Past the queues of host2's own port: a pause frame is no packet of any of them.
            self.pauses = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
            self.pauses.setsockopt(263, 20, 1)  # SOL_PACKET, PACKET_QDISC_BYPASS
            self.pauses.bind((self.netdev, 0))
        self.out.setsockopt(socket.SOL_SOCKET, 32, 1 << 24)  # SO_SNDBUFFORCE
        self.into.setsockopt(socket.SOL_SOCKET, 33, 1 << 25)  # SO_RCVBUFFORCE
        self.into.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        self.into.settimeout(WITHIN)
        self.into.bind((dst, PORT))
        self.out.bind((src, PORT))
        self.out.connect((dst, PORT))
        self.mac = self.pauses.getsockname()[4]

    def pause(self, quanta: int) -> None:
        """Say 802.1Qbb for priority 3: wait for `quanta` × 512 bit times, 0 to go on."""
        times = [quanta if priority == DSCP else 0 for priority in range(8)]
        frame = bytes.fromhex("0180c2000001") + self.mac + struct.pack("!HHH8H", 0x8808, 0x0101, 1 << DSCP, *times)
        self.pauses.send(frame.ljust(60, b"\0"))

    def queue(self) -> QueueCounters:
        """The queue that is held."""
        return self.asic.counters().queue("leaf1", "eth2", QUEUE)

    def send(self, packets: int, ecn: int, *, accepted: Callable[[QueueCounters, QueueCounters], int]) -> list[Arrived]:
        """Hold `packets` packets, let them go, and return those that arrived, in order; empty when the hold broke.

        `accepted` says how many of them are to arrive, by the queue's counters before and after.
        """
        self.out.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, DSCP << 2 | ecn)
        before = self.queue()
        assert before.depth_packets == 0
        shut = self.asic.plan.ports[1]
        self.pause(QUANTA)
        closed = wait_until(
            "the gate is shut", lambda: self.asic.counters().port(shut.node, shut.name).gates_closed, bool, within=WITHIN
        )
        assert closed.held, closed
        for number in range(packets):
            if number % SAID_AGAIN_EVERY == 0:
                self.pause(QUANTA)
            self.out.send(SEQUENCE.pack(number).ljust(PAYLOAD, b"\0"))
        self.pause(QUANTA)
        came = wait_until("all packets came", self.queue, lambda now: _came(before, now) >= packets, within=WITHIN)
        assert came.held, (came, came.last)
        waits = accepted(before, came.last)
        whole = came.last.depth_packets == waits and came.last.sent_packets == before.sent_packets
        self.pause(0)
        got = [self.take() for _ in range(waits)]
        done = wait_until("the queue is empty", self.queue, lambda now: now.depth_packets == 0, within=WITHIN)
        assert done.held, (done, done.last)
        return got if whole else []

    def take(self) -> Arrived:
        """The next packet at host2."""
        data, control, _, _ = self.into.recvmsg(PAYLOAD, 64)
        tos = next(value[0] for level, kind, value in control if (level, kind) == (socket.IPPROTO_IP, socket.IP_TOS))
        return Arrived(SEQUENCE.unpack_from(data)[0], tos & 3)
