"""Exchanges with the rank one bit away (Thakur, Rabenseifner and Gropp 2005).

Where the ranks are no power of two, all-reduce folds the surplus in first: rank q + i gives its bytes to rank i, and
is given the result; q is the largest power of two.
"""

from __future__ import annotations

from collections.abc import Sequence

from traffic.collectives.ring import place_shares
from traffic.collectives.score import INPUT, OUTPUT, Ranks, Score, Span, power_of_two, spans
from traffic.graph import Graph


def halving_doubling_all_reduce(ranks: Ranks, *, size: int, element: int = 4, in_place: bool = False) -> Graph:
    """Everybody ends with the sum of all inputs: halves, quarters ... are summed, then gathered in reverse.

    Bytes a rank sends of S, among n = 2^q: 2 (n-1)/n S, in 2 q steps.
    """
    score = Score(ranks, element=element, in_place=in_place)
    kept = _fold(score, size)
    shares = spans(size, kept, element)
    bits = kept.bit_length() - 1
    for step, bit in enumerate(reversed(range(bits)), start=1):
        for src in range(kept):
            given = _held(shares, src ^ 1 << bit, bit)
            score.add_output(src, src ^ 1 << bit, given, step=step)
    for bit in range(bits):
        for src in range(kept):
            held = _held(shares, src, bit)
            at = OUTPUT + held.offset
            score.send(src, src ^ 1 << bit, held.size, at, at, step=bits + 1 + bit)
    _unfold(score, kept, size, step=2 * bits + 1)
    return score.graph(f"halving-doubling all-reduce of {score.ranks}", input_bytes=size, output_bytes=size)


def doubling_all_reduce(ranks: Ranks, *, size: int, element: int = 4, in_place: bool = False) -> Graph:
    """Everybody ends with the sum of all inputs: pairs, fours ... exchange everything.

    Bytes a rank sends of S, among n = 2^q: q S, in q steps: few steps, for few bytes.
    """
    score = Score(ranks, element=element, in_place=in_place)
    kept = _fold(score, size)
    bits = kept.bit_length() - 1
    for bit in range(bits):
        rooms = [score.scratch(rank, size) for rank in range(kept)]
        for src in range(kept):
            score.send(src, src ^ 1 << bit, size, OUTPUT, rooms[src ^ 1 << bit], step=bit + 1)
        for rank in range(kept):
            score.copy(rank, size, rooms[rank], OUTPUT, reduce=True, step=bit + 1)
    _unfold(score, kept, size, step=bits + 1)
    return score.graph(f"doubling all-reduce of {score.ranks}", input_bytes=size, output_bytes=size)


def halving_reduce_scatter(ranks: Ranks, *, size: int, element: int = 4, in_place: bool = False) -> Graph:
    """As `ring_reduce_scatter`, in log2 n steps of S/2, S/4 ... bytes. Raises SpecError unless n is a power of two."""
    score = Score(ranks, element=element, in_place=in_place)
    shares = spans(size, score.ranks, element)
    bits = power_of_two(score.ranks)
    rooms = [INPUT if in_place else score.scratch(rank, size) for rank in range(score.ranks)]
    if not in_place:
        for rank, room in enumerate(rooms):
            score.copy(rank, size, INPUT, room)
    for step, bit in enumerate(reversed(range(bits))):
        for src in range(score.ranks):
            dst = src ^ 1 << bit
            given = _held(shares, dst, bit)
            begin, end = rooms[src] + given.offset, rooms[dst] + given.offset
            if in_place:
                score.add_up(src, dst, given.size, begin, end, end, step=step)
            else:
                score.add_staged(src, dst, given.size, begin, end, step=step)
    if not in_place:
        for rank, share in enumerate(shares):
            score.copy(rank, share.size, rooms[rank] + share.offset, OUTPUT, step=bits)
    largest = size if in_place else shares[0].size
    return score.graph(f"halving reduce-scatter of {score.ranks}", input_bytes=size, output_bytes=largest)


def hypercube_all_gather(ranks: Ranks, *, size: int, element: int = 4, in_place: bool = False) -> Graph:
    """As `ring_all_gather`, in log2 n steps of S/n, 2 S/n ... bytes, as nccl-tests' hypercube does.

    Raises SpecError unless n is a power of two.
    """
    score = Score(ranks, element=element, in_place=in_place)
    shares = spans(size, score.ranks, element)
    place_shares(score, shares)
    for bit in range(power_of_two(score.ranks)):
        for src in range(score.ranks):
            held = _held(shares, src, bit)
            at = OUTPUT + held.offset
            score.send(src, src ^ 1 << bit, held.size, at, at, step=bit)
    largest = size if in_place else shares[0].size
    return score.graph(f"hypercube all-gather of {score.ranks}", input_bytes=largest, output_bytes=size)


def doubling_all_gather(ranks: Ranks, *, size: int, element: int = 4, in_place: bool = False) -> Graph:
    """As `hypercube_all_gather` for any number of ranks: step k hands the 2^k shares that a rank has 2^k down.

    The shares of one step are two messages where they wrap round the end of the buffer.
    """
    score = Score(ranks, element=element, in_place=in_place)
    count = score.ranks
    shares = spans(size, count, element)
    place_shares(score, shares)
    step, reach = 0, 1
    while reach < count:
        many = min(reach, count - reach)
        for src in range(count):
            for held in _wrapped(shares, src, many):
                at = OUTPUT + held.offset
                score.send(src, (src - reach) % count, held.size, at, at, step=step)
        step, reach = step + 1, 2 * reach
    largest = size if in_place else shares[0].size
    return score.graph(f"doubling all-gather of {count}", input_bytes=largest, output_bytes=size)


def _held(shares: Sequence[Span], rank: int, bit: int) -> Span:
    """The shares of the 2^bit ranks that differ from `rank` in lower bits only: one stretch."""
    first = rank >> bit << bit
    begin, end = shares[first].offset, shares[first + (1 << bit) - 1].end
    return Span(begin, end - begin)


def _wrapped(shares: Sequence[Span], first: int, many: int) -> list[Span]:
    """`many` shares from the `first` on, round the end."""
    last = first + many - 1
    if last < len(shares):
        return [Span(shares[first].offset, shares[last].end - shares[first].offset)]
    over = shares[last - len(shares)]
    return [Span(shares[first].offset, shares[-1].end - shares[first].offset), Span(0, over.end)]


def _fold(score: Score, size: int) -> int:
    """Inputs to outputs, then the surplus added to the first ranks. Gives how many are kept, a power of two."""
    for rank in range(score.ranks):
        score.copy(rank, size, INPUT, OUTPUT)
    kept = 1 << score.ranks.bit_length() - 1
    for src in range(kept, score.ranks):
        score.add_output(src, src - kept, Span(0, size), step=0)
    return kept


def _unfold(score: Score, kept: int, size: int, *, step: int) -> None:
    """The result, to the surplus."""
    for dst in range(kept, score.ranks):
        score.send(dst - kept, dst, size, OUTPUT, OUTPUT, step=step)
