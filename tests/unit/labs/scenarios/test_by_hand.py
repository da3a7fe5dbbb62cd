"""Faults of a timeline as a scenario: their times, and that the file is one that can be played."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from labs.errors import SpecError
from labs.scenarios.by_hand import as_scenario, made_by_hand
from labs.scenarios.load import load_scenario
from labs.scenarios.scenario import FaultStep, RevertStep, WaitStep
from labs.telemetry.records import FaultEvent

SECOND = 1_000_000_000


def event(number: int, phase: str, at_s: float, target: str) -> FaultEvent:
    return FaultEvent(
        t=int((100 + at_s) * SECOND),
        id=f"f{number}",
        fault="link-down",
        target=target,
        phase=phase,
        params={"end": ""},
    )


EVENTS = [
    event(1, "injecting", 0.0, "leaf1:spine1"),
    event(1, "made", 0.1, "leaf1:spine1"),
    event(2, "made", 2.1, "leaf2:spine1"),
    event(1, "reverting", 5.0, "leaf1:spine1"),
    event(1, "reverted", 5.1, "leaf1:spine1"),
    event(3, "injecting", 6.0, "leaf3:spine1"),
    event(3, "failed", 6.1, "leaf3:spine1"),
]


def test_what_is_written_can_be_played(tmp_path: Path) -> None:
    path = tmp_path / "again.yaml"
    path.write_text(as_scenario("clos_2x4", "roce_default", made_by_hand(EVENTS)))
    scenario, _, _ = load_scenario(str(path))
    one, other, wait, revert, _ = scenario.steps
    assert isinstance(one, FaultStep)
    assert isinstance(other, FaultStep)
    assert (one.target, one.at_s, one.for_s, one.params) == ("leaf1:spine1", 1.0, 5.0, {})
    assert (other.target, other.at_s, other.for_s) == ("leaf2:spine1", 3.0, None)
    assert isinstance(wait, WaitStep)
    assert (wait.condition, wait.of) == ("reverted", one.name)
    assert isinstance(revert, RevertStep)
    assert revert.name == other.name


def test_nothing_to_record() -> None:
    with pytest.raises(SpecError, match="no fault"):
        as_scenario("clos_2x4", None, made_by_hand(EVENTS[:1]))


def test_an_hour_is_enough() -> None:
    late = [*EVENTS, event(4, "made", 4000, "leaf4:spine1")]
    with pytest.raises(SpecError, match="3600 s at most"):
        as_scenario("clos_2x4", None, made_by_hand(late))


def test_a_cable_that_was_cut_again_and_again_can_be_played(tmp_path: Path) -> None:
    """Each cut has to be over before the next one of the same cable, as it was then; one that stayed is reverted."""
    cuts = [
        event(1, "made", 0.0, "leaf1:spine1"),
        event(1, "reverted", 1.0, "leaf1:spine1"),
        event(2, "made", 2.0, "leaf1:spine1"),
        event(3, "made", 3.0, "leaf2:spine1"),
        event(4, "made", 4.0, "leaf1:spine1"),
    ]
    path = tmp_path / "again.yaml"
    path.write_text(as_scenario("clos_2x4", None, made_by_hand(cuts)))
    steps = load_scenario(str(path))[0].steps
    said = [
        getattr(step, "name", "") or f"{getattr(step, 'condition', 'claim')} {getattr(step, 'of', None)}"
        for step in steps
    ]
    assert said[:5] == ["fault-1", "reverted fault-1", "fault-2", "fault-3", "fault-2"]
    assert isinstance(steps[4], RevertStep)
    assert said[5:] == ["fault-4", "fault-3", "fault-4", "claim None"]


def test_what_was_over_at_once_is_not_taken_back(tmp_path: Path) -> None:
    resets = [replace(event(number, "made", number, "leaf1"), fault="bgp-reset") for number in (1, 2)]
    path = tmp_path / "again.yaml"
    path.write_text(as_scenario("clos_2x4", None, made_by_hand(resets), at_once={"bgp-reset"}))
    assert [type(step).__name__ for step in load_scenario(str(path))[0].steps] == [
        "FaultStep",
        "FaultStep",
        "ClaimStep",
    ]
    path.write_text(as_scenario("clos_2x4", None, made_by_hand(resets)))
    with pytest.raises(SpecError, match="over as soon as it is made"):
        load_scenario(str(path))
