from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topologies.errors import SpecError
from topologies.units import GBIT, MIB
from traffic.bounds import (
    ideal_s,
    jain,
    percentiles,
    ring_all_reduce_s,
    slowdowns,
    wire_efficiency,
)
from traffic.busbw import Collective, bandwidth, busiest, parse_size, rounded, sizes
from traffic.busbw import ideal_s as least_s
from traffic.certificate import Conditions, Demands, why_invalid
from traffic.collectives import all_to_all, gather, ring_all_gather, ring_all_reduce, ring_reduce_scatter, zipf_matrix


@pytest.mark.parametrize(
    ("collective", "size", "count", "alg_bw", "bus_bw"),
    [
        # 1 GB in a second among 4, from the GetBw and GetCollByteCount of each src/*.cu.
        (Collective.ALL_REDUCE, 10**9, 250_000_000, 1.0, 1.5),
        (Collective.ALL_GATHER, 10**9, 62_500_000, 1.0, 0.75),
        (Collective.REDUCE_SCATTER, 10**9, 62_500_000, 1.0, 0.75),
        (Collective.ALL_TO_ALL, 10**9, 62_500_000, 1.0, 0.75),
        (Collective.ALL_TO_ALL_V, 10**9, 62_500_000, 1.0, 0.75),
        (Collective.GATHER, 10**9, 62_500_000, 1.0, 0.75),
        (Collective.SCATTER, 10**9, 62_500_000, 1.0, 0.75),
        (Collective.BROADCAST, 10**9, 250_000_000, 1.0, 1.0),
        (Collective.REDUCE, 10**9, 250_000_000, 1.0, 1.0),
        (Collective.SEND_RECV, 10**9, 250_000_000, 1.0, 1.0),
        (Collective.HYPERCUBE, 10**9, 62_500_000, 0.75, 0.75),
    ],
)
def test_bandwidths_are_nccl_tests(collective: Collective, size: int, count: int, alg_bw: float, bus_bw: float) -> None:
    asked = rounded(collective, size, ranks=4)
    assert (asked.size, asked.count) == (size, count)
    found = bandwidth(collective, 1.0, size=size, ranks=4)
    assert (found.alg_bw, found.bus_bw) == pytest.approx((alg_bw, bus_bw))


@pytest.mark.parametrize("collective", [each for each in Collective if each is not Collective.ALL_TO_ALL_V])
@pytest.mark.parametrize("ranks", [2, 5, 16])
def test_in_the_ideal_time_busbw_is_the_line(collective: Collective, ranks: int) -> None:
    took = least_s(collective, size=16 * ranks * 1000, ranks=ranks, rate_bps=GBIT)
    assert bandwidth(collective, took, size=16 * ranks * 1000, ranks=ranks).bus_bw * 8 == pytest.approx(1.0)


@pytest.mark.parametrize("ranks", [2, 4, 5])
def test_the_ideal_time_is_that_of_the_graphs_bytes(ranks: int) -> None:
    """The formula of a collective and the rows and columns of what an algorithm sends say the same."""
    size = 1600 * ranks
    for collective, graph in (
        (Collective.ALL_REDUCE, ring_all_reduce(ranks, size=size)),
        (Collective.ALL_GATHER, ring_all_gather(ranks, size=size)),
        (Collective.REDUCE_SCATTER, ring_reduce_scatter(ranks, size=size)),
        (Collective.ALL_TO_ALL, all_to_all(ranks, size=size)),
        (Collective.GATHER, gather(ranks, size=size)),
    ):
        assert ideal_s(graph.matrix, 1e6) == pytest.approx(least_s(collective, size=size, ranks=ranks, rate_bps=1e6))


def test_sizes_are_rounded_down_to_whole_shares_of_16_bytes() -> None:
    assert rounded(Collective.ALL_GATHER, 1000, ranks=3).size == 3 * 320
    assert rounded(Collective.ALL_GATHER, 1000, ranks=3).count == 80
    assert rounded(Collective.ALL_REDUCE, 1001, ranks=3).size == 1000
    assert rounded(Collective.ALL_TO_ALL, 40, ranks=3).size == 0
    assert rounded(Collective.ALL_TO_ALL, 1000, ranks=3, element=1).count == 320
    assert rounded(Collective.ALL_TO_ALL, 1000, ranks=3, element=8).count == 40
    for ranks, element in ((1, 4), (2, 0)):
        with pytest.raises(SpecError, match="2 ranks or more"):
            rounded(Collective.ALL_REDUCE, 8, ranks=ranks, element=element)
    with pytest.raises(SpecError, match=r"0\.0 s, 2 ranks"):
        bandwidth(Collective.ALL_REDUCE, 0.0, size=8, ranks=2)
    with pytest.raises(SpecError, match="nan s"):
        bandwidth(Collective.ALL_REDUCE, math.nan, size=8, ranks=2)


def test_sizes_go_by_factor_or_by_step() -> None:
    assert list(sizes(8, 128, factor=2)) == [8, 16, 32, 64, 128]
    assert list(sizes(8, 100, factor=3)) == [8, 24, 72]
    assert list(sizes(MIB, 3 * MIB)) == [MIB, 2 * MIB, 3 * MIB]
    for least, most, factor, step in ((0, 8, 2, 1), (9, 8, 2, 1), (8, 9, 0, 1), (8, 9, 1, 0)):
        with pytest.raises(SpecError, match="allowed: 1 <= least <= most"):
            list(sizes(least, most, factor=factor, step=step))


@pytest.mark.parametrize(("text", "size"), [("8", 8), ("32M", 32 << 20), ("1.5g", 3 << 29), ("2k", 2048), ("0", 0)])
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "8T", "-1", "8MB", "x", "nan", "inf", "1e99"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="allowed: a number, and K, M or G"):
        parse_size(text)


def test_skew_slows_by_its_largest_column() -> None:
    """Zipf 1 of 8 ranks: the busy rank keeps its own share, so 7/8 of 2.94 times the mean column comes to it."""
    matrix = zipf_matrix(8, size=800_000, alpha=1.0)
    even = ideal_s(zipf_matrix(8, size=800_000, alpha=0.0), 1e6)
    assert ideal_s(matrix, 1e6) / even == pytest.approx(2.94, abs=0.01)
    assert busiest(matrix) == sum(row[0] for row in matrix)
    assert busiest([[0, 9], [1, 0]]) == 9
    assert busiest([[0, 9, 9], [1, 0, 0], [1, 0, 0]]) == 18


def test_the_ideal_time_leaves_out_what_stays() -> None:
    assert ideal_s([[99, 5], [3, 99]], 8.0) == 5.0
    with pytest.raises(SpecError, match="rate_bps 0"):
        ideal_s([[0, 5], [3, 0]], 0)
    with pytest.raises(SpecError, match="rate_bps 0"):
        least_s(Collective.REDUCE, size=8, ranks=2, rate_bps=0)


def test_wire_efficiency_is_the_published_one() -> None:
    published = {256: 75.7, 512: 86.2, 1024: 92.6, 2048: 96.2, 4096: 98.0}
    assert {mtu: round(100 * wire_efficiency(mtu), 1) for mtu in published} == published
    # 16 MB of 8 ranks at 100 Mb/s and an MTU of 1024: 2.419 s.
    took = ring_all_reduce_s(8, size=16_000_000, rate_bps=1e8, efficiency=wire_efficiency(1024))
    assert took == pytest.approx(2.419, abs=0.001)
    with pytest.raises(SpecError, match=r"efficiency 1\.5; allowed: more than 0, at most 1"):
        ring_all_reduce_s(8, size=8, rate_bps=1e8, efficiency=1.5)


def test_percentiles_are_values_that_were_seen() -> None:
    found = percentiles([float(value) for value in range(100, 0, -1)])
    assert (found.p50, found.p95, found.p99, found.largest) == (50, 95, 99, 100)
    assert percentiles([7.0]).p99 == 7.0
    assert percentiles([1.0, 2.0]).p50 == 1.0
    assert percentiles([3.0, 1.0, 2.0]).p50 == 2.0
    assert slowdowns([2.0, 3.0], [1.0, 2.0]) == (2.0, 1.5)
    for wrong in (lambda: percentiles([]), lambda: slowdowns([1.0], [0.0])):
        with pytest.raises(SpecError, match="allowed"):
            wrong()


@given(st.lists(st.floats(0, 1e9), min_size=1).filter(lambda rates: max(rates) > 1e-3), st.floats(1e-3, 1e3))
def test_jain_is_between_one_nth_and_one_and_knows_no_unit(rates: list[float], scale: float) -> None:
    assert 1 / len(rates) - 1e-9 <= jain(rates) <= 1 + 1e-9
    assert jain([rate * scale for rate in rates]) == pytest.approx(jain(rates))


def test_jain() -> None:
    assert jain([3.0, 3.0, 3.0]) == pytest.approx(1.0)
    assert jain([5.0, 0.0, 0.0, 0.0]) == pytest.approx(0.25)
    assert jain([1.0, 2.0]) == pytest.approx(0.9)
    for rates in ([], [0.0, 0.0], [1.0, -1.0]):
        with pytest.raises(SpecError, match="none below 0, one above"):
            jain(rates)


def test_a_run_says_why_it_proves_nothing() -> None:
    good = Conditions(late_share=0.01, rate_error=-0.005, cpu_headroom=0.3, lost_packets=0)
    assert why_invalid(good) is None
    assert why_invalid(replace(good, rate_error=None)) is None, "too short for a mean"
    off = why_invalid(good, Demands(rate_error=0.004))
    assert off == "pacing: a mean rate was off by -0.50%, allowed ±0.4%"
    assert why_invalid(replace(good, lost_packets=4, lossless=False)) is None
    assert why_invalid(Conditions(late_share=0.03, rate_error=0.006, cpu_headroom=0.05, lost_packets=4)) == (
        "pacing: 3.0% of a sender's packets left late, allowed 1.0%; pacing: a mean rate was off by +0.60%, "
        "allowed ±0.5%; the CPU had 5.0% left, needed 10.0%; 4 packets were lost where none may be"
    )
    assert why_invalid(replace(good, late_share=math.nan)) is not None
    assert why_invalid(replace(good, rate_error=math.nan)) is not None
    assert why_invalid(replace(good, cpu_headroom=math.nan)) is not None
    assert why_invalid(Conditions()) == (
        "pacing was not measured; the CPU headroom was not measured; loss was not measured"
    )
