"""Balls in bins: the laws against closed forms, against drawing, and against the table of F1."""

from __future__ import annotations

import math

import numpy as np
import pytest

from labs.errors import SpecError
from labs.verdicts.chance import (
    allowed,
    at_least,
    at_most,
    binomial_allowed,
    binomial_tails,
    busiest_law,
    mean_of,
    sum_of,
    used_law,
)


@pytest.mark.parametrize(("flows", "members"), [(0, 3), (1, 1), (4, 4), (2, 8), (65, 2), (1000, 16)])
def test_laws_sum_to_one(flows: int, members: int) -> None:
    for law in (used_law(flows, members), busiest_law(flows, members)):
        assert math.isclose(law.sum(), 1, abs_tol=1e-9)
        assert law.min() >= 0


@pytest.mark.parametrize(
    ("flows", "members", "perfect", "used"),
    [(2, 2, 0.5, 0.75), (4, 4, 0.09375, 0.68359375), (8, 8, 0.0024, 0.657), (16, 8, 0.0, 0.882), (8, 4, 0.0, 0.90)],
)
def test_used_members_are_those_of_the_table(flows: int, members: int, perfect: float, used: float) -> None:
    """P(perfect) is m!/((m-n)! mⁿ), and the share used 1 - (1 - 1/m)ⁿ: closed forms, and F1's own numbers."""
    law = used_law(flows, members)
    closed = math.perm(members, flows) / members**flows if flows <= members else 0.0
    assert math.isclose(mean_of(law) / members, 1 - (1 - 1 / members) ** flows, abs_tol=1e-12)
    assert math.isclose(mean_of(law) / members, used, abs_tol=1e-3)
    assert math.isclose(float(law[flows]) if flows <= members else 0.0, closed, abs_tol=1e-12)
    assert math.isclose(closed, perfect, abs_tol=6e-5)


@pytest.mark.parametrize(
    ("flows", "members", "largest"),
    [(2, 2, 1.5), (4, 4, 2.13), (8, 8, 2.59), (16, 16, 3.08), (64, 8, 12.25), (128, 8, 21.9), (1000, 16, 76.8)],
)
def test_the_busiest_member_is_that_of_the_table(flows: int, members: int, largest: float) -> None:
    """F1's E[max], which was drawn: good to its last digit or so."""
    assert math.isclose(mean_of(busiest_law(flows, members)), largest, rel_tol=0.004)


def test_the_bounds_of_v4_are_quantiles() -> None:
    """One seed of 1000 flows on 16 paths within 1.08 to 1.53 in 99.9 %; the mean of a hundred within 1.20 to 1.26."""
    law = busiest_law(1000, 16)
    assert [round(bound / 62.5, 2) for bound in allowed(law, 5e-4)] == [1.09, 1.52]
    least, most = allowed(sum_of([law] * 100), 5e-6)
    assert 1.20 < least / 6250 < 1.205
    assert 1.255 < most / 6250 < 1.26


def test_laws_against_drawing() -> None:
    draws = np.random.default_rng(3).multinomial(20, [1 / 6] * 6, size=20_000)
    largest, used = draws.max(axis=1), (draws > 0).sum(axis=1)
    for value in range(4, 9):
        p = at_least(busiest_law(20, 6), value)
        assert abs(float((largest >= value).mean()) - p) < 5 * (p * (1 - p) / 20_000) ** 0.5 + 1e-9
    for value in range(4, 7):
        p = at_most(used_law(20, 6), value)
        assert abs(float((used <= value).mean()) - p) < 5 * (p * (1 - p) / 20_000) ** 0.5 + 1e-9


def test_binomial_bounds_leave_less_than_they_say() -> None:
    least, most = binomial_allowed(400, 0.09375, 1e-3)
    assert binomial_tails(least - 1, 400, 0.09375)[0] <= 1e-3 < binomial_tails(least, 400, 0.09375)[0]
    assert binomial_tails(most + 1, 400, 0.09375)[1] <= 1e-3 < binomial_tails(most, 400, 0.09375)[1]
    assert binomial_allowed(50, 0.0, 1e-3) == (0, 0)
    assert binomial_allowed(0, 0.5, 1e-3) == (0, 0)


@pytest.mark.parametrize(("flows", "members"), [(4, 0), (-1, 4), (20_001, 4)])
def test_what_is_no_draw_is_refused(flows: int, members: int) -> None:
    with pytest.raises(SpecError, match="1 member or more"):
        used_law(flows, members)
