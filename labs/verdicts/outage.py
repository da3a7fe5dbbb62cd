"""How long flows were out around a fault, and where the time went: read from a timeline, judged in `recovered`.

            last packet     the node at the break      its kernel's      the last node's      first packet
            that came       knows (carrier, BFD, BGP)  route changes     route changes        that comes
    ────────────┼───────────────────┼───────────────────────┼─────────────────┼───────────────────┼────────
                │←─── detection ───→│←─── local reroute ───→│←──────── reconvergence ──────────→│

A switch that has another way acts by itself, so its flows wait for the first two parts only. One that has none tells
its neighbours, hop by hop, until one of them has: reconvergence. Once the fault is gone flows are back on the design's
path when the routes of every node on it have that port again: rebalance.

Three readings of an outage do not agree, and all are kept (traffic/engines/probe.py): by arrivals (at most), by what
was sent meanwhile (at least), and by loss, missing packets × interval (F9: t = lost / rate).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter

from labs.telemetry.records import FaultEvent, FlowRecord, GapRecord, LinkEvent, ProbeRecord, RouteEvent, SessionEvent
from labs.telemetry.timeline import Timeline

_BEGAN = attrgetter("began")
NS = 1_000_000_000
FOREVER_NS = 1 << 62
# A cut and its record are two moments of one process: what is heard this much before the record is still the cut's.
AHEAD_NS = 100_000_000


class Turn(StrEnum):
    """The two moments of a fault at which flows may be out."""

    FAILURE = "failure"
    RESTORATION = "restoration"


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time in nanoseconds, from right before a change to when what follows is another's."""

    turn: Turn
    began_ns: int
    made_ns: int
    until_ns: int


@dataclass(frozen=True, slots=True)
class Flow:
    """An open-loop flow of a timeline, with its gaps. `reordered` and `duplicates` are of its whole life.

    Packets were sent from `began_ns` to `ended_ns`; `gaps_told` is how many gaps its record speaks of.
    """

    name: str
    prefix: str
    path: tuple[str, ...]
    dst: str
    interval_ns: int
    gaps: tuple[GapRecord, ...]
    reordered: int = 0
    duplicates: int = 0
    way: str = ""
    began_ns: int = 0
    ended_ns: int = 0
    gaps_told: int = 0
    invalid_because: tuple[str, ...] = ()

    def broken_port(self, target: str) -> str | None:
        """The port by which it leaves into the link or node `target`: ``leaf1:eth1``; None when it does not."""
        nodes = [*(port.partition(":")[0] for port in self.path), self.dst]
        ends = ends_of(target)
        for port, here, there in zip(self.path, nodes, nodes[1:], strict=False):
            if (len(ends) == 1 and there == ends[0]) or (len(ends) == 2 and {here, there} == set(ends)):
                return port
        return None


@dataclass(frozen=True, slots=True)
class Outage:
    """What one flow lost at one turn of a fault, in seconds.

    `most_s` is the longest time without a packet in which packets were lost, `least_s` what of it is certain however
    late its sender was, `by_loss_s` the missing packets' share of the schedule; all 0 when nothing was lost, `most_s`
    infinite when nothing came any more. `blind_s` is the longest silence at the change itself in which nothing was
    lost: the probe cannot tell what happened then. `crosses` says whether the flow's path led into what was broken. The
    parts are None where the timeline holds no event that ends them.
    """

    flow: str
    turn: Turn
    crosses: bool
    lost: int
    most_s: float
    least_s: float
    by_loss_s: float
    blind_s: float
    detection_s: float | None = None
    local_s: float | None = None
    reconvergence_s: float | None = None
    rebalance_s: float | None = None

    @property
    def parts(self) -> str:
        """Where the time went, in words."""
        named = {
            "detection": self.detection_s,
            "local reroute": self.local_s,
            "reconvergence": self.reconvergence_s,
            "rebalance": self.rebalance_s,
        }
        return ", ".join(f"{name} {1000 * part:.1f} ms" for name, part in named.items() if part is not None)

    def __str__(self) -> str:
        out = "not out" if not self.lost else f"out {1000 * self.most_s:.1f} ms, {self.lost} lost"
        return f"{self.flow}: {self.turn}: {out}" + (f" ({self.parts})" if self.parts else "")


def undirected(target: str) -> str:
    """The link or node of a fault's target, without the direction that it may name."""
    return target.partition(" --from ")[0]


def ends_of(target: str) -> tuple[str, ...]:
    """The two nodes of a link, or the node."""
    return tuple(undirected(target).partition("#")[0].split(":"))


def same_place(one: str, other: str) -> bool:
    """Whether two targets are the same, whichever end of a link each names first."""
    return (frozenset(ends_of(one)), _beside(one)) == (frozenset(ends_of(other)), _beside(other))


def _beside(target: str) -> tuple[str, str]:
    """Which of several parallel links it is, and which direction of it."""
    link, _, sender = target.partition(" --from ")
    return link.partition("#")[2], sender


def spans(timeline: Timeline, target: str, fault_id: str | None = None) -> tuple[Span, ...]:
    """The turns of every fault on `target`, or of the one with that id alone, in order; of one still in the failure.

    A failure lasts until the fault is taken back, however often that failed before; a restoration until the next fault,
    whatever that is on. A fault on
    one direction of a link (``leaf1:spine1 --from leaf1``) is one on the link, too. Either end may be named first.
    """
    told = timeline.of(FaultEvent)
    begins = [one.t for one in told if one.phase == "injecting"]
    on = [one for one in told if same_place(target, one.target) or same_place(target, undirected(one.target))]
    events = [one for one in on if fault_id is None or one.id == fault_id]
    found: list[Span] = []
    for number in dict.fromkeys(one.id for one in events):
        at = {one.phase: one.t for one in events if one.id == number}
        if "made" not in at:
            continue  # it failed: nothing is known to have been broken
        reverting = _taken_back(at)
        found.append(Span(Turn.FAILURE, at.get("injecting", at["made"]), at["made"], reverting))
        if "reverted" in at:
            until = min((begin for begin in begins if begin > reverting), default=FOREVER_NS)
            found.append(Span(Turn.RESTORATION, reverting, at["reverted"], until))
    return tuple(sorted(found, key=lambda span: span.began_ns))


def _taken_back(at: Mapping[str, int]) -> int:
    """When what ended a fault began, by the last of each phase. A try that failed has ended nothing."""
    reverting = at.get("reverting", FOREVER_NS)
    failed = reverting <= at.get("failed", 0) < at.get("reverted", FOREVER_NS)
    return FOREVER_NS if failed else reverting


def flows(timeline: Timeline) -> tuple[Flow, ...]:
    """The open-loop flows of a timeline."""
    totals = {one.flow: one for one in timeline.of(FlowRecord)}
    gaps: dict[str, list[GapRecord]] = {}
    for gap in timeline.of(GapRecord):
        gaps.setdefault(gap.flow, []).append(gap)
    return tuple(
        Flow(
            one.flow,
            one.prefix,
            one.path,
            one.dst,
            one.interval_ns,
            # Two probes of one run may have flows of one name: each has the gaps of its own life.
            tuple(
                sorted((gap for gap in gaps.get(one.flow, ()) if one.began <= gap.began <= one.t), key=_BEGAN),
            ),
            totals[one.flow].reordered if one.flow in totals else 0,
            totals[one.flow].duplicates if one.flow in totals else 0,
            one.way,
            one.began,
            one.ended,
            one.gaps,
            one.invalid_because,
        )
        for one in timeline.of(ProbeRecord)
    )


def outages(timeline: Timeline, target: str, span: Span) -> tuple[Outage, ...]:
    """What every open-loop flow lost at one turn of a fault on `target`."""
    return tuple(_outage(timeline, flow, target, span) for flow in flows(timeline))


def _outage(timeline: Timeline, flow: Flow, target: str, span: Span) -> Outage:
    touching = [gap for gap in flow.gaps if _ended(gap) > span.began_ns and not _of_the_next(gap, flow, span)]
    # One that began at the failure and ended only after the restoration is the failure's.
    if span.turn is Turn.RESTORATION:
        touching = [gap for gap in touching if gap.began >= span.began_ns - AHEAD_NS]
    losing = [gap for gap in touching if gap.missing]
    silent = [gap for gap in touching if not gap.missing and gap.began <= span.made_ns + AHEAD_NS]
    longest = max(losing, key=lambda gap: _ended(gap) - gap.began, default=None)
    port = flow.broken_port(target)
    detection = local = reconvergence = rebalance = None
    if port is not None and span.turn is Turn.FAILURE and longest is not None:
        detection, local, reconvergence = _parts(timeline, flow, port, span, longest)
    if port is not None and span.turn is Turn.RESTORATION:
        rebalance = _rebalance(timeline, flow, port, span)
    return Outage(
        flow.name,
        span.turn,
        port is not None,
        lost=sum(gap.missing for gap in losing),
        most_s=_lasted_s(longest) if longest else 0.0,
        least_s=_certain_s(longest, flow.interval_ns) if longest else 0.0,
        by_loss_s=longest.missing * flow.interval_ns / NS if longest else 0.0,
        blind_s=max((_lasted_s(gap) for gap in silent), default=0.0),
        detection_s=detection,
        local_s=local,
        reconvergence_s=reconvergence,
        rebalance_s=rebalance,
    )


def _of_the_next(gap: GapRecord, flow: Flow, span: Span) -> bool:
    """Whether a gap is the doing of what follows the turn: the last packet before a cut came before its record.

    By an interval, on its way as long at most, and by how late its sender was.
    """
    before = min(AHEAD_NS, 2 * flow.interval_ns + gap.behind_ns)
    return _ended(gap) > span.until_ns and gap.began + before >= span.until_ns


def _ended(gap: GapRecord) -> int:
    return gap.ended or FOREVER_NS


def _lasted_s(gap: GapRecord) -> float:
    return float("inf") if not gap.ended else (gap.ended - gap.began) / NS


def _certain_s(gap: GapRecord, interval_ns: int) -> float:
    """From when the first of the missing was sent to when the last was: the first one may have left late."""
    return max(0.0, ((gap.missing - 1) * interval_ns - gap.behind_ns) / NS)


def _parts(
    timeline: Timeline, flow: Flow, port: str, span: Span, gap: GapRecord
) -> tuple[float | None, float | None, float | None]:
    """Seconds of detection, local reroute and reconvergence; each None without the event that ends it.

    A kernel that takes a dead port out of its groups by itself has rerouted before its routing daemon changes the
    route: no part is counted beyond the flow's own return. One whose only way that was drops the route with the port
    and tells nobody: then all the rest is reconvergence.
    """
    node, _, name = port.partition(":")
    back = _ended(gap)
    known = min(_told_of_loss(timeline, node, name, span), default=None)
    if known is None:
        return None, None, None
    changed = _first_route(timeline, node, flow.prefix, known, span.until_ns, without=name)
    detected = min(max(known, gap.began), back)
    detection = (detected - gap.began) / NS
    if changed is None:
        return detection, None, (back - detected) / NS if gap.ended else None
    rerouted = min(max(changed, detected), back)
    rest = (back - rerouted) / NS if gap.ended else None
    return detection, (rerouted - detected) / NS, rest


def _told_of_loss(timeline: Timeline, node: str, port: str, span: Span) -> Iterator[int]:
    since, until = span.began_ns - AHEAD_NS, span.until_ns
    for link in timeline.of(LinkEvent, since=since, until=until):
        if (link.node, link.port) == (node, port) and not link.up:
            yield link.t
    for session in timeline.of(SessionEvent, since=since, until=until):
        if session.node == node and not session.up:
            yield session.t


def _first_route(
    timeline: Timeline, node: str, prefix: str, since: int, until: int, *, without: str = "", having: str = ""
) -> int | None:
    for route in timeline.of(RouteEvent, since=since, until=until):
        if (route.node, route.prefix) != (node, prefix):
            continue
        if (without and without not in route.ports) or (having and having in route.ports):
            return route.t
    return None


def _rebalance(timeline: Timeline, flow: Flow, port: str, span: Span) -> float | None:
    """Seconds from the end of the fault until every node whose route had left the path has its port again.

    0 when none had left; None when one does not come back.
    """
    last = span.began_ns
    for one in flow.path[: flow.path.index(port) + 1]:
        node, _, name = one.partition(":")
        routes = [r for r in timeline.of(RouteEvent, until=span.began_ns) if (r.node, r.prefix) == (node, flow.prefix)]
        if not routes or name in routes[-1].ports:
            continue
        back = _first_route(timeline, node, flow.prefix, span.began_ns, span.until_ns, having=name)
        if back is None:
            return None
        last = max(last, back)
    return (last - span.began_ns) / NS


def worst(found: Sequence[Outage]) -> Outage | None:
    """The one that was out longest; None where nobody lost anything."""
    return max((one for one in found if one.lost), key=lambda one: one.most_s, default=None)
