"""Repeats of a scheme to its row: medians of what is valid, tails of everything, idle shares."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from topologies.errors import SpecError
from topologies.units import GBIT, MBIT
from traffic.busbw import Collective
from traffic.engines.rc_settings import Congestion, RcSettings, check_settings, dilation
from traffic.scheme_rows import Job, Repeat, Row, cells, columns, document, without_proof

JOB = Job(Collective.ALL_TO_ALL, size=8_000_000, ranks=8, ideal_s=0.5, compute_s=0.5)


def repeat(number: int, took_s: float | None = 1.0, **more: object) -> Repeat:
    made = Repeat(number, 7, took_s, (0.1, 0.2), ce=number, pauses=0, reorder=10 * number, retransmits=0)
    return replace(made, **more)  # type: ignore[arg-type]


def row(*repeats: Repeat) -> Row:
    return Row("spray", "none", "sr", JOB, repeats)


def test_a_row_is_the_median_of_its_valid_repeats() -> None:
    found = row(repeat(1, 1.0), repeat(2, 0.625), repeat(3, 9.0, invalid_because="late"), repeat(4, 2.0))
    assert (found.valid, found.took_s, found.invalid_because) == (3, 1.0, None)
    assert found.bus_bw == pytest.approx(8_000_000 * 7 / 8 / 1e9)
    assert found.ratio == 0.5
    assert found.ratios == (0.5, 0.8, 0.25)
    assert (found.ce, found.reorder, found.retransmits) == (2, 20, 0)


def test_completions_of_all_valid_repeats_count_together() -> None:
    one = repeat(1, completions_s=tuple([0.1] * 99))
    assert row(one).p99_s == 0.1
    assert row(one, repeat(2, completions_s=(5.0, 5.0))).p99_s == 5.0
    assert row(one, repeat(2, completions_s=(5.0, 5.0), invalid_because="late")).p99_s == 0.1
    assert row(one, repeat(2, completions_s=(5.0, 5.0))).p99s_s == (0.1, 5.0)


def test_without_a_valid_repeat_a_row_shows_what_there_is_and_proves_nothing() -> None:
    found = row(repeat(1, 1.0, invalid_because="late"), repeat(2, None, invalid_because="no acknowledgement"))
    assert (found.valid, found.took_s, found.ratio) == (0, 1.0, 0.5)
    assert found.invalid_because == "late; no acknowledgement"
    assert without_proof([row(repeat(1)), found]) == "spray none: no acknowledgement"
    assert without_proof([row(repeat(1))]) is None
    assert str(without_proof([found] * 5)).endswith("; and 2 more")
    assert cells(found)[-1] == "0/2"


def test_a_row_without_any_time_has_no_numbers() -> None:
    found = row(repeat(1, None, invalid_because="cut"))
    assert cells(found) == ("spray", "none", "sr", *[None] * 8, "0/1")
    assert document(found)["bus_bw"] is None
    assert row().invalid_because == "it was not played"


def test_cells_and_json_say_the_same() -> None:
    found = row(repeat(1), repeat(2))
    shown = dict(zip(columns(found.job), cells(found), strict=True))
    assert shown == {
        "lb": "spray", "cc": "none", "recovery": "sr", "busbw GB/s": "0.00700", "of ideal": "0.500", "p99 ms": "200.0",
        "idle": "66.7%", "CE": "2", "pauses": "0", "reorder": "15", "retransmits": "0", "valid": "2/2",
    }  # fmt: skip
    said = json.loads(json.dumps(document(found)))
    assert (said["p99_us"], said["reorder"], said["valid"]) == (200_000.0, 15, True)
    assert [one["seed"] for one in said["repeats"]] == [7, 7]


def test_idle_is_what_the_collective_does_not_hide() -> None:
    assert JOB.idle_share(0.5) == 0.5
    assert replace(JOB, overlap=1.0).idle_share(0.5) == 0
    assert replace(JOB, overlap=1.0).idle_share(1.0) == 0.5
    assert replace(JOB, compute_s=0.0).idle_share(1.0) == 1


@pytest.mark.parametrize("wrong", [{"ideal_s": 0.0}, {"compute_s": -1.0}, {"overlap": 1.5}])
def test_a_job_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SpecError):
        replace(JOB, **wrong)  # type: ignore[arg-type]


def test_dcqcn_is_as_slow_as_its_line() -> None:
    assert dilation(Congestion.MELLANOX, 100 * MBIT) == 1000
    assert dilation(Congestion.SIGCOMM15, 100 * MBIT) == 400
    assert dilation(Congestion.NS3, 400 * GBIT) == 1
    assert dilation(Congestion.NONE, 100 * MBIT) == 1


def test_how_many_overtake_before_a_packet_counts_as_lost_has_a_range() -> None:
    check_settings(RcSettings(reorder=256))
    with pytest.raises(SpecError, match="reorder 0"):
        check_settings(RcSettings(reorder=0))


def test_with_a_price_idling_has_a_cost() -> None:
    """Eight accelerators at 3 an hour, two thirds of a step of 1.5 s idle: 16 an hour."""
    priced = replace(JOB, price_per_hour=3.0)
    found = replace(row(repeat(1)), job=priced)
    assert dict(zip(columns(priced), cells(found), strict=True))["idle cost/h"] == "16.00"
    assert document(found)["idle_cost_per_hour"] == pytest.approx(16.0)
    assert document(row(repeat(1)))["idle_cost_per_hour"] is None
    assert "idle cost/h" not in columns(JOB)
