"""What a collective sends, as a dependency graph: pure values that every engine plays and every reader makes.

A rank is a number from 0; which host and card it is, the caller says (`Placement`). Times are in seconds, sizes and
offsets in bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np


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


@dataclass(frozen=True, slots=True)
class Graph:
    """Sends of `ranks` ranks, in an order in which each comes after those it waits for.

    `input_bytes`, `output_bytes` and `scratch_bytes` are what a rank's buffers hold; `in_place`: input and output are
    the same memory.
    """

    name: str
    ranks: int
    sends: tuple[Send, ...]
    input_bytes: int = 0
    output_bytes: int = 0
    scratch_bytes: int = 0
    in_place: bool = False

    def __iter__(self) -> Iterator[Send]:
        return iter(self.sends)

    @property
    def matrix(self) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        """Bytes from rank i to rank j: M[i, j]."""
        sums = np.zeros((self.ranks, self.ranks), dtype=np.int64)
        for send in self.sends:
            sums[send.src, send.dst] += send.size
        return sums
