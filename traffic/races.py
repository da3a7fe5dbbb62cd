"""Whether a graph gives the same bytes in whichever order its sends go: a proof, not a sample.

Two sends are ordered when one waits for the other, directly or through others. Two that are not may happen at once;
then neither may write what the other reads or writes, except that two sums may go into the same bytes (adding
commutes; the last digit of a float sum may differ, as it may on a real card).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from traffic.graph import Buffer, Graph, Send


@dataclass(frozen=True, slots=True)
class Race:
    """Two sends, by their places in the graph, that meet at `rank` in bytes `start` to `end` of `buffer`."""

    first: int
    second: int
    rank: int
    buffer: Buffer
    start: int
    end: int

    def __str__(self) -> str:
        return f"sends {self.first} and {self.second} meet at rank {self.rank}, {self.buffer} {self.start}-{self.end}"


@dataclass(frozen=True, slots=True)
class _Touch:
    """What one send does with bytes `start` to `end` of a memory: reads ("r"), writes ("w") or adds to them ("a")."""

    place: int
    kind: str
    start: int
    end: int


def races(graph: Graph) -> tuple[Race, ...]:
    """Every pair of sends whose order matters and is not fixed. Memory and time grow with the square of the sends."""
    before = _before(graph)
    found: list[Race] = []
    for (rank, buffer), touches in _touches(graph).items():
        for first, second in _meeting(touches):
            early, late = sorted((first.place, second.place))
            if early != late and first.kind + second.kind not in {"rr", "aa"} and not before[late] >> early & 1:
                start, end = max(first.start, second.start), min(first.end, second.end)
                found.append(Race(early, late, rank, buffer, start, end))
    return tuple(found)


def _before(graph: Graph) -> list[int]:
    """For every send, the set of those that are done before it begins, as the bits of an integer."""
    before: list[int] = []
    for send in graph.sends:
        bits = 0
        for earlier in send.after:
            bits |= before[earlier] | 1 << earlier
        before.append(bits)
    return before


def _touches(graph: Graph) -> dict[tuple[int, Buffer], list[_Touch]]:
    """What is done to every memory."""
    touches: dict[tuple[int, Buffer], list[_Touch]] = defaultdict(list)
    for place, send in enumerate(graph.sends):
        if send.size:
            source, target = _memory(graph, send.src, send.from_buffer), _memory(graph, send.dst, send.to_buffer)
            touches[source].append(_Touch(place, "r", send.from_offset, send.from_offset + send.size))
            touches[target].append(_Touch(place, _kind(send), send.to_offset, send.to_offset + send.size))
    return touches


def _kind(send: Send) -> str:
    return "a" if send.reduce else "w"


def _memory(graph: Graph, rank: int, buffer: Buffer) -> tuple[int, Buffer]:
    return (rank, Buffer.OUTPUT if graph.in_place and buffer is Buffer.INPUT else buffer)


def _meeting(touches: list[_Touch]) -> Iterator[tuple[_Touch, _Touch]]:
    """Pairs that share a byte."""
    live: list[_Touch] = []
    for touch in sorted(touches, key=lambda touch: touch.start):
        live = [other for other in live if other.end > touch.start]
        yield from ((other, touch) for other in live)
        live.append(touch)
