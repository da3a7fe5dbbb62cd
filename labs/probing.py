"""Open-loop probes on a lab: small numbered packets along known paths, to see to the millisecond when a way is broken.

    with probing.start(lab, probing.around(lab, "leaf1:spine1")) as probe, faults.link_down("leaf1:spine1"):
        ...
    probe.report().flows[0].longest

`records` says the same in a timeline's words.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from labs.lab import Lab
from labs.load_bridge import five_tuple, sending
from labs.path import Path as FlowPath
from labs.telemetry.records import FlowRecord, GapRecord, ProbeRecord, Record
from topologies import addressing, routing
from topologies.errors import SpecError
from topologies.fabric import Fabric, Link
from traffic.engines.probe import PPS, Gap, ProbedFlow, ProbeReport, probe_flow, probe_report
from traffic.engines.rnic import RawFlow, RawRun
from traffic.flows import FiveTuple

PORT = 47777  # nobody else's: RoCE has 4791, iperf3 those from 5201
FIRST_SPORT = 46000
# How many source ports are tried for each pair of hosts. With m equal ways one of them takes a given way with 1/m:
# all 16 miss one of two ways once in 65 536, one of four once in 100.
TRIED = 16


class Way(StrEnum):
    """How a flow stands to a link that may be cut."""

    OWN = "own"  # it crosses the link from a switch that has another way: that switch sees the cut and acts
    FAR = "far"  # it crosses the link from a switch that has no other way: somebody upstream has to hear of it
    BESIDE = "beside"  # it does not cross the link: the control


@dataclass(frozen=True, slots=True)
class ProbeFlow:
    """One flow to probe and the path it takes as routing stands. `name` is what records and verdicts call it."""

    path: FlowPath
    src: str
    dst: str
    way: Way = Way.BESIDE

    @property
    def name(self) -> str:
        """``host1>host3 46002 (own)``."""
        return f"{self.src}>{self.dst} {self.path.five_tuple.sport} ({self.way})"

    @property
    def five_tuple(self) -> FiveTuple:
        """Its packets' addresses and ports."""
        return self.path.five_tuple


@dataclass
class Probe:
    """A probe under way. `report()` ends it."""

    lab: Lab
    flows: tuple[ProbeFlow, ...]
    raw: tuple[RawFlow, ...]
    run: RawRun
    logs: dict[str, Path]
    _report: ProbeReport | None = field(default=None, init=False)

    def report(self) -> ProbeReport:
        """End every flow and say what became of it. Raises TrafficError."""
        if self._report is None:
            said = self.run.stop()
            self._report = probe_report(said, self.logs, self.run.began_ns, time.monotonic_ns())
        return self._report


@contextmanager
def start(lab: Lab, flows: Sequence[ProbeFlow], pps: int = PPS, *, dscp: int = 0) -> Iterator[Probe]:
    """Probe flows for the length of a block, each with `pps` packets a second on schedule whatever becomes of them.

    Args:
        dscp: of a class that is never paused, or a pause would hold the probe back: 0 in the profiles that come along.

    Raises SpecError for no flows or an odd rate, TrafficError for a host where rnic does not start.
    """
    raw = tuple(probe_flow(one.src, one.dst, one.five_tuple, pps=pps, dscp=dscp) for one in flows)
    with tempfile.TemporaryDirectory(prefix="railbed-probe-") as folder:
        logs = {node: Path(folder, node) for node in dict.fromkeys(one.dst for one in flows)}
        with sending(lab, raw, logs) as run:
            probe = Probe(lab, tuple(flows), raw, run, logs)
            try:
                yield probe
            finally:
                probe.report()


def around(lab: Lab, link: Link | str, *, own: int = 2, far: int = 3, beside: int = 3) -> tuple[ProbeFlow, ...]:
    """Flows to probe a link with: some that cross it each way, and some that do not.

    Source ports are tried until flows take the wanted ways, as the kernels of the fabric say (`Lab.paths`).

    Raises SpecError for a link that no tried flow crosses.
    """
    found = _classified(lab, lab.fabric.link(str(link)))
    wanted = {Way.OWN: own, Way.FAR: far, Way.BESIDE: beside}
    chosen = [one for way, count in wanted.items() for one in _spread([f for f in found if f.way is way], count)]
    if all(one.way is Way.BESIDE for one in chosen):
        raise SpecError(f"no flow between hosts crosses {link}", allowed="a link between switches, on a way of hosts")
    return tuple(chosen)


def _classified(lab: Lab, link: Link) -> list[ProbeFlow]:
    """Flows between one host of each leaf, from several source ports, by how they stand to the link."""
    hosts = probed_hosts(lab.fabric)
    pairs = [(src, dst) for src in hosts for dst in hosts if src != dst]
    tried = [(src, dst, FIRST_SPORT + i) for src, dst in pairs for i in range(TRIED)]
    tuples = [five_tuple(lab, src, dst, sport=sport, dport=PORT) for src, dst, sport in tried]
    paths = lab.paths(tuples, [src for src, _, _ in tried])
    return [
        ProbeFlow(path, src, dst, way_of(lab.fabric, link, path.ports, dst))
        for (src, dst, _), path in zip(tried, paths, strict=True)
        if path.end == dst
    ]


def way_of(fabric: Fabric, link: Link, ports: Sequence[str], dst: str) -> Way:
    """How a flow to host `dst` that leaves by these ports stands to a link."""
    for name in ports:
        node, _, port = name.partition(":")
        if fabric.link_at(node, port) == link:
            if not fabric.node(node).is_switch:
                return Way.FAR
            return Way.OWN if routing.next_hops(fabric.without(link), node, dst) else Way.FAR
    return Way.BESIDE


def probed_hosts(fabric: Fabric) -> list[str]:
    """The hosts that flows are probed between: one of each leaf."""
    first: dict[str, str] = {}
    for host in fabric.hosts:
        first.setdefault(fabric.neighbors(host)[0].name, host.name)
    return list(first.values())


def _spread(flows: Sequence[ProbeFlow], count: int) -> Iterable[ProbeFlow]:
    """`count` flows between as many pairs of hosts as there are."""
    by_pair: dict[tuple[str, str], ProbeFlow] = {}
    for one in flows:
        by_pair.setdefault((one.src, one.dst), one)
    rest = [one for one in flows if one is not by_pair[one.src, one.dst]]
    # A pair each, taken from all over the list: neighbours in it share their source.
    pairs = list(by_pair.values())
    step = max(1, len(pairs) // count) if count else 1
    return [*pairs[::step], *rest][:count]


def records(fabric: Fabric, flows: Sequence[ProbeFlow], report: ProbeReport) -> tuple[Record, ...]:
    """A probe that has ended, in a timeline's words."""
    told: list[Record] = []
    for flow, seen in zip(flows, report, strict=True):
        told += _of_flow(flow, str(addressing.host_prefix(fabric, flow.dst)), seen, report)
    return tuple(told)


def _of_flow(flow: ProbeFlow, prefix: str, seen: ProbedFlow, report: ProbeReport) -> list[Record]:
    t = report.ended_ns
    longest = max((gap for gap in seen.gaps if gap.ended_ns), key=lambda gap: gap.lasted_s, default=None)
    return [
        ProbeRecord(
            t=t,
            flow=flow.name,
            src=flow.src,
            dst=flow.dst,
            prefix=prefix,
            path=flow.path.ports,
            interval_ns=seen.interval_ns,
            way=str(flow.way),
            began=report.began_ns,
            # The report is made when receivers have waited for the last packets, too: what was sent is the flow's life.
            ended=min(t, report.began_ns + seen.sent * seen.interval_ns),
            gaps=len(seen.gaps),
            invalid_because=report.invalid_because,
        ),
        FlowRecord(
            t=t,
            flow=flow.name,
            received=seen.received,
            first=0,
            last=seen.sent - 1,
            duplicates=seen.duplicates,
            reordered=seen.reordered,
            silence_ns=longest.ended_ns - longest.began_ns if longest and longest.ended_ns else 0,
            silence_end=(longest.ended_ns or 0) if longest else 0,
        ),
        *(_of_gap(flow, gap, seen.late_ns, t) for gap in seen.gaps),
    ]


def _of_gap(flow: ProbeFlow, gap: Gap, behind_ns: int, t: int) -> GapRecord:
    return GapRecord(
        t=t,
        flow=flow.name,
        began=gap.began_ns,
        ended=gap.ended_ns or 0,
        first=gap.first,
        missing=gap.missing,
        behind_ns=behind_ns,
    )
