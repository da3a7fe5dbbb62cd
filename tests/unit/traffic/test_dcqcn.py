"""DCQCN's steady state: published values of the fluid model, what dilation keeps, the set as the C program has it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from topologies.errors import SpecError
from topologies.units import GBIT, MBIT, MICROSECOND
from traffic.dcqcn import SIGCOMM15, ReactionPoint, fluid_mark_probability, mark_probability, queue_bytes

RNIC = Path(__file__).resolve().parents[3] / "traffic" / "rnic"


@pytest.mark.parametrize(
    ("capacity", "flows", "published"),
    [(40 * GBIT, 2, 7.8e-4), (40 * GBIT, 10, 6.0e-3), (100 * GBIT, 8, 1.4e-3)],
)
def test_the_fluid_model_as_published(capacity: int, flows: int, published: float) -> None:
    found = fluid_mark_probability(SIGCOMM15, capacity_bps=capacity, flows=flows, packet_bytes=1000)
    assert found == pytest.approx(published, rel=0.03)


@pytest.mark.parametrize(("flows", "published"), [(2, 3.1e-3), (4, 4.7e-3), (8, 7.5e-3)])
def test_the_fluid_model_counts_bytes_too(flows: int, published: float) -> None:
    """100 Mbit/s, R_AI 0.1 Mbit/s, T 22 ms, tau 20 ms, and a byte counter that is as fast as the timer: 25 kB."""
    point = replace(SIGCOMM15.dilated(400), rate_bytes=25_000)
    found = fluid_mark_probability(point, capacity_bps=100 * MBIT, flows=flows, packet_bytes=1000)
    assert found == pytest.approx(published, rel=0.02)


@pytest.mark.parametrize("flows", [2, 4, 8])
@pytest.mark.parametrize("model", [mark_probability, fluid_mark_probability])
def test_dilation_changes_no_share(model: object, flows: int) -> None:
    def found(dilation: float) -> float:
        point = SIGCOMM15.dilated(dilation)
        capacity = 10 * GBIT / dilation
        return float(model(point, capacity_bps=capacity, flows=flows, packet_bytes=4178))  # type: ignore[operator]

    assert found(50) == pytest.approx(found(1), rel=1e-6)


def test_more_flows_need_more_marks_and_a_longer_queue() -> None:
    point = SIGCOMM15.dilated(50)
    shares = [mark_probability(point, capacity_bps=200 * MBIT, flows=n, packet_bytes=4178) for n in (2, 4, 8)]
    assert shares == sorted(shares)
    # traffic/rnic/tests/test_dcqcn.c plays rnic's own reaction point with these: it gets 1/N of 200 Mbit/s.
    assert shares == pytest.approx([0.0242, 0.0574, 0.132], rel=0.01)
    queues = [queue_bytes(p, min_bytes=102_400, max_bytes=1_126_400, probability=0.2) for p in shares]
    assert queues == sorted(queues)
    assert 102_400 < queues[0] < queues[2] < 1_126_400


def test_the_set_is_the_one_of_the_program() -> None:
    text = (RNIC / "dcqcn.h").read_text()
    fields = re.search(r'\{ \.name = "dcqcn-sigcomm15",(.*?)\}', text, re.DOTALL)
    assert fields
    said = dict(re.findall(r"\.(\w+) = ([\d./ ]+)", fields[1]))
    fraction = [float(part) for part in said["g"].split("/")]
    assert ReactionPoint() == ReactionPoint(
        cnp_interval_s=int(said["cnp_interval_ns"]) / 1000 * MICROSECOND,
        alpha_timer_s=int(said["alpha_timer_ns"]) / 1000 * MICROSECOND,
        rate_timer_s=int(said["rate_timer_ns"]) / 1000 * MICROSECOND,
        rate_bytes=int(said["rate_bytes"]),
        g=fraction[0] / fraction[1],
        fast_steps=int(said["fast_steps"]),
        ai_bps=int(said["ai_bps"]),
    )


def test_what_the_models_do_not_say_is_refused() -> None:
    with pytest.raises(SpecError, match="2 F timers"):
        mark_probability(replace(SIGCOMM15, rate_bytes=25_000), capacity_bps=40 * GBIT, flows=2, packet_bytes=1000)
    with pytest.raises(SpecError, match="marked share"):
        queue_bytes(0.3, min_bytes=0, max_bytes=1, probability=0.2)
    with pytest.raises(SpecError, match="flows"):
        mark_probability(SIGCOMM15, capacity_bps=1e9, flows=0, packet_bytes=1000)
