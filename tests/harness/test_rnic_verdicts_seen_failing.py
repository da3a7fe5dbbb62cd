"""The judges of congestion control and loss recovery are seen held, false and invalid."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from labs.errors import RunInvalid
from labs.telemetry.samples import HostSample
from labs.verdicts import Verdict, dcqcn, recovery
from labs.verdicts.dcqcn import (
    Congested,
    fair_rates,
    hardly_paused,
    marked_and_notified,
    marked_share,
    paused_without_loss,
    queue_length,
    standard_error,
)
from labs.verdicts.recovery import Recovered, goodput_share, livelock

CAPACITY = 200e6


def sample(*, steal: float = 0.0, worst: float = 0.0) -> HostSample:
    return HostSample(duration_s=20.0, steal=steal, starved_s=0.001, steal_worst=worst)


def flows(*shares: float, noise: float = 0.1, parts: int = 200) -> dict[str, list[float]]:
    """Flows with these shares of C/N, whose rate swings by `noise` from one part of the time to the next."""
    draw = np.random.default_rng(11)
    even = CAPACITY / len(shares)
    return {f"host{n}": list(even * (share + noise * draw.standard_normal(parts))) for n, share in enumerate(shares, 1)}


RUN = Congested(
    capacity_bps=CAPACITY,
    lasted_s=25.0,
    rates_bps=flows(1, 1, 1, 1),
    ce=7000,
    cnps=2500,
    passed=150_000,
    marked=8_500,
    depths=[380_000, 400_000, 420_000],
    pauses=3,
    steady_pauses=0,
    lost={},
    curve=(102_400, 1_126_400),
    host=sample(),
)
STARVED = replace(RUN, host=sample(steal=0.3, worst=0.3))
LOSSY = Recovered(
    carried=16_384, sent=20_600, lost=80, busy_s=6.9, least_s=5.5, done=4, posted=4, sent_past=62.0, host=sample()
)
STUCK = Recovered(carried=0, sent=15_000, lost=58, busy_s=6.0, least_s=0.0, done=0, posted=1, host=sample())


@dataclass(frozen=True)
class Case:
    """One verdict, called so that it holds, is false, and is invalid."""

    judge: Callable[..., Verdict]
    held: Callable[[], Verdict]
    false: Callable[[], Verdict]
    invalid: Callable[[], Verdict]


CASES = [
    Case(
        fair_rates,
        held=lambda: fair_rates(RUN),
        false=lambda: fair_rates(replace(RUN, rates_bps=flows(1.15, 0.95, 0.95, 0.95))),
        invalid=lambda: fair_rates(replace(STARVED, rates_bps=flows(1.15, 0.95, 0.95, 0.95))),
    ),
    Case(
        marked_and_notified,
        held=lambda: marked_and_notified(RUN),
        false=lambda: marked_and_notified(replace(RUN, cnps=0)),
        invalid=lambda: marked_and_notified(replace(RUN, passed=0)),
    ),
    Case(
        hardly_paused,
        held=lambda: hardly_paused(RUN),
        false=lambda: hardly_paused(replace(RUN, steady_pauses=1)),
        invalid=lambda: hardly_paused(replace(RUN, why_not="another lab came up")),
    ),
    Case(
        paused_without_loss,
        held=lambda: paused_without_loss(40, {}),
        false=lambda: paused_without_loss(40, {"leaf1:eth9 Q3": 1}),
        invalid=lambda: paused_without_loss(40, {}, why_not="another lab came up"),
    ),
    Case(
        marked_share,
        held=lambda: marked_share(RUN, 0.0574),
        false=lambda: marked_share(replace(RUN, marked=3_000), 0.0574),
        invalid=lambda: marked_share(replace(STARVED, marked=3_000), 0.0574),
    ),
    Case(
        queue_length,
        held=lambda: queue_length(RUN, 390_000),
        false=lambda: queue_length(replace(RUN, depths=[200_000, 240_000]), 390_000),
        invalid=lambda: queue_length(replace(RUN, curve=None), 390_000),
    ),
    Case(
        goodput_share,
        held=lambda: goodput_share(LOSSY, 0.80),
        false=lambda: goodput_share(LOSSY, 0.95),
        invalid=lambda: goodput_share(replace(LOSSY, lost=10), 0.80),
    ),
    Case(
        livelock,
        held=lambda: livelock(STUCK),
        false=lambda: livelock(replace(STUCK, done=1)),
        invalid=lambda: livelock(replace(STUCK, lost=2)),
    ),
]


def name(case: Case) -> str:
    return case.judge.__name__


@pytest.mark.parametrize("case", CASES, ids=name)
def test_a_verdict_is_seen_held_false_and_invalid(case: Case) -> None:
    assert case.held()
    false = case.false()
    assert false.valid
    assert not false
    with pytest.raises(RunInvalid):
        bool(case.invalid())


def test_every_judge_is_here() -> None:
    judges = {
        found
        for module in (dcqcn, recovery)
        for word, found in inspect.getmembers(module, inspect.isfunction)
        if not word.startswith("_") and inspect.signature(found).return_annotation == "Verdict"
        if found.__module__ == module.__name__
    }
    assert judges == {case.judge for case in CASES}


def test_pauses_missing_without_dcqcn_are_noticed() -> None:
    """Nothing that would have to pause: the switch lets everything wait, or the incast is none."""
    assert not paused_without_loss(0, {})


def test_a_flow_that_takes_a_tenth_more_is_noticed_at_eight_too() -> None:
    assert fair_rates(replace(RUN, rates_bps=flows(*[1.0] * 8)))
    assert not fair_rates(replace(RUN, rates_bps=flows(1.1, *[0.9857] * 7)))


def test_what_the_port_does_not_carry_is_noticed() -> None:
    """All alike, and each a tenth below C/N: Jain alone would be content."""
    assert not fair_rates(replace(RUN, rates_bps=flows(0.9, 0.9)))


def test_beyond_by_less_than_its_own_error_says_nothing() -> None:
    """6 % off, and batches that differ by as much: the mean of ten is known to 2 %, and four of those are allowed."""
    slow = [CAPACITY / 2 * (1.06 + 0.06 * (-1) ** (at // 20)) for at in range(200)]
    even = [CAPACITY / 2] * 200
    assert standard_error(slow) / (CAPACITY / 2) == pytest.approx(0.02, abs=0.001)
    verdict = fair_rates(replace(RUN, rates_bps={"host1": slow, "host2": even}))
    assert not verdict.valid
    assert "too short to say" in str(verdict.invalid_because)
    assert not fair_rates(replace(RUN, rates_bps={"host1": [CAPACITY / 2 * 1.06] * 200, "host2": even}))


def test_too_few_parts_say_nothing() -> None:
    assert not fair_rates(replace(RUN, rates_bps=flows(1, 1, parts=9))).valid


def test_time_that_was_stolen_from_one_cpu_explains_what_is_missing() -> None:
    short = replace(RUN, rates_bps=flows(0.92, 0.92, noise=0.0))
    assert not fair_rates(short)
    assert not fair_rates(replace(short, host=sample(steal=0.05, worst=0.05))).valid


def test_what_held_all_the_same_stays() -> None:
    """A workstation that is short of time moves rates apart; it does not make them alike."""
    assert fair_rates(replace(STARVED, late="behind"))
    assert not fair_rates(replace(RUN, late="behind", rates_bps=flows(1.15, 0.95, 0.95, 0.95))).valid


def test_more_cnps_than_marks_are_noticed() -> None:
    assert not marked_and_notified(replace(RUN, ce=2_000))
    assert not marked_and_notified(replace(RUN, ce=0, cnps=0))


def test_loss_is_no_way_to_slow_down() -> None:
    assert not hardly_paused(replace(RUN, lost={"leaf1:eth9 Q3": 1}))


def test_a_queue_above_its_curve_is_noticed_even_where_that_was_predicted() -> None:
    assert not queue_length(replace(RUN, depths=[1_200_000]), 1_100_000)


def test_a_message_that_is_missing_is_noticed() -> None:
    assert not goodput_share(replace(LOSSY, done=3), 0.80)


def test_a_share_that_is_off_while_its_sender_was_late_says_nothing() -> None:
    assert not goodput_share(replace(LOSSY, late="behind"), 0.95).valid
    assert not goodput_share(replace(LOSSY, host=sample(steal=0.08, worst=0.1)), 0.95).valid
    assert goodput_share(replace(LOSSY, late="behind"), 0.80)
