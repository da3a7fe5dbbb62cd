"""nccl-tests' matrix of an alltoallv: bytes from rank i (row) to rank j (column), words between blanks.

    100  200  150
    50   100  75
    300  150  200

As nccl-tests reads it (src/alltoallv.cu): cells are times `scale` and rounded down to 16 bytes, of a matrix larger than
the ranks the first rows and columns count, and a rank's data lie in the order of its peers, its own part among them.
A rank's part for itself (the diagonal) is a copy within it.
Stricter: `nan`, `inf` and hexadecimal numbers are refused, and so are cells past `MOST_SIZE`.
"""

from __future__ import annotations

from fractions import Fraction
from math import isfinite
from pathlib import Path

import numpy as np

from topologies.errors import SpecError
from traffic.graph import Graph, Send
from traffic.workloads.source import MOST_RANKS, MOST_SENDS, MOST_SIZE, Line, decoded, lines, read_bytes, whole_file

ALIGNMENT = 16
Matrix = np.ndarray[tuple[int, int], np.dtype[np.int64]]


def read(path: Path, *, ranks: int | None = None, scale: float = 1.0) -> Graph:
    """The graph of a matrix file.

    Args:
        ranks: how many of its rows and columns count, from the first; None: all.
        scale: what every cell is multiplied with.

    Raises SpecError with line and column.
    """
    return parse(read_bytes(path), str(path), ranks=ranks, scale=scale)


def parse(content: bytes, file: str, *, ranks: int | None = None, scale: float = 1.0) -> Graph:
    """As `read()`, from memory; `file` is what errors call it."""
    return graph_of(parse_matrix(content, file, ranks=ranks, scale=scale), file)


def read_matrix(path: Path, *, scale: float = 1.0) -> Matrix:
    """The matrix of a file, its diagonal too. Raises SpecError with line and column."""
    return parse_matrix(read_bytes(path), str(path), scale=scale)


def parse_matrix(content: bytes, file: str, *, ranks: int | None = None, scale: float = 1.0) -> Matrix:
    """As `read_matrix()`, from memory; `ranks` as in `read()`."""
    if not isfinite(scale) or scale < 0:
        raise SpecError(f"scale is {scale}", allowed="a finite number from 0")
    factor = Fraction(scale)
    rows: list[list[int]] = []
    for line in lines(decoded(content, file), file):
        _expect_columns(line, rows)
        rows.append([_cell(line, column, factor) for column in range(len(line.words))])
    if not rows:
        raise whole_file(file, "found no line", "a square matrix of bytes")
    if len(rows) != len(rows[0]):
        found = f"found {len(rows)} rows of {len(rows[0])} columns"
        raise whole_file(file, found, f"a square matrix: {len(rows[0])} rows")
    if not 2 <= (wanted := len(rows) if ranks is None else ranks) <= len(rows):
        raise whole_file(file, f"{wanted} ranks of a matrix of {len(rows)}", f"2 to {max(2, len(rows))}")
    return np.array([row[:wanted] for row in rows[:wanted]], dtype=np.int64)


def graph_of(matrix: Matrix, name: str) -> Graph:
    """All messages of a byte matrix at once: M[i, j] bytes from rank i to rank j.

    Raises SpecError past `MOST_SENDS` messages.
    """
    ranks = len(matrix)
    starts = np.zeros_like(matrix)  # where in i's input the part for j begins
    starts[:, 1:] = np.cumsum(matrix, axis=1)[:, :-1]
    lands = np.zeros_like(matrix)  # where in j's output the part of i begins
    lands[1:, :] = np.cumsum(matrix, axis=0)[:-1, :]
    if (count := int(np.count_nonzero(matrix))) > MOST_SENDS:
        raise whole_file(name, f"found {count} messages", f"at most {MOST_SENDS}")
    # Rank i begins with itself, then its neighbour i + 1: not everybody with rank 0.
    sends = tuple(
        Send(src, dst, int(matrix[src, dst]), from_offset=int(starts[src, dst]), to_offset=int(lands[src, dst]))
        for distance in range(ranks)
        for src in range(ranks)
        if matrix[src, dst := (src + distance) % ranks]
    )
    return Graph(
        name=f"alltoallv of {name}",
        ranks=ranks,
        sends=sends,
        input_bytes=int(matrix.sum(axis=1).max()),
        output_bytes=int(matrix.sum(axis=0).max()),
    )


def _expect_columns(line: Line, rows: list[list[int]]) -> None:
    columns = len(rows[0]) if rows else len(line.words)
    if columns > MOST_RANKS:
        raise line.error(f"found {columns} columns", allowed=f"at most {MOST_RANKS}", word=MOST_RANKS)
    if len(line.words) != columns:
        word = min(len(line.words), columns)
        raise line.error(f"found {len(line.words)} columns", allowed=f"{columns}, as in the first row", word=word)
    if len(rows) == columns:
        raise line.error(f"found row {len(rows) + 1} of {columns} columns", allowed="as many rows as columns", word=0)


def _cell(line: Line, column: int, factor: Fraction) -> int:
    what = f"bytes to rank {column}"
    bytes_meant = line.decimal(column, what, MOST_SIZE)
    # nccl-tests multiplies in long double: exact fractions round down to the same whole bytes, doubles would not.
    scaled = int(Fraction(bytes_meant) * factor)
    if scaled > MOST_SIZE:
        raise line.error(f"{what}, scaled, is {scaled}", allowed=f"at most {MOST_SIZE}", word=column)
    return scaled - scaled % ALIGNMENT
