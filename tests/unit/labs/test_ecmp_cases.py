"""V4 and V6 by the hash engine's model."""

from __future__ import annotations

import pytest

from labs.ecmp_cases import v4_model, v6_model


def test_a_hundred_seeds_of_a_thousand_queue_pairs() -> None:
    """Published: 1.20 to 1.26 on average."""
    verdict = v4_model()
    assert verdict
    assert verdict.evidence.numbers["max_over_mean"] == pytest.approx(1.23, abs=0.03)


def test_four_flows_over_four_paths() -> None:
    verdict = v6_model()
    assert verdict
    assert verdict.evidence.numbers["used"] == pytest.approx(0.684, abs=0.03)
