"""Recovery on a running lab: a fault comes and goes while an all-reduce and open-loop probes run; then the records.

    seen = measure(lab, "leaf1:spine1", lambda: catalogue.link_down(lab, "leaf1:spine1"), repeats=3)
    assert recovered(seen.timeline, "leaf1:spine1", within=0.2)

Everything is judged from the lab's timeline, which the probe's gaps are added to.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass

from labs import probing
from labs.collective_traffic import CollectiveResult, running
from labs.errors import NotReady, RunInvalid
from labs.kinds import software
from labs.lab import Lab
from labs.load_bridge import let_pass
from labs.node import LiveNode
from labs.observe import ask_all
from labs.probing import ProbeFlow, Way
from labs.telemetry import telling
from labs.telemetry.records import Record
from labs.telemetry.timeline import Timeline, read_timeline
from labs.verdicts.outage import Outage, Turn, outages, spans
from labs.waiting import wait_until
from topologies.units import KIB, MBIT
from traffic.engines.probe import PPS, ProbeReport
from traffic.engines.rc_settings import RcSettings
from traffic.operations import Operation, ring_all_reduce

# What is of no interest before and after: traffic has started, what was on its way is through.
BEFORE_S, AFTER_S = 1.0, 0.5
# Slow enough that eight cards, their acknowledgements and eight probes leave half of two cores to the control plane.
CARD_BPS = 25 * MBIT
# A packet of a rank that was lost is sent again after this; the ring's own stall is at least as long.
TIMEOUT_S = 0.3
TIMELINE = "timeline.jsonl"
STARTUP_S = 120  # BGP_DEFAULT_RESTART_TIME

Inject = Callable[[], AbstractContextManager[object]]
Settled = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Measured:
    """What was seen of a fault on `target`.

    `stall_s` is by how much the longest iteration of the collective was longer than the median one, None where it did
    not get that far; `collective` what else became of it.
    """

    target: str
    flows: tuple[ProbeFlow, ...]
    report: ProbeReport
    timeline: Timeline
    collective: CollectiveResult | None = None
    stall_s: float | None = None

    def names(self, way: Way) -> tuple[str, ...]:
        """The flows that stand to the target in this way."""
        return tuple(one.name for one in self.flows if one.way is way)

    def outages(self, way: Way | None = None, turn: Turn = Turn.FAILURE) -> tuple[tuple[Outage, ...], ...]:
        """For each time the fault came (or went), what became of the flows."""
        wanted = {one.name for one in self.flows if way is None or one.way is way}
        return tuple(
            tuple(one for one in outages(self.timeline, self.target, span) if one.flow in wanted)
            for span in spans(self.timeline, self.target)
            if span.turn is turn
        )


def measure(
    lab: Lab,
    target: str,
    inject: Inject,
    *,
    flows: Sequence[ProbeFlow] = (),
    lasts_s: float = 1.0,
    settles: Settled | None = None,
    repeats: int = 1,
    pps: int = PPS,
    collective: Operation | None = None,
    card_bps: int = CARD_BPS,
    timeout_s: float = TIMEOUT_S,
    back_within: float = 30.0,
) -> Measured:
    """Make a fault come and go while an all-reduce over all hosts and a probe run; see what that does.

    Args:
        inject: makes the fault for the length of a block.
        flows: what to probe; by default `probing.around` the target, which is then a link.
        lasts_s: how long the fault stays, once `settles` holds where that is given.
        settles: called while the fault is there, to wait; what it returns is judged by nobody.
        collective: another than a small ring all-reduce, its cards at `card_bps`. A rank sends again what was lost
            `timeout_s` later, seven times: a fault that lasts longer than that ends it.
        back_within: seconds for the routes, and BFD's sessions where the lab has any, to be as designed again before
            the next repeat. The claim is not judged here, but without it the next repeat would start broken. BFD's
            have as long to be so before the first.

    Raises SpecError for a target that no flow crosses, NotReady for a lab without a Recorder, or one whose routes or
    BFD sessions do not come back, TrafficError for traffic that does not start, and RunInvalid where what was seen
    cannot be recorded.
    """
    if telling.flush(lab.name) is None:
        raise NotReady(f"{lab.name}: no Recorder writes its timeline", remedy="railbed status starts it again")
    probed = tuple(flows) or probing.around(lab, target)
    operation = collective or ring_all_reduce([host.name for host in lab.fabric.hosts], size=64 * KIB)
    settings = RcSettings(seed=lab.seed, timeout_s=timeout_s)
    _wait_watching(lab, back_within)
    began = time.monotonic_ns()
    with ExitStack() as stack:
        ring = stack.enter_context(running(lab, operation, settings=settings, rate_bps=card_bps, check=False))
        probe = stack.enter_context(probing.start(lab, probed, pps))
        let_pass(BEFORE_S)
        for _ in range(repeats):
            _once(lab, inject, lasts_s, settles, back_within)
        report = probe.report()
        result = ring.stop()
    tell_probed(lab.name, probing.records(lab.fabric, probed, report))
    timeline = read_timeline(lab.run_dir / TIMELINE).since(began)
    return Measured(target, probed, report, timeline, result, _stall_s(result))


def tell_probed(lab_name: str, seen: Sequence[Record], probe: str = "") -> None:
    """Put what a probe saw into the timeline; `probe` is its name, if it has one.

    Raises RunInvalid: what is missing there must not pass for no loss.
    """
    answer = telling.flush(lab_name) if telling.tell(lab_name, *seen) else None
    if answer is None or answer.full:
        why = "its disk is full" if answer else "it does not answer"
        what = f"probe {probe!r} saw" if probe else "was probed"
        raise RunInvalid(f"what {what} is lost: the Recorder of lab {lab_name!r} did not take it, {why}")


def wait_past_startup(lab: Lab) -> None:
    """Wait until no bgpd of the lab counts as just started: 120 s at the most.

    For its first 120 s, whatever its restart time, FRR tells every peer that it restarts itself (RFC 4724's R bit). One
    that really restarts then does not wait for that peer's routes: it gives up those it had preserved at once, and
    packets are lost although restarts are graceful.

    Raises NotReady for a switch without a bgpd.
    """
    waited = wait_until(
        "every bgpd is older than FRR's restart time",
        lambda: youngest_bgpd_s(lab),
        lambda youngest: youngest > STARTUP_S,
        within=STARTUP_S + 30,
        most=2.0,
    )
    if not waited.held:
        raise NotReady(str(waited))


def youngest_bgpd_s(lab: Lab) -> int:
    """Seconds since the youngest bgpd of the lab was started. Raises NotReady for a switch without one."""
    return min(bgpd_age_s(node) for node in lab.switches)


def bgpd_age_s(node: LiveNode) -> int:
    """Seconds since a switch's bgpd was started. Raises NotReady where there is none."""
    pid = node.channel.run("cat", "/run/frr/bgpd.pid").stdout.strip()
    said = node.channel.run("ps", "-o", "etimes=", "-p", pid or "0")
    if not said.ok:
        raise NotReady(f"{node.name}: no bgpd runs")
    return int(said.stdout)


def watching(lab: Lab, node: LiveNode) -> int:
    """How many BFD sessions of a switch miss a silent peer as fast as the lab's design says.

    Not those that are down, nor those that have just come up: until both ends have agreed on their intervals they take
    those of a session that is down, a second or more (RFC 5880, 6.8.3). Raises NotReady where no bfdd answers.
    """
    bfd = lab.rendered.spec.bgp.bfd
    if bfd is None:
        return 0
    designed_s = bfd.multiplier * bfd.interval_ms / 1000
    return sum(
        missed_s is not None and missed_s <= designed_s for missed_s in software(node.kind).watchers(node).values()
    )


def _wait_watching(lab: Lab, within: float) -> None:
    """Wait for BFD, where the lab has it: it comes up a second or two after BGP does, and is slow at first."""
    if lab.rendered.spec.bgp.bfd is None:
        return
    wanted = lab.fabric.session_ends
    waited = wait_until(
        "every BFD session is up and as fast as designed",
        lambda: sum(ask_all(lambda node: watching(lab, node), lab.switches)),
        lambda found: found >= wanted,
        within=within * lab.timeout_scale,
    )
    if not waited.held:
        raise NotReady(f"{lab.name}: {waited}; {waited.last} of {wanted} are")


def _once(lab: Lab, inject: Inject, lasts_s: float, settles: Settled | None, back_within: float) -> None:
    with inject():
        if settles is not None:
            settles()
        let_pass(lasts_s)
    back = lab.wait_routes_match(within=back_within)
    if not back.held:
        raise NotReady(f"{lab.name}: the fault is gone, and routes are not as designed: {back.evidence}")
    _wait_watching(lab, back_within)
    let_pass(AFTER_S)


def _stall_s(result: CollectiveResult) -> float | None:
    """By how much the longest iteration was longer than the median one."""
    ranks = result.played.rc.ranks.values()
    ends = [max(one.ended_ns[i] for one in ranks) for i in range(result.iterations)]
    lasted = [(later - earlier) / 1e9 for earlier, later in itertools.pairwise(ends)]
    return max(lasted) - statistics.median(lasted) if lasted else None
