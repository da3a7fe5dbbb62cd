"""A verdict on a timeline is only as good as the workstation was around the fault: seen kept, and marked INVALID."""

from __future__ import annotations

import pytest

from labs.errors import RunInvalid
from labs.telemetry.records import HostRecord
from labs.telemetry.timeline import timeline_of
from labs.verdicts import Evidence, Verdict
from labs.verdicts.outage import Span, Turn
from labs.verdicts.recovered import certified

S = 1_000_000_000
AROUND = [Span(next(iter(Turn)), S, S, 2 * S)]


def asked(*watched: HostRecord, held: bool = True) -> Verdict:
    claim = Verdict("back within 1 s", held, Evidence("a reason"), budget_s=1.0)
    return certified(claim, timeline_of(watched), AROUND)


def seen(*, steal: float = 0.0, starved_s: float = 0.001, t: int = 2 * S) -> HostRecord:
    return HostRecord(t=t, duration_s=1.0, steal=steal, steal_worst=steal, starved_s=starved_s)


@pytest.mark.parametrize("held", [True, False])
def test_a_quiet_workstation_leaves_a_verdict_as_it_is(held: bool) -> None:
    assert bool(asked(seen(), held=held)) is held


@pytest.mark.parametrize("watched", [(), (seen(t=9 * S),), (seen(steal=0.3),), (seen(starved_s=0.2),)])
def test_one_that_nobody_watched_or_that_starved_makes_it_invalid(watched: tuple[HostRecord, ...]) -> None:
    with pytest.raises(RunInvalid):
        bool(asked(*watched))
