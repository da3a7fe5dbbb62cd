"""What a scenario's claims measured, over its repeats: p50, the bad end of it, and how sure that is. Pure.

The bad end is p95 and the longest, or of what is bad when it is low p5 and the least.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from labs.verdicts import Verdict
from labs.verdicts.repeats import CONFIDENCE, Spread, spread

NO_END = float("inf")


@dataclass(frozen=True, slots=True)
class Number:
    """Where a claim's number stands in its evidence, what it is, and in which unit. `scale` makes it that unit's.

    `low`: it is bad when it is low.
    """

    key: str
    what: str
    unit: str
    scale: float = 1.0
    low: bool = False


NUMBERS: Mapping[str, Number] = MappingProxyType(
    {
        "recovered": Number("longest_ms", "longest outage", "ms"),
        "came_back": Number("back_ms", "back on their paths after", "ms"),
        "detected": Number("after_s", "detected after", "ms", 1000.0),
        "busbw_reached": Number("busbw_mbit", "bus bandwidth", "Mbit/s", low=True),
        "busbw_scaled": Number("busbw_mbit_with", "bus bandwidth", "Mbit/s", low=True),
        "pause_share": Number("paused", "paused", "of the time"),
    }
)


@dataclass(frozen=True, slots=True)
class OverRepeats:
    """A number of a claim, called as the claim is, over the runs that count. `spread` has its bad end at the top."""

    claim: str
    number: Number
    spread: Spread

    @property
    def names(self) -> tuple[str, str]:
        """What its bad percentile and its worst are called."""
        return ("p5", "min") if self.number.low else ("p95", "max")

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON; a number without end is ``{"endless": true}``, and null is one that is not known."""
        found, (bad, worst) = self.spread, self.names
        return {
            "claim": self.claim,
            "what": self.number.what,
            "unit": self.number.unit,
            "runs": found.count,
            "p50": _finite(found.p50),
            "p50_between": [_finite(one) for one in found.p50_between],
            bad: _finite(found.p95),
            f"{bad}_between": [_finite(one) for one in found.p95_between],
            worst: _finite(found.most),
            f"{worst}_covers": round(found.covers, 3),
            "confidence": CONFIDENCE,
        }

    @property
    def cells(self) -> tuple[str, ...]:
        """The columns of a table: runs, p50 and its interval, the bad percentile and its, the worst, what it covers."""
        found = self.spread
        p50, p95, most = (_said(one) for one in (found.p50, found.p95, found.most))
        between = _range(found.p50_between), _range(found.p95_between)
        return str(found.count), p50, between[0], p95, between[1], most, f"{found.covers:.0%}"

    def __str__(self) -> str:
        unit = self.number.unit
        runs, p50, p50_between, p95, p95_between, most, covers = self.cells
        (bad, worst), beyond = self.names, "below" if self.number.low else "above"
        return (
            f"{self.claim}: {self.number.what} p50 {p50} ({p50_between}), {bad} {p95} ({p95_between}), "
            f"{worst} {most} {unit} in {runs} runs: {covers} of all runs are not {beyond} that, "
            f"with {CONFIDENCE:.0%} confidence"
        )


def over_repeats(seen: Iterable[tuple[int, str, str, Verdict]]) -> tuple[OverRepeats, ...]:
    """The numbers of claims: of each verdict the claim's place in its scenario, its word, what it is called, itself."""
    values: dict[int, list[float]] = {}
    called: dict[int, tuple[Number, str]] = {}
    for place, word, name, verdict in seen:
        number = NUMBERS.get(word)
        if number is None or not verdict.valid or number.key not in verdict.evidence.numbers:
            continue
        called[place] = number, name
        values.setdefault(place, []).extend(_values(verdict.evidence.numbers[number.key], number))
    spreads = ((called[place], _spread(found, called[place][0])) for place, found in sorted(values.items()))
    return tuple(OverRepeats(name, number, found) for (number, name), found in spreads if found is not None)


def _spread(values: Sequence[float], number: Number) -> Spread | None:
    """With the bad end at the top: of what is bad when it is low, that of the numbers turned round, turned back."""
    found = spread(values)
    turned = spread([-one for one in values])
    if not number.low or found is None or turned is None:
        return found
    low, high = turned.p95_between
    between = (None if high is None else -high, None if low is None else -low)
    return replace(found, p95=-turned.p95, p95_between=between, most=-turned.most)


def _values(found: object, number: Number) -> list[float]:
    """A number, or several; what has none had no end, and a bandwidth of nothing."""
    several: list[Any] = found if isinstance(found, list) else [found]
    none = 0.0 if number.low else NO_END
    return [none if one is None else float(one) * number.scale for one in several]


def _finite(number: float | None) -> float | dict[str, bool] | None:
    if number == NO_END:
        return {"endless": True}
    return None if number is None else round(number, 3)


def _said(number: float) -> str:
    return "without end" if number == NO_END else f"{number:.4g}"


def _range(between: tuple[float | None, float | None]) -> str:
    low, high = ("?" if one is None else _said(one) for one in between)
    return f"{low} to {high}"
