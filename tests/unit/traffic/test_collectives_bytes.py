"""Byte matrices, to the byte, and steps, against the table of collectives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pytest

from topologies.errors import SpecError
from traffic import collectives as c
from traffic.collectives.score import spans
from traffic.collectives.trees import binary_tree, double_binary_tree
from traffic.graph import Graph
from traffic.placement import one_each

RANKS = (*range(2, 10), 16)
POWERS = (2, 4, 8, 16)
Maker = Callable[..., Graph]
Cells = dict[tuple[int, int], int]


def matrix(ranks: int, cells: Cells) -> list[list[int]]:
    return [[cells.get((src, dst), 0) for dst in range(ranks)] for src in range(ranks)]


def steps(graph: Graph) -> int:
    return len({send.step for send in graph if not send.is_local})


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("ranks", RANKS)
def test_rings_send_to_the_next_rank_alone(ranks: int, in_place: bool) -> None:
    block = 12
    size = block * ranks
    around = {(rank, (rank + 1) % ranks): (ranks - 1) * block for rank in range(ranks)}
    for make in (c.ring_reduce_scatter, c.ring_all_gather):
        graph = make(ranks, size=size, in_place=in_place)
        assert graph.matrix.tolist() == matrix(ranks, around)
        assert steps(graph) == ranks - 1
    graph = c.ring_all_reduce(ranks, size=size, in_place=in_place)
    assert graph.matrix.tolist() == matrix(ranks, {pair: 2 * sent for pair, sent in around.items()})
    assert steps(graph) == 2 * (ranks - 1)
    assert graph.matrix.sum() == 2 * (ranks - 1) * size


@pytest.mark.parametrize("elements", [1, 7, 10])
@pytest.mark.parametrize("ranks", RANKS)
def test_an_uneven_ring_sends_every_share_but_two(ranks: int, elements: int) -> None:
    """Rank r keeps the sum of share r to itself in one half; in the other it does not send what the next one has."""
    shares = [share.size for share in spans(4 * elements, ranks, 4)]
    sent = {
        (rank, (rank + 1) % ranks): 8 * elements - shares[rank] - shares[(rank + 1) % ranks] for rank in range(ranks)
    }
    assert c.ring_all_reduce(ranks, size=4 * elements).matrix.tolist() == matrix(ranks, sent)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("ranks", POWERS)
def test_exchanges_with_the_rank_one_bit_away(ranks: int, in_place: bool) -> None:
    size, bits = 4 * ranks * 3, ranks.bit_length() - 1
    pairs = [(rank, bit) for rank in range(ranks) for bit in range(bits)]
    halving = c.halving_doubling_all_reduce(ranks, size=size, in_place=in_place)
    # Once on the way down, once on the way up: 2 S 2^j / n over bit j.
    assert halving.matrix.tolist() == matrix(ranks, {(r, r ^ 1 << j): 2 * size * 2**j // ranks for r, j in pairs})
    assert steps(halving) == 2 * bits
    doubling = c.doubling_all_reduce(ranks, size=size, in_place=in_place)
    assert doubling.matrix.tolist() == matrix(ranks, {(r, r ^ 1 << j): size for r, j in pairs})
    assert steps(doubling) == bits
    for make in (c.halving_reduce_scatter, c.hypercube_all_gather):
        graph = make(ranks, size=size, in_place=in_place)
        assert graph.matrix.tolist() == matrix(ranks, {(r, r ^ 1 << j): size * 2**j // ranks for r, j in pairs})
        assert steps(graph) == bits


@pytest.mark.parametrize("ranks", [3, 5, 6, 7, 9])
def test_the_surplus_over_a_power_of_two_gives_all_and_gets_all(ranks: int) -> None:
    kept = 1 << ranks.bit_length() - 1
    for make in (c.halving_doubling_all_reduce, c.doubling_all_reduce):
        sent = make(ranks, size=4 * ranks).matrix
        for rank in range(kept, ranks):
            assert {(rank, rank - kept)} == {(rank, int(dst)) for dst in np.flatnonzero(sent[rank])}
            assert sent[rank, rank - kept] == sent[rank - kept, rank] == 4 * ranks


@pytest.mark.parametrize("ranks", RANKS)
def test_a_doubling_all_gather_sends_what_a_ring_does_in_fewer_steps(ranks: int) -> None:
    graph = c.doubling_all_gather(ranks, size=8 * ranks)
    assert graph.matrix.sum(axis=1).tolist() == [8 * (ranks - 1)] * ranks
    assert steps(graph) == (ranks - 1).bit_length()


def test_the_trees_are_nccls() -> None:
    """The two pictures of src/graph/trees.cc: the tree of 14 ranks; its mirror; the shifted one of 13."""
    children = {8: [4, 12], 4: [2, 6], 2: [1, 3], 6: [5, 7], 12: [10, 13], 10: [9, 11], 0: [8]}
    tree = binary_tree(14)
    assert {parent: [rank for rank in range(14) if tree[rank] == parent] for parent in children} == children
    mirrored = double_binary_tree(12)[1]
    assert mirrored[11] is None
    assert (mirrored[3], mirrored[7], mirrored[1], mirrored[0], mirrored[2]) == (11, 3, 3, 1, 1)
    shifted = double_binary_tree(13)[1]
    assert shifted[1] is None
    assert (shifted[9], shifted[5], shifted[0], shifted[3]) == (1, 9, 9, 5)


@pytest.mark.parametrize("ranks", [*RANKS, 31, 64, 100])
def test_no_rank_is_inside_both_trees(ranks: int) -> None:
    """So nobody sends more than 2 S, whatever the number of ranks."""
    inner = [{parent for parent in tree if parent is not None} for tree in double_binary_tree(ranks)]
    roots = {tree.index(None) for tree in double_binary_tree(ranks)}
    assert inner[0] & inner[1] <= roots
    for tree in double_binary_tree(ranks):
        assert max(tree.count(parent) for parent in range(ranks)) <= 2
        for rank in range(ranks):
            above, depth = tree[rank], 0
            while above is not None:
                above, depth = tree[above], depth + 1
            assert depth <= ranks.bit_length()


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("ranks", RANKS)
def test_every_edge_of_a_tree_carries_all_each_way(ranks: int, in_place: bool) -> None:
    size = 24
    edges: Cells = {}
    for child, parent in enumerate(binary_tree(ranks)):
        if parent is not None:
            edges |= {(child, parent): size, (parent, child): size}
    for chunks in (1, 4):
        graph = c.tree_all_reduce(ranks, size=size, in_place=in_place, chunks=chunks)
        assert graph.matrix.tolist() == matrix(ranks, edges)
    halves: Cells = {}
    for tree in double_binary_tree(ranks):
        for child, parent in enumerate(tree):
            for pair in ((child, parent), (parent, child)) if parent is not None else ():
                halves[pair] = halves.get(pair, 0) + size // 2
    graph = c.double_tree_all_reduce(ranks, size=size, in_place=in_place)
    assert graph.matrix.tolist() == matrix(ranks, halves)
    assert graph.matrix.sum(axis=1).max() <= 2 * size


@pytest.mark.parametrize("ranks", RANKS)
def test_a_pairwise_all_to_all_sends_every_pair_its_share(ranks: int) -> None:
    wanted = (np.ones((ranks, ranks), int) - np.eye(ranks, dtype=int)) * 12
    for in_flight in (None, 1, 2):
        graph = c.all_to_all(ranks, size=12 * ranks, in_flight=in_flight)
        assert graph.matrix.tolist() == wanted.tolist()
        assert steps(graph) == ranks - 1


@pytest.mark.parametrize("ranks", RANKS)
def test_bruck_sends_blocks_by_the_bits_of_their_distance(ranks: int) -> None:
    graph = c.bruck_all_to_all(ranks, size=4 * ranks)
    wanted: Cells = {}
    for rank in range(ranks):
        for bit in range((ranks - 1).bit_length()):
            pair = (rank, (rank + 2**bit) % ranks)
            wanted[pair] = wanted.get(pair, 0) + 4 * sum(far >> bit & 1 for far in range(ranks))
    assert graph.matrix.tolist() == matrix(ranks, wanted)
    assert steps(graph) == (ranks - 1).bit_length()
    if ranks in POWERS:
        assert graph.matrix.sum(axis=1).tolist() == [2 * ranks * (ranks.bit_length() - 1)] * ranks


@pytest.mark.parametrize("ranks", RANKS)
def test_what_has_a_root_sends(ranks: int) -> None:
    size, root = 8 * ranks, 1
    line = {((root + k) % ranks, (root + k + 1) % ranks): size for k in range(ranks - 1)}
    assert c.broadcast_chain(ranks, size=size, root=root, chunks=4).matrix.tolist() == matrix(ranks, line)
    binomial = c.broadcast_binomial(ranks, size=size, root=root)
    assert steps(binomial) == (ranks - 1).bit_length()
    assert binomial.matrix.sum(axis=1)[root] == size * (ranks - 1).bit_length()
    assert c.reduce_binomial(ranks, size=size, root=root).matrix.tolist() == binomial.matrix.T.tolist()
    star = {(rank, root): 8 for rank in range(ranks) if rank != root}
    assert c.gather(ranks, size=size, root=root).matrix.tolist() == matrix(ranks, star)
    assert c.scatter(ranks, size=size, root=root).matrix.T.tolist() == matrix(ranks, star)
    assert c.incast(ranks, size=8, root=root).matrix.tolist() == matrix(ranks, star)
    following = {(rank, (rank + 1) % ranks): size for rank in range(ranks)}
    assert c.send_recv(ranks, size=size).matrix.tolist() == matrix(ranks, following)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize(("hosts", "per_host"), [(2, 2), (4, 2), (4, 4), (3, 4)])
def test_hosts_meet_on_rails_alone(hosts: int, per_host: int, in_place: bool) -> None:
    """Between hosts: 2 (G-1)/G S/L of an all-reduce, (n-L)/n S of an all-to-all, all on the sender's own rail."""
    ranks = hosts * per_host
    size = 4 * ranks
    place = one_each([f"host{number}" for number in range(hosts)], nics=per_host)
    options = {"per_host": per_host, "size": size}
    reduced = c.hierarchical_all_reduce(ranks, in_place=in_place, **options)
    rails(place.fabric_matrix(reduced), per_host, 2 * (hosts - 1) * size // (hosts * per_host))
    for make in (c.hierarchical_all_to_all, c.rail_all_to_all):
        rails(place.fabric_matrix(make(ranks, **options)), per_host, (ranks - per_host) * size // ranks)
    if hosts % 2 == 0:
        # A ring a rail, 2 (n-1)/n of S/L each; a host is left once a ring, by one rank of the rail it is entered on.
        ring = place.fabric_matrix(c.rail_ring_all_reduce(ranks, in_place=in_place, **options))
        assert ring.sum() == hosts * 2 * (ranks - 1) * size // ranks
        rails(ring, per_host, None)


def rails(sent: np.ndarray[tuple[int, int], np.dtype[np.int64]], per_host: int, each: int | None) -> None:
    for src, dst in np.argwhere(sent):
        assert src % per_host == dst % per_host
    if each is not None:
        assert sent.sum(axis=1).tolist() == [each] * len(sent)


@pytest.mark.parametrize("ranks", [2, 3, 4, 8])
def test_jobs_send(ranks: int) -> None:
    layers = (4 * ranks * 3, 4 * ranks)
    graph = c.fsdp_step(ranks, layers=layers)
    each = 3 * (ranks - 1) * sum(layers) // ranks
    assert graph.matrix.tolist() == matrix(ranks, {(rank, (rank + 1) % ranks): each for rank in range(ranks)})
    line = c.pipeline(ranks, microbatches=5, size=8)
    chain = {pair: 40 for rank in range(ranks - 1) for pair in ((rank, rank + 1), (rank + 1, rank))}
    assert line.matrix.tolist() == matrix(ranks, chain)
    assert sum(not send.is_local and send.size > 0 for send in line) == 2 * 5 * (ranks - 1)


def test_moe_sends_tokens_by_weight_and_gets_them_back() -> None:
    dispatch = c.moe_matrix(4, tokens=100, top_k=2, hidden=16, weights=[4, 3, 2, 1])
    assert dispatch == ((80 * 32, 60 * 32, 40 * 32, 20 * 32),) * 4
    both = np.array(dispatch) + np.array(dispatch).T
    assert c.moe_layer(4, dispatch).matrix.tolist() == (both - np.diag(np.diag(both))).tolist()
    for weights in ([1.0], [1, 1, -1, 1], [0, 0, 0, 0]):
        with pytest.raises(SpecError, match="allowed: 4, none below 0, not all 0"):
            c.moe_matrix(4, tokens=1, top_k=1, hidden=1, weights=weights)


def test_a_prefill_sends_layer_by_layer_to_its_decode_rank() -> None:
    requests = [c.Prefill(0, 2, 3), c.Prefill(1, 2, 5)]
    graph = c.cache_transfers(3, requests, layers=4, bytes_per_token=10)
    assert graph.matrix.tolist() == [[0, 0, 120], [0, 0, 200], [0, 0, 0]]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (partial(c.ring_all_reduce, 1, size=4), "1 ranks; allowed: 2 or more"),
        (partial(c.ring_all_reduce, ["a"], size=4), "1 ranks; allowed: 2 or more"),
        (partial(c.ring_all_reduce, 3, size=5), "5 bytes of elements of 4; allowed: a whole number"),
        (partial(c.ring_all_reduce, 3, size=4, rings=0), "0 rings; allowed: 1 or more"),
        (partial(c.tree_all_reduce, 3, size=4, chunks=0), "0 chunks; allowed: 1 or more"),
        (partial(c.hypercube_all_gather, 6, size=24), "6 ranks; allowed: a power of two"),
        (partial(c.halving_reduce_scatter, 6, size=24), "6 ranks; allowed: a power of two"),
        (partial(c.all_to_all, 3, size=16), "16 bytes; allowed: a multiple of 12: 3 ranks"),
        (partial(c.all_to_all, 6, size=24, xor=True), "6 ranks; allowed: a power of two"),
        (partial(c.all_to_all, 3, size=12, in_flight=0), "0 steps in flight; allowed: 1 or more, or None"),
        (partial(c.all_to_allv, 3, [[0, 4], [4, 0]]), "a matrix of 2 ranks for 3"),
        (partial(c.all_to_allv, 2, [[0, 4], [4]]), "row 1 has 1 columns; allowed: 2"),
        (partial(c.all_to_allv, 2, [[0, 4], [6, 0]]), "row 1, column 0: 6 bytes; allowed: 0 or a multiple of 4"),
        (partial(c.broadcast_chain, 3, size=4, root=3), "root 3; allowed: 0 to 2"),
        (partial(c.gather, 3, size=4, root=-1), "root -1; allowed: 0 to 2"),
        (partial(c.send_recv, 3, [0, 0, 1], size=4), r"targets \[0, 0, 1\]; allowed: each of 0 to 2 once"),
        (partial(c.strided, 4, 8), "stride 8 of 4 ranks"),
        (partial(c.hierarchical_all_reduce, 6, per_host=4, size=4), "4 ranks a host of 6 ranks; allowed: a divisor"),
        (partial(c.rail_ring_all_reduce, 6, per_host=2, size=4), "3 hosts of 2; allowed: an even number"),
        (partial(c.pipeline, 3, microbatches=0, size=4), "0 micro-batches; allowed: 1 or more"),
        (partial(c.fsdp_step, 3, layers=[]), "0 layers"),
        (partial(c.cache_transfers, 2, [c.Prefill(0, 2, 1)], layers=1, bytes_per_token=2), "request 0: decode rank 2"),
        (partial(c.cache_transfers, 2, [c.Prefill(1, 1, 1)], layers=1, bytes_per_token=2), "two different ranks"),
    ],
)
def test_what_cannot_be_is_refused(make: Maker, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        make()


def test_hosts_stay_with_their_ranks() -> None:
    assert c.ring_all_reduce(["a", "b", "b"], size=12).hosts == ("a", "b", "b")


def test_the_published_skews() -> None:
    """Zipf over 8 ranks: alpha, column skew and Gini; and one of 16."""
    for alpha, skew, uneven in ((0.3, 1.46, 0.113), (0.5, 1.83, 0.192), (1.0, 2.94, 0.389), (1.2, 3.43, 0.461)):
        columns = c.zipf_matrix(8, size=4_000_000, alpha=alpha)
        assert c.column_skew(columns) == pytest.approx(skew, abs=0.006)
        assert c.gini(columns[0]) == pytest.approx(uneven, abs=0.0006)
    assert c.column_skew(c.zipf_matrix(16, size=4_000_000, alpha=1)) == pytest.approx(4.73, abs=0.006)
    assert c.gini(c.zipf_matrix(16, size=4_000_000, alpha=1)[0]) == pytest.approx(0.471, abs=0.0006)


def test_a_zipf_row_sums_up_and_a_seed_moves_the_busy_rank() -> None:
    rows: Sequence[Sequence[int]] = c.zipf_matrix(7, size=1000, alpha=1.2, seed=5)
    assert {sum(row) for row in rows} == {1000}
    assert sorted(rows[0]) == sorted(c.zipf_matrix(7, size=1000, alpha=1.2)[0])
    assert rows == c.zipf_matrix(7, size=1000, alpha=1.2, seed=5)
    assert len({c.zipf_matrix(7, size=1000, alpha=1.2, seed=seed)[0] for seed in range(9)}) > 1
    assert c.zipf_matrix(4, size=64, alpha=0) == ((16,) * 4,) * 4
    with pytest.raises(SpecError, match="alpha -1"):
        c.zipf_matrix(4, size=64, alpha=-1)


def test_spread_is_nccl_tests_pattern() -> None:
    """Its picture: rank 0 of 4 sends nobody, 1, 2 and 3 parts of 6; without spread a quarter each."""
    assert c.spread_matrix(4, size=6 * 64)[0] == (0, 64, 128, 192)
    assert c.spread_matrix(4, size=6 * 64)[1] == (192, 0, 64, 128)
    assert c.spread_matrix(4, size=6 * 64, spread=0)[2] == (96, 96, 96, 96)
    assert c.spread_matrix(4, size=6 * 64, spread=0.5)[0] == (48, 80, 112, 144)
    # 1000 bytes: 240 a peer of 16-byte pieces, 960 in all; by distance 160, 320, 480.
    assert c.spread_matrix(4, size=1000)[0] == (0, 160, 320, 480)
    with pytest.raises(SpecError, match=r"spread 1\.5; allowed: 0 to 1"):
        c.spread_matrix(4, size=64, spread=1.5)
