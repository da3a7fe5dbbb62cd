"""Bandwidths as nccl-tests defines them, and the sizes it really runs (2.19: src/*.cu, doc/PERFORMANCE.md).

algbw is bytes over time. busbw is what the slowest link of a ring or star would have to carry: it compares with a
link's rate, for any number of ranks. GB is 10^9 bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from topologies.errors import SpecError
from topologies.units import GIB, KIB, MIB

GB = 1e9
ALIGNMENT = 16  # bytes that a rank's share is rounded down to


class Collective(StrEnum):
    """nccl-tests' programs; the value is the program's name without its ``_perf``."""

    ALL_REDUCE = "all_reduce"
    ALL_GATHER = "all_gather"
    REDUCE_SCATTER = "reduce_scatter"
    ALL_TO_ALL = "alltoall"
    ALL_TO_ALL_V = "alltoallv"
    BROADCAST = "broadcast"
    REDUCE = "reduce"
    GATHER = "gather"
    SCATTER = "scatter"
    SEND_RECV = "sendrecv"
    HYPERCUBE = "hypercube"

    @property
    def program(self) -> str:
        """The program's name."""
        return f"{self}_perf"

    @property
    def reduces(self) -> bool:
        """True when it adds: its lines then name the operation, others say none."""
        return self in {Collective.ALL_REDUCE, Collective.REDUCE_SCATTER, Collective.REDUCE}

    @property
    def rooted(self) -> bool:
        """True when it has a root: its lines name it, others say -1."""
        return self in {Collective.BROADCAST, Collective.REDUCE, Collective.GATHER, Collective.SCATTER}

    @property
    def checked_in_place(self) -> bool:
        """False where nccl-tests says N/A for what is wrong in place: there is no such call, and none is run."""
        return self not in {Collective.ALL_TO_ALL, Collective.ALL_TO_ALL_V, Collective.SEND_RECV}


_WHOLE = {Collective.ALL_REDUCE, Collective.BROADCAST, Collective.REDUCE, Collective.SEND_RECV}
_FACTORS: Mapping[Collective, Callable[[int], float]] = {
    Collective.ALL_REDUCE: lambda ranks: 2 * (ranks - 1) / ranks,
    Collective.ALL_GATHER: lambda ranks: (ranks - 1) / ranks,
    Collective.REDUCE_SCATTER: lambda ranks: (ranks - 1) / ranks,
    Collective.ALL_TO_ALL: lambda ranks: (ranks - 1) / ranks,
    Collective.ALL_TO_ALL_V: lambda ranks: (ranks - 1) / ranks,
    Collective.GATHER: lambda ranks: (ranks - 1) / ranks,
    Collective.SCATTER: lambda ranks: (ranks - 1) / ranks,
    Collective.BROADCAST: lambda _ranks: 1.0,
    Collective.REDUCE: lambda _ranks: 1.0,
    Collective.SEND_RECV: lambda _ranks: 1.0,
    Collective.HYPERCUBE: lambda _ranks: 1.0,
}


@dataclass(frozen=True, slots=True)
class Size:
    """What one line of a table runs: `size` bytes in its first column, `count` elements in its second."""

    size: int
    count: int


def rounded(collective: Collective, size: int, *, ranks: int, element: int = 4) -> Size:
    """What is run when `size` bytes are asked for: whole elements, and where ranks share them, of 16 bytes a share.

    Raises SpecError for fewer than two ranks, or a size or element below 1.
    """
    if ranks < 2 or size < 0 or element < 1:
        raise SpecError(f"{size} bytes of elements of {element} for {ranks} ranks", allowed="2 ranks or more")
    elements = size // element
    if collective in _WHOLE:
        return Size(elements * element, elements)
    whole = max(1, ALIGNMENT // element)
    share = elements // ranks // whole * whole
    return Size(share * ranks * element, share)


def sizes(least: int, most: int, *, factor: int = 1, step: int = MIB) -> Iterator[int]:
    """Bytes from `least` to `most`, each `factor` times the last, or, where that is 1, `step` more.

    Raises SpecError for a least size below 1 or above the most, a factor or step below 1.
    """
    if not 1 <= least <= most or factor < 1 or step < 1:
        found = f"sizes from {least} to {most}, factor {factor}, step {step}"
        raise SpecError(found, allowed="1 <= least <= most, a factor and a step of 1 or more")
    size = least
    while size <= most:
        yield size
        size = size * factor if factor > 1 else size + step


def parse_size(text: str) -> int:
    """Bytes of ``"8"``, ``"32M"``, ``"1.5G"``: binary units, as nccl-tests reads them. Raises SpecError."""
    units = {"": 1, "K": KIB, "M": MIB, "G": GIB}
    digits, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    try:
        size = float(digits) * units[unit]
    except (KeyError, ValueError):
        size = -1.0
    if not 0 <= size < 1 << 63:
        raise SpecError(f"size {text!r}", allowed="a number, and K, M or G (1024, 1024^2, 1024^3)")
    return int(size)


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """In GB/s: bytes over time, and what a link has to carry for it."""

    alg_bw: float
    bus_bw: float


def bandwidth(
    collective: Collective,
    took_s: float,
    *,
    size: int,
    ranks: int,
) -> Bandwidth:
    """Both bandwidths of one collective.

    Args:
        size: bytes, as `rounded` gave them (nccl-tests' first column); of alltoallv the largest row or column of the
            matrix (`busiest`).

    Raises SpecError for a time that is not above 0, or fewer than two ranks.
    """
    if not took_s > 0 or ranks < 2:
        raise SpecError(f"{took_s} s, {ranks} ranks", allowed="a time above 0, 2 ranks or more")
    moved = size * (ranks - 1) / ranks if collective is Collective.HYPERCUBE else size
    alg_bw = moved / GB / took_s
    return Bandwidth(alg_bw, alg_bw * factor(collective, ranks))


def factor(collective: Collective, ranks: int) -> float:
    """How busbw compares with algbw. A hypercube's algbw counts only what comes from others, so its factor is 1."""
    return _FACTORS[collective](ranks)


def busiest(matrix: Sequence[Sequence[int]]) -> int:
    """The size of an alltoallv: the most that one rank sends or receives, what it keeps included."""
    rows = [sum(row) for row in matrix]
    columns = [sum(column) for column in zip(*matrix, strict=True)]
    return int(max(rows + columns))


def ideal_s(collective: Collective, *, size: int, ranks: int, rate_bps: float) -> float:
    """The least time at `rate_bps` a rank, whatever the algorithm: at it busbw is the rate (doc/PERFORMANCE.md).

    For gather and scatter the root's link is what counts, for alltoallv its busiest rank's, less what it keeps.
    """
    if not rate_bps > 0:
        raise SpecError(f"rate_bps {rate_bps}", allowed="more than 0")
    moved = size * (ranks - 1) / ranks if collective is Collective.HYPERCUBE else size
    return moved * factor(collective, ranks) * 8 / rate_bps
