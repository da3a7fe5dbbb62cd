"""Collectives on a running lab: ranks on its hosts' cards, played by rnic, watched, and judged for whether they count.

A rank stands on every card. Cards send at their link's rate. While it plays nothing else of ours changes interfaces
(`lease.measuring`), the workstation is watched, and the soft ASIC's counters are read before and after.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from labs import lease
from labs.channels.namespaces import in_network
from labs.lab import Lab
from labs.telemetry.asic_counters import AsicCounters
from labs.telemetry.host_watch import HostWatch
from labs.telemetry.samples import HostSample
from labs.verdicts.health import STEAL_MOST, TICK_S
from labs.verdicts.pfc import LOSSLESS_DSCPS
from topologies import addressing
from topologies.errors import SpecError
from traffic import busbw, nccl_report
from traffic.bounds import placed_ideal_s, wire_efficiency
from traffic.certificate import Conditions, why_invalid
from traffic.engines.rc_plan import Addresses, plans
from traffic.engines.rc_report import RcReport
from traffic.engines.rc_settings import RcSettings
from traffic.engines.rnic import SpokenTo
from traffic.engines.rnic_rc import start_rc
from traffic.errors import TrafficError
from traffic.flows import FiveTuple, Transport
from traffic.graph import Graph
from traffic.nccl_report import FlowLine, Line, Settings, Side
from traffic.patterns import Pattern
from traffic.placement import Placement, Rank, checked_placement

ROCE_PORT = 4791
# So many times as long as the wire needs at least, before a collective is given up.
PATIENCE = 20.0
LEAST_S = 30.0
CPU_FIELDS = 8  # of /proc/stat: user nice system idle iowait irq softirq steal; guest time is in the first two


@dataclass(frozen=True, slots=True)
class Played:
    """A graph that was played on a lab.

    `counted` is what the soft ASIC counted meanwhile, None without one. `cpu_left` is the share of the processors'
    time that nobody used; `disturbed` is why the lease says it was no quiet moment.
    """

    report: RcReport
    host: HostSample
    cpu_left: float
    counted: AsicCounters | None = None
    disturbed: str | None = None

    @property
    def pauses(self) -> int:
        """PFC frames that told somebody to stop."""
        return sum(sum(port.pfc_rx) for port in self.counted.ports) if self.counted else 0

    @property
    def marked(self) -> int:
        """Packets that a queue marked."""
        return sum(queue.marked_packets for queue in self.counted.queues) if self.counted else 0

    @property
    def dropped(self) -> int:
        """Packets that a queue or a priority group refused, or that were lost between ports."""
        queues = self.counted.queues if self.counted else ()
        return sum(queue.dropped_packets + queue.ingress_packets + queue.lost_packets for queue in queues)

    @property
    def invalid_because(self) -> str | None:
        """Why its times prove nothing; None where they count."""
        lossless = self.counted is not None and self.report.plans.settings.dscp in LOSSLESS_DSCPS
        conditions = Conditions(
            pacing_error=self.report.late_share,
            cpu_headroom=self.cpu_left,
            lost_packets=self.report.lost_packets + self.dropped,
            lossless=lossless,
        )
        stolen = self.host.duration_s > 0 and self.host.steal > STEAL_MOST + TICK_S / self.host.duration_s
        reasons = (
            why_invalid(conditions),
            self.disturbed,
            f"steal {self.host.steal:.0%}, at most {STEAL_MOST:.0%} allowed" if stolen else None,
        )
        return "; ".join(reason for reason in reasons if reason) or None


def ranks_on(lab: Lab, hosts: Sequence[str] = (), *, rate_bps: int | None = None) -> Placement:
    """A rank for every card of these hosts, by default of all, at its link's rate or at `rate_bps`.

    Raises SpecError for an unknown host, fewer than two ranks, or a card with several ports.
    """
    found = []
    for host in hosts or [node.name for node in lab.fabric.hosts]:
        for card in addressing.nics(lab.fabric, host):
            if card.shared:
                raise SpecError(
                    f"card {card.number} of {host} has {len(card.ports)} ports", allowed="cards of one port"
                )
            rate = lab.fabric.link_at(host, card.ports[0].name).rate_bps
            found.append(Rank(card.host, (card.number,), float(rate_bps or rate)))
    if len(found) < 2:
        raise SpecError(f"{len(found)} ranks on {', '.join(hosts) or lab.name}", allowed="2 or more: a rank a card")
    return checked_placement(found)


def addresses(lab: Lab, family: int = 4) -> Addresses:
    """Where the lab's cards are."""
    return lambda host, card: str(addressing.host_address(lab.fabric, host, card, family))


def play(
    lab: Lab,
    graph: Graph,
    placement: Placement,
    settings: RcSettings | None = None,
    *,
    iterations: int = 1,
    check: bool = True,
    within: float | None = None,
) -> Played:
    """Play a graph on a lab, `iterations` times in a row.

    Args:
        within: seconds until it is given up; default: `PATIENCE` times what the wire needs, and no less than LEAST_S.

    Raises SpecError for what cannot be played, TrafficError for a host where rnic does not start.
    """
    planned = plans(graph, placement, addresses(lab), settings, iterations=iterations, check=check)
    least = placed_ideal_s(planned.graph, placement) * iterations
    limit = (within if within is not None else max(LEAST_S, PATIENCE * least)) * lab.timeout_scale

    def start(node: str, argv: tuple[str, ...]) -> SpokenTo:
        return in_network(node, lab.deployment.netns(lab.node(node).name), argv)

    with lease.measuring(lab.name, graph.name) as held:
        before = lab.asic.counters() if lab.asic else None
        run = start_rc(planned, start)
        try:
            with HostWatch() as watch:
                idle, total = cpu_time()
                report = run.finish(limit)
                idle_after, total_after = cpu_time()
        finally:
            run.stop()
        return Played(
            report,
            watch.sample(),
            (idle_after - idle) / max(1, total_after - total),
            lab.asic.counters() - before if lab.asic and before else None,
            held.disturbed(),
        )


def cpu_time(stat: Path = Path("/proc/stat")) -> tuple[int, int]:
    """(idle, all) clock ticks of all processors together since boot."""
    ticks = [int(word) for word in stat.read_text().split("\n", 1)[0].split()[1 : 1 + CPU_FIELDS]]
    return ticks[3] + ticks[4], sum(ticks)


@dataclass(frozen=True, slots=True)
class Asked:
    """What one call of the command is to run: a pattern, its sizes and how, as nccl-tests' flags have it."""

    pattern: Pattern
    placement: Placement
    settings: Settings
    rc: RcSettings = field(default_factory=RcSettings)
    root: int = 0

    @property
    def sizes(self) -> tuple[busbw.Size, ...]:
        """What its lines are of."""
        words = self.settings
        each = busbw.sizes(words.least_bytes, words.most_bytes, factor=words.step_factor, step=words.step_bytes)
        return tuple(busbw.rounded(self.pattern.collective, size, ranks=words.ranks) for size in each)

    def graph(self, size: int, *, in_place: bool) -> Graph:
        """The graph of one size."""
        return self.pattern.graph(self.settings.ranks, size, root=self.root, in_place=in_place)


@dataclass(frozen=True, slots=True)
class Measured:
    """A line, and what was played for it."""

    line: Line
    played: tuple[Played, ...]


def measured(lab: Lab, asked: Asked) -> Iterator[Measured]:
    """Run size after size, out of place and in place, and give each line as soon as it is there.

    Raises TrafficError when one does not come to its end, with what failed.
    """
    with lease.measuring(lab.name, asked.pattern.collective.program):
        for size in asked.sizes:
            yield _line(lab, asked, size)


def _line(lab: Lab, asked: Asked, size: busbw.Size) -> Measured:
    words, collective = asked.settings, asked.pattern.collective
    halves: list[Side | None] = []
    played: list[Played] = []
    ideal = 0.0
    for in_place in (False, True):
        if in_place and not collective.checked_in_place:
            halves.append(None)
            continue
        graph = asked.graph(size.size, in_place=in_place)
        iterations = words.warmup_iterations + words.iterations
        one = play(lab, graph, asked.placement, asked.rc, iterations=iterations, check=bool(words.validation))
        took = one.report.took_s(words.warmup_iterations)
        if one.report.error or took is None:
            raise TrafficError(f"{graph.name}, {size.size} bytes: {one.report.error or 'not all iterations were done'}")
        wrong = one.report.wrong if words.validation else None
        halves.append(nccl_report.side(collective, took, size=size.size, ranks=words.ranks, wrong=wrong))
        played.append(one)
        ideal = ideal or placed_ideal_s(graph, asked.placement, efficiency=wire_efficiency(asked.rc.mtu))
    line = nccl_report.line_of(
        words,
        size=size.size,
        count=size.count,
        out_of_place=halves[0],
        in_place=halves[1],
        root=asked.root,
        ideal_s=ideal,
    )
    return Measured(line, tuple(played))


def invalid_because(runs: Sequence[Measured]) -> str | None:
    """Why these lines prove nothing: the first reason of each size; None when all count."""
    reasons = []
    for one in runs:
        found = next((played.invalid_because for played in one.played if played.invalid_because), None)
        if found:
            reasons.append(f"{one.line.size} bytes: {found}")
    return "; ".join(reasons) or None


def flow_lines(lab: Lab, played: Played) -> tuple[FlowLine, ...]:
    """One line for each direction of a connection that carried something, with the path the kernels give it.

    Bytes are of one iteration; the time is from the last iteration's first message to its last, both on this flow.
    """
    flows = [
        (one, one.connection.end(one.src), one.connection.far(one.src))
        for one in played.report.connections
        if one.took_s is not None
    ]
    ways = lab.paths(
        [FiveTuple(near.address, far.address, Transport.UDP, near.sport, ROCE_PORT) for _, near, far in flows],
        [near.host for _, near, _ in flows],
    )
    return tuple(
        FlowLine(
            near.host,
            far.host,
            one.bytes,
            (one.took_s or 0.0) * 1e6,
            one.received.ce if one.received else None,
            one.sent.retransmitted if one.sent else None,
            way.ports,
        )
        for (one, near, far), way in zip(flows, ways, strict=True)
    )
