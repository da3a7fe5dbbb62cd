"""Every reason for which a run cannot vouch for itself, seen: what it spoils, and what it leaves alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from labs.telemetry.asicd_counters import AsicdCounters
from labs.telemetry.samples import ClockSample, HostSample
from labs.verdicts import Evidence, Fidelity, Verdict
from labs.verdicts.bandwidth import busbw_scaled
from labs.verdicts.certified import Seen, certify
from labs.verdicts.ended import came_to_its_end, no_packet_lost
from labs.verdicts.health import vouch

CALM = Seen(
    host=HostSample(duration_s=10.0, steal=0.0, starved_s=0.001),
    clock=ClockSample(lasted_s=10.0),
    asicd=AsicdCounters(reactions=(9, 1), reaction_count=10, reaction_sum_ns=24_000, reaction_max_ns=6_000),
    covered_us=500.0,
)
TIMED = Verdict("a limit of 0.2 s is kept", True, Evidence("0.15 s"), budget_s=0.2)
STATE = Verdict("routes are as designed", True, Evidence("all are"))
QUEUES = Verdict("nothing is lost", True, Evidence("no drop"), fidelity=Fidelity.EMULATED)
LATE_PAUSE = AsicdCounters(reactions=(0, 0, 1), reaction_count=1, reaction_sum_ns=700_000, reaction_max_ns=700_000)


def false(verdict: Verdict) -> Verdict:
    return replace(verdict, held=False)


@pytest.mark.parametrize("verdict", [TIMED, false(TIMED), STATE, false(STATE), QUEUES, false(QUEUES)])
def test_a_calm_run_vouches_for_all(verdict: Verdict) -> None:
    told = certify(verdict, CALM)
    assert (told.valid, told.held) == (True, verdict.held)


@pytest.mark.parametrize(
    ("seen", "because"),
    [
        (replace(CALM, host=HostSample(10.0, 0.0, 0.05)), "a thread woke 0.050 s late, at most 0.020 s allowed"),
        (replace(CALM, host=HostSample(10.0, 0.3, 0.0)), "steal 30%"),
        (replace(CALM, host=HostSample(0.0, 0.0, 0.0)), "nobody watched"),
        (replace(CALM, clock=ClockSample(10.0, stepped_s=-3.0, set_meanwhile=True)), "the wall clock was set by -3 s"),
        (replace(CALM, clock=ClockSample(10.0, set_meanwhile=True)), "was set meanwhile"),
        (replace(CALM, clock=ClockSample(10.0, slewed=0.2)), "off by +20.0%"),
        (replace(CALM, clock=ClockSample(10.0, slept_s=4.0)), "suspended for 4 s"),
        (replace(CALM, disturbed="another lab came up"), "another lab came up"),
    ],
)
@pytest.mark.parametrize("held", [True, False])
def test_a_time_limit_is_judged_on_a_calm_workstation_only(seen: Seen, because: str, held: bool) -> None:
    told = certify(replace(TIMED, held=held), seen)
    assert not told.valid
    assert because in str(told.invalid_because)


@pytest.mark.parametrize(
    "clock", [ClockSample(10.0, stepped_s=3.0, set_meanwhile=True), ClockSample(10.0, slewed=0.2, slept_s=4.0)]
)
def test_clocks_say_nothing_about_state(clock: ClockSample) -> None:
    assert certify(STATE, replace(CALM, clock=clock)).valid
    assert certify(false(STATE), replace(CALM, clock=clock)).valid


def test_a_step_below_a_tenth_of_the_limit_is_none() -> None:
    small = replace(CALM, clock=ClockSample(10.0, stepped_s=0.015, slewed=500e-6))
    assert certify(TIMED, small).valid
    assert not certify(TIMED, replace(CALM, clock=ClockSample(10.0, stepped_s=0.025))).valid


@pytest.mark.parametrize(
    ("seen", "because"),
    [
        (replace(CALM, asicd=AsicdCounters(gate_errors=2, reactions=(0,))), "refused 2 changes of a gate"),
        (replace(CALM, asicd=AsicdCounters(events_late=3, reactions=(0,))), "3 events late"),
        (replace(CALM, asicd=AsicdCounters(softnet_dropped=4, reactions=(0,))), "backlog lost 4 packets"),
        (replace(CALM, asicd=LATE_PAUSE), "a pause took 700 µs to be obeyed, the headroom covers 500 µs"),
    ],
)
def test_a_troubled_soft_asic_condemns_nobody(seen: Seen, because: str) -> None:
    """A false verdict on queues is INVALID; a held one stays, as trouble makes nothing look better."""
    told = certify(false(QUEUES), seen)
    assert not told.valid
    assert because in str(told.invalid_because)
    assert certify(QUEUES, seen).valid
    assert not certify(replace(QUEUES, budget_s=5.0), seen).valid
    assert certify(false(STATE), seen).valid


def test_emulation_that_went_away_vouches_for_nothing_emulated() -> None:
    gone = replace(CALM, asicd=None, asicd_gone=True)
    assert not certify(QUEUES, gone).valid
    assert certify(STATE, gone).valid
    assert certify(QUEUES, replace(CALM, asicd=None)).valid  # there never was one


def test_what_was_vouched_for_at_its_moment_is_not_held_against_the_whole_run() -> None:
    own = vouch(TIMED, HostSample(10.0, 0.0, 0.001))
    starved = replace(CALM, host=HostSample(60.0, 0.3, 0.5))
    assert certify(own, starved).valid
    assert not certify(TIMED, starved).valid
    assert not certify(own, replace(starved, clock=ClockSample(10.0, stepped_s=9.0))).valid


def test_an_invalid_verdict_keeps_its_own_reason() -> None:
    told = certify(TIMED.invalid("nobody sent anything"), replace(CALM, disturbed="another lab came up"))
    assert told.invalid_because == "nobody sent anything"


def test_bandwidth_that_is_no_such_share() -> None:
    assert busbw_scaled(20e6, 10.2e6, share=0.5)
    assert not busbw_scaled(20e6, 20e6, share=0.5).held  # the fault did not bite
    assert not busbw_scaled(20e6, 9.4e6, share=0.5).held
    assert not busbw_scaled(20e6, None, share=0.5).held
    assert not busbw_scaled(None, 20e6, share=0.5).held
    assert not busbw_scaled(20e6, 10e6, share=0.5, invalid_because="starved").valid


def test_traffic_that_did_not_come_to_its_end() -> None:
    assert came_to_its_end("ring", error=None, wrong=0, iterations=3)
    assert not came_to_its_end("ring", error="host1 > host2: time-out", wrong=None, iterations=3).held
    assert not came_to_its_end("ring", error=None, wrong=7, iterations=3).held
    assert not came_to_its_end("ring", error=None, wrong=0, iterations=0).held
    assert not came_to_its_end("ring", error=None, wrong=None, iterations=3).valid


def test_lost_packets() -> None:
    assert no_packet_lost("ring", lost=0, retransmits=2, starved=True)
    assert not no_packet_lost("ring", lost=3, retransmits=3, starved=False).held
    assert not no_packet_lost("ring", lost=3, retransmits=3, starved=True).valid
