"""What a scenario's claims measured, over its repeats: p50, p95 and the longest, and how sure that is. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from labs.verdicts import Verdict
from labs.verdicts.repeats import CONFIDENCE, Spread, spread

NO_END = float("inf")


@dataclass(frozen=True, slots=True)
class Number:
    """Where a claim's number stands in its evidence, what it is, and in which unit. `scale` makes it that unit's."""

    key: str
    what: str
    unit: str
    scale: float = 1.0


NUMBERS: Mapping[str, Number] = MappingProxyType(
    {
        "recovered": Number("longest_ms", "longest outage", "ms"),
        "came_back": Number("back_ms", "back on their paths after", "ms"),
        "detected": Number("after_s", "detected after", "ms", 1000.0),
        "busbw_reached": Number("busbw_mbit", "bus bandwidth", "Mbit/s"),
        "busbw_scaled": Number("busbw_mbit_with", "bus bandwidth", "Mbit/s"),
        "pause_share": Number("paused", "paused", "of the time"),
    }
)


@dataclass(frozen=True, slots=True)
class OverRepeats:
    """A number of a claim, called as the claim is, over the runs that count."""

    claim: str
    number: Number
    spread: Spread

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON; a number without end is null."""
        found = self.spread
        return {
            "claim": self.claim,
            "what": self.number.what,
            "unit": self.number.unit,
            "runs": found.count,
            "p50": _finite(found.p50),
            "p50_between": [_finite(one) for one in found.p50_between],
            "p95": _finite(found.p95),
            "p95_between": [_finite(one) for one in found.p95_between],
            "max": _finite(found.most),
            "max_covers": round(found.covers, 3),
            "confidence": CONFIDENCE,
        }

    @property
    def cells(self) -> tuple[str, ...]:
        """The columns of a table: runs, p50 and its interval, p95 and its, the longest, and what that covers."""
        found = self.spread
        p50, p95, most = (_said(one) for one in (found.p50, found.p95, found.most))
        between = _range(found.p50_between), _range(found.p95_between)
        return str(found.count), p50, between[0], p95, between[1], most, f"{found.covers:.0%}"

    def __str__(self) -> str:
        unit = self.number.unit
        runs, p50, p50_between, p95, p95_between, most, covers = self.cells
        return (
            f"{self.claim}: {self.number.what} p50 {p50} ({p50_between}), p95 {p95} ({p95_between}), "
            f"max {most} {unit} in {runs} runs: {covers} of all runs are not above that, "
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
        values.setdefault(place, []).extend(_values(verdict.evidence.numbers[number.key], number.scale))
    spreads = ((called[place], spread(found)) for place, found in sorted(values.items()))
    return tuple(OverRepeats(name, number, found) for (number, name), found in spreads if found is not None)


def _values(found: object, scale: float) -> list[float]:
    """A number, or several; what has none had no end."""
    several: list[Any] = found if isinstance(found, list) else [found]
    return [NO_END if one is None else float(one) * scale for one in several]


def _finite(number: float | None) -> float | None:
    return None if number is None or number == NO_END else round(number, 3)


def _said(number: float) -> str:
    return "without end" if number == NO_END else f"{number:.4g}"


def _range(between: tuple[float | None, float | None]) -> str:
    low, high = ("?" if one is None else _said(one) for one in between)
    return f"{low} to {high}"
