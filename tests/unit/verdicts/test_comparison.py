"""The statistics of `railbed compare`: textbook values, coverage under ugly noise, no false alarm, none missed."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from labs.verdicts import comparison
from labs.verdicts.comparison import (
    CONFIDENCE,
    MARGIN,
    Outcome,
    compare_settling,
    compare_timings,
    least_rounds,
    signed_rank_interval,
    sturdy_rounds,
    tail_of,
)

Sample = NDArray[np.float64]
Noise = Callable[[np.random.Generator, int], Sample]


def _two_modes(rng: np.random.Generator, n: int) -> Sample:
    """A timer that now runs out first, now does not."""
    return np.where(rng.random(n) < 0.3, 1.08, 0.35) * rng.normal(1, 0.02, n)


def _polled(rng: np.random.Generator, n: int) -> Sample:
    """Seen only every quarter of a second: many ties."""
    return np.asarray(np.ceil((1 + rng.exponential(0.2, n)) / 0.25) * 0.25)


def _outliers(rng: np.random.Generator, n: int) -> Sample:
    """Every tenth lab takes five times as long."""
    return np.where(rng.random(n) < 0.1, 5.0, 1.0) * rng.normal(1, 0.02, n)


NOISES: dict[str, Noise] = {
    "normal": lambda rng, n: rng.normal(1, 0.05, n),
    "exponential tail": lambda rng, n: 1 + rng.exponential(0.2, n),
    "lognormal": lambda rng, n: rng.lognormal(0, 0.5, n),
    "outliers": _outliers,
    "two modes": _two_modes,
    "polled": _polled,
}


def pairs(noise: Noise, rng: np.random.Generator, n: int, ratio: float) -> list[tuple[float, float]]:
    return list(zip(map(float, noise(rng, n)), map(float, ratio * noise(rng, n)), strict=True))


# The interval.


@pytest.mark.parametrize(("n", "tail", "critical"), [(6, 0.025, 0), (10, 0.025, 8), (20, 0.025, 52), (25, 0.005, 68)])
def test_limits_stand_in_every_textbook(n: int, tail: float, critical: int) -> None:
    """Wilcoxon's table: the largest T whose tail is at most 2.5 % (0.5 %); the limit is the mean after it."""
    assert comparison._limit(n, tail) == critical + 1


def test_one_round_too_few_says_nothing() -> None:
    assert signed_rank_interval([0.1] * 5, 0.025) is None
    assert signed_rank_interval([0.1] * 6, 0.025) == pytest.approx((0.1, 0.1, 0.1))
    assert signed_rank_interval([], 0.025) is None


def test_interval_of_few_by_hand() -> None:
    """n = 6, tail 2.5 %: k = 1, the limits are the extreme rounds; the estimate is the median of 21 means."""
    found = signed_rank_interval([1.0, 2.0, 3.0, 4.0, 5.0, 12.0], 0.025)
    assert found == pytest.approx((3.5, 1.0, 12.0))


@pytest.mark.parametrize("noise", NOISES)
def test_coverage(noise: str) -> None:
    """Each limit is wrong at most as often as stated, whatever the noise; 2000 comparisons, n = 10, tail 2.5 %.

    The exact tail is 24/1024 = 2.44 % (T ≤ 8). Bound: 4.5 standard deviations of a binomial above, 2.5 + 1.6 %. And
    the statement is no idle one: without ties the limits are wrong at all, 2.44 − 1.6 % of the time at the least.
    """
    rng = np.random.default_rng(1)
    truth, low_wrong, high_wrong, runs = math.log(1.3), 0, 0, 2000
    for _ in range(runs):
        logs = [math.log(b / a) for a, b in pairs(NOISES[noise], rng, 10, 1.3)]
        _, low, high = signed_rank_interval(logs, 0.025) or (0.0, 0.0, 0.0)
        low_wrong += low > truth + 1e-9
        high_wrong += high < truth - 1e-9
    assert max(low_wrong, high_wrong) / runs < 0.041
    if noise in {"normal", "lognormal"}:
        assert min(low_wrong, high_wrong) / runs > 0.0084


def test_noise_of_another_shape_raises_no_alarm() -> None:
    """The medians are alike, and only B has a tail: limits are wrong more often than stated, never by the margin."""
    rng = np.random.default_rng(6)
    alarms = 0
    for _ in range(500):
        a, b = rng.normal(1, 0.02, 24), (1 + rng.exponential(0.1, 24)) / (1 + 0.1 * math.log(2))
        measured = list(zip(map(float, a), map(float, b), strict=True))
        alarms += compare_timings("x_s", measured, margin=MARGIN, tail=0.005).outcome is Outcome.SLOWER
    assert alarms == 0


def test_a_t_interval_would_not_do() -> None:
    """Why ranks: two values a timing, and once in 2⁹ all ten differences agree, with no spread at all.

    The t interval then has no width, whatever its confidence; ours of a tail below 2⁻¹⁰ says that it cannot tell.
    """
    assert signed_rank_interval([0.2] * 10, 1e-4) is None


# What follows from it.


def test_default_confidence_is_reached_by_default() -> None:
    """Four timings and settling: a tail of 1e-4 needs 2⁻¹⁴; one outlier of 24 cannot move a limit out."""
    tail = tail_of(CONFIDENCE, 5)
    assert tail == pytest.approx(1e-4)
    assert (least_rounds(tail), sturdy_rounds(tail)) == (14, 24)
    # A month of nights that compare an image with itself.
    assert 30 * 5 * tail == pytest.approx(0.015)


def test_one_outlier_decides_nothing() -> None:
    """Of 24 rounds one in which A took ten times as long hides no regression of 30 %."""
    rng = np.random.default_rng(2)
    measured = [(a, 1.3 * b) for a, b in pairs(NOISES["normal"], rng, 24, 1.0)]
    measured[3] = (10 * measured[3][0], measured[3][1])
    assert compare_timings("x_s", measured, margin=MARGIN, tail=1e-4).outcome is Outcome.SLOWER
    assert compare_timings("x_s", measured[:14], margin=MARGIN, tail=1e-4).outcome is Outcome.UNDECIDED


@pytest.mark.parametrize("noise", NOISES)
def test_nothing_differs_nothing_is_found(noise: str) -> None:
    """A/A: no false alarm in 300 comparisons (the bound would allow 300 × 1e-4 = 0.03 of them)."""
    rng = np.random.default_rng(3)
    found = [compare_timings("x_s", pairs(NOISES[noise], rng, 24, 1.0), margin=MARGIN, tail=1e-4) for _ in range(300)]
    assert {one.outcome for one in found} <= {Outcome.NO_SLOWER, Outcome.UNDECIDED}
    assert all(one.verdict.held for one in found)


def test_regression_is_found() -> None:
    """B is 30 % slower, noise 5 %: found every time of 100. 5 % slower is inside the margin: never called slower."""
    rng = np.random.default_rng(4)
    for ratio, wanted in ((1.3, {Outcome.SLOWER}), (1.05, {Outcome.NO_SLOWER, Outcome.UNDECIDED})):
        found = {
            compare_timings("x_s", pairs(NOISES["normal"], rng, 24, ratio), margin=MARGIN, tail=1e-4).outcome
            for _ in range(100)
        }
        assert found <= wanted, ratio


def test_a_difference_that_is_shown_but_small_is_no_regression() -> None:
    """3 % slower, hardly any noise: the interval excludes zero and lies inside the margin."""
    found = compare_timings("x_s", [(1.0, 1.03 + i / 1e4) for i in range(24)], margin=MARGIN, tail=1e-4)
    assert found.outcome is Outcome.NO_SLOWER
    assert found.ratio is not None
    assert found.ratio.low > 1


def test_faster() -> None:
    found = compare_timings("x_s", [(1.0, 0.5 + i / 1e4) for i in range(24)], margin=MARGIN, tail=1e-4)
    assert (found.outcome, found.verdict.held) == (Outcome.FASTER, True)


def test_undecided_says_how_many_rounds() -> None:
    """±20 % of noise on 14 rounds decides nothing; with as many rounds as it asks for, three of four decide."""
    rng = np.random.default_rng(5)
    noise: Noise = lambda rng, n: rng.lognormal(0, 0.1, n)  # noqa: E731 - one line says it
    decided = asked = 0
    for _ in range(100):
        found = compare_timings("x_s", pairs(noise, rng, 14, 1.0), margin=MARGIN, tail=1e-4)
        assert found.outcome is Outcome.UNDECIDED
        assert "undecided: ±" in found.summary
        if found.rounds_needed is None:
            assert "needs more than 200" in found.words
            continue
        assert f"with 14 rounds, needs about {found.rounds_needed}" in found.words
        asked += 1
        again = compare_timings("x_s", pairs(noise, rng, found.rounds_needed, 1.0), margin=MARGIN, tail=1e-4)
        decided += again.outcome is Outcome.NO_SLOWER
    assert asked > 60
    assert decided / asked > 0.5


def test_too_few_values() -> None:
    found = compare_timings("x_s", [(1.0, 2.0)] * 3, margin=MARGIN, tail=1e-4)
    assert (found.outcome, found.ratio, found.verdict.held) == (Outcome.UNDECIDED, None, True)
    assert found.summary == "undecided: 3 rounds have both values, 14 are needed"
    assert compare_timings("x_s", [], margin=MARGIN, tail=1e-4).verdict.evidence.numbers["a_median_s"] is None


def test_the_verdict_tells_everything() -> None:
    verdict = compare_timings("reroute_s", [(1.0, 1.5 + i / 1e3) for i in range(14)], margin=0.1, tail=1e-4).verdict
    assert verdict.claim == "reroute_s: B is no more than 10% slower than A"
    assert (verdict.held, verdict.valid) == (False, True)
    assert verdict.evidence.summary == "+50.6 % (+50.0 % … +51.3 %): slower"
    assert verdict.evidence.numbers["outcome"] == "slower"
    assert len(verdict.evidence.rows) == 14


def test_zero_seconds_are_a_millisecond() -> None:
    found = compare_timings("x_s", [(0.0, 0.0)] * 14, margin=0.1, tail=1e-4)
    assert found.outcome is Outcome.NO_SLOWER


# Coming to rest.


@pytest.mark.parametrize(
    ("seen", "outcome"),
    [
        ([(True, True)] * 14, Outcome.NO_SLOWER),
        ([(True, True)] * 13 + [(True, False)], Outcome.SLOWER),  # A always did: once is enough
        ([(True, True)] * 13 + [(False, True)], Outcome.FASTER),
        ([(True, True)] * 13 + [(False, False)], Outcome.NO_SLOWER),
        ([(True, True)] * 12 + [(False, True), (True, False)], Outcome.UNDECIDED),
        ([(True, True)] * 10 + [(False, True), (True, False), (True, False)], Outcome.UNDECIDED),
        ([(False, True)] + [(True, False)] * 23, Outcome.SLOWER),  # 24 rounds, 23 to 1: 25/2²⁴
        ([(False, False)] + [(True, False)] * 12, Outcome.UNDECIDED),  # 2⁻¹² is more than 1e-4
        ([(True, False)] + [(False, True)] * 3, Outcome.NO_SLOWER),
        ([], Outcome.NO_SLOWER),
    ],
)
def test_settling(seen: list[tuple[bool, bool]], outcome: Outcome) -> None:
    found = compare_settling(seen, tail=1e-4)
    assert found.outcome is outcome
    assert found.verdict.held is (outcome is not Outcome.SLOWER)
