"""Did the fabric recover from a fault in time, and come back once it was gone? Judged from the timeline alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from labs.telemetry.records import HostRecord, RouteEvent
from labs.telemetry.samples import HostSample
from labs.telemetry.timeline import Timeline
from labs.verdicts import Evidence, Verdict
from labs.verdicts.health import STARVED_SHARE, STEAL_MOST, TICK_S
from labs.verdicts.outage import AHEAD_NS, NS, Outage, Span, Turn, flows, outages, spans
from labs.verdicts.probed import no_witness
from labs.verdicts.repeats import Repeat
from labs.verdicts.unheard import heard_for_s, not_all_heard
from topologies.fabric import Link, Node

MOST_ROWS = 16
BFD_S = 0.9  # 300 ms x 3
TOO_EARLY = "judged before the limit was over"


def recovered(
    timeline: Timeline,
    target: Link | Node | str,
    *,
    within: float,
    only: Iterable[str] = (),
    fault_id: str | None = None,
) -> Verdict:
    """Judge that no flow was out longer than `within` seconds, neither when the fault came nor when it went.

    With open-loop flows (`labs.probing`) in the timeline each of them is judged, by the longest time without a packet
    in which packets were lost. Without any, the last change of a route before the fault's end is: routing settled.

    Args:
        only: names of flows, where not all are meant.
        fault_id: of one fault (`Injected.id`), where the target had several; by default all of them are judged.

    A time that is kept is kept however slow the workstation was: it is read off the kernel's own stamps, and an upper
    bound. Invalid when there was no such fault, when nothing of the fabric was seen, when the flows are no witness
    (`probed`), when the probe was blind for longer than `within` at the fault, when its sender was so late that its gap
    proves neither, and when the time is exceeded on a workstation that was starved or that nobody watched: unless it is
    by more than that can have taken. One that is kept is invalid where the fault itself was shorter than `within`.
    """
    name = str(target)
    turns = spans(timeline, name, fault_id)
    claim = f"the fabric recovers from the fault on {name} within {within:g} s"
    if not turns:
        return _unjudged(claim, within, f"the timeline holds no fault on {name} that was made")
    wanted = set(only)
    found = [one for turn in turns for one in outages(timeline, name, turn) if not wanted or one.flow in wanted]
    unheard = not_all_heard(timeline, turns, within=within)
    if not found and not wanted:
        verdict = _not_too_short(_by_routes(timeline, claim, turns, within), turns, within)
        return verdict.invalid(unheard) if unheard else verdict
    unseen = no_witness(timeline, name, turns, within=within, only=wanted) or unheard
    if not found:
        return _unjudged(claim, within, unseen or "no such flow")
    verdict = _not_too_short(_by_flows(timeline, claim, found, turns, within), turns, within)
    return verdict.invalid(unseen) if unseen else verdict


def _not_too_short(verdict: Verdict, turns: Sequence[Span], within: float) -> Verdict:
    """The verdict; invalid where it holds because a fault went before the limit was over."""
    short = [one for one in turns if _too_short(one, within)]
    if not (verdict.held and verdict.valid and short):
        return verdict
    lasted = (short[0].until_ns - short[0].began_ns) / NS
    return verdict.invalid(f"the fault lasted {_ms(lasted)}: nothing could be out for longer than {_ms(within)}")


def _too_short(turn: Span, within: float) -> bool:
    return turn.turn is Turn.FAILURE and (turn.until_ns - turn.began_ns) / NS < within


def _by_flows(timeline: Timeline, claim: str, found: Sequence[Outage], turns: Sequence[Span], within: float) -> Verdict:
    late = [one for one in found if one.lost and one.most_s > within]
    ranked = sorted(found, key=lambda one: one.most_s, reverse=True)
    longest = ranked[0]
    verdict = Verdict(
        claim,
        not late,
        Evidence(
            f"longest outage {_ms(longest.most_s)} of {longest.flow} at the {longest.turn}; allowed {_ms(within)}",
            {
                "flows": len({one.flow for one in found}),
                "lost": sum(one.lost for one in found),
                "longest_ms": _number(longest.most_s),
                "longest_by_loss_ms": _number(longest.by_loss_s),
                "reordered": sum(one.reordered for one in flows(timeline)),
                "duplicates": sum(one.duplicates for one in flows(timeline)),
                "too_long": len(late),
            },
            tuple(str(one) for one in ranked if one.lost or one.crosses)[:MOST_ROWS],
        ),
        budget_s=_limit(within, held=not late),
        watched=True,
    )
    undecided = [one for one in late if one.least_s <= within]
    if len(undecided) == len(late) and late:
        one = undecided[0]
        bounds = f"{_ms(one.least_s)} at least and {_ms(one.most_s)} at most"
        return verdict.invalid(f"{one.flow} was out {bounds}: its sender was too late to say")
    # A silence without loss at the fault hides an outage only where none was seen.
    blind = [one for one in found if one.crosses and not one.lost and one.blind_s > within and one.turn is Turn.FAILURE]
    if not late and blind:
        return verdict.invalid(f"{blind[0].flow} sent nothing for {_ms(blind[0].blind_s)}: the probe was blind")
    if not late or beyond_doubt(timeline, turns, max(one.least_s for one in late), within):
        return verdict
    return certified(verdict, timeline, turns)


def _by_routes(timeline: Timeline, claim: str, turns: Sequence[Span], within: float) -> Verdict:
    took: list[float] = []
    for turn in turns:
        if turn.turn is Turn.FAILURE:
            heard = timeline.of(RouteEvent, since=turn.began_ns - AHEAD_NS, until=turn.until_ns)
            took += [max(0.0, (heard[-1].t - turn.began_ns) / NS)] if heard else []
    if not took:
        return _unjudged(claim, within, "no flow was probed, and no route changed")
    last = max(took)
    summary = f"the last route changed {_ms(last)} after the fault began; allowed {_ms(within)}; no flow was probed"
    numbers = {"faults": len(took), "last_route_ms": _number(last)}
    verdict = Verdict(claim, last <= within, Evidence(summary, numbers), budget_s=within, watched=True)
    return verdict if verdict.held else certified(verdict, timeline, turns)


def came_back(timeline: Timeline, target: Link | Node | str, *, within: float, fault_id: str | None = None) -> Verdict:
    """Judge that once the fault was gone every flow that crosses it was back on its path within `within` seconds.

    A flow is back when each switch on its path has the path's port in its route again. Invalid when the fault did not
    come and go, or no probed flow crosses it, or none of them ever left; as `recovered` when it took too long; and
    where one is not back, and the limit is not over when the record ends (`TOO_EARLY`), or when the next fault comes.
    """
    name = str(target)
    turns = [one for one in spans(timeline, name, fault_id) if one.turn is Turn.RESTORATION]
    claim = f"flows are back on their paths within {within:g} s of the end of the fault on {name}"
    found = [one for turn in turns for one in outages(timeline, name, turn) if one.crosses]
    if not found:
        return _unjudged(claim, within, "no fault came and went, or no flow that crosses it was probed")
    away = [one for one in found if one.rebalance_s is None or one.rebalance_s > within]
    open_ended = [one for one in found if one.most_s == float("inf")]
    known = [one.rebalance_s for one in found if one.rebalance_s is not None]
    verdict = Verdict(
        claim,
        not away and not open_ended,
        Evidence(
            f"{len(found) - len(away)} of {len(found)} flows are back, the last after {_ms(max(known, default=0.0))}",
            {
                "flows": len(found),
                "away": len(away),
                "never_heard_again": len(open_ended),
                "back_ms": None if away or open_ended else _number(max(known, default=0.0)),
            },
            tuple(str(one) for one in (*away, *found))[:MOST_ROWS],
        ),
        budget_s=_limit(within, held=not away and not open_ended),
        watched=True,
    )
    unseen = no_witness(timeline, name, turns, within=within) or not_all_heard(timeline, turns, within=within)
    if unseen:
        return verdict.invalid(unseen)
    if not timeline.of(RouteEvent):
        return verdict.invalid("no change of a route was heard")
    if verdict.held and all(one.rebalance_s == 0.0 for one in found):
        return verdict.invalid("no route of a flow that crosses it had left its path: nothing could come back")
    late = any(one.rebalance_s is not None for one in away)
    if not verdict.held and not late and (because := _too_early(timeline, turns, within)):
        return verdict.invalid(because)
    return verdict if verdict.held else certified(verdict, timeline, turns)


def _too_early(timeline: Timeline, turns: Sequence[Span], within: float) -> str | None:
    """Why what is not there yet may still come in time; None where the limit is over."""
    if any((turn.until_ns - turn.made_ns) / NS < within for turn in turns):
        return "the next fault came before the limit was over"
    watched = bool(timeline.of(HostRecord))  # where nobody watched, that is why nothing is known
    return TOO_EARLY if watched and any(heard_for_s(timeline, turn) < within for turn in turns) else None


def nothing_lost(timeline: Timeline, target: Link | Node | str, *, fault_id: str | None = None) -> Verdict:
    """Judge that no probed flow lost a packet, neither when the change came nor when it went: a maintenance's claim.

    Invalid when there was no such change, or no flow was probed, and where packets were lost on a workstation so
    starved that a tenth of BFD's own time was gone: then sessions end by themselves.
    """
    name = str(target)
    turns = spans(timeline, name, fault_id)
    found = [one for turn in turns for one in outages(timeline, name, turn)]
    claim = f"no packet is lost to what was done to {name}"
    if not found:
        return _unjudged(claim, None, "there was no such change, or no flow was probed")
    lost = [one for one in found if one.lost]
    crossing = {one.flow for one in found if one.crosses}
    verdict = Verdict(
        claim,
        not lost,
        Evidence(
            f"{sum(one.lost for one in lost)} packets were lost",
            {"flows": len({one.flow for one in found}), "crossing": len(crossing), "losing": len(lost)},
            tuple(str(one) for one in lost)[:MOST_ROWS],
        ),
        budget_s=_limit(BFD_S, held=not lost),
        watched=True,
    )
    unseen = no_witness(timeline, name, turns, within=None) or not_all_heard(timeline, turns, within=None)
    if unseen:
        return verdict.invalid(unseen)
    return verdict if verdict.held else certified(verdict, timeline, turns)


def certified(verdict: Verdict, timeline: Timeline, turns: Sequence[Span]) -> Verdict:
    """The verdict; invalid where the workstation was starved around the fault, or nobody watched it."""
    host = _workstation(timeline, turns)
    if host is None:
        return verdict.invalid("nobody watched the workstation")
    fared = {"steal": round(host.steal, 4), "starved_s": round(host.starved_s, 4)}
    numbers = {**verdict.evidence.numbers, "workstation": fared}
    told = replace(verdict, evidence=replace(verdict.evidence, numbers=numbers))
    if host.steal > STEAL_MOST + TICK_S / max(host.duration_s, TICK_S):
        return told.invalid(f"the workstation was starved: steal {host.steal:.0%}, at most {STEAL_MOST:.0%} allowed")
    most = STARVED_SHARE * (verdict.budget_s or float("inf"))
    if host.starved_s > most:
        return told.invalid(
            f"the workstation was starved: a thread woke {host.starved_s:.3f} s late, {most:.3f} allowed"
        )
    return told


def _workstation(timeline: Timeline, turns: Sequence[Span]) -> HostSample | None:
    """How it fared around the fault; None where nobody watched."""
    watched = [
        one
        for one in timeline.of(HostRecord)
        if any(turn.began_ns <= one.t and one.t - one.duration_s * NS <= turn.until_ns for turn in turns)
    ]
    if not watched:
        return None
    return HostSample(
        duration_s=sum(one.duration_s for one in watched),
        steal=sum(one.steal * one.duration_s for one in watched) / (sum(one.duration_s for one in watched) or 1.0),
        starved_s=max(one.starved_s for one in watched),
        steal_worst=max(one.steal_worst for one in watched),
    )


def beyond_doubt(timeline: Timeline, turns: Sequence[Span], least_s: float, within: float) -> bool:
    """Whether a time is too long even if all that the workstation took away is taken off it, at its worst."""
    host = _workstation(timeline, turns)
    return host is not None and least_s * (1 - max(host.steal, host.steal_worst)) - host.starved_s > within


def each_failure(
    timeline: Timeline, target: Link | Node | str, *, budget_s: float, only: Iterable[str] = ()
) -> tuple[Repeat, ...]:
    """How long the worst of the flows was out at each fault on `target`, for `kept_in`; by arrivals, so at most.

    A repeat is invalid for the reasons that `recovered` has.
    """
    name, wanted = str(target), set(only)
    found = []
    for turn in (one for one in spans(timeline, name) if one.turn is Turn.FAILURE):
        seen = [one for one in outages(timeline, name, turn) if not wanted or one.flow in wanted]
        unseen = no_witness(timeline, name, [turn], within=budget_s, only=wanted) or not_all_heard(
            timeline, [turn], within=budget_s
        )
        if unseen or not seen:
            found.append(Repeat(0.0, unseen or "no flow was probed"))
            continue
        kept = _not_too_short(_by_flows(timeline, "in time", seen, [turn], budget_s), [turn], budget_s)
        found.append(Repeat(max(one.most_s for one in seen), kept.invalid_because))
    return tuple(found)


def _limit(budget_s: float, *, held: bool) -> float | None:
    """What starvation is judged by: nothing where the limit was kept, for kernels and daemons stamped what they saw."""
    return None if held else budget_s


def _unjudged(claim: str, budget_s: float | None, because: str) -> Verdict:
    """A claim of which nothing is known, and why."""
    return Verdict(claim, False, Evidence(because), budget_s=budget_s).invalid(because)


def _ms(seconds: float) -> str:
    return "without end" if seconds == float("inf") else f"{1000 * seconds:.1f} ms"


def _number(seconds: float) -> float | None:
    return None if seconds == float("inf") else round(1000 * seconds, 2)
