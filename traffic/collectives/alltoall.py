"""Everybody to everybody (Bruck et al. 1997)."""

from __future__ import annotations

from collections.abc import Sequence

from topologies.errors import SpecError
from traffic.collectives.score import INPUT, OUTPUT, Place, Ranks, Score, counted, power_of_two
from traffic.collectives.skew import Matrix, square
from traffic.graph import Graph


def all_to_all(
    ranks: Ranks, *, size: int, element: int = 4, in_place: bool = False, in_flight: int | None = 1, xor: bool = False
) -> Graph:
    """Rank i's j-th share becomes rank j's i-th. Pairwise: in step k rank i sends to i + k.

    Args:
        size: bytes of a rank's input (nccl-tests' S); every share has S/n.
        in_flight: in how many steps a rank is at once; None for all, as NCCL's grouped sends are.
        xor: in step k rank i exchanges with i XOR k; for powers of two.

    Raises SpecError for a size that does not divide by ranks and elements.
    """
    count, _ = counted(ranks)
    matrix = ((even_share(size, count, element),) * count,) * count
    score = Score(ranks, element=element, in_place=in_place)
    pairwise(score, matrix, in_flight=in_flight, xor=xor)
    return score.graph(f"pairwise all-to-all of {count}", input_bytes=size, output_bytes=size)


def all_to_allv(
    ranks: Ranks,
    matrix: Sequence[Sequence[int]],
    *,
    element: int = 4,
    in_place: bool = False,
    in_flight: int | None = 1,
) -> Graph:
    """Rank i sends M[i][j] bytes to rank j, pairwise. Buffers hold the blocks by rank, without gaps.

    Raises SpecError for a matrix that is not square, not of these ranks or not of whole elements.
    """
    count, _ = counted(ranks)
    rows = square(matrix, element=element)
    if len(rows) != count:
        raise SpecError(f"a matrix of {len(rows)} ranks for {count}", allowed="a row a rank")
    score = Score(ranks, element=element, in_place=in_place)
    pairwise(score, rows, in_flight=in_flight)
    most_in = max(sum(row) for row in rows)
    most_out = max(sum(column) for column in zip(*rows, strict=True))
    return score.graph(f"alltoallv of {count}", input_bytes=most_in, output_bytes=most_out)


def bruck_all_to_all(ranks: Ranks, *, size: int, element: int = 4, in_place: bool = False) -> Graph:
    """As `all_to_all` in log2 n steps: step k hands the blocks that have 2^k of their way left on by 2^k ranks.

    A step is one message: its blocks are packed first. Bytes of step k: S/n for every distance below n with bit k.
    """
    count, _ = counted(ranks)
    block = even_share(size, count, element)
    score = Score(ranks, element=element, in_place=in_place)
    holds = [[INPUT + (rank + far) % count * block for far in range(count)] for rank in range(count)]
    for bit in range((count - 1).bit_length()):
        moved = [far for far in range(count) if far >> bit & 1]
        packed = [_packed(score, rank, [holds[rank][far] for far in moved], block, bit) for rank in range(count)]
        for src in range(count):
            dst = (src + (1 << bit)) % count
            room = score.scratch(dst, block * len(moved))
            score.send(src, dst, block * len(moved), packed[src], room, step=bit)
            for nth, far in enumerate(moved):
                holds[dst][far] = room + nth * block
    for rank in range(count):
        for far in range(1, count):
            score.copy(rank, block, holds[rank][far], OUTPUT + (rank - far) % count * block)
        score.copy(rank, block, INPUT + rank * block, OUTPUT + rank * block)
    return score.graph(f"Bruck all-to-all of {count}", input_bytes=size, output_bytes=size)


def even_share(size: int, count: int, element: int) -> int:
    """Bytes of one of `count` equal shares. Raises SpecError for a size that has none of whole elements."""
    if size < 0 or size % (count * element):
        allowed = f"a multiple of {count * element}: {count} ranks, elements of {element} bytes"
        raise SpecError(f"{size} bytes", allowed=allowed)
    return size // count


def pairwise(
    score: Score,
    matrix: Matrix,
    *,
    begin: Place = INPUT,
    end: Place = OUTPUT,
    in_flight: int | None = 1,
    xor: bool = False,
    step: int = 0,
) -> None:
    """Blocks of `matrix` from `begin` on to `end` on. In place what comes waits aside until its room is free.

    A rank begins a step when what it sent `in_flight` steps before was acknowledged, and what it was sent then came.
    """
    count = len(matrix)
    if in_flight is not None and in_flight < 1:
        raise SpecError(f"{in_flight} steps in flight", allowed="1 or more, or None for all")
    if xor:
        power_of_two(count)
    starts = [_starts(row) for row in matrix]
    lands = [_starts(column) for column in zip(*matrix, strict=True)]
    aside = score.same(begin, end)
    rounds: list[list[tuple[int, int | None]]] = []
    come: list[tuple[int, int, Place, Place]] = []
    for turn in range(1, count):
        gates = dict(_gates(rounds, turn - in_flight - 1)) if in_flight and turn > in_flight else {}
        sent: list[tuple[int, int | None]] = []
        for src in range(count):
            dst = src ^ turn if xor else (src + turn) % count
            size, target = matrix[src][dst], end + lands[dst][src]
            room = score.scratch(dst, size) if aside else target
            after = gates.get(src, ())
            place = score.send(src, dst, size, begin + starts[src][dst], room, step=step + turn - 1, after=after)
            sent += [(src, place), (dst, place)]
            come.append((dst, size, room, target))
        rounds.append(sent)
    _own_blocks(score, matrix, begin, end, starts, lands)
    if aside:
        for rank, size, room, target in come:
            score.copy(rank, size, room, target, step=step + count - 1)


def _gates(rounds: list[list[tuple[int, int | None]]], turn: int) -> dict[int, list[int | None]]:
    """Every rank's sends, of and to it, in one round."""
    gates: dict[int, list[int | None]] = {}
    for rank, place in rounds[turn]:
        gates.setdefault(rank, []).append(place)
    return gates


def _own_blocks(
    score: Score, matrix: Matrix, begin: Place, end: Place, starts: list[list[int]], lands: list[list[int]]
) -> None:
    """The diagonal. In place it may have to move past itself, so it goes by way of scratch room."""
    for rank, row in enumerate(matrix):
        source, target = begin + starts[rank][rank], end + lands[rank][rank]
        if score.same(begin, end) and not score.same(source, target):
            room = score.scratch(rank, row[rank])
            score.copy(rank, row[rank], source, room)
            source = room
        score.copy(rank, row[rank], source, target)


def _starts(sizes: Sequence[int]) -> list[int]:
    """Where each block begins."""
    starts, at = [], 0
    for size in sizes:
        starts.append(at)
        at += size
    return starts


def _packed(score: Score, rank: int, blocks: Sequence[Place], block: int, step: int) -> Place:
    """Copies of `blocks` side by side."""
    room = score.scratch(rank, block * len(blocks))
    for nth, begin in enumerate(blocks):
        score.copy(rank, block, begin, room + nth * block, step=step)
    return room
