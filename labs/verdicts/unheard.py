"""Was the Recorder there? What it did not hear or could not write is not what did not happen.

A Recorder that was killed leaves a hole from its last record until the `Clock` of the next one. A full disk and a
kernel's events that overflow leave a `Missed`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from labs.telemetry.records import Clock, FaultEvent, HostRecord, Missed
from labs.telemetry.timeline import Timeline
from labs.verdicts.outage import FOREVER_NS, NS, Span, Turn
from labs.verdicts.probed import SETTLED_S


def not_all_heard(timeline: Timeline, turns: Sequence[Span], *, within: float | None) -> str | None:
    """Why what the timeline has of these turns of a fault is not all that happened; None where nothing is missing.

    Args:
        within: seconds after a fault's end, or after one that stays, that are judged; None for until all has settled.
    """
    for since, until, because in _holes(timeline):
        for turn in turns:
            if since <= _judged_until(turn, within) and until >= turn.began_ns:
                return f"the Recorder missed {(until - since) / NS:.3f} s around the {turn.turn}: {because}"
    return None


def heard_for_s(timeline: Timeline, turn: Span) -> float:
    """For how long after a turn of a fault the Recorder was there to listen: until its last record of the workstation.

    No longer than until the next one. A Recorder of which no such record reaches back to before the turn was not there
    when it came.
    """
    watched = [one.t for one in timeline.of(HostRecord)]
    if not any(one.t - one.duration_s * NS <= turn.began_ns for one in timeline.of(HostRecord)):
        return 0.0
    return max(0.0, (min(turn.until_ns, watched[-1]) - turn.made_ns) / NS)


def _judged_until(turn: Span, within: float | None) -> int:
    """A fault is judged for as long as it lasts: flows may be out at any time of it."""
    if turn.turn is Turn.FAILURE and turn.until_ns != FOREVER_NS:
        return turn.until_ns
    return min(turn.until_ns, turn.made_ns + int(max(within or 0.0, SETTLED_S) * NS))


def _holes(timeline: Timeline) -> Iterator[tuple[int, int, str]]:
    for one in timeline.of(Missed):
        yield one.since, one.t, f"{one.node}: {one.because}" if one.node else one.because
    for clock in timeline.of(Clock):
        last = _last_heard(timeline, clock.t)
        if last is not None:
            yield last, clock.t, "it was started anew"


def _last_heard(timeline: Timeline, before: int) -> int | None:
    """The last sign of life of the Recorder that was there before: a sample of the workstation, else a fault."""
    signs = (*timeline.of(HostRecord, until=before), *timeline.of(FaultEvent, until=before))
    return max((one.t for one in signs), default=None)
