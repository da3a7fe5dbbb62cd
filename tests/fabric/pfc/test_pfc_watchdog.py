r"""PFC-3: a host that pauses its port without end is taken for what it is, in time, and does no more harm than it must.

     host1  host2          host1 sends to host3 in priority 3, and in priority 4 beside it; host3 storms priority 3:
        \    /             pauses of 60 ms, one every 15 ms
        leaf1
          | eth3           the watchdog polls leaf1:eth3 every 200 ms; detection 200 ms, restoration 200 ms (V18)
        host3

First frame at any moment of a poll's length; that poll still sees packets leave; the next but none: the storm. So it is
detected in (200, 400) ms after its first frame, and over in (200, 400) ms after its last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime

import pytest

from labs import lease
from labs.dataplane.asic import SoftAsic
from labs.lab import Lab
from labs.load_bridge import MacPort, Probe, Storm, five_tuple, let_pass, sending, storming
from labs.telemetry.asic_counters import AsicCounters, QueueCounters
from labs.telemetry.host_watch import HostWatch
from labs.testing import MBIT, MILLISECOND, may_be_paused, storm_spread, wait_until
from labs.verdicts.pfc import StormTiming, watchdog_timing
from traffic.engines.rnic import RawFlow, RawReport, RawRun
from traffic.pauses import quanta_of

pytestmark = pytest.mark.valid_of(3)  # what starves or disturbs a run is not the fabric's fault

DETECT_S = RESTORE_S = POLL_S = 200 * MILLISECOND
PAUSE_S, EVERY_S = 60 * MILLISECOND, 15 * MILLISECOND
RATE = 100 * MBIT
STORMS = 4
WITHIN_S = 5.0
PROFILE = 'base: pfc_only\nPFC_WD:\n  "*": {{action: {}}}\n'

Play = Callable[..., object]
Note = Callable[[object], None]


def stormed(counters: AsicCounters) -> QueueCounters:
    """The queue whose receiver storms."""
    return counters.queue("leaf1", "eth3", 3)


def told(lab: Lab, what: str) -> list[float]:
    """When asicd said so of leaf1:eth3, in seconds since the epoch."""
    lines = (lab.run_dir / "logs" / "asicd.log").read_text().splitlines()
    return [datetime.fromisoformat(line.split()[0]).timestamp() for line in lines if what in line and "eth3" in line]


@contextmanager
def traffic(lab: Lab) -> Iterator[RawRun]:
    """Both priorities, from before the storm until after it; a packet of priority 3 every 1.7 ms."""
    flows = [
        RawFlow(
            "host1",
            "host3",
            five_tuple(lab, "host1", "host3", sport=50_000 + dscp),
            payload_bytes=4096,
            rate_bps=20 * MBIT,
            dscp=dscp,
        )
        for dscp in (3, 4)
    ]
    with sending(lab, flows) as run:
        yield run


def flowing(asic: SoftAsic, start: AsicCounters) -> None:
    """Wait until packets of priority 3 leave, for longer than the watchdog looks back."""
    left = wait_until(
        "packets leave", lambda: stormed(asic.counters() - start).sent_packets, lambda sent: sent > 20, within=WITHIN_S
    )
    assert left.held, left
    let_pass(POLL_S)


def storm(sink: MacPort) -> AbstractContextManager[Storm]:
    return storming(sink, 3, quanta_of(PAUSE_S, RATE), every_s=EVERY_S)


def detected(asic: SoftAsic, start: AsicCounters, count: int = 1) -> None:
    seen = wait_until(
        "the storm is detected",
        lambda: stormed(asic.counters() - start).storms_detected,
        lambda storms: storms == count,
        within=WITHIN_S,
        most=0.02,
    )
    assert seen.held, seen


def restored(asic: SoftAsic, start: AsicCounters, count: int = 1) -> None:
    seen = wait_until(
        "the queue is restored",
        lambda: stormed(asic.counters() - start).storms_restored,
        lambda storms: storms == count,
        within=WITHIN_S,
        most=0.02,
    )
    assert seen.held, seen


def lost(report: RawReport) -> dict[int, int]:
    return {one.flow.dscp: one.lost_packets for one in report}


@pytest.mark.lab("star_3", profile="pfc_only")
def test_storms_are_detected_and_over_in_time(lab: Lab, asic: SoftAsic, play: Play, note: Note) -> None:
    """V18: four storms, each in (200, 400) ms detected and in (200, 400) ms over, by the time that asicd noted."""
    play(PROFILE.format("drop"))
    timings = []
    with MacPort(lab, "host3") as sink, lease.measuring(lab.name, "watchdog") as held, HostWatch() as watch:
        start = asic.counters()
        with traffic(lab) as run:
            for number in range(1, STORMS + 1):
                flowing(asic, start)
                # Storms begin and end at moments that polls do not know: a fifth of a poll later each time.
                let_pass(number * POLL_S / 5)
                with storm(sink) as seen:
                    detected(asic, start, number)
                    let_pass(number * POLL_S / 5)
                restored(asic, start, number)
                timings.append(
                    StormTiming(told(lab, "detected")[-1] - seen.first_s, told(lab, "restored")[-1] - seen.last_s)
                )
            run.stop()
        verdict = watchdog_timing(
            timings,
            detect_s=DETECT_S,
            restore_s=RESTORE_S,
            poll_s=POLL_S,
            host=watch.sample(),
            disturbed=held.disturbed(),
        )
    note(verdict)
    assert verdict


@pytest.mark.lab("star_3", profile="pfc_only")
def test_drop_empties_the_queue_and_spares_the_others(lab: Lab, asic: SoftAsic, play: Play, note: Note) -> None:
    """Action drop: what waits and what comes for the queue goes, in both directions; priority 4 loses nothing.

    Host1 is let go: its port is open while the storm lasts. What host1's flow has lost is what the counters say the
    watchdog dropped, to the packet.
    """
    play(PROFILE.format("drop"))
    with MacPort(lab, "host3") as sink, Probe(lab, "host3", "host1") as back:
        start = asic.counters()
        with traffic(lab) as run:
            flowing(asic, start)
            with storm(sink):
                detected(asic, start)
                before = stormed(asic.counters() - start)
                back.send(10)
                let_pass(POLL_S)
                now = asic.counters()
                assert now.port("host1", "eth1").gates_closed == 0
                during = stormed(now - start)
                assert back.received() == 0, "the watchdog's drop works both ways"
                assert (now - start).port("leaf1", "eth3").watchdog_rx_dropped == 10
            restored(asic, start)
            back.send(10)
            assert (
                wait_until("packets come again", back.received, lambda count: count == 10, within=WITHIN_S).last == 10
            )
            report = run.stop()
    ended = stormed(asic.counters() - start)
    note(f"lost {lost(report)}, refused {ended.watchdog_packets}, emptied {ended.emptied_packets}")
    assert during.sent_packets == before.sent_packets, "nothing leaves"
    assert during.watchdog_packets > before.watchdog_packets > 0
    assert lost(report) == {3: ended.watchdog_packets + ended.emptied_packets, 4: 0}


@pytest.mark.lab("star_3", profile="pfc_only")
def test_forward_ignores_the_storm(lab: Lab, asic: SoftAsic, play: Play) -> None:
    """Action forward: once detected, the queue sends as if nobody paused it, and nothing is lost.

    Bound: in 200 ms at 20 Mbit/s come 120 packets of 4162 bytes on the wire; half of them must leave meanwhile, where
    a shut gate lets none pass.
    """
    play(PROFILE.format("forward"))
    with MacPort(lab, "host3") as sink:
        start = asic.counters()
        with traffic(lab) as run:
            flowing(asic, start)
            with storm(sink):
                detected(asic, start)
                before = asic.counters()
                assert before.port("leaf1", "eth3").gates_closed == 0
                let_pass(POLL_S)
                sent = stormed(asic.counters() - before).sent_packets
            restored(asic, start)
            report = run.stop()
    assert sent >= 60
    assert lost(report) == {3: 0, 4: 0}


@pytest.mark.lab("star_3", profile="pfc_only")
def test_alert_only_says_so(lab: Lab, asic: SoftAsic, play: Play) -> None:
    """Action alert: the storm is counted and logged, the queue stays paused, and nothing is lost."""
    play(PROFILE.format("alert"))
    lines = len(told(lab, "detected"))
    with MacPort(lab, "host3") as sink:
        start = asic.counters()
        with traffic(lab) as run:
            flowing(asic, start)
            with storm(sink):
                detected(asic, start)
                before = asic.counters()
                let_pass(POLL_S / 2)
                now = asic.counters()
                assert now.port("leaf1", "eth3").gates_closed == 1 << 3
                assert stormed(now - before).sent_packets == 0
                whole = now - start
            restored(asic, start)
            report = run.stop()
    at = ("leaf1", "eth3")
    assert storm_spread(whole, at, may_be_paused([[("host1", "eth1"), at]], at))
    assert len(told(lab, "detected")) == lines + 1
    assert lost(report) == {3: 0, 4: 0}


@pytest.mark.lab("star_3", profile="pfc_only")
def test_a_storm_shorter_than_the_detection_time_is_none(lab: Lab, asic: SoftAsic, play: Play) -> None:
    """Half the detection time: frames for 40 ms, the last of which pauses for 60: 100 ms, no trigger, nothing lost.

    The queue must then stay untouched for as long as a detection may take: 400 ms.
    """
    play(PROFILE.format("drop"))
    with MacPort(lab, "host3") as sink:
        start = asic.counters()
        with traffic(lab) as run:
            flowing(asic, start)
            with storm(sink) as seen:
                let_pass(DETECT_S / 5)
            assert seen.frames > 1
            let_pass(DETECT_S + POLL_S)
            report = run.stop()
    counted = asic.counters() - start
    assert counted.port("leaf1", "eth3").paused_ns[3] > 0
    assert (stormed(counted).storms_detected, lost(report)) == (0, {3: 0, 4: 0})
