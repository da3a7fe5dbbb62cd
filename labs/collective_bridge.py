"""Collectives on a running lab: ranks on its hosts' cards, played by an engine, watched, and judged whether they count.

A rank stands on every card. Cards send at their link's rate. While it plays nothing else of ours changes interfaces
(`lease.measuring`), the workstation is watched, and the soft ASIC's counters are read before and after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from labs import lease
from labs.channels.namespaces import in_network
from labs.collective_trouble import check_hosts, check_running
from labs.dataplane.asic import SoftAsic
from labs.faults.host_traffic import remarks, with_faults
from labs.lab import Lab
from labs.path import Path as FlowPath
from labs.telemetry.asic_counters import AsicCounters
from labs.telemetry.awake import spun_ns
from labs.telemetry.host_watch import HostWatch
from labs.telemetry.samples import HostSample
from labs.verdicts.health import STEAL_MOST, TICK_S
from labs.verdicts.pfc import LOSSLESS_DSCPS
from labs.waiting import wait_until
from topologies import addressing
from topologies.ecmp import ROCE_PORT
from topologies.errors import SpecError
from traffic.bounds import placed_ideal_s
from traffic.certificate import Conditions, why_invalid
from traffic.engines.graph_engine import GraphReport, RunningGraph
from traffic.engines.graphs import EngineSettings, planned
from traffic.engines.rc_plan import Connection
from traffic.engines.rc_report import RcReport
from traffic.engines.rc_settings import RcSettings
from traffic.engines.rnic import SpokenTo
from traffic.engines.rnic_rc import RankProgress, RcRun, Watches
from traffic.flows import FiveTuple, Transport
from traffic.graph import Graph
from traffic.nccl_report import FlowLine
from traffic.placement import Addresses, Placement, Rank, checked_placement
from traffic.step_model import computing_s

# So many times as long as the wire needs at least, before a collective is given up.
PATIENCE = 20.0
LEAST_S = 30.0
PUT_RIGHT_S = 1.0  # asicd looks every 20 ms, and 50 ms of nothing are a quiet moment
CPU_FIELDS = 8  # of /proc/stat: user nice system idle iowait irq softirq steal; guest time is in the first two


@dataclass(frozen=True, slots=True)
class Played:
    """A graph that was played on a lab.

    `counted` is what the soft ASIC counted meanwhile, None without one. `cpu_left` is the share of the processors'
    time that nobody used; `disturbed` is why the lease says it was no quiet moment. `queues` are those that its class
    goes through, None for any.
    """

    report: GraphReport
    host: HostSample
    cpu_left: float
    counted: AsicCounters | None = None
    disturbed: str | None = None
    queues: frozenset[int] | None = None

    @property
    def rc(self) -> RcReport:
        """What rnic has to say beyond what every engine has. Raises SpecError for another engine's report."""
        if not isinstance(self.report, RcReport):
            raise SpecError(f"queue pairs of a {type(self.report).__name__}", allowed="rnic's: only it has them")
        return self.report

    @property
    def pauses(self) -> int:
        """PFC frames that told somebody to stop."""
        return self.counted.pauses if self.counted else 0

    @property
    def marked(self) -> int:
        """Packets that a queue marked."""
        return sum(queue.marked_packets for queue in self.counted.queues) if self.counted else 0

    @property
    def dropped(self) -> int:
        """Packets that switches, their cables and hosts' queues lost, by what the soft ASIC counts.

        Of queues those of its own class; a cable does not tell classes apart. A packet that was taken for lost before
        and came after all while this played makes a queue's count less than nothing: it is no loss of this.
        """
        queues, ports = (self.counted.queues, self.counted.ports) if self.counted else ((), ())
        own = [one for one in queues if self.queues is None or one.queue in self.queues]
        refused = sum(one.dropped_packets + one.ingress_packets + max(0, one.lost_packets) for one in own)
        return refused + sum(port.wire_dropped + port.watchdog_rx_dropped + port.receiver_dropped for port in ports)

    @property
    def lost_packets(self) -> int:
        """Packets that were really lost, wherever. One sent again because others overtook it is none of them.

        rnic knows what its hosts lost, which comes on top of what the fabric did; other engines miss at the far end
        what was lost anywhere. Where nobody counted a loss, each time-out stands for one.
        """
        if isinstance(self.report, RcReport):
            return self.dropped + self.report.lost_packets or self.report.timeouts
        return max(self.dropped, self.report.lost_packets) or self.report.timeouts

    @property
    def invalid_because(self) -> str | None:
        """Why its times prove nothing; None where they count."""
        lossless = self.counted is not None and self.report.dscp in LOSSLESS_DSCPS
        conditions = Conditions(
            late_share=self.report.late_share,
            rate_error=self.report.rate_error,
            cpu_headroom=self.cpu_left,
            lost_packets=self.lost_packets,
            lossless=lossless,
            paced=self.report.late_share is not None,
        )
        stolen = self.host.duration_s > 0 and self.host.steal > STEAL_MOST + TICK_S / self.host.duration_s
        reasons = (
            why_invalid(conditions),
            self.disturbed,
            f"steal {self.host.steal:.0%}, at most {STEAL_MOST:.0%} allowed" if stolen else None,
        )
        return "; ".join(reason for reason in reasons if reason) or None

    @property
    def starved(self) -> bool:
        """Whether the workstation was too slow to blame a fabric for packets that were lost, or for anything late."""
        conditions = Conditions(
            late_share=self.report.late_share,
            rate_error=self.report.rate_error,
            cpu_headroom=self.cpu_left,
            lost_packets=0,
            paced=self.report.late_share is not None,
        )
        return why_invalid(conditions) is not None or self.host.steal > STEAL_MOST


def ranks_on(lab: Lab, hosts: Sequence[str] = (), *, rate_bps: int | None = None) -> Placement:
    """A rank for every card of these hosts, by default of all, at its link's rate or at `rate_bps`.

    Raises SpecError for an unknown host, fewer than two ranks, or a card with several ports.
    """
    check_hosts(lab, hosts)
    found = []
    for host in hosts or [node.name for node in lab.fabric.hosts]:
        for card in addressing.nics(lab.fabric, host):
            if card.shared:
                raise SpecError(
                    f"card {card.number} of {host} has {len(card.ports)} ports", allowed="cards of one port"
                )
            rate = float(lab.fabric.link_at(host, card.ports[0].name).rate_bps)
            found.append(Rank(card.host, (card.number,), float(rate_bps or rate), receive_bps=rate))
    if len(found) < 2:
        raise SpecError(f"{len(found)} ranks on {', '.join(hosts) or lab.name}", allowed="2 or more: a rank a card")
    return checked_placement(found)


def addresses(lab: Lab, family: int = 4) -> Addresses:
    """Where the lab's cards are."""
    return lambda host, card: str(addressing.host_address(lab.fabric, host, card, family))


@dataclass
class Playing:
    """A graph under way on a lab.

    `patience_s` says of a number of iterations after how long they are given up unless one says otherwise; of
    `iterations` it waits for the end, fewer once it is to end soon.
    """

    lab: Lab
    run: RunningGraph
    patience_s: Callable[[int], float]
    iterations: int
    held: lease.Lease
    watch: HostWatch
    before: AsicCounters | None
    began: tuple[int, int]
    _played: Played | None = None

    def progress(self) -> tuple[RankProgress, ...]:
        """How far the ranks are; nothing where the engine does not say."""
        return self.run.progress() if isinstance(self.run, RcRun) else ()

    def has_ended(self) -> bool:
        """Whether no rank will do more; False where the engine does not say."""
        return isinstance(self.run, RcRun) and self.run.has_ended()

    def end_soon(self) -> None:
        """Have it end after an iteration that begins soon. Raises SpecError for an engine that cannot."""
        if not isinstance(self.run, RcRun):
            raise SpecError("a graph without end", allowed="rnic: others play so many iterations")
        last = self.run.end_soon()
        # Those that have come to their end do not answer any more.
        self.iterations = last - min((one.iterations for one in self.progress()), default=last)

    def finish(self, within: float | None = None, watch: Watches | None = None) -> Played:
        """Wait for its end, at most `within` seconds.

        By default `PATIENCE` times what the wire needs or LEAST_S, and what a queue pair takes to spend its retries.

        Args:
            watch: is told how far it is, now and then.
        """
        limit = (self.patience_s(self.iterations) if within is None else within) * self.lab.timeout_scale
        run = self.run
        return self._ended(lambda: run.finish(limit, watch) if isinstance(run, RcRun) else run.finish(limit))

    def stop(self) -> Played:
        """End it now."""
        return self._ended(self.run.stop)

    def _ended(self, end: Callable[[], GraphReport]) -> Played:
        if self._played is None:
            report, (idle, total), sample = end(), cpu_time(), self.watch.sample()
            self._played = Played(
                report,
                sample,
                (idle - self.began[0]) / max(1, total - self.began[1]),
                counted_since(self.lab.asic, self.before) if self.lab.asic and self.before else None,
                self.held.disturbed(),
                queues_of(self.lab, report.dscp),
            )
        return self._played


@contextmanager
def playing(
    lab: Lab,
    graph: Graph,
    placement: Placement,
    settings: EngineSettings | None = None,
    *,
    iterations: int = 1,
    check: bool = True,
) -> Iterator[Playing]:
    """Play a graph on a lab for the length of a block, or for `iterations` in a row; what is left then ends.

    Other labs change no interfaces meanwhile; this one's faults and changes go on.

    Args:
        settings: an engine's; None is rnic with its own. What faults change in hosts' settings comes on top.

    Raises SpecError for what cannot be played, TrafficError for a host where the engine does not start.
    """
    chosen = with_faults(lab, settings)
    plan = planned(graph, placement, addresses(lab), chosen, iterations=iterations, check=check)
    ideal_s, computing = placed_ideal_s(plan.graph, placement), computing_s(plan.graph)
    check_running(lab, placement.hosts)

    def start(node: str, argv: tuple[str, ...]) -> SpokenTo:
        return in_network(node, lab.deployment.netns(lab.node(node).name), argv)

    def patience_s(count: int) -> float:
        return max(LEAST_S, PATIENCE * ideal_s * count) + PATIENCE * computing * count + plan.extra_s

    with lease.measuring(lab.name, graph.name) as held, ExitStack() as stack:
        before = lab.asic.counters() if lab.asic else None
        run = plan.start(start)
        stack.callback(run.stop)
        watch = stack.enter_context(HostWatch())
        yield Playing(lab, run, patience_s, iterations, held, watch, before, cpu_time())


def play(
    lab: Lab,
    graph: Graph,
    placement: Placement,
    settings: EngineSettings | None = None,
    *,
    iterations: int = 1,
    check: bool = True,
    within: float | None = None,
    watch: Watches | None = None,
) -> Played:
    """Play a graph on a lab to its end, `iterations` times in a row.

    Args:
        settings: an engine's; None is rnic with its own.
        within: seconds until it is given up; default: `PATIENCE` times what the wire needs, and no less than LEAST_S.
        watch: is told how far it is, now and then.

    Raises SpecError for what cannot be played, TrafficError for a host where the engine does not start.
    """
    with playing(lab, graph, placement, settings, iterations=iterations, check=check) as run:
        return run.finish(within, watch)


def counted_since(asic: SoftAsic, before: AsicCounters) -> AsicCounters:
    """What the soft ASIC has counted since.

    A packet that a stopped processor held for long is taken for lost until it comes; its queue then holds one less than
    nothing, until asicd puts both right in the port's next quiet moment (reconcile.c). That is waited for.
    """
    return wait_until(
        "what came after all is no loss",
        lambda: asic.counters() - before,
        lambda since: not any(queue.lost_packets > 0 > queue.depth_packets for queue in since.queues),
        within=PUT_RIGHT_S,
    ).last


def queues_of(lab: Lab, dscp: int) -> frozenset[int] | None:
    """The queues that packets of a class go through, on whichever port; None without a soft ASIC."""
    if lab.asic is None:
        return None
    ports = [(node.name, port.name) for node in lab.fabric.nodes for port in lab.fabric.ports(node)]
    return frozenset(lab.asic.profile.port(*port).queue_of_dscp(dscp) for port in ports)


def cpu_time(stat: Path = Path("/proc/stat")) -> tuple[int, int]:
    """(idle, all) clock ticks of all processors together since boot; what keeps them awake is idle, too."""
    ticks = [int(word) for word in stat.read_text().split("\n", 1)[0].split()[1 : 1 + CPU_FIELDS]]
    return ticks[3] + ticks[4] + int(spun_ns() / 1e9 / TICK_S), sum(ticks)


def refuse(lab: Lab, graph: Graph, placement: Placement, engine: EngineSettings, iterations: int) -> None:
    """Raise SpecError for what the engine cannot play; nothing is started."""
    planned(graph, placement, addresses(lab), engine, iterations=iterations, check=False)


def faulty_hosts(played: Played) -> Mapping[str, list[str]]:
    """The hosts whose cards a fault had set otherwise when it was played, by how: its numbers are not the others'."""
    return remarks(played.rc.plans.settings) if isinstance(played.report, RcReport) else {}


def flow_lines(lab: Lab, played: Played) -> tuple[FlowLine, ...]:
    """One line for each five-tuple that carried something to its end, with the path the switches give it.

    Bytes are of one iteration; the time is from the last iteration's first message to its last, both on this flow.
    """
    flows = [one for one in played.report.flows if one.took_s is not None]
    ways = lab.paths([one.five_tuple for one in flows], [one.src for one in flows])
    return tuple(
        FlowLine(one.src, one.dst, one.bytes, (one.took_s or 0.0) * 1e6, one.ce, one.retransmits, way.ports)
        for one, way in zip(flows, ways, strict=True)
    )


def flow_paths(lab: Lab, settings: RcSettings, flows: Sequence[tuple[Connection, int]]) -> tuple[FlowPath, ...]:
    """The paths of connections from the rank that sends on each."""
    ends = [(connection.end(rank), connection.far(rank)) for connection, rank in flows]
    tuples = [
        FiveTuple(near.address, far.address, Transport.UDP, near.sport, ROCE_PORT, settings.dscp, far.number)
        for near, far in ends
    ]
    return lab.paths(tuples, [near.host for near, _ in ends])
