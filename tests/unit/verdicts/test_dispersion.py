"""The law of χ²: exact where it says so, an upper bound everywhere."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator

import pytest

from labs.verdicts.dispersion import (
    LOWER_TAIL_PATHS,
    ExactDispersion,
    TextbookDispersion,
    chi_square,
    dispersion,
    probability_of_even_split,
)


def outcomes(flows: int, paths: int) -> Iterator[tuple[int, ...]]:
    """Every way to put flows on paths."""
    if paths == 1:
        yield (flows,)
        return
    for first in range(flows + 1):
        for rest in outcomes(flows - first, paths - 1):
            yield (first, *rest)


@pytest.mark.parametrize(("flows", "paths"), [(2, 2), (11, 2), (12, 4), (7, 5), (4, 6)])
def test_exact_law_equals_enumeration(flows: int, paths: int) -> None:
    enumerated: dict[float, float] = defaultdict(float)
    for counts in outcomes(flows, paths):
        chance = math.factorial(flows) / math.prod(map(math.factorial, counts)) / paths**flows
        enumerated[round(chi_square(counts), 9)] += chance
    law = dispersion(flows, paths)
    assert isinstance(law, ExactDispersion)
    for chi2 in enumerated:
        assert law.at_least(chi2) == pytest.approx(sum(p for x, p in enumerated.items() if x >= chi2), rel=1e-6)
        assert law.at_most(chi2) == pytest.approx(sum(p for x, p in enumerated.items() if x <= chi2), rel=1e-6)


@pytest.mark.parametrize(("flows", "paths"), [(12, 4), (64, 8), (10, 3), (64, 64)])
def test_even_split_is_the_least_value_of_the_law(flows: int, paths: int) -> None:
    each, over = divmod(flows, paths)
    evenest = chi_square((each + 1,) * over + (each,) * (paths - over))
    assert dispersion(flows, paths).at_most(evenest) == pytest.approx(probability_of_even_split(flows, paths), rel=1e-6)


def test_allowed_values_are_those_whose_tails_stay_above_the_bounds() -> None:
    law = dispersion(64, 4)
    least, most = law.allowed(1e-3, 0.01)
    step = 2 * 4 / 64  # Σc² moves in twos
    assert law.at_least(most) > 1e-3 >= law.at_least(most + step)
    assert law.at_most(least) > 0.01 >= law.at_most(least - step)


def test_many_flows_fall_back_to_the_textbook_law() -> None:
    assert isinstance(dispersion(100_000, 16), TextbookDispersion)


@pytest.mark.parametrize(("flows", "paths"), [(285, 2), (590, 6), (735, 8), (1170, 16), (1500, 24)])
def test_textbook_bound_is_above_the_exact_tails(flows: int, paths: int) -> None:
    """Just below the switch-over, where the exact law can still be had and the textbook one is worse than beyond."""
    exact, textbook = dispersion(flows, paths), TextbookDispersion(paths)
    if not isinstance(exact, ExactDispersion):
        pytest.fail(f"{flows} flows over {paths} paths are past the switch-over: nothing to compare with")
    for chi2 in exact.chi2[exact.probability > 1e-14][::7]:
        if 1e-7 < exact.at_least(float(chi2)) < 1e-2:
            assert textbook.at_least(float(chi2)) >= exact.at_least(float(chi2))
        if paths >= 2 * LOWER_TAIL_PATHS and 1e-7 < exact.at_most(float(chi2)) < 1e-2:
            assert textbook.at_most(float(chi2)) >= exact.at_most(float(chi2))


def test_textbook_law_offers_no_lower_tail_for_few_paths() -> None:
    few = TextbookDispersion(LOWER_TAIL_PATHS - 1)
    assert few.at_most(0.0) == 1.0
    assert few.allowed(1e-5, 1e-5)[0] == 0.0
    assert TextbookDispersion(LOWER_TAIL_PATHS).at_most(0.01) < 1e-6
