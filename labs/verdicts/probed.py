"""Could the probe have seen it? What makes the flows of a timeline no witness of a fault, whatever they lost or not.

A flow that was not sent when the fault came, that does not go through what was broken, or of which part of the record
is missing, has lost nothing that anybody knows of: that is no recovery.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from labs.telemetry.timeline import Timeline
from labs.verdicts.outage import FOREVER_NS, NS, Flow, Span, Turn, flows

BESIDE = "beside"
# Routes that come back move flows once more, two hops of FRR's queues later: 125 ms are usual, 170 ms have been seen.
# A flow that was sent for twice that after the end of a fault has seen it.
SETTLED_S = 0.4


def no_witness(
    timeline: Timeline, target: str, turns: Sequence[Span], *, within: float | None, only: Collection[str] = ()
) -> str | None:
    """Why the flows cannot speak of the fault on `target`; None where they can.

    Args:
        within: seconds after a fault within which flows have to be back; None where they must lose nothing while it
            lasts.
        only: names of the flows that are judged, all of them by default. Where each of these was chosen as one beside
            its link, none needs to go through the target.
    """
    known = flows(timeline)
    missing = sorted(set(only) - {one.name for one in known})
    if missing:
        return f"no such flow in the timeline: {', '.join(missing)}"
    judged = [one for one in known if not only or one.name in only]
    for flow in judged:
        if flow.invalid_because:
            return f"{flow.name}: {'; '.join(flow.invalid_because)}"
        if len(flow.gaps) < flow.gaps_told:
            return f"{flow.name}: {len(flow.gaps)} of its {flow.gaps_told} gaps are in the timeline"
    crossing = [one for one in judged if one.broken_port(target) is not None]
    if not crossing and not (only and all(one.way == BESIDE for one in judged)):
        return f"no probed flow goes through {target}"
    for turn in turns:
        if not any(_saw(one, turn, within) for one in crossing or judged):
            return f"no flow was probed throughout the {turn.turn} of {target}"
    return None


def _saw(flow: Flow, turn: Span, within: float | None) -> bool:
    """Whether it was sent from before the change until what follows from it is over."""
    settled = turn.made_ns + int(SETTLED_S * NS)
    if turn.turn is Turn.RESTORATION:
        until = settled if within is None else min(settled, turn.made_ns + int(within * NS))
    elif within is None:
        until = settled if turn.until_ns == FOREVER_NS else turn.until_ns
    else:
        until = turn.made_ns + int(within * NS)
    return flow.began_ns <= turn.began_ns and min(until, turn.until_ns) <= flow.ended_ns
