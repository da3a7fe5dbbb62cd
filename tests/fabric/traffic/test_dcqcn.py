"""DCQCN on a real fabric: N senders into one port get C/N each, by marks and not by pauses.

    host1 ┐
      …   ┼─► leaf1 ══ 200 Mbit/s ══► host9       N = 2, 4, 8 at 200 Mbit/s each
    hostN ┘    WRED: 0 to 20 % from 100 KiB to 1100 KiB

The paper's parameters (`dcqcn-sigcomm15`) on ports of 10 Gbit/s, played at 200 Mbit/s: dilation 50. So a CNP comes at
most every 2.5 ms (50 µs there), the rate rises every 2.75 ms (55 µs) by 0.8 Mbit/s (40); bytes are what they are.

How long. alpha begins with 1, and 1/256 of it goes every 2.75 ms: after four of its time constants, 2.8 s, 2 % are
left; from there on it is steady. Then the mean of a sender's rate over W seconds errs by what single marks hit by
chance. `scripts/simulate_dcqcn` plays rnic's own reaction points at a queue: of eight senders the worst is 4.9 % off
after 10 s, on average of 40 runs, and 3.1 % after 25 s, where 1 run of 40 is beyond 5 %. Those the verdict knows:
beyond by less than the run's own error is INVALID, and played again: three in a row are one in 64 000.

The curve. p* is 2.4, 5.7 and 13 % for 4178 bytes on the wire: with 20 % at most there is a q* for each, 0.22, 0.39 and
0.76 MB; 1 MB from Kmin to Kmax is what keeps the queue from swinging between both ends ("large Kmax - Kmin": Azure,
NSDI 2023). The buffer pauses a sender when 1.26 MB (N = 2) to 0.79 MB (N = 8) of its own wait: 2.5 to 6.3 MB in all.

Control: the same without DCQCN. The senders then have 200 Mbit/s each, so leaf1 has to pause them, and nothing is lost.

The nightly run takes all three N; the ordinary one, at half a minute a case, 2 with DCQCN and 8 without.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from labs.collective_bridge import play as play_graph
from labs.collective_bridge import ranks_on
from labs.congestion_bridge import Steady, congested, lasting_incast, lost
from labs.lab import Lab
from labs.testing import MBIT
from labs.verdicts.dcqcn import (
    fair_rates,
    hardly_paused,
    marked_and_notified,
    marked_share,
    paused_without_loss,
    queue_length,
)
from traffic.dcqcn import SIGCOMM15, mark_probability, queue_bytes
from traffic.engines.rc_settings import Congestion, RcSettings

pytestmark = [pytest.mark.lab("star_9", profile="roce_default"), pytest.mark.valid_of(3)]

DILATION = 50
RATE = 200 * MBIT  # 10 Gbit/s, 50 times slower
KMIN, KMAX, PMAX = 102_400, 1_126_400, 20
CURVE = f"base: roce_default\nWRED_PROFILE:\n  AZURE_LOSSLESS: {{green_max_threshold: {KMAX}}}\n"
# As many packets on their way as a buffer holds: the rate says how fast it goes, not the window.
SETTINGS = RcSettings(congestion=Congestion.SIGCOMM15, dilation=DILATION, window=4096)
WIRE = 4096 + 12 + 8 + 20 + 14 + 4 + 24  # BTH, UDP, IP, Ethernet, ICRC, and what a frame takes beside itself
POINT = SIGCOMM15.dilated(DILATION)
STEADY = Steady(settle_s=POINT.settling_s, for_s=25.0)
SINK = "host9"
NIGHTLY = bool(os.environ.get("RAILBED_NIGHTLY"))
# Half a minute each: all numbers of senders are the nightly run's, which has the time.
SHARING = (2, 4, 8) if NIGHTLY else (2,)
PAUSED = (2, 4, 8) if NIGHTLY else (8,)

Play = Callable[..., object]
Note = Callable[[object], None]


def sources(count: int) -> list[str]:
    return [f"host{number}" for number in range(1, count + 1)]


def rates(lab: Lab) -> dict[str, int]:
    return {link.name: RATE for link in lab.fabric.links}


@pytest.mark.parametrize("senders", SHARING)
def test_senders_share_a_port_by_marks_alone(lab: Lab, play: Play, note: Note, senders: int) -> None:
    """C/N within 5 %, Jain 0.98; CE and CNPs; no pause while steady; p* and q* within 30 %."""
    play(CURVE, rates(lab))
    run = congested(lab, sources(senders), SINK, SETTINGS, STEADY, rate_bps=RATE)
    p = mark_probability(POINT, capacity_bps=RATE, flows=senders, packet_bytes=WIRE)
    q = queue_bytes(p, min_bytes=KMIN, max_bytes=KMAX, probability=PMAX / 100)
    fair = fair_rates(run)
    verdicts = [
        fair,
        marked_and_notified(run),
        hardly_paused(run),
        marked_share(run, p),
        queue_length(run, q),
    ]
    for verdict in verdicts:
        note(verdict)
    # First: where rates are too unsure to judge, the run is INVALID; p* and q* follow from them and are not judged.
    assert fair
    assert all(verdicts)


@pytest.mark.parametrize("senders", PAUSED)
def test_without_dcqcn_pauses_keep_it_lossless(lab: Lab, play: Play, note: Note, senders: int) -> None:
    """Control: nobody slows down by himself, so priority 3 is paused, and nothing is lost or sent again."""
    play(CURVE, rates(lab))
    hosts = sources(senders)
    settings = RcSettings(window=SETTINGS.window)
    graph = lasting_incast(hosts, SINK, 3.0, RATE)
    run = play_graph(lab, graph, ranks_on(lab, [*hosts, SINK], rate_bps=RATE), settings)
    assert run.counted is not None
    assert run.report.error is None
    verdict = paused_without_loss(run.pauses, lost(run.rc, run.counted), why_not=run.disturbed)
    note(verdict)
    assert verdict
    assert run.report.wrong == 0
