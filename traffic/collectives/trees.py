"""Trees (NCCL src/graph/trees.cc for the shape of the two)."""

from __future__ import annotations

from collections.abc import Sequence

from topologies.errors import SpecError
from traffic.collectives.score import INPUT, OUTPUT, Ranks, Score, Span, counted, spans
from traffic.graph import Graph

Parents = tuple[int | None, ...]


def binary_tree(ranks: int) -> Parents:
    """Every rank's parent, None for rank 0, the root: leaves and inner ranks alternate, as in NCCL's tree.

    The lowest bit that a rank has decides its level; its parent has the next bit instead, or, past the last rank,
    neither. The root has one child.
    """
    parents: list[int | None] = [None]
    for rank in range(1, ranks):
        bit = rank & -rank
        up = (rank ^ bit) | bit << 1
        parents.append(up if up < ranks else rank ^ bit)
    return tuple(parents)


def double_binary_tree(ranks: int) -> tuple[Parents, Parents]:
    """The tree, and a second one in which the leaves of the first are inner ranks: mirrored, or shifted by one.

    It is mirrored for an even number of ranks and shifted for an odd one, as NCCL does.
    """
    first = binary_tree(ranks)
    second: list[int | None] = [None] * ranks
    for rank, parent in enumerate(first):
        if ranks % 2 == 0:
            second[ranks - 1 - rank] = None if parent is None else ranks - 1 - parent
        else:
            second[(rank + 1) % ranks] = None if parent is None else (parent + 1) % ranks
    return first, tuple(second)


def tree_all_reduce(
    ranks: Ranks, *, size: int, element: int = 4, in_place: bool = False, chunks: int = 1, double: bool = False
) -> Graph:
    """Everybody ends with the sum of all inputs: added up towards the root, then handed down.

    Every edge carries S each way; with `double`, the edges of two trees carry S/2 each way.

    Args:
        chunks: parts that follow each other through a tree, so that all its levels work at once.
    """
    score = Score(ranks, element=element, in_place=in_place)
    if chunks < 1:
        raise SpecError(f"{chunks} chunks", allowed="1 or more")
    for rank in range(score.ranks):
        score.copy(rank, size, INPUT, OUTPUT)
    trees = double_binary_tree(score.ranks) if double else (binary_tree(score.ranks),)
    for parents, part in zip(trees, spans(size, len(trees), element), strict=True):
        for chunk in spans(part.size, chunks, element, base=part.offset):
            _up_and_down(score, parents, chunk)
    name = "double binary tree" if double else "tree"
    return score.graph(f"{name} all-reduce of {score.ranks}", input_bytes=size, output_bytes=size)


def double_tree_all_reduce(
    ranks: Ranks, *, size: int, element: int = 4, in_place: bool = False, chunks: int = 1
) -> Graph:
    """`tree_all_reduce` over two trees of half the bytes each, as NCCL's Tree."""
    return tree_all_reduce(ranks, size=size, element=element, in_place=in_place, chunks=chunks, double=True)


def broadcast_chain(
    ranks: Ranks, *, size: int, root: int = 0, element: int = 4, in_place: bool = False, chunks: int = 1
) -> Graph:
    """The root's input to everybody's output, from each rank to the next, in `chunks` that follow each other."""
    score = _rooted(ranks, root, element=element, in_place=in_place)
    score.copy(root, size, INPUT, OUTPUT)
    for chunk in spans(size, max(1, chunks), element):
        for step in range(score.ranks - 1):
            src, dst = (root + step) % score.ranks, (root + step + 1) % score.ranks
            at = OUTPUT + chunk.offset
            score.send(src, dst, chunk.size, INPUT + chunk.offset if step == 0 else at, at, step=step)
    return score.graph(f"chain broadcast of {score.ranks}", input_bytes=size, output_bytes=size)


def broadcast_binomial(ranks: Ranks, *, size: int, root: int = 0, element: int = 4, in_place: bool = False) -> Graph:
    """The root's input to everybody's output: who has it gives it to a rank 1, 2, 4 ... further."""
    score = _rooted(ranks, root, element=element, in_place=in_place)
    score.copy(root, size, INPUT, OUTPUT)
    for step, (near, far) in _binomial(score.ranks):
        src, dst = (root + near) % score.ranks, (root + far) % score.ranks
        score.send(src, dst, size, INPUT if near == 0 else OUTPUT, OUTPUT, step=step)
    return score.graph(f"binomial broadcast of {score.ranks}", input_bytes=size, output_bytes=size)


def reduce_binomial(ranks: Ranks, *, size: int, root: int = 0, element: int = 4, in_place: bool = False) -> Graph:
    """The sum of all inputs to the root's output, up the tree of `broadcast_binomial`. Others' outputs are used up."""
    score = _rooted(ranks, root, element=element, in_place=in_place)
    for rank in range(score.ranks):
        score.copy(rank, size, INPUT, OUTPUT)
    edges = _binomial(score.ranks)
    for step, (near, far) in reversed(edges):
        src, dst = (root + far) % score.ranks, (root + near) % score.ranks
        score.add_output(src, dst, Span(0, size), step=edges[-1][0] - step)
    return score.graph(f"binomial reduce of {score.ranks}", input_bytes=size, output_bytes=size)


def _rooted(ranks: Ranks, root: int, *, element: int, in_place: bool) -> Score:
    """A score of ranks of which `root` is one."""
    count, _ = counted(ranks)
    if not 0 <= root < count:
        raise SpecError(f"root {root}", allowed=f"0 to {count - 1}")
    return Score(ranks, element=element, in_place=in_place)


def _binomial(count: int) -> list[tuple[int, tuple[int, int]]]:
    """Edges (step, (from, to)) by distance from the root."""
    edges = []
    step, reach = 0, 1
    while reach < count:
        edges += [(step, (near, near + reach)) for near in range(min(reach, count - reach))]
        step, reach = step + 1, 2 * reach
    return edges


def _up_and_down(score: Score, parents: Sequence[int | None], chunk: Span) -> None:
    """Sums of `chunk` to the root, deepest ranks first, and the result back."""
    depths = [_depth(parents, rank) for rank in range(len(parents))]
    deepest = max(depths)
    edges = [(depths[rank], rank, parent) for rank, parent in enumerate(parents) if parent is not None]
    for depth, child, parent in sorted(edges, reverse=True):
        score.add_output(child, parent, chunk, step=deepest - depth)
    at = OUTPUT + chunk.offset
    for depth, child, parent in sorted(edges):
        score.send(parent, child, chunk.size, at, at, step=deepest + depth - 1)


def _depth(parents: Sequence[int | None], rank: int) -> int:
    depth = 0
    above = parents[rank]
    while above is not None:
        depth, above = depth + 1, parents[above]
    return depth
