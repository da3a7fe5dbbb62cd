"""What every rank must end with: of which ranks' inputs each part of its output is the sum. Pure.

A graph is followed symbolically: a part of a buffer is a sum of inputs, each standing so many bytes further on in its
rank's input than here. What is not known (scratch at its begin) is None, and so is what is made of it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace

from traffic.graph import Buffer, Graph, Send

Sum = tuple[tuple[int, int], ...] | None
"""Inputs that are added: (rank, how much further on), sorted; None where that is not known."""

ELEMENT = 4  # rnic's elements are floats


@dataclass(frozen=True, slots=True)
class Check:
    """`size` bytes at `offset` of rank `rank`'s output: a sum of inputs at `from_offset`.

    Of the ranks from `first` to `last` every `every`-th.
    """

    rank: int
    offset: int
    size: int
    first: int
    last: int
    from_offset: int
    every: int = 1


class _Parts:
    """A buffer as parts from `_begins[i]` to the next one's begin, each a sum."""

    def __init__(self, size: int, known: Sum) -> None:
        self._begins = [0]
        self._sums: list[Sum] = [known]
        self._size = size

    def between(self, begin: int, end: int) -> list[tuple[int, int, Sum]]:
        """The parts of a stretch: (begin, end, sum)."""
        first = bisect_right(self._begins, begin) - 1
        found = []
        for at in range(first, len(self._begins)):
            if self._begins[at] >= end:
                break
            until = self._begins[at + 1] if at + 1 < len(self._begins) else self._size
            found.append((max(begin, self._begins[at]), min(end, until), self._sums[at]))
        return found

    def put(self, begin: int, end: int, parts: list[tuple[int, int, Sum]]) -> None:
        """Put these parts, which fill the stretch, in the place of what is there."""
        first = bisect_right(self._begins, begin) - 1
        last = bisect_right(self._begins, end - 1) - 1
        until = self._begins[last + 1] if last + 1 < len(self._begins) else self._size
        before = [(self._begins[first], self._sums[first])] if self._begins[first] < begin else []
        after = [(end, self._sums[last])] if end < until else []
        new = [*before, *((one[0], one[2]) for one in parts), *after]
        self._begins[first : last + 1] = [one[0] for one in new]
        self._sums[first : last + 1] = [one[1] for one in new]

    def __iter__(self) -> Iterator[tuple[int, int, Sum]]:
        return iter(self.between(0, self._size)) if self._size else iter(())


class _Memory:
    """Every rank's buffers."""

    def __init__(self, graph: Graph) -> None:
        self._in_place = graph.in_place
        begins: dict[Buffer, Sum] = {Buffer.OUTPUT: (), Buffer.SCRATCH: None}
        self._parts = {
            (rank, buffer): _Parts(graph.room(buffer), begins.get(buffer, ((rank, 0),)))
            for rank in range(graph.ranks)
            for buffer in Buffer
        }

    def at(self, rank: int, buffer: Buffer) -> _Parts:
        return self._parts[rank, Buffer.INPUT if self._in_place and buffer is Buffer.OUTPUT else buffer]

    def play(self, send: Send) -> None:
        if not send.size:
            return
        source, target = self.at(send.src, send.from_buffer), self.at(send.dst, send.to_buffer)
        shift = send.to_offset - send.from_offset
        moved: list[tuple[int, int, Sum]] = [
            (begin + shift, end + shift, None if one is None else tuple((rank, by - shift) for rank, by in one))
            for begin, end, one in source.between(send.from_offset, send.from_offset + send.size)
        ]
        end = send.to_offset + send.size
        if send.reduce:
            moved = [
                (max(a[0], b[0]), min(a[1], b[1]), _added(a[2], b[2]))
                for a in moved
                for b in target.between(a[0], a[1])
            ]
        target.put(send.to_offset, end, moved)


def _added(one: Sum, other: Sum) -> Sum:
    return None if one is None or other is None else tuple(sorted(one + other))


def checks(graph: Graph) -> tuple[Check, ...]:
    """What can be said of the outputs in rnic's words, by rank and offset: sums of ranks at one distance.

    Parts that are no such sum, or not of whole elements, are left out: nobody looks at them. Where input and output
    are one memory, what nothing was written to is left out too.
    """
    memory = _Memory(graph)
    for send in graph.sends:
        memory.play(send)
    found: list[Check] = []
    for rank in range(graph.ranks):
        for begin, end, one in memory.at(rank, Buffer.OUTPUT):
            check = _check(rank, begin, end, one)
            if check is None or (graph.in_place and one == ((rank, 0),)):
                continue
            if found and _follows(found[-1], check):
                before = found.pop()
                check = replace(before, size=before.size + check.size)
            found.append(check)
    return tuple(found)


def _check(rank: int, begin: int, end: int, one: Sum) -> Check | None:
    """One part as a check, from its first whole element on; None where there is none."""
    begin = -(-begin // ELEMENT) * ELEMENT
    if not one or begin >= end:
        return None
    ranks, by = [source for source, _ in one], one[0][1]
    every = ranks[1] - ranks[0] if len(ranks) > 1 else 1
    follow = every > 0 and ranks == list(range(ranks[0], ranks[0] + every * len(ranks), every))
    if not follow or any(other != by for _, other in one) or by % ELEMENT or begin + by < 0:
        return None
    return Check(rank, begin, end - begin, ranks[0], ranks[-1], begin + by, every)


def _follows(before: Check, after: Check) -> bool:
    joined = (before.offset + before.size, before.from_offset + before.size)
    return (before.rank, *_whose(before), *joined) == (after.rank, *_whose(after), after.offset, after.from_offset)


def _whose(check: Check) -> tuple[int, int, int]:
    return check.first, check.last, check.every
