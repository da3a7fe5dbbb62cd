"""What scenarios claim, each under its name in words.py: a function of the run so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from labs import ecmp_cases
from labs.faults.injecting import Injected
from labs.neighbors import neighbors
from labs.probing import ProbeFlow
from labs.scenarios.running import Underway
from labs.scenarios.scenario import ClaimStep, ProbeStep
from labs.verdicts import Evidence, Verdict
from labs.verdicts.bandwidth import busbw_scaled
from labs.verdicts.cabling import wired_as_planned
from labs.verdicts.detected import detected_within
from labs.verdicts.ended import came_to_its_end, no_packet_lost
from labs.verdicts.outage import same_place
from labs.verdicts.pfc import lossless, pause_share
from labs.verdicts.recovered import TOO_EARLY, came_back, nothing_lost, recovered
from labs.verdicts.signals import marks_before_pauses
from labs.verdicts.storm import may_be_paused, storm_spread
from labs.verdicts.switch_queues import no_storms
from labs.waiting import wait_until

Judges = Callable[[Underway, ClaimStep], Verdict]
# By default the Recorder writes down that it was there every second.
RECORDED_S = 5.0


def judge(run: Underway, step: ClaimStep) -> Verdict:
    """The verdict on a step's claim, as the run can vouch for it; turned round where the scenario says it is false."""
    verdict = run.watch.vouch(CLAIMS[step.claim](run, step))
    return verdict if step.holds else turned(verdict)


def turned(verdict: Verdict) -> Verdict:
    """That a claim does not hold, as a claim."""
    evidence = verdict.evidence
    return replace(
        verdict,
        claim=f"not: {verdict.claim}",
        held=not verdict.held,
        evidence=Evidence(evidence.summary, evidence.numbers, evidence.rows),
    )


def _routes_match(run: Underway, step: ClaimStep) -> Verdict:
    """One that is expected not to hold need not say how late it came."""
    return run.lab.wait_routes_match(run.without(step.without), within=step.numbers["within"], grace=step.holds)


def _converged(run: Underway, step: ClaimStep) -> Verdict:
    return run.lab.wait_converged(within=step.numbers["within"])


def _completed(run: Underway, step: ClaimStep) -> Verdict:
    result = run.results[str(step.of)]
    return came_to_its_end(str(step.of), error=result.error, wrong=result.wrong, iterations=result.iterations)


def _busbw_reached(run: Underway, step: ClaimStep) -> Verdict:
    return run.results[str(step.of)].reached(step.numbers["least"])


def _busbw_scaled(run: Underway, step: ClaimStep) -> Verdict:
    part, whole = run.results[str(step.of)], run.results[str(step.against)]
    reasons = [
        f"{name}: {one.invalid_because}" for name, one in ((step.against, whole), (step.of, part)) if not one.valid
    ]
    return busbw_scaled(
        whole.busbw_bps,
        part.busbw_bps,
        share=step.numbers["share"],
        within=step.numbers["within"],
        invalid_because="; ".join(reasons) or None,
        numbers={
            name: one.busbw_bps and round(one.busbw_bps / 1e6, 2)
            for name, one in (("busbw_mbit_without", whole), ("busbw_mbit_with", part))
        },
    )


def _bytes_as_planned(run: Underway, step: ClaimStep) -> Verdict:
    return run.results[str(step.of)].carried_as_planned(run.lab, within=step.numbers["within"])


def _nothing_lost(run: Underway, step: ClaimStep) -> Verdict:
    result = run.results[str(step.of)]
    played = result.played
    return no_packet_lost(
        str(step.of), lost=played.lost_packets, retransmits=result.retransmits, starved=played.starved
    )


def _stragglers(run: Underway, step: ClaimStep) -> Verdict:
    result, worst = run.results[str(step.of)], step.words.get("worst")
    return result.stragglers() if worst is None else waited_for(result.stragglers(worst), worst)


def waited_for(found: Verdict, host: str) -> Verdict:
    """That the ranks of a collective wait for the one on this host, as a claim, from the verdict that none does."""
    named = str(found.evidence.numbers.get("worst") or "")
    return replace(
        found,
        claim=f"the rank on {host} makes the others wait",
        held=not found.held and named.endswith(f" on {host}"),
    )


def _lossless(run: Underway, step: ClaimStep) -> Verdict:
    return lossless(run.loads[str(step.of)].measured)


def _pause_share(run: Underway, step: ClaimStep) -> Verdict:
    load, said = run.loads[str(step.of)], step.numbers
    return pause_share(
        load.measured, [load.sink], priority=int(said["priority"]), paused=said["paused"], within=said["within"]
    )


def _marks_before_pauses(run: Underway, step: ClaimStep) -> Verdict:
    return marks_before_pauses(run.loads[str(step.of)].readings)


def _no_storms(run: Underway, step: ClaimStep) -> Verdict:
    return no_storms(run.loads[str(step.of)].measured.whole, priority=int(step.numbers["priority"]))


def _storm_spread(run: Underway, step: ClaimStep) -> Verdict:
    load = run.loads[str(step.of)]
    return storm_spread(
        load.measured.whole,
        load.sink,
        may_be_paused(load.paths, load.sink),
        priority=int(step.numbers["priority"]),
        host=load.measured.host,
    )


def _recovered(run: Underway, step: ClaimStep) -> Verdict:
    """All flows that were probed are named: one of which no record is there proves nothing."""
    fault, way = _fault(run, step), step.words["flows"]
    only = [flow.name for flow in _probed(run, fault, way)]
    if not only:
        verdict = Verdict(f"{way} flows recover", False, Evidence("none was probed"))
        return verdict.invalid(f"no flow was probed that stands {way} to the link")
    return recovered(run.timeline(), fault.target, within=step.numbers["within"], only=only, fault_id=fault.id)


def _probed(run: Underway, fault: Injected, way: str) -> Iterator[ProbeFlow]:
    """Flows of all probes; how one stands to a link is known of those around that link only."""
    for probe in (step for step in run.scenario.steps if isinstance(step, ProbeStep)):
        for flow in run.probed.get(probe.name, ()):
            if way == "all" or (flow.way == way and same_place(probe.around, fault.target)):
                yield flow


def _came_back(run: Underway, step: ClaimStep) -> Verdict:
    """Looked for until the limit is over: before that nobody can say that a flow does not come back."""
    fault, within = _fault(run, step), step.numbers["within"]
    waited = wait_until(
        "every flow is back, or had its time",
        lambda: came_back(run.timeline(), fault.target, within=within, fault_id=fault.id),
        lambda seen: seen.invalid_because != TOO_EARLY,
        within=within + RECORDED_S,
        most=1.0,
    )
    return waited.last


def _no_loss(run: Underway, step: ClaimStep) -> Verdict:
    fault = _fault(run, step)
    return nothing_lost(run.timeline(), fault.target, fault_id=fault.id)


def _detected(run: Underway, step: ClaimStep) -> Verdict:
    fault = _fault(run, step)
    return detected_within(
        run.timeline(),
        fault.target,
        fabric=run.lab.fabric,
        protocol=step.words["protocol"],
        least=step.numbers["after"],
        most=step.numbers["before"],
        fault_id=fault.id,
    )


def _fault(run: Underway, step: ClaimStep) -> Injected:
    return run.faults[str(step.of)]


def _cabled_as_planned(run: Underway, step: ClaimStep) -> Verdict:
    del step
    return wired_as_planned(run.lab.fabric, neighbors(run.lab), hosts=True)


def _busiest(run: Underway, step: ClaimStep) -> Verdict:
    flows, draws = int(step.numbers["flows"]), int(step.numbers["draws"])
    return ecmp_cases.v4(run.lab, flows=flows, draws=draws, seed=run.seed)


def _collisions(run: Underway, step: ClaimStep) -> Verdict:
    flows, draws = int(step.numbers["flows"]), int(step.numbers["draws"])
    return ecmp_cases.v6(run.lab, flows=flows, draws=draws, seed=run.seed)


CLAIMS: Mapping[str, Judges] = MappingProxyType(
    {
        "routes_match": _routes_match,
        "converged": _converged,
        "completed": _completed,
        "busbw_reached": _busbw_reached,
        "busbw_scaled": _busbw_scaled,
        "bytes_as_planned": _bytes_as_planned,
        "nothing_lost": _nothing_lost,
        "stragglers": _stragglers,
        "lossless": _lossless,
        "pause_share": _pause_share,
        "marks_before_pauses": _marks_before_pauses,
        "no_storms": _no_storms,
        "storm_spread": _storm_spread,
        "recovered": _recovered,
        "came_back": _came_back,
        "no_loss": _no_loss,
        "detected": _detected,
        "cabled_as_planned": _cabled_as_planned,
        "hash_busiest": _busiest,
        "hash_busiest_model": lambda _run, _step: ecmp_cases.v4_model(),
        "hash_collisions": _collisions,
        "hash_collisions_model": lambda _run, _step: ecmp_cases.v6_model(),
    }
)
