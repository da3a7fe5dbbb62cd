"""How fast it could go, and how far from that it was: pure formulas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from topologies.errors import SpecError
from traffic.graph import Graph
from traffic.placement import Placement


def ideal_s(
    matrix: Sequence[Sequence[int]] | np.ndarray[tuple[int, int], np.dtype[np.int64]], rate_bps: float
) -> float:
    """The least time for a byte matrix when every rank sends and receives at `rate_bps`: its largest row or column.

    The diagonal costs nothing. `rate_bps` is of payload: a line's rate times its efficiency.
    """
    sizes = np.array(matrix, dtype=np.float64)
    np.fill_diagonal(sizes, 0)
    return float(max(sizes.sum(axis=0).max(), sizes.sum(axis=1).max())) * 8 / _positive(rate_bps, "rate_bps")


def placed_ideal_s(graph: Graph, placement: Placement, *, efficiency: float = 1.0) -> float:
    """The least time for a graph's bytes: that of its busiest card, each at its own rate.

    What waits for what, and computing, are left out: the makespan (`traffic.step_model`) has them.

    Args:
        efficiency: payload bytes over bytes on the line, 0 to 1 (`wire_efficiency`).
    """
    out, into = placement.rates_bps(), placement.receive_bps()
    share = _share(efficiency)
    loads = placement.loads(graph)
    return max(max(load.sent / out[card], load.received / into[card]) * 8 / share for card, load in loads.items())


def ring_all_reduce_s(
    ranks: int, *, size: int, rate_bps: float, latency_s: float = 0.0, efficiency: float = 1.0
) -> float:
    """F3: 2 (n-1) latencies, and 2 (n-1)/n of the bytes at the slowest link's rate.

    Args:
        latency_s: of one step, from the last byte sent to the next step's first.
    """
    rate = _positive(rate_bps, "rate_bps") * _share(efficiency)
    return 2 * (ranks - 1) * latency_s + 2 * (ranks - 1) / ranks * size * 8 / rate


def wire_efficiency(payload_bytes: int, *, overhead_bytes: int = 82) -> float:
    """Payload over what a full packet of it takes of the line; 82 B is RoCEv2's over IPv4."""
    return payload_bytes / (payload_bytes + overhead_bytes)


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of a list of values: the least of them that so many percent do not exceed."""

    p50: float
    p95: float
    p99: float
    largest: float


def percentiles(values: Sequence[float]) -> Percentiles:
    """By nearest rank: each is one of the values. Raises SpecError for none."""
    if not values:
        raise SpecError("no values", allowed="1 or more")
    ranked = sorted(values)
    p50, p95, p99 = (ranked[math.ceil(percent * len(ranked) / 100) - 1] for percent in (50, 95, 99))
    return Percentiles(p50, p95, p99, ranked[-1])


def slowdowns(durations_s: Sequence[float], ideals_s: Sequence[float]) -> tuple[float, ...]:
    """Each flow's completion time over its time alone at line rate: 1 is as fast as can be."""
    pairs = zip(durations_s, ideals_s, strict=True)
    return tuple(duration / _positive(ideal, "ideal time") for duration, ideal in pairs)


def jain(rates: Sequence[float]) -> float:
    """Jain's fairness index, (sum x)^2 / (n sum x^2): 1 for equal rates, 1/n when one has all.

    Raises SpecError for no rates, a negative one, or all 0: nothing was shared.
    """
    if not rates or min(rates) < 0 or max(rates) <= 0:
        raise SpecError(f"rates {list(rates)}", allowed="1 or more, none below 0, one above")
    return sum(rates) ** 2 / (len(rates) * sum(rate * rate for rate in rates))


def _positive(value: float, word: str) -> float:
    if not value > 0:
        raise SpecError(f"{word} {value}", allowed="more than 0")
    return value


def _share(efficiency: float) -> float:
    if not 0 < efficiency <= 1:
        raise SpecError(f"efficiency {efficiency}", allowed="more than 0, at most 1")
    return efficiency
