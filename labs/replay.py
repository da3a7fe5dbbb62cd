"""A recorded run played again under another name, and what is measured of it, from outside.

deploy_s     until its nodes run
converge_s   from there until it has converged, as `railbed up` says
reroute_s    from the cut of the first leaf's first uplink until the last kernel's last change of a route, where
             all switches then forward as the oracle says for the fabric without that link
restore_s    the same, from when the link is back
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from labs.backends.base import Progress
from labs.errors import RunInvalid
from labs.faults.catalogue import link_down
from labs.lab import Lab, close_lab, open_lab
from labs.recorded import RecordedRun
from labs.request import Request
from labs.route_events import hearing
from labs.telemetry.host_watch import HostWatch
from labs.telemetry.samples import HostSample
from labs.verdicts import Evidence, Verdict
from labs.verdicts.health import STARVED_SHARE, vouch
from labs.waiting import wait_until
from topologies.fabric import Fabric, Link, Tier
from topologies.routing import route_tables

OF_UP = ("deploy_s", "converge_s")
OF_A_CUT = ("reroute_s", "restore_s")
# A link that returns while its sessions still go down is restored in 0.65 s, later in 0.22 s (two leaves, two spines);
# a second after the cut that is over. One time of five it takes a second more, however long the link was away: FRR's
# own timer before it starts a session again.
CUT_S = 1.0
# Stalls up to this long befall A as often as B, by turns: they widen the interval, and do not move it.
STALL_S = 0.03


@dataclass(frozen=True, slots=True)
class Measured:
    """What one lab gave: timings in seconds, what did not come to rest (`missed`), why it cannot vouch for itself."""

    values: Mapping[str, float]
    missed: tuple[str, ...] = ()
    invalid_because: str | None = None
    workstation: Mapping[str, float] = field(default_factory=dict)

    @property
    def settled(self) -> bool:
        """True when it converged, rerouted and came back in time."""
        return not self.missed


class Measures(Protocol):
    """Brings a run up again under a name, measures it and takes it down; `folder` is where it leaves its files."""

    def __call__(self, run: RecordedRun, *, name: str, seed: int, folder: Path, progress: Progress) -> Measured:
        """Raises LabError when the lab cannot be brought up."""
        ...


def metrics_of(fabric: Fabric) -> tuple[str, ...]:
    """What can be measured on a fabric."""
    return OF_UP if first_uplink(fabric) is None else OF_UP + OF_A_CUT


def measure_run(run: RecordedRun, *, name: str, seed: int, folder: Path, progress: Progress) -> Measured:
    """Bring a recorded run up again, measure it, take it down. See Measures."""
    request = Request(
        ref=run.lab,
        given=(run.spec, run.fabric),
        backend=run.backend,
        name=name,
        seed=seed,
        folder=folder,
        owned=True,
    )
    try:
        with HostWatch() as watch:
            lab = open_lab(request, progress=progress).lab
        return _measured(lab, watch.sample(), progress)
    finally:
        close_lab(name)


def first_uplink(fabric: Fabric) -> Link | None:
    """The link that is cut: the first leaf's first one up. None in a fabric without."""
    return next((link for leaf in fabric.tier(Tier.LEAF) for link in fabric.uplinks(leaf)), None)


def _measured(lab: Lab, host: HostSample, progress: Progress) -> Measured:
    """What a lab that has just come up gives."""
    verdict, timings = lab.converged, lab.timings
    assert verdict is not None  # noqa: S101 - nobody asked open_lab not to wait
    deploy, converge = timings["deploy_s"] or 0.0, timings["converge_s"] or 0.0
    seen = {"steal": host.steal, "starved_s": host.starved_s}
    because = verdict.invalid_because
    if not verdict.held:  # waiting long for nothing, it was let off with the stalls that its deadline allows
        missed = () if because else (f"converge_s: {verdict.evidence.summary}",)
        return Measured({"deploy_s": deploy}, missed, because, seen)
    values = {"deploy_s": deploy, "converge_s": converge}
    # Of both together: what of coming up is deploying and what converging is the backend's choice.
    because = because or starved(host, deploy + converge)
    link = first_uplink(lab.fabric)
    if because or link is None:
        return Measured(values, (), because, seen)
    progress(f"cutting {link}")
    try:
        found = cut_and_mend(lab, link)
    except RunInvalid as error:
        return Measured(values, invalid_because=error.message, workstation=seen)
    return Measured({**values, **found.values}, found.missed, found.invalid_because, seen)


def cut_and_mend(lab: Lab, link: Link) -> Measured:
    """Cut a link and mend it, and measure how long the fabric takes each time.

    Raises RunInvalid when there is nothing to measure by: the waits cannot vouch for themselves, or the kernels were
    not heard.
    """
    without = lab.fabric.without(link)
    affected = _affected(lab.fabric, without, ipv6=lab.rendered.spec.ipv6)
    with hearing(lab.switches) as events:
        lab.wait_routes_match()  # asks every switch, by the same road: who does not listen by then is found deaf below
        with link_down(lab, link):
            cut = _Phase.of(lambda: lab.wait_routes_match(without))
            began = time.monotonic()
            wait_until("the cut is over", lambda: time.monotonic() - began, lambda s: s > CUT_S, within=2 * CUT_S)
        mended = _Phase.of(lab.wait_routes_match)
    values: dict[str, float] = {}
    missed: list[str] = []
    for metric, phase in zip(OF_A_CUT, (cut, mended), strict=True):
        if not phase.verdict.valid:
            raise RunInvalid(f"{metric}: {phase.verdict.invalid_because}")
        if not phase.verdict.held:
            missed.append(f"{metric}: {phase.verdict.evidence.summary}")
            continue
        values[metric] = round(events.last(affected, began=phase.began, seen=phase.seen), 4)
        if because := starved(phase.host, values[metric]):
            return Measured(values, tuple(missed), f"{metric}: {because}")
    return Measured(values, tuple(missed))


@dataclass(frozen=True, slots=True)
class _Phase:
    """One wait: when it began and when all was found right, by the workstation's clock in seconds since the epoch."""

    began: float
    seen: float
    verdict: Verdict
    host: HostSample

    @classmethod
    def of(cls, wait: Callable[[], Verdict]) -> _Phase:
        with HostWatch() as watch:
            began = time.time()
            verdict = wait()
            seen = time.time()
        return cls(began, seen, verdict, watch.sample())


def starved(host: HostSample, took_s: float) -> str | None:
    """Why a timing of so many seconds is not to be trusted: stolen CPU time, or a stall of a tenth of it and more."""
    timed = Verdict("timed", True, Evidence(""), budget_s=took_s)
    return vouch(timed, host, starved_most_s=max(STALL_S, STARVED_SHARE * took_s)).invalid_because


def _affected(whole: Fabric, without: Fabric, *, ipv6: bool) -> tuple[str, ...]:
    """The switches that forward differently without the link."""
    before, after = (route_tables(fabric, None if ipv6 else 4) for fabric in (whole, without))
    return tuple(name for name in before if before[name] != after[name])
