"""EVENT-1: what the engine says of a lab's containers stands in the lab's timeline, in order, with the node's name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labs import engine
from labs.lab import Lab
from labs.testing import wait_until


def events(lab: Lab, node: str) -> list[str]:
    """What happened to a node, as the timeline holds it."""
    return [str(line["event"]) for line in timeline(lab.run_dir) if line["node"] == node]


def timeline(run_dir: Path) -> list[dict[str, Any]]:
    """Every line of a run's timeline."""
    return [json.loads(line) for line in (run_dir / "timeline.jsonl").read_text().splitlines()]


def assert_happens(lab: Lab, node: str, *wanted: str) -> None:
    """These are the events of a node, now or in a moment: they are written by a process of their own."""
    waited = wait_until(f"events of {node}", lambda: events(lab, node), lambda seen: seen == [*wanted], within=10.0)
    assert waited.held, waited


@pytest.mark.lab("pair")
def test_the_timeline_tells_what_became_of_a_node(lab: Lab) -> None:
    """From its first container on; a node that dies without us is told with its exit status."""
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
    died = [line for line in timeline(lab.run_dir) if line["event"] == "die" and line["node"] == "host2"]
    assert [line["exit_code"] for line in died] == [137]
    assert {line["node"] for line in timeline(lab.run_dir)} == {node.name for node in lab.fabric.nodes}
    assert [line["at"] for line in timeline(lab.run_dir)] == sorted(line["at"] for line in timeline(lab.run_dir))
