"""EVENT-1: what the engine says of a lab's containers stands in the lab's timeline, in order, with the node's name."""

from __future__ import annotations

import pytest

from labs import engine
from labs.lab import Lab
from labs.telemetry import telling
from labs.telemetry.records import EngineEvent, LinkEvent
from labs.telemetry.timeline import Timeline, read_timeline
from labs.testing import wait_until


def timeline(lab: Lab) -> Timeline:
    """What is written by now."""
    assert telling.flush(lab.name) is not None
    return read_timeline(lab.run_dir / "timeline.jsonl")


def events(lab: Lab, node: str) -> list[str]:
    """What happened to a node, as the timeline holds it."""
    return [event.event for event in timeline(lab).of(EngineEvent) if event.node == node]


def assert_happens(lab: Lab, node: str, *wanted: str) -> None:
    """These are the events of a node, now or in a moment: the engine tells them when it comes to it."""
    waited = wait_until(f"events of {node}", lambda: events(lab, node), lambda seen: seen == [*wanted], within=10.0)
    assert waited.held, waited


@pytest.mark.lab("pair")
def test_the_timeline_tells_what_became_of_a_node(lab: Lab) -> None:
    """From its first container on; a node that dies without us is told with its exit status, and takes its cable along.

    The Recorder listens inside host2's network namespace, which keeps it alive: it must let go of it at once, or the
    cable between the two would outlive the container that it hung on.
    """
    assert_happens(lab, "host1", "create", "start")
    lab.pause("host1")
    lab.start("host1")
    assert_happens(lab, "host1", "create", "start", "pause", "unpause")
    lab.stop("host1")
    lab.start("host1")
    stopped = ("kill", "die", "stop", "start")
    assert_happens(lab, "host1", "create", "start", "pause", "unpause", *stopped)
    engine.client(engine.address()).api.kill(f"clab-{lab.name}-host2")
    assert_happens(lab, "host2", "create", "start", "kill", "die")
    told = timeline(lab)
    cable = lab.fabric.link_at("host2", "eth1").far("host2")
    died = next(event for event in told.of(EngineEvent) if event.event == "die" and event.node == "host2")
    assert died.exit_code == 137
    assert {event.node for event in told.of(EngineEvent)} == {node.name for node in lab.fabric.nodes}
    waited = wait_until(
        "the switch loses its cable to host2",
        lambda: [event for event in timeline(lab).of(LinkEvent) if event.node == "leaf1" and not event.up],
        lambda lost: any(event.port == cable.name for event in lost),
        within=5.0,
    )
    assert waited.held, waited
    times = [record.t for record in timeline(lab)]
    assert times == sorted(times)
