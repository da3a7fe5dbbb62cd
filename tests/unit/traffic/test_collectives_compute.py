"""Every collective is played on memory, in the order it stands in and in a drawn one, and must compute what it says.

`races` proves the same for all orders; it is itself seen failing in test_graph.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traffic import collectives as c
from traffic.collectives.score import spans
from traffic.graph import Graph
from traffic.playing import Bytes, orders
from traffic.races import races

RANKS = (*range(2, 10), 16)
# Elements: many a rank, fewer than ranks, one: shares are uneven, or empty.
COUNTS: dict[str, Callable[[int], int]] = {
    "even": lambda n: 2 * n,
    "uneven": lambda n: 3 * n + 1,
    "few": lambda n: n - 1,
    "one": lambda _: 1,
}
Maker = Callable[..., Graph]


def drawn(sizes: Sequence[int], seed: int = 1) -> list[Bytes]:
    return [np.frombuffer(np.random.default_rng([seed, at]).bytes(size), np.uint8) for at, size in enumerate(sizes)]


def total(inputs: Sequence[Bytes]) -> Bytes:
    added = np.add.reduce([given.view(np.uint32) for given in inputs], dtype=np.uint32)
    return np.asarray(added, dtype=np.uint32).view(np.uint8)


def joined(parts: Sequence[Bytes]) -> Bytes:
    return np.concatenate([np.zeros(0, np.uint8), *parts])


def proves(graph: Graph, inputs: Sequence[Bytes], wanted: Sequence[tuple[int, Bytes]]) -> None:
    """`wanted`: for each rank, from which offset of its output which bytes stand there."""
    assert [str(race) for race in races(graph)][:3] == []
    for outputs in orders(graph, inputs, seeds=(1,)):
        for rank, (output, (offset, bytes_)) in enumerate(zip(outputs, wanted, strict=True)):
            assert output[offset : offset + len(bytes_)].tobytes() == bytes_.tobytes(), f"rank {rank}"


ALL_REDUCES: dict[str, Maker] = {
    "ring": c.ring_all_reduce,
    "two rings": partial(c.ring_all_reduce, rings=2),
    "halving-doubling": c.halving_doubling_all_reduce,
    "doubling": c.doubling_all_reduce,
    "tree": c.tree_all_reduce,
    "tree in chunks": partial(c.tree_all_reduce, chunks=3),
    "double tree": c.double_tree_all_reduce,
    "double tree in chunks": partial(c.double_tree_all_reduce, chunks=2),
}


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("make", ALL_REDUCES)
def test_an_all_reduce_sums_everywhere(make: str, count: str, in_place: bool) -> None:
    for ranks in RANKS:
        size = 4 * COUNTS[count](ranks)
        inputs = drawn([size] * ranks)
        graph = ALL_REDUCES[make](ranks, size=size, in_place=in_place)
        proves(graph, inputs, [(0, total(inputs))] * ranks)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize(("hosts", "per_host"), [(2, 2), (2, 4), (3, 2), (4, 3), (3, 1), (1, 4)])
def test_an_all_reduce_of_hosts_with_several_ranks_sums_everywhere(hosts: int, per_host: int, in_place: bool) -> None:
    ranks = hosts * per_host
    for elements in (2 * ranks, 2 * ranks + 1, 1):
        inputs = drawn([4 * elements] * ranks)
        wanted = [(0, total(inputs))] * ranks
        makers: list[Maker] = [c.hierarchical_all_reduce, *([c.rail_ring_all_reduce] if hosts % 2 == 0 else [])]
        for make in makers:
            proves(make(ranks, per_host=per_host, size=4 * elements, in_place=in_place), inputs, wanted)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("make", [c.ring_reduce_scatter, c.halving_reduce_scatter])
def test_a_reduce_scatter_leaves_each_rank_its_share_of_the_sum(make: Maker, count: str, in_place: bool) -> None:
    for ranks in RANKS if make is c.ring_reduce_scatter else (2, 4, 8, 16):
        size = 4 * COUNTS[count](ranks)
        inputs = drawn([size] * ranks)
        shares = spans(size, ranks, 4)
        wanted = [(s.offset if in_place else 0, total(inputs)[s.offset : s.end]) for s in shares]
        proves(make(ranks, size=size, in_place=in_place), inputs, wanted)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("make", [c.ring_all_gather, c.doubling_all_gather, c.hypercube_all_gather])
def test_an_all_gather_puts_shares_side_by_side(make: Maker, count: str, in_place: bool) -> None:
    for ranks in RANKS if make is not c.hypercube_all_gather else (2, 4, 8, 16):
        size = 4 * COUNTS[count](ranks)
        parts = drawn([share.size for share in spans(size, ranks, 4)])
        inputs = own_places(parts) if in_place else parts
        proves(make(ranks, size=size, in_place=in_place), inputs, [(0, joined(parts))] * ranks)


def own_places(parts: Sequence[Bytes]) -> list[Bytes]:
    """Each part behind as many zeros as stand before it."""
    return [joined([*(0 * part for part in parts[:at]), part]) for at, part in enumerate(parts)]


ALL_TO_ALLS: dict[str, Maker] = {
    "pairwise": c.all_to_all,
    "pairwise, all at once": partial(c.all_to_all, in_flight=None),
    "pairwise, three at once": partial(c.all_to_all, in_flight=3),
    "Bruck": c.bruck_all_to_all,
}


def transposed(inputs: Sequence[Bytes], ranks: int) -> list[tuple[int, Bytes]]:
    blocks = [np.split(given, ranks) for given in inputs]
    return [(0, joined([blocks[src][dst] for src in range(ranks)])) for dst in range(ranks)]


@pytest.mark.parametrize("make", ALL_TO_ALLS)
def test_an_all_to_all_transposes(make: str) -> None:
    for ranks in RANKS:
        size = 4 * 3 * ranks
        inputs = drawn([size] * ranks)
        proves(ALL_TO_ALLS[make](ranks, size=size), inputs, transposed(inputs, ranks))


def test_an_all_to_all_transposes_in_place() -> None:
    for ranks in RANKS:
        inputs = drawn([8 * ranks] * ranks)
        for in_flight in (1, None):
            graph = c.all_to_all(ranks, size=8 * ranks, in_place=True, in_flight=in_flight)
            proves(graph, inputs, transposed(inputs, ranks))
        proves(c.all_to_all(8, size=64, xor=True), drawn([64] * 8), transposed(drawn([64] * 8), 8))


@pytest.mark.parametrize(("hosts", "per_host"), [(2, 2), (2, 4), (3, 2), (4, 3), (3, 1), (1, 4)])
def test_an_all_to_all_of_hosts_with_several_ranks_transposes(hosts: int, per_host: int) -> None:
    ranks = hosts * per_host
    inputs = drawn([8 * ranks] * ranks)
    for make in (c.hierarchical_all_to_all, c.rail_all_to_all):
        proves(make(ranks, per_host=per_host, size=8 * ranks), inputs, transposed(inputs, ranks))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 6).flatmap(
        lambda n: st.lists(st.lists(st.integers(0, 5), min_size=n, max_size=n), min_size=n, max_size=n)
    ),
    st.booleans(),
    st.sampled_from([None, 1, 2]),
)
def test_alltoallv_moves_every_block(counts: list[list[int]], in_place: bool, in_flight: int | None) -> None:
    matrix = [[4 * count for count in row] for row in counts]
    blocks = [drawn(row, seed=at) for at, row in enumerate(matrix)]
    graph = c.all_to_allv(len(matrix), matrix, in_place=in_place, in_flight=in_flight)
    wanted = [(0, joined([row[rank] for row in blocks])) for rank in range(len(matrix))]
    proves(graph, [joined(row) for row in blocks], wanted)
    assert graph.matrix.tolist() == [
        [0 if src == dst else size for dst, size in enumerate(row)] for src, row in enumerate(matrix)
    ]


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("make", [c.broadcast_chain, partial(c.broadcast_chain, chunks=4), c.broadcast_binomial])
def test_a_broadcast_reaches_everybody(make: Maker, in_place: bool) -> None:
    for ranks in RANKS:
        root = ranks // 2
        inputs = drawn([20] * ranks)
        proves(make(ranks, size=20, root=root, in_place=in_place), inputs, [(0, inputs[root])] * ranks)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("count", COUNTS)
def test_what_has_a_root_ends_where_it_says(count: str, in_place: bool) -> None:
    for ranks in RANKS:
        root, size = ranks - 1, 4 * COUNTS[count](ranks)
        shares = spans(size, ranks, 4)
        nothing = (0, np.zeros(0, np.uint8))
        inputs = drawn([size] * ranks)
        reduced = c.reduce_binomial(ranks, size=size, root=root, in_place=in_place)
        proves(reduced, inputs, [(0, total(inputs)) if rank == root else nothing for rank in range(ranks)])
        scattered = [(s.offset if in_place else 0, inputs[root][s.offset : s.end]) for s in shares]
        proves(c.scatter(ranks, size=size, root=root, in_place=in_place), inputs, scattered)
        parts = drawn([share.size for share in shares])
        gathered = [(0, joined(parts)) if rank == root else nothing for rank in range(ranks)]
        begins = own_places(parts) if in_place else parts
        proves(c.gather(ranks, size=size, root=root, in_place=in_place), begins, gathered)


@pytest.mark.parametrize("seed", range(5))
def test_permutations_move_inputs_to_their_targets(seed: int) -> None:
    for ranks in RANKS:
        inputs = drawn([12] * ranks)
        for to in (c.strided(ranks, 1 - ranks * 3), c.random_bijection(ranks, seed=seed)):
            assert all(rank != target for rank, target in enumerate(to))
            wanted = {target: (0, inputs[rank]) for rank, target in enumerate(to)}
            proves(c.send_recv(ranks, to, size=12), inputs, [wanted[rank] for rank in range(ranks)])


def test_an_incast_ends_side_by_side() -> None:
    inputs = drawn([8] * 4)
    nothing = (0, np.zeros(0, np.uint8))
    wanted = [nothing, nothing, (0, joined([inputs[0], inputs[1], inputs[3]])), nothing]
    proves(c.incast(4, size=8, root=2), inputs, wanted)


@pytest.mark.parametrize("ranks", [2, 3, 4])
@pytest.mark.parametrize("microbatches", [1, 2, 5])
def test_a_pipeline_hands_activations_down_and_gradients_up(ranks: int, microbatches: int) -> None:
    size = 8 * microbatches
    inputs = drawn([size] * ranks)
    graph = c.pipeline(ranks, microbatches=microbatches, size=8, forward_s=1.0, backward_s=2.0)
    first, inner, last = inputs[0], joined([inputs[0]] * 2), joined([inputs[0]] * 2)
    wanted = [(size, first), *[(0, inner)] * (ranks - 2), (0, last)]
    proves(graph, inputs, wanted)


@pytest.mark.parametrize("prefetch", [0, 1, 3])
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_an_fsdp_step_gathers_layers_and_sums_gradients(ranks: int, prefetch: int) -> None:
    layers = (20, 4, 36)
    split = [spans(size, ranks, 4) for size in layers]
    shards = [drawn([share.size for share in shares], seed=at) for at, shares in enumerate(split)]
    room = [shares[0].size for shares in split]
    gradients = drawn([sum(layers)] * ranks, seed=9)
    inputs = [
        joined([*(padded(shard[rank], size) for shard, size in zip(shards, room, strict=True)), gradients[rank]])
        for rank in range(ranks)
    ]
    model = joined([joined(shard) for shard in shards])
    sums = total(gradients)
    graph = c.fsdp_step(ranks, layers=layers, forward_s=1, backward_s=2, prefetch=prefetch)
    proves(graph, inputs, [(0, joined([model, model]))] * ranks)
    for layer, shares in enumerate(split):
        at = 2 * sum(layers) + sum(room[:layer])
        base = sum(layers[:layer])
        wanted = [(at, sums[base + share.offset : base + share.end]) for share in shares]
        proves(graph, inputs, wanted)


def padded(given: Bytes, size: int) -> Bytes:
    return joined([given, np.zeros(size - len(given), np.uint8)])


def test_a_moe_layer_of_idle_experts_gives_every_token_back() -> None:
    weights = c.zipf_weights(5, alpha=1.0, seed=3)
    matrix = c.moe_matrix(5, tokens=10, top_k=2, hidden=6, weights=weights)
    inputs = drawn([sum(row) for row in matrix])
    for in_flight in (None, 1):
        graph = c.moe_layer(5, matrix, expert_s_per_byte=1e-3, in_flight=in_flight)
        proves(graph, inputs, [(0, given) for given in inputs])


def test_caches_arrive_request_after_request() -> None:
    requests = [c.Prefill(0, 2, 3), c.Prefill(1, 3, 1), c.Prefill(0, 3, 2), c.Prefill(1, 2, 4)]
    graph = c.cache_transfers(4, requests, layers=2, bytes_per_token=6, layer_s_per_token=1e-3)
    inputs = drawn([60, 60, 0, 0])
    nothing = (0, np.zeros(0, np.uint8))
    decoded = [joined([inputs[0][:36], inputs[1][12:]]), joined([inputs[1][:12], inputs[0][36:]])]
    proves(graph, inputs, [nothing, nothing, (0, decoded[0]), (0, decoded[1])])
