"""Scenarios as tests: `@pytest.mark.scenario("bytes_ledger")` and the `scenario` fixture.

@pytest.mark.scenario("ring_beside_cut_link", "mine.yaml")      one test each, on the lab that the file names
def test_scenario(scenario):
    scenario.verify()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from labs.errors import RunInvalid

if TYPE_CHECKING:
    from labs.scenarios.play import Repeats
    from labs.scenarios.scenario import Scenario


@pytest.fixture
def scenario(lab: Any, request: pytest.FixtureRequest) -> PlaysScenario:
    """The scenario that the test's marker names, to be played on its lab. Raises SpecError for one that will not do."""
    wanted = getattr(request.node, "callspec", None)
    name = wanted.params["lab"].scenario if wanted is not None else ""
    if not name:
        raise pytest.UsageError(f"{request.node.nodeid} uses `scenario` and names none: @pytest.mark.scenario(NAME)")
    return PlaysScenario(name, lab)


class PlaysScenario:
    """A scenario and its lab. `verify` plays it and fails with what is false.

    Raises SpecError for a lab that the scenario was not written for (--lab-adopt), or that has active faults.
    """

    def __init__(self, ref: str, lab: Any) -> None:
        from labs.scenarios.load import load_scenario
        from labs.scenarios.sites import check_lab

        self._lab = lab
        self.scenario: Scenario
        self.scenario, spec, fabric = load_scenario(ref)
        check_lab(lab, self.scenario, spec, fabric)

    def play(self, wanted: int = 1) -> Repeats:
        """Play it until `wanted` runs count; an INVALID one is started again."""
        from labs.scenarios.play import repeat

        seed = self.scenario.seed if self.scenario.seed is not None else self._lab.seed
        return repeat(self._lab, self.scenario, wanted=wanted, seed=seed)

    def verify(self, wanted: int = 1) -> Repeats:
        """Play it, and assert every claim of every run that counts.

        Raises RunInvalid when too few count, LabError for a testbed in trouble before any claim was false.
        """
        found = self.play(wanted)
        false = [str(one.verdict) for run in found.runs for one in run.judged if one.outcome == "failed"]
        if false:
            pytest.fail(f"{self.scenario.name}: {found}\n" + "\n".join(false), pytrace=False)
        if found.trouble is not None:
            raise found.trouble
        if found.exit_code == RunInvalid.exit_code:
            raise RunInvalid(f"{self.scenario.name}: {found}: {found.invalid_because}")
        return found
