r"""FAULT-4: what is wrong with a switch's QoS settings, a card or a rank is seen, and gone once it is taken back.

     host1  host2  host3  host4      senders            every fault has a claim that holds before it, is false under
        \      \    /      /                            it, and holds again: the same measurement three times
               leaf1
                 | eth5              100 Mbit/s each
               host5                 the receiver

The buffer is 2 MiB instead of 12: what one port without PFC may take of it, 8/9 (dynamic_th 3), is full within a second
then. With four senders of 100 Mbit/s into one port, 300 of 400 Mbit/s have to wait: 37 MB/s.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import sqrt
from statistics import fmean, stdev

import pytest

from labs.collective_bridge import faulty_hosts, ranks_on
from labs.collective_bridge import play as play_graph
from labs.congestion_bridge import Steady, congested
from labs.dataplane.asic import SoftAsic
from labs.errors import SpecError
from labs.faults import catalogue
from labs.faults.injecting import add, revert, state_restored
from labs.lab import Lab
from labs.load_bridge import Probe, incast, let_pass, measure, soft_asic
from labs.pytest_plugin import Faults
from labs.telemetry.asic_counters import AsicCounters
from labs.testing import MBIT, SECOND, ring_all_reduce, wait_until
from labs.traffic_bridge import LabTraffic
from labs.verdicts import Verdict
from labs.verdicts.pfc import lossless, pause_share
from labs.verdicts.polarisation import hash_entropy
from labs.verdicts.signals import Signalled, marks_before_pauses
from labs.verdicts.stragglers import fair_shares
from labs.verdicts.switch_queues import absorbed, in_its_queue, no_storms
from traffic.collectives import incast as incast_graph
from traffic.engines.rc_settings import Congestion, RcSettings

pytestmark = [pytest.mark.lab("star_5", profile="roce_default"), pytest.mark.valid_of(3)]

RATE = 100 * MBIT
SENDERS = ("host1", "host2", "host3", "host4")
SINK = ("leaf1", "eth5")
BACK_WITHIN = 20 * SECOND
SMALL = "base: roce_default\nBUFFER_POOL:\n  ingress_pool: {size: 2097152}\n"
WITHIN_S = 5.0

Play = Callable[..., object]
Note = Callable[[object], None]
Claim = Callable[[Lab], Verdict]


def started(now: AsicCounters) -> bool:
    return now.queue(*SINK, 3).sent_packets + now.queue(*SINK, 0).sent_packets > 100


def nothing_lost(lab: Lab) -> Verdict:
    """Four senders into one port, 1.5 s: 56 MB more than it carries."""
    flows = incast(lab, SENDERS, "host5", rate_bps=RATE, duration_s=None)
    return lossless(measure(lab, flows, steady=started, for_s=1.5))


def unpaused(lab: Lab) -> Verdict:
    """One sender into one port: nobody has to wait, the receiver's port is paused 0 % of the time."""
    flows = incast(lab, ["host1"], "host5", rate_bps=RATE, duration_s=None)
    return pause_share(measure(lab, flows, steady=started, for_s=1.0), [SINK], paused=0.0)


def marked_first(lab: Lab) -> Verdict:
    """As an incast of four times 40 Mbit/s begins, 7.5 MB/s too much.

    Kmin, 102 kB, is reached after 14 ms; XOFF of four groups, 4 · 2 MiB / (8 + 4), after 93. Readings are 10 to 50 ms
    apart.
    """
    readings = [Signalled(0.0, 0, 0)]
    begun = time.monotonic()

    def look(now: AsicCounters) -> bool:
        marked, pauses = now.queue(*SINK, 3).marked_packets, now.pauses
        readings.append(Signalled(time.monotonic() - begun, marked, pauses))
        return pauses > 0

    flows = incast(lab, SENDERS, "host5", rate_bps=40 * MBIT, duration_s=None)
    measure(lab, flows, steady=look, for_s=0.1)
    return marks_before_pauses(readings)


def burst_kept(lab: Lab) -> Verdict:
    """Two senders for 20 ms: 250 kB wait, 125 kB of each.

    XOFF for each of two is 2 MiB / (8 + 2) = 210 kB; with 2^-6 it is 2 MiB / (64 + 2) + 18 kB = 50 kB.
    """
    flows = incast(lab, SENDERS[:2], "host5", rate_bps=RATE, duration_s=0.02)
    return absorbed(measure(lab, flows, steady=lambda _: True, for_s=0.05).whole)


def notified(lab: Lab) -> Verdict:
    """40 packets of the class of CNPs, host1 to host2."""
    asic = soft_asic(lab)
    with Probe(lab, "host1", "host2", dscp=48, payload_bytes=64) as probe:
        before = asic.counters()
        probe.send(40)
        wait_until("they arrive", probe.received, bool, within=WITHIN_S)
        let_pass(0.05)
        return in_its_queue(asic.counters() - before, "leaf1", queue=6, packets=40)


def unstormed(lab: Lab) -> Verdict:
    """One sender at a fifth of the rate for 1 s: two detection times and a poll."""
    flows = incast(lab, ["host1"], "host5", rate_bps=20 * MBIT, duration_s=None)
    return no_storms(measure(lab, flows, steady=lambda _: True, for_s=1.0).whole, priority=3)


def many_ports(lab: Lab) -> Verdict:
    """Sixteen queue pairs between two hosts have as many source ports, but for what chance does."""
    graph = incast_graph(["host1", "host2"], size=1 << 16, root=1, messages=16)
    played = play_graph(lab, graph, ranks_on(lab, ["host1", "host2"], rate_bps=RATE), RcSettings(qps=16, seed=lab.seed))
    return hash_entropy([one.five_tuple for one in played.report.flows], members=2)


@dataclass(frozen=True)
class Case:
    """A fault, and the claim that it makes false."""

    fault: str
    claim: Claim
    target: str = "leaf1"
    params: Mapping[str, object] = field(default_factory=dict)


CASES = (
    Case("pfc-off", nothing_lost, "host1:leaf1"),
    Case("pfc-priority-mismatch", nothing_lost, "host1:leaf1", {"priority": 5}),
    Case("dscp-map-mismatch", nothing_lost),
    Case("cnp-wrong-queue", notified),
    Case("ecn-thresholds", marked_first, params={"kmin": 1 << 21, "kmax": 1 << 22}),
    Case("buffer-alpha", burst_kept),
    Case("slow-receiver", unpaused, "host5", {"share": 0.4}),
    Case("nic-pfc-storm", unstormed, "host5"),
    Case("fixed-source-port", many_ports, ""),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.fault)
def test_it_bites_and_is_gone(lab: Lab, asic: SoftAsic, play: Play, note: Note, case: Case) -> None:
    """False under the fault; afterwards the lab is as before, and the claim holds."""
    del asic  # its books are looked at when the test is over
    play(SMALL)
    made = add(lab, catalogue.fault(case.fault), case.target, case.params)
    try:
        under = case.claim(lab)
    finally:
        revert(lab, made.id)
    back = state_restored(lab, BACK_WITHIN)
    after = case.claim(lab)
    for verdict in (under, back, after):
        note(verdict)
    if not under.valid:
        bool(under)  # raises: it is played again
    assert not under.held, str(under)
    assert back
    assert after


def moved(lab: Lab, windows: int = 1) -> list[int]:
    """Packets of the ring that leaf1 sent in tenths of a second."""
    asic, found = soft_asic(lab), []
    for _ in range(windows):
        before = asic.counters()
        let_pass(0.1)
        found.append(sum(one.sent_packets for one in (asic.counters() - before).queues if one.node == "leaf1"))
    return found


def test_a_paused_rank_stops_its_ring_and_lets_it_go_on(
    lab: Lab, traffic: LabTraffic, faults: Faults, note: Note
) -> None:
    """All wait for one. Ten tenths of a second before the fault say what is usual: its 99.9 % interval is

        mean ± 4.78 · sd · √(1 + 1/10)         4.78: Student's t, 9 degrees of freedom

    Under the fault nothing moves once what was on its way is there: 256 packets of 4 KiB a connection, 90 ms.
    Afterwards the ring goes on: after a time-out of 4.3 s at the most, where a packet was lost meanwhile.
    """
    with pytest.raises(SpecError, match="host1 plays no rank now"), faults.paused_rank("host1"):
        pass
    with traffic.running(ring_all_reduce(SENDERS, size=1 << 20)) as ring:
        wait_until("it moves", lambda: moved(lab)[0], bool, within=WITHIN_S)
        usual = moved(lab, 10)
        least = fmean(usual) - 4.78 * stdev(usual) * sqrt(1.1)
        with faults.paused_rank("host1"):
            let_pass(0.3)
            under = moved(lab, 3)
        again = wait_until("it goes on", lambda: moved(lab)[0], lambda one: one >= least, within=6 * SECOND)
        note(f"usual {usual}, at least {least:.0f}; paused {under}; again {again}")
        result = ring.finish()
    assert least > 0
    assert max(under) < least / 10
    assert again.held, again
    assert result.error is None
    assert result.wrong == 0


# At 200 Mbit/s DCQCN's times are stretched 50-fold (tests/fabric/traffic/test_dcqcn.py): after 1.5 s, two of alpha's
# time constants, shares are equal enough for a claim of 30 %, and those of a host that never slows down are not.
DILATION = 50
FAST = 200 * MBIT


def shared(lab: Lab) -> Verdict:
    """Two senders of 200 Mbit/s into one port of as much, for 3 s: whether they get the same of it.

    Packets that leave late cost their sender what they are late, some percent at the most: never 30.
    """
    settings = RcSettings(congestion=Congestion.SIGCOMM15, dilation=DILATION, window=4096)
    steady = Steady(settle_s=1.5, for_s=3.0)
    run = congested(lab, SENDERS[:2], "host5", settings, steady, rate_bps=FAST, longer=2.5)  # one may take all of it
    return fair_shares(run.means_bps(), because=run.why_not, host=run.host)


def test_a_host_without_dcqcn_takes_the_others_share(lab: Lab, play: Play, note: Note) -> None:
    """Unfair for traffic that starts under the fault, fair for what starts after; the report says whose doing it is."""
    play("base: roce_default\n", {link.name: FAST for link in lab.fabric.links})
    made = add(lab, catalogue.fault("dcqcn-off"), "host1")
    try:
        under = shared(lab)
        played = play_graph(lab, incast_graph(["host1", "host2"], size=4096, root=1), ranks_on(lab, ["host1", "host2"]))
    finally:
        revert(lab, made.id)
    after = shared(lab)
    note(under)
    note(after)
    if not under.valid:
        bool(under)  # raises: it is played again
    assert not under.held
    assert under.evidence.numbers["most"] == "host1"
    assert faulty_hosts(played) == {"congestion control off": ["host1"]}
    assert after
    assert state_restored(lab, BACK_WITHIN)


def test_a_switch_with_several_faults_is_mended_in_any_order(lab: Lab, asic: SoftAsic) -> None:
    """What meets in one row of the profile, and what two cannot both have; the tables are the same to the letter."""
    before = asic.profile.tables
    wanted = (("pfc-off", "host1:leaf1"), ("dscp-map-mismatch", "leaf1"), ("cnp-wrong-queue", "leaf1"))
    first, second, third = (add(lab, catalogue.fault(name), target) for name, target in wanted)
    for name, target in (("pfc-off", "host1:leaf1"), ("buffer-alpha", "leaf1"), ("cnp-wrong-queue", "leaf1")):
        with pytest.raises(SpecError, match="is already faulted by f"):
            add(lab, catalogue.fault(name), target)
    for made in (second, first, third):
        revert(lab, made.id)
    assert state_restored(lab, BACK_WITHIN)
    assert asic.profile.tables == before
