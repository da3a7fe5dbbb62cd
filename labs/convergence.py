"""Waiting for a fabric to forward as it was designed to: routes, then reachability, then sessions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

from labs import observe
from labs.backends.base import Progress
from labs.errors import CapabilityMissing, NotReady
from labs.kinds import driver
from labs.node import LiveNode
from labs.spec import LabSpec
from labs.telemetry.host_watch import HostWatch
from labs.telemetry.samples import BgpSession, PingSample, Prefix, RouteTable
from labs.verdicts import Verdict
from labs.verdicts.health import vouch
from labs.verdicts.routes import converged, differences_of, routes_match, tables_still
from labs.waiting import Waited, wait_until
from topologies.errors import Unpredictable
from topologies.fabric import Fabric
from topologies.routing import RouteTables, route_tables

T = TypeVar("T")

# How long a switch may show nothing new before its daemons are asked whether they are there at all.
PATIENCE_S = 5.0
# Past the deadline we keep looking for this long, only to say by how much it was missed.
GRACE_S = 5.0


@dataclass
class _Progressing:
    """Which switches already forward as expected. Only the first of the others is polled, until it does.

    Asking costs the CPU that the daemons need to converge; and as switches converge at about the same time, one
    that is still behind says as much as all.
    """

    expected: RouteTables
    nodes: Mapping[str, LiveNode]
    seen: dict[str, RouteTable] = field(default_factory=dict)
    at_once: bool = False  # whether the last probe asked all of them: no need to confirm
    _matching: set[str] = field(default_factory=set)  # of `seen`, those that are as expected

    @cached_property
    def ours(self) -> frozenset[Prefix]:
        """Every prefix that any switch is to learn."""
        return frozenset(prefix for routes in self.expected.values() for prefix in routes)

    def probe(self) -> tuple[str, ...]:
        """Ask again; returns the switches that do not forward as expected yet."""
        behind = [name for name in self.expected if not self._matches(name)]
        self.at_once = len(behind) == len(self.expected)
        if behind and self._look(behind[0]):
            observe.ask_all(lambda node: self._look(node.name), [self.nodes[name] for name in behind[1:]])
        return tuple(name for name in behind if not self._matches(name))

    def confirm(self) -> tuple[str, ...]:
        """Ask every switch once more; returns those that do not forward as expected now."""
        self.seen.clear()
        self._matching.clear()
        self.look_again()
        return tuple(name for name in self.expected if not self._matches(name))

    def look_again(self) -> tuple[RouteTable, ...]:
        """What every switch that is behind forwards by now, and what the others did when they were last asked."""
        behind = [self.nodes[name] for name in self.expected if not self._matches(name)]
        observe.ask_all(lambda node: self._look(node.name), behind)
        return tuple(self.seen.values())

    def _look(self, name: str) -> bool:
        node = self.nodes[name]
        table = self.seen[name] = driver(node.kind).routes(node)
        if any(differences_of(self.expected[name], table.routes, self.ours)):
            self._matching.discard(name)
        else:
            self._matching.add(name)
        return self._matches(name)

    def _matches(self, name: str) -> bool:
        return name in self._matching


def _expected(fabric: Fabric, spec: LabSpec) -> RouteTables:
    """What the oracle says. Raises CapabilityMissing where it says nothing."""
    try:
        return route_tables(fabric, None if spec.ipv6 else 4)
    except Unpredictable as unknown:
        raise CapabilityMissing("oracle", unknown.because) from None


def wait_routes(
    fabric: Fabric, nodes: Mapping[str, LiveNode], spec: LabSpec, *, within: float, grace: bool = True
) -> Verdict:
    """Wait until every switch of `fabric` forwards exactly as the oracle says. Raises NotReady, CapabilityMissing.

    `grace`: past the deadline, look on for GRACE_S; not for who expects that they never do.
    """
    watch = _Progressing(_expected(fabric, spec), nodes)
    with HostWatch() as host:
        waited = wait_until(
            "routes match", watch.probe, lambda behind: not behind, within=within, grace=GRACE_S if grace else 0.0
        )
    verdict = routes_match(watch.expected, watch.look_again())
    return vouch(_on_time(replace(verdict, budget_s=within), waited), host.sample(), took_s=waited.took_s)


def wait_converged(
    fabric: Fabric, nodes: Mapping[str, LiveNode], spec: LabSpec, *, within: float, progress: Progress
) -> Verdict:
    """Wait until routes match, every host reaches every other, and every session is up. Raises NotReady.

    Where the oracle does not hold, tables that stand still take the place of routes that match.
    """
    if fabric.given is not None and fabric.given.unpredictable:
        return _wait_at_rest(fabric, nodes, spec, because=fabric.given.unpredictable, within=within, progress=progress)
    return _wait_as_predicted(fabric, nodes, spec, within=within, progress=progress)


def _wait_as_predicted(
    fabric: Fabric, nodes: Mapping[str, LiveNode], spec: LabSpec, *, within: float, progress: Progress
) -> Verdict:
    watch = _Progressing(_expected(fabric, spec), nodes)
    switches = [nodes[node.name] for node in fabric.switches]
    hosts = [nodes[node.name] for node in fabric.hosts]
    pings: list[PingSample] = []
    sessions: list[BgpSession] = []
    checked = Once(lambda: _check_daemons(switches), after=PATIENCE_S)

    def probe() -> Behind:
        behind = watch.probe()
        if behind:
            progress(f"routes {len(watch.expected) - len(behind)}/{len(watch.expected)}")
            checked()
            return Behind(routes=behind)
        progress("pings")
        pings[:] = observe.pings(fabric, hosts, ipv6=spec.ipv6)
        lost = tuple(ping for ping in pings if ping.lost)
        sessions[:] = () if lost else observe.sessions(switches)
        # All at one moment: a switch that matched when it was first asked may have lost it since.
        return Behind(
            pings=lost,
            sessions=tuple(s.peer for s in sessions if not s.established),
            routes=() if lost or watch.at_once else watch.confirm(),
        )

    with HostWatch() as host:
        waited = wait_until("converged", probe, lambda seen: seen == Behind(), within=within, grace=GRACE_S)
    verdict = converged(
        sessions or observe.sessions(switches),
        expected_sessions=fabric.session_ends,
        routes=routes_match(watch.expected, watch.look_again()),
        pings=pings,
        took_s=waited.took_s,
        within_s=within,
    )
    return vouch(_on_time(verdict, waited), host.sample(), took_s=waited.took_s)


def _wait_at_rest(
    fabric: Fabric, nodes: Mapping[str, LiveNode], spec: LabSpec, *, because: str, within: float, progress: Progress
) -> Verdict:
    """Wait until every session is up, every host reaches every other, and no table changes from look to look."""
    hosts = [nodes[node.name] for node in fabric.hosts]
    switches = [nodes[node.name] for node in fabric.switches]
    before: Mapping[str, Mapping[Prefix, frozenset[str]]] = {}
    tables: Mapping[str, Mapping[Prefix, frozenset[str]]] = {}
    pings: list[PingSample] = []
    sessions: list[BgpSession] = []

    def probe() -> bool:
        nonlocal before, tables
        progress("sessions, pings, tables")
        sessions[:] = observe.sessions(switches)
        pings[:] = observe.pings(fabric, hosts, ipv6=spec.ipv6)
        found = [table for table in observe.ask_all(_table, nodes.values()) if table is not None]
        before, tables = tables, {table.node: table.routes for table in found}
        established = all(session.established for session in sessions) and len(sessions) == fabric.session_ends
        return established and not any(ping.lost for ping in pings) and before == tables

    with HostWatch() as host:
        waited = wait_until("at rest", probe, lambda still: still, within=within, grace=GRACE_S)
    verdict = converged(
        sessions,
        expected_sessions=fabric.session_ends,
        routes=tables_still(before, tables, because),
        pings=pings,
        took_s=waited.took_s,
        within_s=within,
    )
    return vouch(_on_time(verdict, waited), host.sample(), took_s=waited.took_s)


def _table(node: LiveNode) -> RouteTable | None:
    """What a node forwards by; None for one that cannot be asked."""
    try:
        return driver(node.kind).routes(node)
    except CapabilityMissing:
        return None


@dataclass(frozen=True, slots=True)
class Behind:
    """What is not as it should be yet: switches by name, lost pings, peers whose session is not up."""

    routes: tuple[str, ...] = ()
    pings: tuple[PingSample, ...] = ()
    sessions: tuple[str, ...] = ()


@dataclass
class Once:
    """Does something once, the first time it is called more than `after` seconds from now."""

    act: Callable[[], None]
    after: float
    began: float = field(default_factory=time.monotonic)
    acted: bool = False

    def __call__(self) -> None:
        """Do it, if it is time and not yet done."""
        if not self.acted and time.monotonic() - self.began > self.after:
            self.acted = True
            self.act()


def _check_daemons(switches: Iterable[LiveNode]) -> None:
    """Raise NotReady for the first daemon that does not answer: no waiting helps then."""
    nodes = tuple(switches)
    for node, ready in zip(nodes, observe.ask_all(lambda node: driver(node.kind).readiness(node), nodes), strict=True):
        if not ready.ready:
            raise NotReady(
                f"{node.name}: {', '.join(ready.missing)} does not answer", remedy="its log is in the run directory"
            )


def _on_time(verdict: Verdict, waited: Waited[T]) -> Verdict:
    """The verdict with how long it took; one that came true only past its deadline is false."""
    evidence = replace(verdict.evidence, summary=f"{waited}; {verdict.evidence.summary}")
    return replace(verdict, held=verdict.held and waited.held, evidence=evidence)
