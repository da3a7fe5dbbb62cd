"""What the runs of a scenario come to together: which of several outcomes goes before which."""

from __future__ import annotations

from typing import Any, cast
from xml.etree import ElementTree as ET

import pytest

from labs.errors import LabError, NotReady
from labs.pytest_scenarios import PlaysScenario
from labs.scenarios import report, sites
from labs.scenarios.load import load_scenario
from labs.scenarios.play import Judged, Outcome, Repeats, Run
from labs.verdicts import Evidence, Verdict

HELD = Verdict("it is so", True, Evidence("seen"))
FALSE = Verdict("it is so", False, Evidence("not seen"))
UNSURE = FALSE.invalid("the workstation was starved")
TROUBLE = NotReady("leaf1: zebra does not answer")


def repeats(*verdicts: Verdict, trouble: LabError | None = None) -> Repeats:
    """One run with these verdicts."""
    scenario = load_scenario("ring_beside_cut_link")[0]
    run = Run(1, 7, tuple(Judged("converged", None, one) for one in verdicts), 1.0, trouble=trouble)
    return Repeats(scenario, 1, 2, 7, (run,))


@pytest.mark.parametrize(
    ("verdicts", "trouble", "outcome", "code"),
    [
        ([HELD], None, Outcome.HELD, 0),
        ([HELD, UNSURE], None, Outcome.INVALID, 3),
        ([UNSURE, FALSE], None, Outcome.FAILED, 1),
        ([HELD], TROUBLE, Outcome.ERROR, 2),
        ([UNSURE], TROUBLE, Outcome.ERROR, 2),
        ([FALSE], TROUBLE, Outcome.FAILED, 1),
    ],
)
def test_what_a_run_says(verdicts: list[Verdict], trouble: LabError | None, outcome: Outcome, code: int) -> None:
    found = repeats(*verdicts, trouble=trouble)
    assert found.runs[0].outcome is outcome
    assert found.exit_code == code
    assert found.failed == (outcome is Outcome.FAILED)


def test_a_test_fails_with_a_false_claim_before_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sites, "check_lab", lambda *_: None)
    scenario = PlaysScenario("ring_beside_cut_link", cast("Any", None))
    monkeypatch.setattr(scenario, "play", lambda _wanted: repeats(FALSE, trouble=TROUBLE))
    with pytest.raises(pytest.fail.Exception, match="not seen"):
        scenario.verify()
    monkeypatch.setattr(scenario, "play", lambda _wanted: repeats(UNSURE, trouble=TROUBLE))
    with pytest.raises(NotReady):
        scenario.verify()


def test_junit_has_the_time_that_a_run_took() -> None:
    suite = next(ET.fromstring(report.junit([repeats(HELD, FALSE)])).iter("testsuite"))
    assert float(suite.attrib["time"]) == 1.0
    assert [float(case.attrib["time"]) for case in suite.iter("testcase")] == [1.0, 0.0]
