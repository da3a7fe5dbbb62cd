from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from topologies.errors import SpecError
from traffic.collectives import all_to_all, incast, ring_all_reduce, send_recv
from traffic.composing import Part, split, then, together
from traffic.graph import Buffer, Graph, Send
from traffic.playing import Bytes, orders
from traffic.races import races
from traffic.step_model import makespan


@pytest.mark.parametrize(
    ("how", "groups"),
    [
        ("MOD 2", ((0, 2, 4, 6), (1, 3, 5, 7))),
        ("%2", ((0, 2, 4, 6), (1, 3, 5, 7))),
        ("DIV 4", ((0, 1, 2, 3), (4, 5, 6, 7))),
        ("/ 4", ((0, 1, 2, 3), (4, 5, 6, 7))),
        ("AND 0x3", ((0, 4), (1, 5), (2, 6), (3, 7))),
        ("& 0b11", ((0, 4), (1, 5), (2, 6), (3, 7))),
        ("or 0x3", ((0, 1, 2, 3), (4, 5, 6, 7))),
        ("|3", ((0, 1, 2, 3), (4, 5, 6, 7))),
        ("MOD 08", ((0,), (1,), (2,), (3,), (4,), (5,), (6,), (7,))),
    ],
)
def test_communicators_split_as_in_nccl_tests(how: str, groups: tuple[tuple[int, ...], ...]) -> None:
    assert split(8, how) == groups


@pytest.mark.parametrize("how", ["", "MOD", "XOR 2", "MOD -1", "MOD 0x", "2", "MOD 2 2", "MOD 0", "/0"])
def test_other_splits_are_refused(how: str) -> None:
    with pytest.raises(SpecError, match="allowed"):
        split(8, how)


def values(*numbers: int) -> Bytes:
    return np.array(numbers, np.uint32).view(np.uint8)


def test_communicators_run_at_once_on_their_own_ranks() -> None:
    graph = ring_all_reduce(2, size=8)
    whole = together("two rings", [Part(graph, ranks) for ranks in split(4, "MOD 2")], hosts="abcd")
    assert whole.ranks == 4
    assert whole.hosts == ("a", "b", "c", "d")
    assert whole.matrix.tolist() == [[0, 0, 8, 0], [0, 0, 0, 8], [8, 0, 0, 0], [0, 8, 0, 0]]
    assert whole.input_bytes == 8  # disjoint ranks: each has one graph's buffers
    assert races(whole) == ()
    inputs = [values(rank, 10 * rank) for rank in range(4)]
    for outputs in orders(whole, inputs, seeds=range(5)):
        assert [output.view(np.uint32).tolist() for output in outputs] == [[2, 20], [4, 40], [2, 20], [4, 40]]


@pytest.mark.parametrize("in_place", [False, True])
def test_what_shares_ranks_shares_no_memory(in_place: bool) -> None:
    reduced = ring_all_reduce(3, size=12, in_place=in_place)
    moved = all_to_all(3, size=12, in_place=in_place)
    whole = together("both", [Part(reduced, (0, 1, 2)), Part(moved, (3, 2, 1))])
    assert races(whole) == ()
    # Rank 0 has the ring alone, rank 3 the all-to-all alone, whose buffers begin where the others have room.
    inputs = [values(*range(n, n + 6)) for n in (0, 10, 20, 30)]
    for outputs in orders(whole, inputs, seeds=range(5)):
        found = [output.view(np.uint32).tolist() for output in outputs]
        assert [row[:3] for row in found[:3]] == [[30, 33, 36]] * 3
        assert [found[3][3:], found[2][3:], found[1][3:]] == [[33, 23, 13], [34, 24, 14], [35, 25, 15]]


def test_background_runs_beside() -> None:
    elephant = send_recv(2, size=4096)
    whole = together("with background", [Part(incast(4, size=64), (0, 1, 2, 3)), Part(elephant, (4, 5))])
    assert whole.matrix.sum() == 3 * 64 + 2 * 4096


def test_parts_that_do_not_fit_are_refused() -> None:
    graph = ring_all_reduce(2, size=8)
    for parts, said in (
        ([], "no graphs"),
        ([Part(graph, (0,))], r"of 2 ranks on \[0\]; allowed: as many ranks, each once"),
        ([Part(graph, (1, 1))], "each once"),
        ([Part(graph, (0, -1))], "allowed: ranks 0 to 0"),
        ([Part(graph, (0, 1)), Part(replace(graph, in_place=True), (0, 1))], "all in place or none"),
        ([Part(graph, (0, 1)), Part(replace(graph, element_bytes=2), (0, 1))], "elements of one size"),
    ):
        with pytest.raises(SpecError, match=said):
            together("wrong", parts)
    with pytest.raises(SpecError, match="allowed: ranks 0 to 0"):
        together("wrong", [Part(graph, (0, 1))], ranks=1)


def test_one_after_the_other_begins_when_a_rank_is_done() -> None:
    first, second = ring_all_reduce(3, size=12), all_to_all(3, size=12)
    whole = then("step", first, second, first, compute_s=(2.0, 3.0))
    assert races(whole) == ()
    assert whole.matrix.tolist() == (2 * first.matrix + second.matrix).tolist()
    alone = [makespan(graph, lambda send: send.size / 4).makespan_s for graph in (first, second, first)]
    played = makespan(whole, lambda send: send.size / 4)
    assert played.makespan_s == sum(alone) + 5.0
    assert played.computes_s == (5.0, 5.0, 5.0)
    inputs = [values(*range(n, n + 9)) for n in (0, 10, 20)]
    for outputs in orders(whole, inputs, seeds=range(5)):
        sums = [[30, 33, 36, *(n + 3 for n in (0, 10, 20)), 48, 51, 54]]
        assert [outputs[0].view(np.uint32).tolist()] == sums


def test_a_rank_that_is_not_done_passes_nothing_on() -> None:
    """Rank 1 still computes in the first graph while rank 0 has begun the second: what rank 0 sends it waits there."""
    first = Graph("computing", 3, (Send(1, 1, 0, compute_s=400.0),))
    second = ring_all_reduce(3, size=12)
    whole = then("step", first, second)
    played = makespan(whole, lambda send: float(send.size))
    begun = [
        played.begins_s[place]
        for place, send in enumerate(whole)
        if not send.is_local and send.src == 1 and place >= len(first.sends)
    ]
    assert min(begun) >= 400


def test_graphs_that_do_not_follow_are_refused() -> None:
    graph = ring_all_reduce(2, size=8)
    with pytest.raises(SpecError, match="2 compute times; allowed: 1: one between two graphs"):
        then("wrong", graph, graph, compute_s=(1.0, 2.0))
    with pytest.raises(SpecError, match=r"graphs of \[2, 3\] ranks"):
        then("wrong", graph, ring_all_reduce(3, size=12))
    assert then("alone", graph).sends == graph.sends
    assert then("alone", graph).room(Buffer.INPUT) == 8
