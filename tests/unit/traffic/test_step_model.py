from __future__ import annotations

import pytest

from topologies.errors import SpecError
from topologies.units import MBIT
from traffic.bounds import ideal_s, ring_all_reduce_s
from traffic.collectives import all_to_all, fsdp_step, incast, pipeline, ring_all_reduce, send_recv
from traffic.graph import Graph, Send
from traffic.step_model import Phase, StepTime, makespan, step_time


def test_overlap_hides_no_more_than_there_is_to_hide_it() -> None:
    assert Phase("none", 3.0, 2.0).takes_s == 5.0
    assert Phase("half", 3.0, 2.0, overlap=0.5).takes_s == 4.0
    assert Phase("all", 3.0, 2.0, overlap=1.0).takes_s == 3.0
    assert Phase("more than computing", 1.0, 4.0, overlap=0.5).takes_s == 4.0


def test_a_step_idles_and_that_costs() -> None:
    """6 s of computing in 8 s: a quarter idle; 16 accelerators at 2.50 an hour idle for 4 x 2.50 an hour."""
    step = step_time([Phase("forward", 2.0, 1.0), Phase("backward", 4.0, 2.0, overlap=0.5)])
    assert step == StepTime(8.0, 6.0)
    assert step.idle_share == 0.25
    assert step.idle_cost(accelerators=16, price_per_hour=2.5, hours=1.0) == 10.0
    assert step.idle_cost(accelerators=16, price_per_hour=2.5, hours=24.0) == 240.0
    assert step.idle_cost(accelerators=16, price_per_hour=2.5) == pytest.approx(10.0 * 8 / 3600)
    assert step_time([]).idle_share == 0.0
    assert step_time([Phase("alone", 1.0)]).idle_cost(accelerators=8, price_per_hour=9.0) == 0.0


@pytest.mark.parametrize(
    "phase", [Phase("p", -1.0), Phase("p", 1.0, -1.0), Phase("p", 1.0, 1.0, 1.5), Phase("p", 1.0, 1.0, -0.5)]
)
def test_impossible_phases_are_refused(phase: Phase) -> None:
    with pytest.raises(SpecError, match="phase p"):
        step_time([phase])
    with pytest.raises(SpecError, match="nothing below 0"):
        StepTime(1.0, 1.0).idle_cost(accelerators=1, price_per_hour=-1.0)


@pytest.mark.parametrize("ranks", [2, 3, 4, 8, 16])
def test_a_ring_takes_what_the_formula_says(ranks: int) -> None:
    """F3, and its published values: 16 MB at 100 Mb/s take 1.28, 1.92, 2.24, 2.40 s for 2, 4, 8, 16 ranks."""
    rate = 100 * MBIT
    # 3 does not divide 16 MB: there the formula's S/n is some bytes off the largest share.
    for latency_s in (0.0, 0.001):
        graph = ring_all_reduce(ranks, size=16_000_000)
        played = makespan(graph, lambda send: send.size * 8 / rate, latency_s=latency_s)
        formula = ring_all_reduce_s(ranks, size=16_000_000, rate_bps=rate, latency_s=latency_s)
        assert played.makespan_s == pytest.approx(formula, abs=2 * ranks * 4 * 8 / rate)
    published = {2: 1.28, 4: 1.92, 8: 2.24, 16: 2.40}
    if ranks in published:
        assert ring_all_reduce_s(ranks, size=16_000_000, rate_bps=rate) == pytest.approx(published[ranks])


def test_what_meets_no_other_takes_its_ideal_time_and_the_rest_no_less() -> None:
    for graph in (incast(5, size=1000), send_recv(4, size=1000), all_to_all(4, size=1600), all_to_all(7, size=2800)):
        ideal = ideal_s(graph.matrix, 8000.0)
        assert makespan(graph, lambda send: send.size / 1000).makespan_s == pytest.approx(ideal)
    tangled = all_to_all(6, size=2400, in_flight=None)
    assert makespan(tangled, lambda send: send.size / 1000).makespan_s >= ideal_s(tangled.matrix, 8000.0)


def test_a_slow_rank_holds_the_ring_up() -> None:
    graph = ring_all_reduce(4, size=16)
    alike = makespan(graph, lambda _: 1.0).makespan_s
    assert makespan(graph, lambda send: 3.0 if send.src == 2 else 1.0).makespan_s > 2 * alike


@pytest.mark.parametrize(("stages", "microbatches"), [(2, 1), (2, 4), (4, 4), (4, 8), (3, 2)])
def test_a_pipelines_bubble(stages: int, microbatches: int) -> None:
    """Where sending takes no time, 1F1B lasts (m + p - 1)(f + b): every rank waits for (p - 1)/(m + p - 1) of it."""
    graph = pipeline(stages, microbatches=microbatches, size=4, forward_s=1.0, backward_s=2.0)
    played = makespan(graph, lambda _: 0.0)
    assert played.makespan_s == pytest.approx((microbatches + stages - 1) * 3.0)
    assert played.step.idle_share == pytest.approx((stages - 1) / (microbatches + stages - 1))


def test_gathering_ahead_hides_itself() -> None:
    """A gather of 2 of 3 ranks' shares takes 2 s, a pass 4: with a layer ahead only the first gather is waited for."""
    layers = (12, 12, 12)
    times = []
    for prefetch in (0, 1):
        graph = fsdp_step(3, layers=layers, forward_s=4.0, backward_s=4.0, prefetch=prefetch)
        times.append(makespan(graph, lambda send: send.size / 4).makespan_s)
    # In turn: six passes, each after its gather; a layer's sums go while the next one is gathered, and share its wire.
    # Ahead: the first gather, six passes, the last sums.
    assert times[1] == pytest.approx(2 + 6 * 4 + 2)
    assert times[0] >= 6 * (2 + 4)


def test_one_thing_at_a_time() -> None:
    computing = Graph("g", 2, (Send(0, 1, 4, compute_s=2.0), Send(0, 1, 4, compute_s=3.0)), 4, 4)
    played = makespan(computing, lambda _: 4.0)
    assert played.begins_s == (2.0, 6.0)
    assert played.ends_s == (6.0, 10.0)
    assert played.computes_s == (5.0, 0.0)
    assert makespan(computing, lambda _: 4.0, latency_s=1.0).ends_s == (7.0, 11.0)


def test_negative_times_are_refused() -> None:
    graph = ring_all_reduce(2, size=8)
    with pytest.raises(SpecError, match=r"takes -1\.0 s; allowed: 0 or more"):
        makespan(graph, lambda _: -1.0)
    with pytest.raises(SpecError, match=r"latency -1\.0 s"):
        makespan(graph, lambda _: 1.0, latency_s=-1.0)
