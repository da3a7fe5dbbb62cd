"""Writing a graph down, send by send: what each waits for follows from the memory it reads."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from topologies.errors import SpecError
from topologies.fabric import Node
from traffic.graph import Buffer, Graph, Send, checked

Ranks = int | Sequence[Node | str]
"""How many ranks, or the host each stands on (one name more than once: a host of several accelerators)."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a rank's memory."""

    buffer: Buffer
    offset: int = 0

    def __add__(self, more: int) -> Place:
        return Place(self.buffer, self.offset + more)


INPUT = Place(Buffer.INPUT)
OUTPUT = Place(Buffer.OUTPUT)


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of a buffer."""

    offset: int
    size: int

    @property
    def end(self) -> int:
        """The first offset past it."""
        return self.offset + self.size


def spans(size: int, parts: int, element: int, *, base: int = 0) -> tuple[Span, ...]:
    """`size` bytes from `base` as `parts` spans of whole elements, as even as can be: the first are longer by one.

    Raises SpecError for a size that is no whole number of elements.
    """
    if element < 1 or size < 0 or size % element:
        raise SpecError(f"{size} bytes of elements of {element}", allowed="a whole number of elements")
    share, longer = divmod(size // element, parts)
    found = []
    for part in range(parts):
        length = (share + (part < longer)) * element
        found.append(Span(base, length))
        base += length
    return tuple(found)


def counted(ranks: Ranks, *, least: int = 2) -> tuple[int, tuple[str, ...]]:
    """How many ranks, and their hosts where they were named. Raises SpecError for fewer than `least`."""
    hosts = () if isinstance(ranks, int) else tuple(str(host) for host in ranks)
    count = ranks if isinstance(ranks, int) else len(hosts)
    if count < least:
        raise SpecError(f"{count} ranks", allowed=f"{least} or more")
    return count, hosts


def power_of_two(ranks: int) -> int:
    """The number of bits of a rank. Raises SpecError when `ranks` is no power of two."""
    if ranks & (ranks - 1):
        raise SpecError(f"{ranks} ranks", allowed="a power of two")
    return ranks.bit_length() - 1


class Score:
    """A graph being written.

    A send waits for those that wrote what it reads, and a copy within a rank also for those that read or wrote where
    it writes. A sender cannot see what happens at its receiver: that nobody still needs what a message overwrites is
    for each algorithm to arrange (`traffic.races` proves it).
    """

    def __init__(self, ranks: Ranks, *, element: int = 4, in_place: bool = False, least: int = 2) -> None:
        self.ranks, self.hosts = counted(ranks, least=least)
        self.element = element
        self.in_place = in_place
        self._sends: list[Send] = []
        self._touched: defaultdict[tuple[int, Buffer], _Touched] = defaultdict(_Touched)
        self._scratch = [0] * self.ranks

    def send(
        self,
        src: int,
        dst: int,
        size: int,
        begin: Place,
        end: Place,
        *,
        reduce: bool = False,
        step: int = 0,
        after: Iterable[int | None] = (),
        compute_s: float = 0.0,
    ) -> int | None:
        """`size` bytes from `begin` at `src` to `end` at `dst`. Gives the send's place, None for no bytes: no send."""
        if size == 0:
            return None
        place = len(self._sends)
        waits = {earlier for earlier in after if earlier is not None}
        waits |= self._memory(src, begin.buffer).read(begin.offset, begin.offset + size, place)
        met = self._memory(dst, end.buffer).write(end.offset, end.offset + size, place, adding=reduce)
        if src == dst:
            waits |= met - {place}
        told = tuple(sorted(waits))
        self._sends.append(
            Send(src, dst, size, told, begin.buffer, begin.offset, end.buffer, end.offset, reduce, step, compute_s)
        )
        return place

    def copy(self, rank: int, size: int, begin: Place, end: Place, *, reduce: bool = False, step: int = 0) -> None:
        """The same within a rank; nothing where both places are the same."""
        if reduce or not self.same(begin, end):
            self.send(rank, rank, size, begin, end, reduce=reduce, step=step)

    def compute(self, rank: int, seconds: float, *, after: Iterable[int | None], step: int = 0) -> int:
        """`rank` computes for `seconds`. Gives its place in the graph."""
        waits = tuple(sorted({earlier for earlier in after if earlier is not None}))
        self._sends.append(Send(rank, rank, 0, waits, step=step, compute_s=seconds))
        return len(self._sends) - 1

    def add_up(
        self,
        src: int,
        dst: int,
        size: int,
        begin: Place,
        own: Place,
        end: Place,
        *,
        step: int,
        after: Iterable[int | None] = (),
    ) -> None:
        """`dst` has at `end` the sum of what stands at `begin` of `src` and at its `own`."""
        if self.same(own, end):
            self.send(src, dst, size, begin, end, reduce=True, step=step, after=after)
        else:
            self.send(src, dst, size, begin, end, step=step, after=after)
            self.copy(dst, size, own, end, reduce=True, step=step)

    def add_staged(self, src: int, dst: int, size: int, begin: Place, end: Place, *, step: int) -> None:
        """`dst` adds what stands at `begin` of `src` to its `end`, by way of room of its own.

        For sums into memory that `dst` may not have filled, or may still be sending, when the message comes.
        """
        if size:
            room = self.scratch(dst, size)
            self.send(src, dst, size, begin, room, step=step)
            self.copy(dst, size, room, end, reduce=True, step=step)

    def add_output(self, src: int, dst: int, span: Span, *, step: int) -> None:
        """`dst` adds `span` of what `src` has in its output to its own.

        In place it stands there from the beginning; out of place it may not be there yet when the message comes.
        """
        at = OUTPUT + span.offset
        if self.in_place:
            self.send(src, dst, span.size, at, at, reduce=True, step=step)
        else:
            self.add_staged(src, dst, span.size, at, at, step=step)

    def scratch(self, rank: int, size: int) -> Place:
        """Room at `rank` that nothing else uses."""
        room = Place(Buffer.SCRATCH, self._scratch[rank])
        self._scratch[rank] += size
        return room

    def everywhere(self, size: int) -> Place:
        """Room that nothing else uses, at the same place of every rank."""
        at = max(self._scratch)
        self._scratch = [at + size] * self.ranks
        return Place(Buffer.SCRATCH, at)

    def same(self, one: Place, other: Place) -> bool:
        """True when both are the same memory."""
        return self._buffer(one.buffer) is self._buffer(other.buffer) and one.offset == other.offset

    def writers(self, rank: int, begin: Place, size: int) -> tuple[int, ...]:
        """The sends that filled `size` bytes from `begin` of `rank`: who waits for them may use the bytes."""
        if size == 0:
            return ()
        return tuple(sorted(self._memory(rank, begin.buffer).wrote(begin.offset, begin.offset + size)))

    def graph(self, name: str, *, input_bytes: int, output_bytes: int) -> Graph:
        """What was written, checked."""
        return checked(
            Graph(
                name,
                self.ranks,
                tuple(self._sends),
                input_bytes,
                output_bytes,
                max(self._scratch, default=0),
                self.in_place,
                self.element,
                self.hosts,
            )
        )

    def _buffer(self, buffer: Buffer) -> Buffer:
        return Buffer.OUTPUT if self.in_place and buffer is Buffer.INPUT else buffer

    def _memory(self, rank: int, buffer: Buffer) -> _Touched:
        return self._touched[rank, self._buffer(buffer)]


class _Touched:
    """Who wrote and who has since read each stretch of one memory."""

    def __init__(self) -> None:
        self._starts = [0]
        self._marks: list[tuple[frozenset[int], frozenset[int]]] = [(frozenset(), frozenset())]

    def read(self, start: int, end: int, place: int) -> set[int]:
        """Note a reader; gives the writers."""
        met: set[int] = set()
        for stretch in self._stretches(start, end):
            writers, readers = self._marks[stretch]
            met |= writers
            self._marks[stretch] = (writers, readers | {place})
        return met

    def wrote(self, start: int, end: int) -> set[int]:
        """The writers, and nothing noted."""
        return set().union(*(self._marks[stretch][0] for stretch in self._stretches(start, end)))

    def write(self, start: int, end: int, place: int, *, adding: bool) -> set[int]:
        """Note a writer; gives those that wrote before, or read what they wrote."""
        met: set[int] = set()
        for stretch in self._stretches(start, end):
            writers, readers = self._marks[stretch]
            met |= writers | readers
            self._marks[stretch] = (writers | {place} if adding else frozenset({place}), frozenset())
        return met

    def _stretches(self, start: int, end: int) -> range:
        return range(self._cut(start), self._cut(end))

    def _cut(self, at: int) -> int:
        stretch = bisect_left(self._starts, at)
        if stretch == len(self._starts) or self._starts[stretch] != at:
            self._starts.insert(stretch, at)
            self._marks.insert(stretch, self._marks[stretch - 1])
        return stretch
