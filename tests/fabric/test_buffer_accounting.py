"""QOS-3: whatever happens to packets, the switch knows of each one: limits, wires, cuts, changes, and the ASIC itself.

    host1 ──> leaf1 ═ queue ═╪═> host2       the queue fills; the wire loses or changes frames; the cable is cut; the
    host3 ──>                                profile is changed; the programs are taken off and put on again.

After every test the fixture `asic` judges the books of the whole lab: one fate a packet, and nothing left anywhere.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from labs import kernel
from labs.dataplane import place
from labs.dataplane.asic import HOOK, Impairment, SoftAsic, tell
from labs.dataplane.intent import BufferProfile
from labs.dataplane.load import load_profile
from labs.kinds import driver
from labs.lab import Lab, open_lab
from labs.load_bridge import five_tuple, send, sending
from labs.pytest_plugin import unique_name
from labs.request import Request
from labs.telemetry.asic_counters import AsicCounters
from labs.testing import KBIT, MBIT, SECOND, RunInvalid, wait_until
from labs.verdicts.ledger import lost_in_kernel, nothing_left, packets_conserved
from traffic.engines.rnic import RawFlow, RawReport, read_log

WITHIN = 10 * SECOND
FRAME = 1024
PAYLOAD = FRAME - 42
# A frame takes 80 ms: nothing leaves while a burst comes, but the 9300 bytes that HTB lets an idle port send at once.
HELD = 100 * KBIT
FALSE_ALARM = 1e-6
LOST_PACKETS = 20_000
CYCLES = CUTS = CHANGES = 50
PAIR = pytest.mark.lab("pair", profile="roce_default")


def flow(lab: Lab, src: str, dst: str, packets: int | None, *, dscp: int = 0, sport: int = 50_000) -> RawFlow:
    """Packets of FRAME bytes, as fast as the host's port takes them."""
    return RawFlow(src, dst, five_tuple(lab, src, dst, sport=sport), packets=packets, payload_bytes=PAYLOAD, dscp=dscp)


def full_at(free: int, limits: BufferProfile) -> int:
    """How many frames a queue holds that fills while `free` bytes of its pool are: k is the last one that fits.

    The frame that comes finds (k − 1) · FRAME bytes; what exceeds the reserved ones is taken from the pool, and may be
    up to 2^dynamic_th of what is free of it: k · FRAME − reserved ≤ 2^th · (free − ((k − 1) · FRAME − reserved)).
    """
    assert limits.dynamic_th is not None
    alpha = 2.0**limits.dynamic_th
    return int((limits.reserved * (1 + alpha) + alpha * (free + FRAME)) / (FRAME * (1 + alpha)))


@contextmanager
def rate_of(lab: Lab, asic: SoftAsic, host: str, rate_bps: int) -> Iterator[None]:
    """A host's link at another rate, for the length of a block."""
    link = lab.fabric.between("leaf1", host)[0]
    asic.apply(asic.profile, rates={link.name: rate_bps})
    try:
        yield
    finally:
        asic.apply(asic.profile, rates={link.name: link.rate_bps})


def filled(lab: Lab, asic: SoftAsic, packets: int, dscps: Mapping[int, int]) -> list[int]:
    """Fill queues of leaf1:eth2 with `packets` each, one after the other; `dscps` by queue. Returns frames in each."""
    found = []
    start = asic.counters()
    with rate_of(lab, asic, "host2", HELD):
        for queue, dscp in dscps.items():
            with sending(lab, [flow(lab, "host1", "host2", packets, dscp=dscp, sport=50_000 + queue)]):
                came = wait_until(
                    f"{packets} packets came to queue {queue}",
                    asic.counters,
                    lambda now, queue=queue: _came(start, now, queue) >= packets,  # type: ignore[misc]
                    within=WITHIN,
                )
                assert came.held, came
            found.append(came.last.queue("leaf1", "eth2", queue).depth_packets)
    return found


def _came(start: AsicCounters, now: AsicCounters, queue: int) -> int:
    one = (now - start).queue("leaf1", "eth2", queue)
    return one.left_packets + one.depth_packets + one.refused_packets


@PAIR
@pytest.mark.parametrize("alpha", [-3, -4])
def test_a_lossy_queue_drops_at_its_dynamic_limit(lab: Lab, asic: SoftAsic, alpha: int, tmp_path: Path) -> None:
    """Queue 1 holds what alpha × free allows, ± 2 frames; queue 0, filled after it, what is then left to it.

    Of a pool of S bytes a queue alone takes S / 9 at alpha 1/8, and the next one S · 8/9 / 9; at 1/16, S / 17 and so
    on. That another alpha moves the limit is the control of the first.
    """
    text = f"base: roce_default\nBUFFER_PROFILE:\n  egress_lossy: {{dynamic_th: {alpha}}}\n"
    (tmp_path / "alpha.yaml").write_text(text)
    asic.apply(load_profile(str(tmp_path / "alpha.yaml")))
    limits = asic.profile.buffer("egress_lossy")
    free = next(pool.size for pool in asic.plan.nodes[0].pools if pool.name == limits.pool.name)
    first = full_at(free, limits)
    second = full_at(free - (first * FRAME - limits.reserved), limits)
    before = asic.counters()
    found = filled(lab, asic, first + 300, {1: 0, 0: 8})
    assert found == pytest.approx([first, second], abs=2)
    queues = [(asic.counters() - before).queue("leaf1", "eth2", queue) for queue in (0, 1)]
    assert all(queue.tail_packets >= 250 for queue in queues)
    assert wait_until("all is sent", asic.counters, lambda now: nothing_left(now).held, within=WITHIN).held


def seen(lab: Lab, asic: SoftAsic, wrong: Impairment, flows: list[RawFlow], log: Path) -> tuple[RawReport, list[int]]:
    """Send with something wrong on the wire into host2; returns the report and the sequence numbers that were lost.

    Only a run in which nothing else came by that wire is told: neighbour discovery takes a chance, or a turn, too.
    """
    count = sum(one.packets or 0 for one in flows)
    for _ in range(8):
        asic.impair("host2", "eth1", wrong)
        before = asic.counters()
        try:
            report = send(lab, flows, within=WITHIN, logs={"host2": log})
        finally:
            grown = asic.counters() - before
            asic.impair("host2", "eth1", Impairment())
        came = sum(grown.queue("leaf1", "eth2", queue).sent_packets for queue in range(8))
        arrived = {packet.sequence for packet in read_log(log)}
        if came == count + _pings(flows) and report.receivers["host2"].overflow == 0:
            return report, sorted(set(range(count)) - arrived)
    raise RunInvalid("8 runs, and in each something else came by the wire")


def _pings(flows: list[RawFlow]) -> int:
    """`sending` asks the way once for each flow."""
    return len(flows)


@PAIR
def test_random_loss_is_binomial(lab: Lab, asic: SoftAsic, tmp_path: Path) -> None:
    """5 % of 20 000 packets: what is lost lies where a binomial count does but once in a million; the wire counted it.

    1000 ± 4.9 · √950 = 849 … 1151. Without the loss, which is the control, all arrive.
    """
    from scipy.special import bdtr, bdtrc

    one = flow(lab, "host1", "host2", LOST_PACKETS)
    before = asic.counters()
    report, lost = seen(lab, asic, Impairment(lose=0.05), [one], tmp_path / "log")
    tails = bdtr(len(lost), LOST_PACKETS, 0.05), bdtrc(len(lost) - 1, LOST_PACKETS, 0.05)
    assert min(tails) > FALSE_ALARM / 2, f"{len(lost)} of {LOST_PACKETS}"
    assert report.results[0].lost_packets == len(lost)
    assert (asic.counters() - before).port("host2", "eth1").wire_lost >= len(lost)
    assert seen(lab, asic, Impairment(), [one], tmp_path / "log")[1] == []


@PAIR
def test_every_nth_frame_is_lost(lab: Lab, asic: SoftAsic, tmp_path: Path) -> None:
    """1 of 7: exactly every seventh, wherever it begins."""
    _, lost = seen(lab, asic, Impairment(every=7), [flow(lab, "host1", "host2", 7000)], tmp_path / "log")
    assert {later - earlier for earlier, later in pairwise(lost)} == {7}
    assert len(lost) == 1000


@PAIR
def test_a_blackhole_swallows_one_flow_one_way(lab: Lab, asic: SoftAsic) -> None:
    """All of one five-tuple, nothing of another source port's, nothing of what comes back; and nothing afterwards."""
    hit = flow(lab, "host1", "host2", 200)
    flows = [hit, flow(lab, "host1", "host2", 200, sport=50_001), flow(lab, "host2", "host1", 200)]
    t = hit.five_tuple
    match = {"src": t.src, "dst": t.dst, "sport": t.sport, "dport": t.dport, "protocol": 17}
    before = asic.counters()
    asic.impair("host2", "eth1", Impairment(blackhole=match))
    try:
        lost = [one.lost_packets for one in send(lab, flows, within=WITHIN)]
    finally:
        asic.impair("host2", "eth1", Impairment())
    assert lost == [200, 0, 0]
    assert (asic.counters() - before).port("host2", "eth1").wire_blackholed == 200
    assert [one.lost_packets for one in send(lab, flows, within=WITHIN)] == [0, 0, 0]


@PAIR
def test_what_is_corrupted_arrives_corrupted(lab: Lab, asic: SoftAsic) -> None:
    """A bit flipped in 10 % of the packets: none is lost, and host2 finds as many wrong as the wire has counted.

    rnic sends without a UDP checksum, as RoCEv2 does, and checks the payload. 2000 packets, none corrupted by chance:
    0.9^2000.
    """
    from dataclasses import replace

    one = replace(flow(lab, "host1", "host2", 2000), pattern=True)
    asic.impair("host2", "eth1", Impairment(corrupt=0.1))
    before = asic.counters()
    try:
        result = send(lab, [one], within=WITHIN).results[0]
    finally:
        grown = asic.counters() - before
        asic.impair("host2", "eth1", Impairment())
    assert result.lost_packets == 0
    assert result.received is not None
    # The ping that asks the way may be hit too.
    assert 0 < result.received.corrupted <= grown.port("host2", "eth1").wire_corrupted <= result.received.corrupted + 1


@contextmanager
def lab_of_its_own(request: pytest.FixtureRequest, seed: int | None = None) -> Iterator[tuple[Lab, SoftAsic]]:
    """A pair that nobody else has used."""
    wanted = Request(
        "pair",
        backend=request.config.getoption("--lab-backend"),
        name=unique_name("own"),
        profile="roce_default",
        seed=seed,
        owned=True,
    )
    lab = open_lab(wanted).lab
    try:
        assert lab.asic is not None
        yield lab, lab.asic
    finally:
        lab.close()


def test_one_seed_loses_the_same_packets(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Two labs of one seed lose the same of 2000 packets, one of another seed does not.

    Losing the same by chance at 5 %: (0.05² + 0.95²)^2000 = 1e-87.
    """

    def lost(seed: int) -> list[int]:
        with lab_of_its_own(request, seed) as (lab, asic):
            return seen(lab, asic, Impairment(lose=0.05), [flow(lab, "host1", "host2", 2000)], tmp_path / "log")[1]

    assert lost(11) == lost(11) != lost(12)
