r"""TIMELINE-1..8: what happens in a fabric stands in its timeline, in order, and to the millisecond.

  spine1    spine2
  /    \    /    \        cut: leaf1:spine1, at leaf1's end
leaf1        leaf2 …
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from labs.faults import catalogue, injecting
from labs.lab import Lab, adopt_lab
from labs.telemetry import telling
from labs.telemetry.live import LiveTimeline
from labs.telemetry.records import (
    AsicRecord,
    Clock,
    EngineEvent,
    FaultEvent,
    HostRecord,
    LinkEvent,
    Note,
    PortRecord,
    QueueRecord,
    RouteEvent,
    SessionEvent,
)
from labs.telemetry.timeline import Timeline
from labs.testing import recovered, wait_until

MS = 1_000_000
pytestmark = pytest.mark.lab("clos_frr")


def happens(timeline: LiveTimeline, what: str, seen: Callable[[Timeline], bool], within: float = 10.0) -> Timeline:
    """Wait until it stands in the timeline, and return that."""
    waited = wait_until(what, timeline.read, seen, within=within)
    assert waited.held, waited
    return waited.last


def test_a_cut_link_is_told_by_everybody_it_concerns(lab: Lab, timeline: LiveTimeline) -> None:
    """TIMELINE-1: injecting, both ends' carrier, both sessions, the routes of leaf1, then those of the other leaves.

    Bounds: a veth's far end loses carrier in the same call, zebra hears of it from the kernel as the Recorder does;
    each is stamped within the time that a busy workstation takes to wake a process, some ms: 100 ms is a wide bound.
    FRR holds its queues 50 + 10 ms at each of two hops, so the other leaves' routes come within 0.2 s; allowed: 1 s.
    """
    with injecting.hold(lab, catalogue.fault("link-down"), "leaf1:spine1") as made:
        told = happens(timeline, "leaf2 has other routes", lambda seen: withdrawn(seen, "leaf2"))
    phases = [(event.phase, event.t) for event in told.of(FaultEvent) if event.id == made.id]
    assert [phase for phase, _ in phases] == ["injecting", "made"]
    began = phases[0][1]
    lost = {event.node: event.t for event in reversed(told.of(LinkEvent)) if not event.up}
    assert lost.keys() == {"leaf1", "spine1"}
    down = {
        (event.node, event.port): event.t for event in told.of(SessionEvent) if event.protocol == "bgp" and not event.up
    }
    assert {node for node, _ in down} == {"leaf1", "spine1"}
    assert ("leaf1", "eth1") in down
    for t in (*lost.values(), *down.values()):
        assert 0 <= t - began < 100 * MS
    own = min(event.t for event in told.of(RouteEvent, since=began) if event.node == "leaf1")
    others = min(event.t for event in told.of(RouteEvent, since=began) if event.node == "leaf2")
    assert lost["leaf1"] - 10 * MS <= own
    assert own - 10 * MS <= others < began + 1000 * MS
    happens(timeline, "the session is back", lambda seen: back(seen, made.id), within=30.0)


def withdrawn(seen: Timeline, node: str) -> bool:
    """Whether a node has routes without one of its uplinks."""
    return any(event.node == node and len(event.ports) == 1 for event in seen.of(RouteEvent))


def back(seen: Timeline, fault: str) -> bool:
    """Whether, since a fault was taken back, both ends' sessions have come up again."""
    reverted = seen.first(FaultEvent, lambda event: event.id == fault and event.phase == "reverted")
    if reverted is None:
        return False
    up = {event.node for event in seen.of(SessionEvent, since=reverted.t) if event.up and event.protocol == "bgp"}
    return {"leaf1", "spine1"} <= up


def test_samples_come_once_a_second(lab: Lab, timeline: LiveTimeline) -> None:
    """TIMELINE-2: every port, the workstation and, where it plays, the soft ASIC; counters only rise."""
    seen = happens(timeline, "three samples", lambda now: len(now.of(HostRecord)) >= 3)
    ports = seen.columns(PortRecord)
    assert {*zip(ports["node"], ports["port"], strict=True)} == {
        (port.node, port.name) for node in lab.fabric.nodes for port in lab.fabric.ports(node)
    }
    assert ports["up"].all()
    mine = ports["tx_packets"][(ports["node"] == "leaf1") & (ports["port"] == "eth1")]
    assert (mine[1:] >= mine[:-1]).all()
    gaps = [later.t - sooner.t for sooner, later in zip(seen.of(HostRecord), seen.of(HostRecord)[1:], strict=False)]
    assert all(500 * MS < gap < 2000 * MS for gap in gaps), gaps
    if lab.asic is not None:
        assert seen.of(AsicRecord)
        assert seen.of(QueueRecord)


def test_what_is_told_appears_in_its_place(lab: Lab, timeline: LiveTimeline) -> None:
    """TIMELINE-3: records of others, in the order in which they happened, whatever comes in between."""
    first = timeline.note("first")
    assert telling.tell(lab.name, Note(t=first + 2, text="third"), Note(t=first + 1, text="second"))
    found = timeline.read()
    assert [note.text for note in found.of(Note)] == ["first", "second", "third"]
    times = [record.t for record in found]
    assert times == sorted(times)


def test_a_fault_ends_in_time_whoever_asked_for_it(lab: Lab, timeline: LiveTimeline) -> None:
    """TIMELINE-4: 2 s, asked by a process that is gone by then; the Recorder's timer ends it, once.

    Bound: the process that takes it back stands ready, and is woken; 0.5 s is for a workstation that does much else.
    """
    argv = [*_railbed(), "fault", "add", "link-down", "leaf2:spine1", "--for", "2s", "--lab", lab.name]
    subprocess.run(argv, check=True, capture_output=True)
    told = happens(timeline, "it is taken back", lambda seen: "reverted" in phases_of(seen))
    events = {event.phase: event.t for event in told.of(FaultEvent)}
    assert phases_of(told) == ["injecting", "made", "reverting", "reverted"]
    assert 1.9 < (events["reverting"] - events["injecting"]) / 1e9 < 2.5
    assert injecting.active_faults(lab.name) == ()


def test_a_fault_ends_with_the_process_that_held_it(lab: Lab, timeline: LiveTimeline) -> None:
    """TIMELINE-5: SIGKILL of who held it: the Recorder takes it back, without any further command."""
    code = (
        "import os, signal, sys\n"
        "from labs.faults import catalogue, injecting\n"
        "from labs.lab import adopt_lab\n"
        "with injecting.hold(adopt_lab(sys.argv[1]), catalogue.fault('link-down'), 'leaf3:spine1'):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, lab.name], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    happens(timeline, "it is taken back", lambda seen: "reverted" in phases_of(seen))
    assert injecting.active_faults(lab.name) == ()


def phases_of(seen: Timeline) -> list[str]:
    """The phases of all faults, in order."""
    return [event.phase for event in seen.of(FaultEvent)]


def _railbed() -> list[str]:
    return [sys.executable, "-c", "from labs.cli import main; main()"]


def test_a_killed_recorder_is_started_again(lab: Lab, timeline: LiveTimeline) -> None:
    """TIMELINE-6: the next command that uses the lab does that; the file goes on with a new clock, nothing torn."""
    before = timeline.recorder()
    assert before is not None
    os.kill(before.pid, signal.SIGKILL)
    gone = wait_until("it is gone", timeline.recorder, lambda said: said is None, within=5.0)
    assert gone.held
    adopt_lab(lab.name)
    again = wait_until("another one answers", timeline.recorder, lambda said: said is not None, within=20.0)
    assert again.held
    timeline.note("after")
    found = timeline.read()
    assert [note.text for note in found.of(Note)] == ["after"]
    assert len(found.of(Clock)) == 1  # since this test began
    assert (found.torn, found.unread) == (0, 0)


def test_a_node_that_goes_and_comes_is_heard_again(lab: Lab, timeline: LiveTimeline) -> None:
    """TIMELINE-7: a power cut and its end. In containers the node has another network namespace then.

    Seen from leaf4: its port to the spine loses carrier, and has it again; from the spine itself: routes, once it has
    learned them anew.
    """
    lab.stop("spine2")
    port = next(p.name for p in lab.fabric.ports("leaf4") if "spine2" in str(lab.fabric.link_at("leaf4", p.name)))
    cut = happens(timeline, "leaf4 lost its carrier", lambda seen: [*carriers(seen, port)][-1:] == [False])
    if lab.backend == "containerlab":
        assert any(event.event == "die" and event.node == "spine2" for event in cut.of(EngineEvent))
    started = timeline.note("started")
    lab.start("spine2")
    happens(timeline, "leaf4 has its carrier back", lambda seen: [*carriers(seen, port)][-1:] == [True])
    happens(
        timeline,
        "spine2 learns its routes anew",
        lambda seen: any(
            event.node == "spine2" and event.protocol == "bgp" for event in seen.of(RouteEvent, since=started)
        ),
        within=30.0,
    )


def carriers(seen: Timeline, port: str) -> list[bool]:
    """What leaf4's port said of its carrier."""
    return [event.up for event in seen.of(LinkEvent) if (event.node, event.port) == ("leaf4", port)]


def test_what_is_judged_is_read_then(lab: Lab, timeline: LiveTimeline) -> None:
    """TIMELINE-8: a verdict takes the fixture as it is. Nothing was cut here, so there is nothing to judge: INVALID."""
    assert not recovered(timeline, lab.fabric.uplinks("leaf1")[0], within=0.2).valid
