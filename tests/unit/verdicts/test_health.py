from __future__ import annotations

import pytest

from labs.errors import RunInvalid
from labs.telemetry.samples import HostSample
from labs.verdicts import Evidence, Verdict
from labs.verdicts.health import vouch

WELL = HostSample(10.0, steal=0.01, starved_s=0.002)
STOLEN = HostSample(10.0, steal=0.3, starved_s=0.002)
LATE = HostSample(10.0, steal=0.0, starved_s=0.4, cpu_pressure=0.7)


def verdict(*, held: bool, budget_s: float | None) -> Verdict:
    return Verdict("a claim", held, Evidence("because"), budget_s=budget_s)


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("host", [STOLEN, LATE])
def test_a_starved_timing_verdict_is_invalid_whether_it_held_or_not(held: bool, host: HostSample) -> None:
    with pytest.raises(RunInvalid, match="workstation was starved"):
        bool(vouch(verdict(held=held, budget_s=1.0), host))


@pytest.mark.parametrize("held", [True, False])
def test_a_healthy_workstation_changes_nothing_but_the_evidence(held: bool) -> None:
    told = vouch(verdict(held=held, budget_s=1.0), WELL)
    assert bool(told) is held
    assert told.evidence.numbers["workstation"] == {"steal": 0.01, "starved_s": 0.002}


def test_lateness_is_measured_against_the_budget() -> None:
    assert vouch(verdict(held=True, budget_s=5.0), LATE)
    assert vouch(verdict(held=True, budget_s=1.0), LATE, starved_most_s=0.5)


def test_a_verdict_without_time_in_it() -> None:
    assert vouch(verdict(held=True, budget_s=None), STOLEN)
    assert not vouch(verdict(held=False, budget_s=None), LATE)
    with pytest.raises(RunInvalid, match="steal 30%, at most 10% allowed"):
        bool(vouch(verdict(held=False, budget_s=None), STOLEN))


@pytest.mark.parametrize("host", [None, HostSample(0.0, 0.0, 0.0)])
def test_nobody_watching_invalidates_only_timing(host: HostSample | None) -> None:
    assert vouch(verdict(held=True, budget_s=None), host)
    with pytest.raises(RunInvalid, match="nobody watched"):
        bool(vouch(verdict(held=True, budget_s=1.0), host))


def test_an_invalid_verdict_keeps_its_reason() -> None:
    assert vouch(verdict(held=True, budget_s=1.0).invalid("no flows"), LATE).invalid_because == "no flows"
