r"""PFC-1: a priority group says "stop" and "go on" at its thresholds, and its headroom holds what still comes.

     host1  host2          host3 holds leaf1's port to it by a pause of its own, so that packets of host1 pile up in
        \    /             leaf1, charged to the priority group (PG 3) of leaf1:eth1
        leaf1
          | eth3           XOFF: the first packet that does not fit into reserved + limit
        host3              XON:  at or below limit - xon_offset

Frames here have 1024 + 42 = 1066 bytes.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from labs.dataplane.asic import SoftAsic
from labs.dataplane.headroom import needed
from labs.errors import RunInvalid
from labs.lab import Lab
from labs.load_bridge import MacPort, Probe, five_tuple, let_pass, sending
from labs.telemetry.asic_counters import AsicCounters, GroupCounters
from labs.testing import MBIT, MILLISECOND, wait_until
from labs.verdicts.pfc import longest_us
from traffic.engines.rnic import RawFlow

pytestmark = pytest.mark.valid_of(3)  # what starves or disturbs a run is not the fabric's fault

RESERVED, LIMIT, XON_OFFSET = 18_432, 60_000, 36_864
PROFILE = f"""
base: pfc_only
PFC_WD: ~
BUFFER_PROFILE:
  pg_lossless: {{dynamic_th: ~, static_th: {LIMIT}, xon_offset: {XON_OFFSET}, xoff: %d}}
"""
AMPLE = 409_600
MOST_QUANTA = 65_535
MARGIN = 2  # packets; what SONiC's own PFC tests allow
WITHIN_S = 5.0

Play = Callable[..., object]
Note = Callable[[object], None]


def group(counters: AsicCounters) -> GroupCounters:
    """The priority group that host1's lossless packets are charged to."""
    return counters.group("leaf1", "eth1", 3)


def hold(asic: SoftAsic, sink: MacPort) -> None:
    """Pause leaf1's port to host3, for longer than the test lasts."""
    sink.pause({3: MOST_QUANTA})
    shut = wait_until(
        "leaf1:eth3 is shut", lambda: asic.counters().port("leaf1", "eth3").gates_closed, bool, within=WITHIN_S
    )
    assert shut.held, shut


def put(asic: SoftAsic, probe: Probe, packets: int) -> GroupCounters:
    """Send packets, and wait until leaf1 has taken or refused them."""
    before = group(asic.counters())
    probe.send(packets)
    came = wait_until(
        "leaf1 has them",
        lambda: group(asic.counters()),
        lambda now: now.packets + now.dropped_packets >= before.packets + before.dropped_packets + packets,
        within=WITHIN_S,
    )
    assert came.held, came
    return came.last


@pytest.mark.lab("star_3", profile="pfc_only")
def test_xoff_and_xon_come_at_their_bytes(lab: Lab, asic: SoftAsic, play: Play, note: Note) -> None:
    """XOFF at the first packet with used + 1066 > 18432 + 60000; XON once used <= 60000 - 36864 = 23136.

    XOFF comes with packet 78432 // 1066 + 1 = 74 of those that stay; shutting a gate lets one pass, or two: SONiC's
    margin of 2. In bytes it is exact. The port to host3 has 1 Mbit/s, so a packet leaves every 8.7 ms, and several
    readings fall between two packets; a reading has both the PG's bytes and its state under one lock, so that no
    reading may contradict the threshold. One that has missed more than 4 packets proves nothing: INVALID.
    """
    play(PROFILE % AMPLE, rates={lab.fabric.links_of("host3")[0].name: MBIT})
    with MacPort(lab, "host3") as sink, Probe(lab, "host1", "host3") as probe:
        hold(asic, sink)
        expected = (RESERVED + LIMIT) // probe.frame_bytes + 1
        start = asic.counters()
        before = put(asic, probe, expected - 1 - MARGIN)
        assert (before.xoff, asic.counters().port("leaf1", "eth1").pfc_tx) == (
            False,
            start.port("leaf1", "eth1").pfc_tx,
        )
        now = put(asic, probe, 1)
        for _ in range(2 * MARGIN):
            if now.xoff:
                break
            before, now = now, put(asic, probe, 1)
        assert now.xoff
        assert before.used_bytes + probe.frame_bytes > RESERVED + LIMIT >= before.used_bytes
        assert abs(probe.sent - expected) <= MARGIN
        told = wait_until(
            "host1 is told", lambda: (asic.counters() - start).port("host1", "eth1").pfc_rx[3], bool, within=WITHIN_S
        )
        assert told.held, told

        seen: list[GroupCounters] = []

        def look() -> bool:
            seen.append(group(asic.counters()))
            return seen[-1].xoff

        sink.pause({3: 0})
        assert wait_until("XON", look, lambda xoff: not xoff, within=WITHIN_S, first=0.002, most=0.002).held
        resume_at = LIMIT - XON_OFFSET
        occupied = [one.used_bytes + one.headroom_bytes for one in seen]
        if occupied[-2] - occupied[-1] > 2 * MARGIN * probe.frame_bytes:
            raise RunInvalid(f"between two readings {occupied[-2] - occupied[-1]} bytes left")
        note(f"XOFF with packet {probe.sent} ({expected} expected) at {before.used_bytes} + {probe.frame_bytes} bytes")
        note(f"XON between {occupied[-2]} and {occupied[-1]} bytes ({resume_at} expected)")
        assert min(occupied[:-1]) > resume_at >= occupied[-1]
        told = wait_until(
            "host1 may go on",
            lambda: (asic.counters() - start).port("host1", "eth1").pfc_xon_rx[3],
            bool,
            within=WITHIN_S,
        )
        assert told.last == 1, "one XON, no more"
        arrived = 0

        def arrive() -> int:
            nonlocal arrived
            arrived += probe.received()
            return arrived

        assert wait_until("all packets arrive", arrive, lambda count: count == probe.sent, within=WITHIN_S).held


FRAME = 4096 + 42
RATE = 100 * MBIT
HELD_UP_S = 70 * MILLISECOND
BUDGET_S = 120 * MILLISECOND
FORMULA = needed(RATE, FRAME, 0, BUDGET_S)


@pytest.mark.lab("star_3", profile="pfc_only")
@pytest.mark.parametrize(("headroom", "enough"), [(FORMULA, True), (FORMULA // 2, False), (FRAME - 1, False)])
def test_the_headroom_knee(lab: Lab, asic: SoftAsic, play: Play, note: Note, headroom: int, *, enough: bool) -> None:
    """V12: nothing is lost if and only if headroom >= 2 · MTU + rate · reaction.

    The reaction of software is too short to see at 100 Mbit/s (some 100 µs, 1250 bytes: less than a packet), so it is
    made long: asicd is halted as host1 fills the PG, and goes on 70 ms after the threshold was seen crossed, for which
    a slow workstation takes another 30 ms. asicd measures that reaction itself, from the crossing to the shut gate:
    from 70 ms, and a run with more than 120 ms is INVALID. host1 sends for 150 ms.

      120 ms -> needed(100 Mbit/s, 4138, 0, 120 ms) = 8276 + 1500000 bytes: enough for every valid run: no loss.
      half of it, 754138 bytes: in 70 ms come 70 ms · 100 Mbit/s / 8 · 4138/4162 = 869954 bytes: 115 kB too many, loss.
      one byte less than a frame: the very packet that crosses the threshold does not fit, however fast asicd is.
    """
    play(PROFILE % headroom)
    flow = RawFlow(
        "host1", "host3", five_tuple(lab, "host1", "host3"), packets=450, payload_bytes=4096, rate_bps=RATE, dscp=3
    )
    with MacPort(lab, "host3") as sink:
        hold(asic, sink)
        start = asic.counters()
        pid = int(asic.status()["pid"])
        with sending(lab, [flow]) as run:
            os.kill(pid, signal.SIGSTOP)
            try:
                crossed = wait_until(
                    "XOFF", lambda: asic.counters() - start, lambda now: group(now).xoffs > 0, within=WITHIN_S
                )
                let_pass(HELD_UP_S)
            finally:
                os.kill(pid, signal.SIGCONT)
            assert crossed.held, crossed
            told = wait_until(
                "host1 is shut", lambda: asic.counters().port("host1", "eth1").gates_closed, bool, within=WITHIN_S
            )
            assert told.held, told
            sink.pause({3: 0})
            report = run.finish(WITHIN_S)
    counted = asic.counters() - start
    reaction = longest_us(counted.asicd)
    dropped, (lost,) = group(counted).dropped_packets, [one.lost_packets for one in report]
    note(f"headroom {headroom}: {dropped} dropped, {lost} lost, reaction {reaction} µs")
    assert reaction is not None
    if enough and reaction > BUDGET_S * 1e6:
        raise RunInvalid(f"the reaction took {reaction:.0f} µs")
    assert reaction >= HELD_UP_S * 1e6
    assert dropped == lost
    assert (lost == 0) is enough
