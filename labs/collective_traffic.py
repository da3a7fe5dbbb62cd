"""Collectives for tests and scripts: an operation goes in, and what nccl-tests would say of it comes out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from labs.collective_bridge import Played, Playing, flow_paths, playing, ranks_on
from labs.lab import Lab
from labs.verdicts import Verdict
from labs.verdicts.bandwidth import busbw_reached
from labs.verdicts.carried import OWN_FRAMES, WITHIN, carried_as_planned
from labs.verdicts.pfc import LOSSLESS
from labs.verdicts.stragglers import messages_of, stragglers
from topologies import addressing
from topologies.errors import SpecError
from traffic import carried
from traffic.carried import Carried, PortName
from traffic.certificate import Demands
from traffic.engines.rc_settings import RcSettings
from traffic.engines.rnic_rc import MOST_ITERATIONS, RankProgress
from traffic.graph import Graph
from traffic.operations import Operation
from traffic.placement import Placement, Rank, checked_placement

NUMBERS = 0xFFFFFFFF  # what tells a message of one iteration from one of another


@dataclass(frozen=True, slots=True)
class CollectiveResult:
    """What became of an operation, in nccl-tests' words.

    `iterations` were done by all ranks, the first `warmup` of them not timed. Times and bandwidths are None when that
    leaves none. `valid` says whether times count; `error` what did not come to its end, and where.
    """

    operation: Operation
    played: Played
    placement: Placement
    warmup: int

    @property
    def iterations(self) -> int:
        """Iterations that all ranks have done."""
        return self.played.rc.done

    @property
    def error(self) -> str | None:
        """All that failed, with flow and hosts; None when nothing did."""
        return self.played.report.error

    @property
    def took_s(self) -> float | None:
        """Seconds an iteration took, from the first rank's begin to the last one's end."""
        return self.played.rc.cut_short().took_s(self.warmup)

    @property
    def line_rate_bps(self) -> float:
        """The slowest card's rate."""
        return min(self.placement.rates_bps().values())

    @property
    def busbw_bps(self) -> float | None:
        """Bus bandwidth, bit/s."""
        return None if self.took_s is None else self.operation.busbw_bps(self.took_s)

    @property
    def busbw_ratio(self) -> float | None:
        """Bus bandwidth over line rate × wire efficiency."""
        mtu = self.played.rc.plans.settings.mtu
        if self.took_s is None:
            return None
        return self.operation.busbw_ratio(self.took_s, rate_bps=self.line_rate_bps, mtu=mtu)

    @property
    def wrong(self) -> int | None:
        """Elements that are not what they should be; None where nothing was checked, as when it was ended early."""
        return self.played.report.wrong

    @property
    def retransmits(self) -> int:
        """Packets that were sent again."""
        return self.played.rc.retransmits

    @property
    def valid(self) -> bool:
        """Whether its times count."""
        return self.invalid_because is None

    @property
    def invalid_because(self) -> str | None:
        """Why its times prove nothing; None where they count."""
        return self.played.invalid_because

    def reached(self, least: float = 0.90) -> Verdict:
        """Whether bus bandwidth is at least this share of line rate × wire efficiency, and no more than all of it."""
        numbers = {
            "ranks": self.operation.graph.ranks,
            "bytes": self.operation.size,
            "iterations": self.iterations - self.warmup,
            "busbw_mbit": self.busbw_bps and round(self.busbw_bps / 1e6, 2),
            "wrong": self.wrong,
            "retransmits": self.retransmits,
            "lost": self.played.lost_packets,
            "late_share": round(self.played.rc.late_share, 4),
            "cpu_left": round(self.played.cpu_left, 3),
            "steal": round(self.played.host.steal, 4),
        }
        return busbw_reached(
            self.busbw_ratio,
            least=least,
            name=self.operation.graph.name,
            error=self.error,
            invalid_because=self.invalid_because,
            numbers=numbers,
        )

    def stragglers(self, held_up: str | None = None) -> Verdict:
        """Whether no rank made the others wait, in the last iteration; the one that did is named with its host.

        Args:
            held_up: a host that was held up on purpose: that its own packets leave late is what is looked for, and
                that its peers miss their rates follows from it. Only others that send late make the run INVALID then.
        """
        report = self.played.rc
        hosts = {number: rank.host for number, rank in enumerate(self.placement.ranks)}
        found = messages_of(report.plans.graph, report.sends)
        late = self.invalid_because
        if held_up is not None:
            share, most = report.late_share_but_for(held_up), Demands().late_share
            late = f"{share:.1%} of a sender's packets left late, at most {most:.0%} allowed" if share > most else None
        return stragglers(found, hosts=hosts, late=late, host=self.played.host)

    def planned_at_ports(self, lab: Lab, *, asked: bool = False) -> dict[PortName, Carried]:
        """What was to leave by every port on the paths that the switches give its flows now.

        Data is the plan's. Acknowledgements are as many as receivers report, or, with `asked`, as were asked for.
        """
        report = self.played.rc
        flows = carried.flows(report.plans)
        paths = flow_paths(lab, report.plans.settings, [(flow.connection, flow.src) for flow in flows])
        ways = {
            flow.key: [(hop.node, hop.in_port, hop.out_port) for hop in path.hops]
            for flow, path in zip(flows, paths, strict=True)
        }
        # The receiving end's answers go to this flow's data.
        sent = Counter(
            {
                (one.src, one.connection.end(one.src).number): one.received.sent_acks
                for one in report.connections
                if one.received
            }
        )
        return dict(carried.at_ports(flows, ways, None if asked else sent))

    def carried_as_planned(self, lab: Lab, *, queue: int = 3, within: float = WITHIN) -> Verdict:
        """Whether every switch port sent the bytes of this class that the plan and the paths say.

        Counters do not depend on time: only what a starved workstation lost makes it invalid.

        Raises SpecError for a lab without a soft ASIC.
        """
        if self.played.counted is None:
            raise SpecError(f"{lab.name} plays no profile", allowed="a lab with a soft ASIC: it counts classes")
        excused = self.invalid_because if self.played.lost_packets and self.played.starved else None
        return carried_as_planned(
            self.planned_at_ports(lab),
            self.played.counted,
            queue=queue,
            within=within,
            own_frames=0 if queue in LOSSLESS else OWN_FRAMES,
            invalid_because=excused,
        )


@dataclass
class RunningCollective:
    """An operation under way; `endless` unless it plays a number of iterations."""

    operation: Operation
    placement: Placement
    playing: Playing
    warmup: int
    endless: bool
    _result: CollectiveResult | None = field(default=None, init=False)

    def progress(self) -> tuple[RankProgress, ...]:
        """How far each rank is: iterations, messages and bytes. Ranks that have ended are left out."""
        return self.playing.progress()

    def has_ended(self) -> bool:
        """Whether no rank will do a further iteration, for whatever reason; `finish` says whether it went well."""
        return self.playing.has_ended()

    def finish(self, timeout: float | None = None) -> CollectiveResult:
        """Wait until it is done, at most `timeout` seconds; one without end ends after an iteration that begins soon.

        Raises TrafficError where ranks cannot agree on their last iteration.
        """
        if self._result is None:
            if self.endless:
                self.playing.end_soon()
            self._result = self._of(self.playing.finish(timeout))
        return self._result

    def stop(self) -> CollectiveResult:
        """End it now; what is under way is not checked."""
        if self._result is None:
            self._result = self._of(self.playing.stop())
        return self._result

    @property
    def result(self) -> CollectiveResult:
        """What became of it; ends it when it runs."""
        return self.stop()

    def _of(self, played: Played) -> CollectiveResult:
        return CollectiveResult(self.operation, played, self.placement, self.warmup)


@contextmanager
def running(
    lab: Lab,
    operation: Operation,
    *,
    iterations: int | None = None,
    warmup: int = 0,
    settings: RcSettings | None = None,
    rate_bps: int | None = None,
    check: bool = True,
) -> Iterator[RunningCollective]:
    """Play an operation for the length of a block: ready when every rank is, ended with it, whatever ends it.

    Args:
        iterations: how often; None for as long as the block lasts.
        rate_bps: of every card; None is its link's.

    Raises SpecError for hosts, cards or settings that there are not, TrafficError for a host where rnic does not start.
    """
    placement = placed(lab, operation, rate_bps)
    chosen = settings or RcSettings(seed=lab.seed)
    count = warmup + iterations if iterations is not None else _endless(operation.graph, chosen)
    with playing(lab, operation.graph, placement, chosen, iterations=count, check=check) as under_way:
        run = RunningCollective(operation, placement, under_way, warmup, endless=iterations is None)
        try:
            yield run
        finally:
            run.stop()


def placed(lab: Lab, operation: Operation, rate_bps: int | None = None) -> Placement:
    """Where the ranks stand: on the hosts that are named, on the next card of one named again; else on every card.

    Raises SpecError for an unknown host, and for other ranks than the operation has.
    """
    if not operation.hosts:
        return ranks_on(lab, rate_bps=rate_bps)
    turns: Counter[str] = Counter()
    ranks: list[Rank] = []
    for host in operation.hosts:
        found = addressing.nics(lab.fabric, host)
        card = found[turns[host] % len(found)]
        turns[host] += 1
        rate = float(lab.fabric.link_at(host, card.ports[0].name).rate_bps)
        ranks.append(Rank(host, (card.number,), float(rate_bps or rate), receive_bps=rate))
    return checked_placement(ranks)


def _endless(graph: Graph, settings: RcSettings) -> int:
    """As many iterations as messages' numbers allow."""
    tasks = len(graph.sends) * (settings.qps if settings.split else 1)
    return max(1, min(MOST_ITERATIONS, NUMBERS // (2 * tasks + 1)))
