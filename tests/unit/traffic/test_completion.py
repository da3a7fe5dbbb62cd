"""Completion times, slowdowns and fairness of hand-made messages."""

from __future__ import annotations

import pytest

from traffic.completion import Finished, completion


def test_equal_shares_are_fair_whatever_the_sizes() -> None:
    """1000 and 3000 bytes at half of 8 Mbit/s each: 2 and 6 ms, a slowdown of 2 for both."""
    found = completion([Finished(1000, 0.002, 8e6), Finished(3000, 0.006, 8e6)])
    assert found is not None
    assert (found.fct_s.p50, found.fct_s.largest) == (0.002, 0.006)
    assert [found.slowdown.p50, found.slowdown.p99] == pytest.approx([2, 2])
    assert found.jain == pytest.approx(1)


def test_one_that_is_held_back_is_seen() -> None:
    """Three at line rate and one at a tenth: Jain (3.1)^2 / (4 x 3.01)."""
    found = completion([Finished(1000, 0.001, 8e6)] * 3 + [Finished(1000, 0.010, 8e6)])
    assert found is not None
    assert [found.slowdown.p50, found.slowdown.largest] == pytest.approx([1, 10])
    assert found.jain == pytest.approx(3.1**2 / (4 * 3.01))
    assert found.document()["messages"] == 4


def test_nothing_that_took_time_says_nothing() -> None:
    assert completion([]) is None
    assert completion([Finished(4, 0.0, 8e6)]) is None
