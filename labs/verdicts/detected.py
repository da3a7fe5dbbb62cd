"""Was a fault told of by the protocol whose task that is, when its timers say so? Judged from the timeline alone.

The sessions that can tell are those over the faulted link, or over any link of the faulted node: at both ends, for a
node that is gone says nothing itself. Another session of the same switch that goes down has its own reasons.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from labs.telemetry.records import SessionEvent
from labs.telemetry.timeline import Timeline
from labs.verdicts import Evidence, Verdict
from labs.verdicts.outage import NS, Span, Turn, ends_of, spans, undirected
from labs.verdicts.recovered import beyond_doubt, certified
from labs.verdicts.unheard import heard_for_s, not_all_heard
from topologies.fabric import Fabric, Link, Node

BFD = "bfd"
# What the scheduler of a workstation may add to a protocol's timer (V19).
SCHEDULING_S = 0.1
# Until BFD is up at both ends it sends once in a second at the most (RFC 5880, 6.8.3); the packet that tells of the
# configured interval is the next one, and until it has come a peer has to be silent for three of the slow ones.
BFD_SETTLES_S = 2.0

_Session = tuple[str, str]  # node, peer


def detected_within(
    timeline: Timeline,
    target: Link | Node | str,
    *,
    fabric: Fabric,
    protocol: str,
    least: float,
    most: float,
    fault_id: str | None = None,
    scheduling_s: float = SCHEDULING_S,
) -> Verdict:
    """Judge that a protocol told of the fault after `least` to `most` seconds, as its timers say (F9).

    Args:
        fabric: the design, which says whose sessions go over the target.
        fault_id: of one fault, where the target had several; by default all of them are judged.

    BFD with a multiplier m and an interval T says so after (m-1) T to m T, BGP after hold - keepalive to hold. The
    first session at each fault counts. The fault took a moment to make: `least` is judged from its begin, `most` from
    its end, plus what the scheduler may add. Not told of is false where the fault stayed longer than that, a session
    was up over the target and the Recorder listened. Otherwise it is invalid, as without a fault, where part of the
    time was not recorded, and where it is exceeded on a workstation that was starved or that nobody watched, or by a
    BFD session that came up less than BFD_SETTLES_S before the fault. One that was not up tells of nothing.
    """
    name = str(target)
    turns = [one for one in spans(timeline, name, fault_id) if one.turn is Turn.FAILURE]
    claim, allowed = f"{protocol} detects the fault on {name} in {least:g} to {most:g} s", most + scheduling_s
    sessions = _sessions(timeline, fabric, undirected(name), protocol)
    took, missed, young = [], [], []
    for turn in turns:
        before = _before(sessions, turn)
        told = next((one for one in sessions if _tells(one, turn, before)), None)
        if told is None:
            missed.append(turn)
        else:
            took.append(((told.t - turn.made_ns) / NS, (told.t - turn.began_ns) / NS))
        late = told is None or told.t > turn.made_ns + allowed * NS
        if late and protocol == BFD and (slow := _slow(before, turn, told)):
            young.append(slow)
    summary = f"{len(took)} of {len(turns)} faults were told of by {protocol}"
    if not turns or not all(_was_up(sessions, turn) and heard_for_s(timeline, turn) > allowed for turn in missed):
        return Verdict(claim, False, Evidence(summary), budget_s=most).invalid(summary)
    if young:
        because = f"{summary}; {young[0]}"
        return Verdict(claim, False, Evidence(because), budget_s=most).invalid(because)
    judged = [replace(one, until_ns=min(one.until_ns, one.made_ns + int(allowed * NS))) for one in turns]
    unheard = not_all_heard(timeline, judged, within=allowed)
    if unheard:
        because = f"{summary}; {unheard}"
        return Verdict(claim, False, Evidence(because), budget_s=most).invalid(because)
    held = not missed and all(least <= from_begin and from_end <= allowed for from_end, from_begin in took)
    after_s = [round(from_end, 3) for from_end, _ in took]
    stayed = f"{summary}, though each stayed longer than {allowed:g} s"
    summary = stayed if missed else f"detected after {', '.join(map(str, after_s))} s"
    rows = tuple(row for turn in turns for row in _heard(sessions, turn))
    evidence = Evidence(summary, {"faults": len(took), "missed": len(missed), "after_s": after_s}, rows)
    verdict = Verdict(claim, held, evidence, budget_s=most, watched=True)
    sure = any(beyond_doubt(timeline, [one], heard_for_s(timeline, one), allowed) for one in missed)
    return verdict if held or sure else certified(verdict, timeline, turns)


def _sessions(timeline: Timeline, fabric: Fabric, target: str, protocol: str) -> tuple[SessionEvent, ...]:
    """What was told of a protocol's sessions over a link, or over any link of a node."""
    named = ends_of(target)
    links = fabric.links_of(named[0]) if len(named) == 1 and named[0] else [fabric.link(target)] if target else []
    ports = {(port.node, port.name) for link in links for port in link.ends}
    heard = timeline.of(SessionEvent)
    return tuple(one for one in heard if one.protocol == protocol and (one.node, one.port) in ports)


def _before(sessions: Sequence[SessionEvent], turn: Span) -> Mapping[_Session, SessionEvent]:
    """What was last told of each session when the fault came."""
    return {(one.node, one.peer): one for one in sessions if one.t < turn.began_ns}


def _tells(event: SessionEvent, turn: Span, before: Mapping[_Session, SessionEvent]) -> bool:
    """Whether a session that was up went down while the fault was there; one nobody told of before counts as up."""
    was = before.get((event.node, event.peer))
    return not event.up and turn.began_ns <= event.t <= turn.until_ns and (was is None or was.up)


def _heard(sessions: Sequence[SessionEvent], turn: Span) -> Iterator[str]:
    """What was last told of each session before a fault, and all while it was there; seconds count from its begin."""
    before = _before(sessions, turn).values()
    during = [one for one in sessions if turn.began_ns <= one.t <= turn.until_ns]
    for one in sorted([*before, *during], key=lambda one: one.t):
        because = f" ({one.because})" if one.because else ""
        yield f"{(one.t - turn.began_ns) / NS:+.3f} s {one.node} {one.port}: {one.state}{because}"


def _was_up(sessions: Sequence[SessionEvent], turn: Span) -> bool:
    """Whether a session was up when the fault came.

    One that is told of only later is taken to have been: the timeline may begin after it came up.
    """
    before = _before(sessions, turn)
    return any(one.up for one in before.values()) if before else bool(sessions)


def _slow(before: Mapping[_Session, SessionEvent], turn: Span, told: SessionEvent | None) -> str:
    """Why a late or missing detection says nothing; empty where no session that could tell of the fault was new.

    One that was not new is no proof of the contrary: of a fault one way only one end can tell.
    """
    mine = [before[told.node, told.peer]] if told and (told.node, told.peer) in before else before.values()
    for one in mine:
        age_s = (turn.began_ns - one.t) / NS
        if one.up and age_s < BFD_SETTLES_S:
            return f"{one.node}'s session with {one.peer} came up {age_s:.1f} s before the fault: it was slow still"
    return ""
