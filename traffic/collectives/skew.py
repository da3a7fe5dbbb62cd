"""Uneven byte matrices for alltoallv: M[i][j] bytes from rank i to rank j, the diagonal stays within the rank."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from topologies.errors import SpecError

Matrix = tuple[tuple[int, ...], ...]


def square(matrix: Sequence[Sequence[int]], *, element: int = 1) -> Matrix:
    """The same as tuples.

    Raises SpecError, with row and column, unless it is square, of 2 ranks or more, and of whole elements.
    """
    rows = tuple(tuple(int(size) for size in row) for row in matrix)
    if len(rows) < 2:
        raise SpecError(f"a matrix of {len(rows)} rows", allowed="2 or more")
    for place, row in enumerate(rows):
        if len(row) != len(rows):
            raise SpecError(f"row {place} has {len(row)} columns", allowed=f"{len(rows)}, as many as there are rows")
        for column, size in enumerate(row):
            if size < 0 or size % element:
                raise SpecError(f"row {place}, column {column}: {size} bytes", allowed=f"0 or a multiple of {element}")
    return rows


def shared_out(total: int, weights: Sequence[float]) -> tuple[int, ...]:
    """`total` whole things by `weights`: nobody is a whole thing off, and they sum up (largest remainders first)."""
    scale = total / sum(weights)
    floors = [int(weight * scale) for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda place: floors[place] - weights[place] * scale)
    for place in by_remainder[: total - sum(floors)]:
        floors[place] += 1
    return tuple(floors)


def zipf_weights(ranks: int, *, alpha: float, seed: int | None = None) -> tuple[float, ...]:
    """Shares of 1 that fall as 1/k^alpha: rank 0 has the most, or, with a seed, ranks in a drawn order.

    Raises SpecError for an alpha below 0 (0: all the same).
    """
    if ranks < 1 or alpha < 0:
        raise SpecError(f"alpha {alpha} of {ranks} ranks", allowed="alpha 0 or more, ranks 1 or more")
    weights = [math.pow(place + 1, -alpha) for place in range(ranks)]
    if seed is not None:
        random.Random(seed).shuffle(weights)  # noqa: S311 - to be repeated, not a secret
    return tuple(weight / sum(weights) for weight in weights)


def zipf_matrix(ranks: int, *, size: int, alpha: float, element: int = 4, seed: int | None = None) -> Matrix:
    """Every rank sends `size` bytes in all, the same share of it to the same ranks: columns are skewed.

    Measured routers of mixtures of experts are near alpha 0.3 to 0.5; 1.2 is stress.
    """
    if size % element:
        raise SpecError(f"{size} bytes of elements of {element}", allowed="a whole number of elements")
    weights = zipf_weights(ranks, alpha=alpha, seed=seed)
    row = tuple(count * element for count in shared_out(size // element, weights))
    return (row,) * ranks


def spread_matrix(ranks: int, *, size: int, spread: float = 1.0) -> Matrix:
    """nccl-tests' generated pattern: more to ranks further on, while all send and receive the same in all.

    Args:
        size: bytes a rank sends in all; rounded down to 16 bytes a peer, before and after they are shared out.
        spread: 0, everybody the same, to 1, by distance alone (NCCL_TESTS_ALLTOALLV_SPREAD).

    Source: nccl-tests src/alltoallv.cu. Raises SpecError for a spread out of 0 to 1.
    """
    if not 0 <= spread <= 1:
        raise SpecError(f"spread {spread}", allowed="0 to 1")
    total = size // ranks // 16 * 16 * ranks
    distances = ranks * (ranks - 1) // 2
    by_distance = [
        int((1.0 - spread) * (total / ranks) + spread * (distance * total / distances)) // 16 * 16
        for distance in range(ranks)
    ]
    return tuple(tuple(by_distance[(dst - src) % ranks] for dst in range(ranks)) for src in range(ranks))


def column_skew(matrix: Sequence[Sequence[int]]) -> float:
    """The largest column sum over the mean one: what skew costs at least (λ)."""
    columns = [sum(column) for column in zip(*matrix, strict=True)]
    return float(max(columns) * len(columns) / sum(columns))


def gini(loads: Sequence[float]) -> float:
    """Gini coefficient: 0, all the same, to 1 - 1/n, one has all."""
    count, total = len(loads), sum(loads)
    ranked: float = sum((2 * place - count - 1) * load for place, load in enumerate(sorted(loads), start=1))
    return float(ranked / (count * total))
