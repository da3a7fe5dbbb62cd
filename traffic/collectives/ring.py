"""Rings: each rank sends to the next only (NCCL's Ring).

Bytes a rank sends of S, among n: (n-1)/n S for reduce-scatter and all-gather, 2 (n-1)/n S for all-reduce.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from topologies.errors import SpecError
from traffic.collectives.score import INPUT, OUTPUT, Place, Ranks, Score, Span, spans
from traffic.graph import Buffer, Graph


def ring_reduce_scatter(ranks: Ranks, *, size: int, element: int = 4, in_place: bool = False) -> Graph:
    """Rank r ends with the sum of everybody's r-th share, at its output's begin; in place, where its share stands.

    Args:
        size: bytes of a rank's input (nccl-tests' S). Shares are whole elements, as even as can be.
    """
    score = Score(ranks, element=element, in_place=in_place)
    shares = spans(size, score.ranks, element)
    results = [OUTPUT + (share.offset if in_place else 0) for share in shares]
    ring_add(score, range(score.ranks), shares, results=results)
    largest = size if in_place else shares[0].size
    return score.graph(f"ring reduce-scatter of {score.ranks}", input_bytes=size, output_bytes=largest)


def ring_all_gather(ranks: Ranks, *, size: int, element: int = 4, in_place: bool = False) -> Graph:
    """Everybody ends with all shares; rank r begins with the r-th, at its input's begin; in place, where it belongs.

    Args:
        size: bytes of a rank's output (nccl-tests' S).
    """
    score = Score(ranks, element=element, in_place=in_place)
    shares = spans(size, score.ranks, element)
    place_shares(score, shares)
    ring_pass(score, range(score.ranks), shares)
    largest = size if in_place else shares[0].size
    return score.graph(f"ring all-gather of {score.ranks}", input_bytes=largest, output_bytes=size)


def ring_all_reduce(ranks: Ranks, *, size: int, element: int = 4, in_place: bool = False, rings: int = 1) -> Graph:
    """Everybody ends with the sum of all inputs.

    Args:
        size: bytes of a rank's input, and of its output.
        rings: how many rings share the bytes; every second one runs the other way round.
    """
    score = Score(ranks, element=element, in_place=in_place)
    if rings < 1:
        raise SpecError(f"{rings} rings", allowed="1 or more")
    for ring, span in enumerate(spans(size, rings, element)):
        order = range(score.ranks) if ring % 2 == 0 else range(score.ranks - 1, -1, -1)
        ring_sum(score, order, spans(span.size, score.ranks, element, base=span.offset))
    return score.graph(f"ring all-reduce of {score.ranks}", input_bytes=size, output_bytes=size)


def place_shares(score: Score, shares: Sequence[Span]) -> None:
    """Every rank's share, from its input's begin to where it belongs in the output."""
    if not score.in_place:
        for rank, share in enumerate(shares):
            score.copy(rank, share.size, INPUT, OUTPUT + share.offset)


def ring_sum(
    score: Score, order: Sequence[int], shares: Sequence[Span], *, staged: bool = False, step: int = 0
) -> None:
    """All-reduce of `shares` round `order`.

    Args:
        step: the number of the first step.
        staged: own contributions stand in the output already, perhaps not yet; else in the input.
    """
    own = Buffer.OUTPUT if staged else Buffer.INPUT
    results = [OUTPUT + share.offset for share in shares]
    ring_add(score, order, shares, own=own, results=results, room=OUTPUT, step=step)
    ring_pass(score, order, shares, step=step + len(order) - 1)


def ring_add(
    score: Score,
    order: Sequence[int],
    shares: Sequence[Span],
    *,
    own: Buffer = Buffer.INPUT,
    results: Sequence[Place],
    room: Place | None = None,
    step: int = 0,
    gates: Mapping[int, Iterable[int | None]] | None = None,
) -> None:
    """Reduce-scatter round `order`: its place p ends with the sum of everybody's `shares[p]` at `results[p]`.

    Args:
        own: where a rank's contributions stand, each at its share's offset. In the output they may still be being
            written or sent: sums then go by way of room of their own.
        room: where sums stand on their way, each at its share's offset from here; None for scratch room.
        step: the number of the first step.
        gates: what a rank's first send waits for.
    """
    count = len(order)
    base = min(share.offset for share in shares)
    length = max(share.end for share in shares) - base
    rooms = [room or _way(score, rank, own, base, length) for rank in order]
    for turn in range(count - 1):
        for place, src in enumerate(order):
            target = (place + 1) % count
            share, dst = shares[(place - 1 - turn) % count], order[target]
            begin = Place(own, share.offset) if turn == 0 else rooms[place] + share.offset
            end = results[target] if turn == count - 2 else rooms[target] + share.offset
            mine = Place(own, share.offset)
            if own is Buffer.OUTPUT and not score.in_place:
                score.add_staged(src, dst, share.size, begin, end, step=step + turn)
            else:
                gate = gates.get(src, ()) if gates and turn == 0 else ()
                score.add_up(src, dst, share.size, begin, mine, end, step=step + turn, after=gate)


def _way(score: Score, rank: int, own: Buffer, base: int, length: int) -> Place:
    """Where sums stand on their way at `rank`: in place they grow where the rank's own contribution stood."""
    if score.in_place or own is Buffer.OUTPUT:
        return Place(own)
    return score.scratch(rank, length) + -base


def ring_pass(
    score: Score,
    order: Sequence[int],
    shares: Sequence[Span],
    *,
    base: Place = OUTPUT,
    step: int = 0,
    gates: Mapping[int, Iterable[int | None]] | None = None,
) -> None:
    """All-gather round `order`: its place p begins with `shares[p]`; all end with all, at their offsets from `base`.

    Args:
        step: the number of the first step.
        gates: what a rank's first send waits for.
    """
    count = len(order)
    for turn in range(count - 1):
        for place, src in enumerate(order):
            share = shares[(place - turn) % count]
            at = base + share.offset
            gate = gates.get(src, ()) if gates and turn == 0 else ()
            score.send(src, order[(place + 1) % count], share.size, at, at, step=step + turn, after=gate)
