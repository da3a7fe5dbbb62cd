"""What a collective sends, as a dependency graph: pure values that every engine plays and every reader makes.

A rank is a number from 0; which host and card it is, the caller says (`traffic.placement`). Times are in seconds,
sizes and offsets in bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from topologies.errors import SpecError


class Buffer(StrEnum):
    """Which of a rank's buffers: what it begins with, what it ends with, room in between."""

    INPUT = "input"
    OUTPUT = "output"
    SCRATCH = "scratch"


@dataclass(frozen=True, slots=True)
class Send:
    """One message from rank `src` to rank `dst`.

    It may begin when every send in `after` (places in the graph) is done: one that comes to `src` when its bytes are
    in the buffer, one that `src` sent itself when it was acknowledged. Then `src` computes for `compute_s`, and sends
    `size` bytes that stand at `from_offset` of `from_buffer`. They are copied to `to_offset` of `to_buffer`, or, with
    `reduce`, added to what stands there, element by element.

    Where `src` is `dst` nothing is sent: the rank copies or adds within its own memory, in no time, after
    `compute_s`. Of size 0 it only computes.
    """

    src: int
    dst: int
    size: int
    after: tuple[int, ...] = ()
    from_buffer: Buffer = Buffer.INPUT
    from_offset: int = 0
    to_buffer: Buffer = Buffer.OUTPUT
    to_offset: int = 0
    reduce: bool = False
    step: int = 0
    compute_s: float = 0.0

    @property
    def is_local(self) -> bool:
        """True when it stays within one rank, and no packet is sent."""
        return self.src == self.dst


@dataclass(frozen=True, slots=True)
class Graph:
    """Sends of `ranks` ranks, in an order in which each comes after those it waits for.

    `input_bytes`, `output_bytes` and `scratch_bytes` are what a rank's buffers hold, the largest rank's where they
    differ; `in_place`: input and output are the same memory. `element_bytes` is the size of what `reduce` adds.
    `hosts`: where the ranks stand, in their order, where that is known.
    """

    name: str
    ranks: int
    sends: tuple[Send, ...]
    input_bytes: int = 0
    output_bytes: int = 0
    scratch_bytes: int = 0
    in_place: bool = False
    element_bytes: int = 4
    hosts: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Send]:
        return iter(self.sends)

    @property
    def matrix(self) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        """Bytes from rank i to rank j: M[i, j]. What a rank copies within itself is none of it."""
        sums = np.zeros((self.ranks, self.ranks), dtype=np.int64)
        for send in self.sends:
            if not send.is_local:
                sums[send.src, send.dst] += send.size
        return sums

    def room(self, buffer: Buffer) -> int:
        """Bytes of `buffer`; input and output of one memory are as large as the larger."""
        if self.in_place and buffer is not Buffer.SCRATCH:
            return max(self.input_bytes, self.output_bytes)
        return {
            Buffer.INPUT: self.input_bytes,
            Buffer.OUTPUT: self.output_bytes,
            Buffer.SCRATCH: self.scratch_bytes,
        }[buffer]


def checked(graph: Graph) -> Graph:
    """The same graph, once it is known that it can be played.

    Raises SpecError, with the send's place, for a rank that is not there, a send that waits for a later one (so that
    the graph could hold a circle) or for one its sender cannot see, bytes outside a buffer, a message of no bytes, a
    negative time, and a sum of parts of elements.
    """
    if graph.hosts and len(graph.hosts) != graph.ranks:
        raise SpecError(f"{graph.name}: {len(graph.hosts)} hosts of {graph.ranks} ranks", allowed="a host a rank")
    for place, send in enumerate(graph.sends):
        for found, allowed in _wrongs(graph, place, send):
            raise SpecError(f"{graph.name}, send {place} ({send.src} to {send.dst}): {found}", allowed=allowed)
    return graph


def _wrongs(graph: Graph, place: int, send: Send) -> Iterator[tuple[str, str]]:
    """What is wrong with one send: (found, allowed)."""
    for rank in (send.src, send.dst):
        if not 0 <= rank < graph.ranks:
            yield f"rank {rank}", f"0 to {graph.ranks - 1}"
    if send.size < 0 or (send.size == 0 and not send.is_local):
        yield f"{send.size} bytes", "1 or more, or 0 within a rank"
    if send.compute_s < 0:
        yield f"computes for {send.compute_s} s", "0 or more"
    for earlier in send.after:
        if not 0 <= earlier < place:
            yield f"waits for send {earlier}", f"0 to {place - 1}: one that stands before it"
        elif send.src not in {graph.sends[earlier].src, graph.sends[earlier].dst}:
            yield f"waits for send {earlier}, which rank {send.src} does not see", "one it sends or receives"
    yield from _misplaced(graph, send)


def _misplaced(graph: Graph, send: Send) -> Iterator[tuple[str, str]]:
    """What is wrong with where its bytes come from and go."""
    for word, buffer, offset in (("from", send.from_buffer, send.from_offset), ("to", send.to_buffer, send.to_offset)):
        room = graph.room(buffer)
        if send.size and not 0 <= offset <= room - send.size:
            yield f"{send.size} bytes {word} {offset} of {buffer}", f"inside its {room} bytes"
        if send.reduce and (offset % graph.element_bytes or send.size % graph.element_bytes):
            yield f"adds {send.size} bytes {word} {offset}", f"multiples of the element's {graph.element_bytes} bytes"
