"""Congestion control and loss recovery on a running lab: rnic's connections, watched while they are steady.

`congested` plays an incast of N hosts with one connection each and reads the switch's counters meanwhile; `recovered`
plays messages over a wire that loses. What they give is judged by labs.verdicts.dcqcn and labs.verdicts.recovery.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from labs import lease
from labs.channels.namespaces import in_network
from labs.collective_bridge import Played, addresses, play, ranks_on
from labs.faults.host_traffic import rnic_with_faults
from labs.lab import Lab
from labs.load_bridge import soft_asic
from labs.telemetry.asic_counters import AsicCounters
from labs.telemetry.host_watch import HostWatch
from labs.verdicts.dcqcn import Congested
from labs.verdicts.ledger import nothing_left
from labs.verdicts.pfc import LOSSLESS
from labs.verdicts.recovery import Recovered
from labs.waiting import wait_until
from traffic.certificate import Demands
from traffic.collectives import incast
from traffic.engines.rc_plan import plans
from traffic.engines.rc_report import RcQueuePair, RcReport
from traffic.engines.rc_settings import RcSettings, Recovery
from traffic.engines.rnic import SpokenTo
from traffic.engines.rnic_rc import RcRun, start_rc
from traffic.errors import TrafficError
from traffic.graph import Graph

MESSAGE = 1 << 20
# Flows have more to send than they come to: they are stopped when the steady time is over.
LONGER = 1.5
LOOK_EVERY_S = 0.1  # a look at all counters takes 4 ms
EMPTY_S = 10.0
LOSSLESS_QUEUE = LOSSLESS[0]


@dataclass(frozen=True, slots=True)
class Steady:
    """When a run is steady: from `settle_s` after its begin, `for_s` long."""

    settle_s: float
    for_s: float

    @property
    def end_s(self) -> float:
        """From the begin on."""
        return self.settle_s + self.for_s


def congested(
    lab: Lab,
    sources: Sequence[str],
    sink: str,
    settings: RcSettings,
    steady: Steady,
    *,
    rate_bps: int,
    longer: float = LONGER,
) -> Congested:
    """Let hosts send to one for as long as `steady` asks, each at `rate_bps` at most, and watch the port to it.

    Args:
        longer: each has so many times its share of the time to send; one that takes more than its share needs more.

    Raises TrafficError for a connection that fails, SpecError for hosts that are not there.
    """
    asic = soft_asic(lab)
    near = lab.fabric.link_at(sink, "eth1").far(sink)
    port = near.node, near.name
    placement = ranks_on(lab, [*sources, sink], rate_bps=rate_bps)
    graph = lasting_incast(sources, sink, longer * steady.end_s, rate_bps)
    planned = plans(graph, placement, addresses(lab), rnic_with_faults(lab, settings), check=False)
    depths: list[int] = []

    def look() -> float:
        depths.append(asic.counters().queue(*port, LOSSLESS_QUEUE).depth_bytes)
        return time.monotonic()

    def start(node: str, argv: tuple[str, ...]) -> SpokenTo:
        return in_network(node, lab.deployment.netns(node), argv)

    with lease.measuring(lab.name, graph.name) as held:
        before = asic.counters()
        run = start_rc(planned, start)
        try:
            _reach(run, steady.settle_s)
            with HostWatch() as watch:
                begun = asic.counters()
                end = run.began_ns / 1e9 + steady.end_s
                wait_until("steady", look, lambda now: now >= end, within=steady.end_s + 60, most=LOOK_EVERY_S)
                ended = asic.counters()
            report = run.stop()
        finally:
            run.stop()
        # What was on its way when the senders stopped is nobody's yet.
        emptied = wait_until("the buffers are empty", asic.counters, lambda now: nothing_left(now).held, within=EMPTY_S)
        after = emptied.last
        disturbed = held.disturbed()
    if report.error:
        raise TrafficError(f"{graph.name}: {report.error}")
    counted, during = after - before, ended - begun
    flows = [one for one in report.connections if one.src != len(sources)]
    queue, wred = during.queue(*port, LOSSLESS_QUEUE), asic.profile.port(*port).queues[LOSSLESS_QUEUE].wred
    return Congested(
        capacity_bps=after.port(*port).rate_bps,
        lasted_s=steady.for_s,
        rates_bps={sources[one.src]: rates_between(_end(one.sent), steady) for one in flows},
        ce=sum(_end(one.received).ce for one in flows),
        cnps=sum(_end(one.sent).cnps for one in flows),
        passed=queue.sent_packets,
        marked=queue.marked_packets,
        depths=depths,
        pauses=counted.pauses,
        steady_pauses=during.pauses,
        lost=lost(report, counted),
        retransmitted=report.retransmits,
        curve=(wred.min_bytes, wred.max_bytes) if wred else None,
        why_not=disturbed or _too_short(report, steady),
        late=_late(report),
        host=watch.sample(),
        settings={"congestion": settings.congestion.value, "dilation": settings.dilation, "mtu": settings.mtu},
    )


def recovered(
    lab: Lab,
    ends: tuple[str, str],
    settings: RcSettings,
    *,
    packets: int,
    messages: int,
    rate_bps: int,
    within: float | None = None,
) -> Recovered:
    """Let one host send messages of `packets` packets to another, at most `within` seconds: what became of them.

    A run that is not done in time is no error: some never are.
    """
    placement = ranks_on(lab, ends, rate_bps=rate_bps)
    graph = incast(ends, size=packets * settings.mtu, root=1, messages=messages)
    played = play(lab, graph, placement, settings, within=within)
    (way,) = (one for one in played.rc.connections if one.src == 0)
    sent, received = _end(way.sent), _end(way.received)
    done = sum(1 for one in played.rc.sends if one.done_s is not None)
    wire = sent.sent_wire_bytes / sent.sent_packets * 8 if sent.sent_packets else 0.0
    goes_back = settings.recovery is not Recovery.SELECTIVE_REPEAT and sent.went_back
    return Recovered(
        carried=done * packets,
        sent=sent.sent_packets,
        lost=_wire_dropped(played, ends[1]),
        busy_s=(received.last_ns - sent.first_ns) / 1e9,
        least_s=done * packets * wire / rate_bps,
        done=done,
        posted=messages,
        timeouts=sent.timeouts,
        sent_past=sent.sent_past / sent.went_back if goes_back else None,
        why_not=played.disturbed,
        late=_late(played.rc),
        host=played.host,
    )


def lasting_incast(sources: Sequence[str], sink: str, for_s: float, rate_bps: int) -> Graph:
    """An incast that takes some seconds when all share `rate_bps` of payload."""
    messages = math.ceil(rate_bps / 8 / len(sources) * for_s / MESSAGE)
    return incast([*sources, sink], size=MESSAGE, root=len(sources), messages=messages)


def rates_between(queue_pair: RcQueuePair, steady: Steady) -> tuple[float, ...]:
    """Bit/s on the wire in each of a sender's bins that is within the steady time as a whole."""
    width_s = queue_pair.bin_ns / 1e9
    first, end = math.ceil(steady.settle_s / width_s), math.floor(steady.end_s / width_s)
    return tuple(size * 8 / width_s for size in queue_pair.bins[first:end])


def lost(report: RcReport, counted: AsicCounters) -> Mapping[str, int]:
    """Packets of lossless queues that did not leave by them, and what hosts lost, by where and how.

    What was sent again (`report.retransmits`) is not among them: it may have been overtaken instead.
    """
    kinds = ("dropped_packets", "ingress_packets", "lost_packets")
    found = {
        f"{queue} {kind}": getattr(queue, kind) for queue in counted.queues if queue.queue in LOSSLESS for kind in kinds
    }
    for rank, one in report.ranks.items():
        found[f"{report.plans.host(rank)} overflow"] = one.overflow
        for nic in one.nics:
            found[f"{report.plans.host(rank)} {nic.dev} drops"] = nic.host_drops
            found[f"{report.plans.host(rank)} {nic.dev} refused"] = nic.refused
    return {where: count for where, count in found.items() if count}


def _wire_dropped(played: Played, host: str) -> int:
    """What was lost on the wire into a host's port."""
    ports = played.counted.ports if played.counted else ()
    return sum(one.wire_dropped for one in ports if one.node == host)


def _reach(run: RcRun, at_s: float) -> None:
    due = run.began_ns / 1e9 + at_s
    wait_until(f"{at_s:g} s have passed", time.monotonic, lambda now: now >= due, within=at_s + 60, most=LOOK_EVERY_S)


def _end(one: RcQueuePair | None) -> RcQueuePair:
    if one is None:
        raise TrafficError("an end of a connection wrote no report")
    return one


def _late(report: RcReport) -> str | None:
    most = Demands().late_share
    return (
        f"{report.late_share:.1%} of packets left late, at most {most:.0%} allowed"
        if report.late_share > most
        else None
    )


def _too_short(report: RcReport, steady: Steady) -> str | None:
    """Why the rates prove nothing; None when they do."""
    for one in report.connections:
        last = one.sent.last_ns - report.ranks[one.src].go_ns if one.sent and one.bytes else 0
        if one.bytes and last < steady.end_s * 1e9:
            return f"rank {one.src} had sent everything {steady.end_s - last / 1e9:.2f} s before the steady time's end"
    return None
