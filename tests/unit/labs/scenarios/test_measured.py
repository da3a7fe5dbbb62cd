"""Numbers over repeats: which end of them is the bad one."""

from __future__ import annotations

from labs.scenarios.measured import OverRepeats, over_repeats
from labs.verdicts import Evidence, Verdict


def over(claim: str, key: str, *values: float | None) -> OverRepeats:
    seen = [(1, claim, claim, Verdict("so", True, Evidence("so", {key: one}))) for one in values]
    (found,) = over_repeats(seen)
    return found


def test_of_an_outage_the_longest_is_told() -> None:
    found = over("recovered", "longest_ms", *(float(n) for n in range(1, 21)))
    assert str(found) == (
        "recovered: longest outage p50 10 (6 to 15), p95 19 (17 to ?), max 20 ms in 20 runs: "
        "86% of all runs are not above that, with 95% confidence"
    )


def test_of_a_bandwidth_the_least_is_told() -> None:
    """What a percentile is from above is here one from below: of 20 the 2nd, which lies below the 4th."""
    found = over("busbw_reached", "busbw_mbit", *(float(n) for n in range(1, 21)))
    assert str(found) == (
        "busbw_reached: bus bandwidth p50 10 (6 to 15), p5 2 (? to 4), min 1 Mbit/s in 20 runs: "
        "86% of all runs are not below that, with 95% confidence"
    )
    said = found.as_dict()
    assert (said["p5"], said["p5_between"], said["min"]) == (2.0, [None, 4.0], 1.0)
    assert {"p95", "max", "max_covers"}.isdisjoint(said)


def test_traffic_that_never_ended_has_no_bandwidth() -> None:
    assert over("busbw_reached", "busbw_mbit", 20.0, None).as_dict()["min"] == 0.0
    assert over("recovered", "longest_ms", 20.0, None).as_dict()["max"] == {"endless": True}
