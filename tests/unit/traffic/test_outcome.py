"""What a graph's outputs must be, followed symbolically: by the collective's definition, and as played on memory."""

from __future__ import annotations

import numpy as np
import pytest

from traffic.collectives import (
    all_to_all,
    broadcast_chain,
    double_tree_all_reduce,
    gather,
    halving_doubling_all_reduce,
    halving_reduce_scatter,
    ring_all_gather,
    ring_all_reduce,
    ring_reduce_scatter,
    send_recv,
)
from traffic.graph import Buffer, Graph, Send, checked
from traffic.outcome import Check, checks
from traffic.playing import play

SIZE = 8 * 4 * 25


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("make", [ring_all_reduce, double_tree_all_reduce, halving_doubling_all_reduce])
def test_an_all_reduce_is_the_sum_of_all_everywhere(make: object, in_place: bool) -> None:
    graph = make(8, size=SIZE, in_place=in_place)  # type: ignore[operator]
    assert checks(graph) == tuple(Check(rank, 0, SIZE, 0, 7, 0) for rank in range(8))


def test_every_share_of_the_others_is_looked_for_where_it_belongs() -> None:
    share = SIZE // 8
    assert checks(all_to_all(8, size=SIZE)) == tuple(
        Check(rank, other * share, share, other, other, rank * share) for rank in range(8) for other in range(8)
    )
    assert checks(ring_all_gather(4, size=400)) == tuple(
        Check(rank, other * 100, 100, other, other, 0) for rank in range(4) for other in range(4)
    )
    assert checks(gather(3, size=300, root=1)) == tuple(
        Check(1, other * 100, 100, other, other, 0) for other in range(3)
    )
    assert checks(broadcast_chain(3, size=300, root=2, chunks=3)) == tuple(Check(n, 0, 300, 2, 2, 0) for n in range(3))
    assert checks(send_recv(3, size=300)) == tuple(
        Check(rank, 0, 300, (rank - 1) % 3, (rank - 1) % 3, 0) for rank in range(3)
    )


@pytest.mark.parametrize("make", [ring_reduce_scatter, halving_reduce_scatter])
def test_a_reduce_scatter_sums_the_ranks_own_share(make: object) -> None:
    share = SIZE // 8
    found = checks(make(8, size=SIZE))  # type: ignore[operator]
    assert found == tuple(Check(rank, 0, share, 0, 7, rank * share) for rank in range(8))
    inside = checks(make(8, size=SIZE, in_place=True))  # type: ignore[operator]
    assert {Check(rank, rank * share, share, 0, 7, rank * share) for rank in range(8)} <= set(inside)


def test_what_is_played_on_memory_is_what_the_checks_say() -> None:
    graph = ring_all_reduce(5, size=4 * 33)
    inputs = [np.arange(33, dtype=np.uint32) * (rank + 1) for rank in range(5)]
    outputs = play(graph, [one.view(np.uint8) for one in inputs])
    for one in checks(graph):
        at, words = one.from_offset // 4, one.size // 4
        wanted = sum(inputs[rank][at : at + words] for rank in range(one.first, one.last + 1))
        got = outputs[one.rank].view(np.uint32)[one.offset // 4 : one.offset // 4 + words]
        assert np.array_equal(got, wanted)


def test_a_send_too_few_is_another_sum() -> None:
    graph = ring_all_reduce(3, size=300)
    last = max(place for place, send in enumerate(graph.sends) if send.reduce)
    short = Graph(graph.name, 3, graph.sends[:last], graph.input_bytes, graph.output_bytes, graph.scratch_bytes)
    assert checks(short) != checks(graph)


def test_every_other_rank_is_a_sum_too() -> None:
    sends = (Send(0, 1, 8), Send(2, 1, 8, reduce=True), Send(4, 1, 8, reduce=True))
    assert checks(checked(Graph("g", 5, sends, 8, 8))) == (Check(1, 0, 8, 0, 4, 0, 2),)


def test_what_is_no_sum_of_neighbors_or_not_known_is_left_out() -> None:
    from_scratch = Send(0, 1, 8, from_buffer=Buffer.SCRATCH)
    odd = (Send(0, 3, 8), Send(1, 3, 8, reduce=True), Send(4, 3, 8, reduce=True))
    askew = Send(0, 1, 6, from_offset=2)
    for sends in ((from_scratch,), odd, (askew,)):
        assert checks(checked(Graph("g", 5, sends, 8, 8, 8))) == ()
