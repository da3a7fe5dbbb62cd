"""Whether a running lab will do for a scenario: another one is refused, by what is different."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from labs.errors import SpecError
from labs.pytest_scenarios import PlaysScenario
from labs.scenarios import sites
from labs.scenarios.load import load_scenario
from labs.scenarios.sites import check_lab
from labs.spec import Bfd, LabSpec
from topologies.fabric import Tier

SCENARIO, SPEC, FABRIC = load_scenario("link_down_recovery")


def lab(spec: LabSpec = SPEC) -> Any:
    return SimpleNamespace(name="mine", fabric=FABRIC, asic=None, rendered=SimpleNamespace(spec=spec))


@pytest.fixture(autouse=True)
def faults(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The active faults of the lab."""
    found: list[str] = []
    monkeypatch.setattr(sites, "active_faults", lambda _lab: tuple(found))
    return found


def test_the_lab_that_it_was_written_for() -> None:
    check_lab(lab(), SCENARIO, SPEC, FABRIC)
    check_lab(lab(replace(SPEC, kinds=dict(SPEC.kinds))), SCENARIO, SPEC, FABRIC)


OTHERS = {
    "other BGP settings": replace(SPEC, bgp=replace(SPEC.bgp, bfd=Bfd(100, 3))),
    "spine1 of lab mine is a bridge": replace(SPEC, kinds={**SPEC.kinds, Tier.SPINE: "bridge"}),
    "leaf2 of lab mine is a bridge": replace(SPEC, node_kinds={"leaf2": "bridge"}),
}


@pytest.mark.parametrize("said", OTHERS)
def test_another_lab_is_refused(said: str) -> None:
    with pytest.raises(SpecError, match=said):
        check_lab(lab(OTHERS[said]), SCENARIO, SPEC, FABRIC)


def test_a_lab_with_active_faults_is_refused(faults: list[str]) -> None:
    faults.append("f1 (link-down on leaf1:spine1)")
    with pytest.raises(SpecError, match=r"active faults: f1 .*; allowed: .*railbed fault revert --all"):
        check_lab(lab(), SCENARIO, SPEC, FABRIC)


def test_a_test_on_another_lab_is_refused() -> None:
    PlaysScenario("link_down_recovery", lab())
    with pytest.raises(SpecError, match="other BGP settings"):
        PlaysScenario("link_down_recovery", lab(OTHERS["other BGP settings"]))
