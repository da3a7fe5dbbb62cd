from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from topologies.errors import SpecError
from traffic.collectives import bruck_all_to_all, doubling_all_reduce, ring_all_reduce, tree_all_reduce
from traffic.graph import Buffer, Graph, Send, checked
from traffic.playing import orders, play
from traffic.races import races

TWO = Graph("two", 2, (Send(0, 1, 8), Send(1, 0, 8, after=(0,), from_buffer=Buffer.OUTPUT)), 8, 8)


def with_send(**changes: object) -> Graph:
    return replace(TWO, sends=(TWO.sends[0], replace(TWO.sends[1], **changes)))  # type: ignore[arg-type]  # its fields


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        (with_send(dst=2), r"two, send 1 \(1 to 2\): rank 2; allowed: 0 to 1"),
        (with_send(size=0), "0 bytes; allowed: 1 or more, or 0 within a rank"),
        (with_send(size=-4, dst=1), "-4 bytes"),
        (with_send(compute_s=-1.0), "computes for -1.0 s; allowed: 0 or more"),
        (with_send(after=(1,)), "waits for send 1; allowed: 0 to 0"),
        (with_send(after=(-1,)), "waits for send -1"),
        (with_send(from_offset=4), "8 bytes from 4 of output; allowed: inside its 8 bytes"),
        (with_send(to_offset=-4), "8 bytes to -4 of output"),
        (with_send(from_buffer=Buffer.SCRATCH), "8 bytes from 0 of scratch; allowed: inside its 0 bytes"),
        (with_send(size=6, reduce=True), "adds 6 bytes from 0; allowed: multiples of the element's 4 bytes"),
        (replace(TWO, hosts=("a",)), "1 hosts of 2 ranks"),
        (
            Graph("g", 3, (Send(0, 1, 4), Send(2, 0, 4, after=(0,))), 4, 4),
            "waits for send 0, which rank 2 does not see; allowed: one it sends or receives",
        ),
    ],
)
def test_a_graph_that_cannot_be_played_is_refused(graph: Graph, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        checked(graph)


def test_a_graph_that_can_be_played_passes() -> None:
    assert checked(TWO) is TWO
    assert checked(with_send(dst=1, size=0, compute_s=1.0)).matrix.tolist() == [[0, 8], [0, 0]]


def test_input_and_output_of_one_memory_are_as_large_as_the_larger() -> None:
    graph = replace(TWO, input_bytes=4, in_place=True)
    assert (graph.room(Buffer.INPUT), graph.room(Buffer.OUTPUT), graph.room(Buffer.SCRATCH)) == (8, 8, 0)
    assert TWO.room(Buffer.INPUT) == 8


def test_sends_in_no_order_that_meet_are_races() -> None:
    overwritten = Graph("g", 3, (Send(0, 2, 8), Send(1, 2, 8, to_offset=4)), 8, 16)
    assert [str(race) for race in races(overwritten)] == ["sends 0 and 1 meet at rank 2, output 4-8"]
    read_and_written = Graph("g", 2, (Send(0, 1, 8), Send(1, 0, 8)), 8, 8, in_place=True)
    assert [race.rank for race in races(read_and_written)] == [0, 1]
    added = replace(overwritten, sends=tuple(replace(send, reduce=True) for send in overwritten))
    assert races(added) == ()
    assert races(replace(overwritten, sends=(overwritten.sends[0], replace(added.sends[1])))) != ()
    assert races(TWO) == ()
    assert races(replace(read_and_written, in_place=False)) == ()


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("make", [ring_all_reduce, tree_all_reduce, doubling_all_reduce, bruck_all_to_all])
def test_every_wait_of_a_collective_is_needed(make: object, in_place: bool) -> None:
    """Take one wait out of a graph: sends meet. What the race finder calls clean is clean for a reason."""
    graph = make(4, size=32, in_place=in_place)  # type: ignore[operator]  # each makes a graph
    noticed = needed = 0
    for place, send in enumerate(graph.sends):
        for earlier in send.after:
            less = replace(send, after=tuple(wait for wait in send.after if wait != earlier))
            sends = (*graph.sends[:place], less, *graph.sends[place + 1 :])
            needed += 1
            noticed += bool(races(replace(graph, sends=sends)))
    # Of several waits one may follow from another; these two wait for nothing twice.
    assert noticed == needed if make in {ring_all_reduce, tree_all_reduce} and in_place else noticed > 0


def test_a_wait_too_few_gives_wrong_sums_in_some_order() -> None:
    graph = ring_all_reduce(3, size=12, in_place=True)
    inputs = [np.full(12, rank + 1, np.uint8) for rank in range(3)]
    free = replace(graph, sends=tuple(replace(send, after=()) for send in graph))
    wanted = bytes([6]) * 12
    assert all(output.tobytes() == wanted for output in play(graph, inputs))
    wrong = [seed for seed in range(20) if any(out.tobytes() != wanted for out in play(free, inputs, seed=seed))]
    assert wrong
    assert all(out.tobytes() == wanted for seed in range(20) for out in play(graph, inputs, seed=seed))


def test_a_send_too_few_gives_wrong_sums() -> None:
    graph = ring_all_reduce(4, size=16)
    inputs = [np.full(16, 1 << rank, np.uint8) for rank in range(4)]
    lost = random.Random(1).sample(range(len(graph.sends)), 8)
    for place in lost:
        sends = tuple(
            replace(send, size=0, dst=send.src, reduce=False) if at == place else send
            for at, send in enumerate(graph.sends)
        )
        outputs = play(replace(graph, sends=sends), inputs)
        assert any(output.tobytes() != bytes([15]) * 16 for output in outputs)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Any graph of three ranks and small buffers: most have races."""
    sends: list[Send] = []
    offsets = st.integers(0, 2).map(lambda element: 2 * element)
    for place in range(draw(st.integers(1, 7))):
        src, dst = draw(st.integers(0, 2)), draw(st.integers(0, 2))
        seen = [at for at in range(place) if src in {sends[at].src, sends[at].dst}]
        after = tuple(at for at in seen if draw(st.booleans()))
        buffers = draw(st.sampled_from(list(Buffer))), draw(st.sampled_from(list(Buffer)))
        places = buffers[0], draw(offsets), buffers[1], draw(offsets)
        sends.append(Send(src, dst, draw(st.sampled_from([2, 4])), after, *places, reduce=draw(st.booleans())))
    return checked(Graph("any", 3, tuple(sends), 8, 8, 8, draw(st.booleans()), 2))


@settings(max_examples=60, deadline=None)
@given(graphs(), st.integers(0, 1 << 30))
def test_without_races_every_order_ends_alike(graph: Graph, seed: int) -> None:
    assume(not races(graph))
    inputs = [np.arange(rank * 8, rank * 8 + 8, dtype=np.uint8) for rank in range(3)]
    first, *others = orders(graph, inputs, seeds=range(seed, seed + 4))
    for other in others:
        assert [output.tobytes() for output in other] == [output.tobytes() for output in first]


def test_inputs_that_are_not_the_graphs_are_refused() -> None:
    with pytest.raises(SpecError, match=r"inputs of \[8\] bytes; allowed: 2, each of at most 8 bytes"):
        play(TWO, [np.zeros(8, np.uint8)])
    with pytest.raises(SpecError, match=r"inputs of \[8, 9\] bytes"):
        play(TWO, [np.zeros(8, np.uint8), np.zeros(9, np.uint8)])
    with pytest.raises(SpecError, match="elements of 3 bytes; allowed: 1, 2, 4, 8"):
        play(replace(TWO, element_bytes=3), [np.zeros(8, np.uint8)] * 2)
