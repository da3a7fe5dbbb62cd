"""Verdicts: a claim, whether it held, whether the run could vouch for it, and the evidence.

Every judge in this package is a pure function of records and the oracle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from enum import StrEnum

from labs.errors import RunInvalid

# One statistical verdict may call a sound fabric broken this often. A nightly run of some 300 such verdicts
# (every spread test on two backends, with repeats) then has 300 × 1e-5 = 0.003 false alarms a night: fewer
# than one in a hundred nights.
FALSE_ALARM = 1e-5


class Fidelity(StrEnum):
    """How close what was judged is to a switch: the kernel's real forwarding, our emulation, or settings only."""

    REAL = "real"
    EMULATED = "emulated"
    CONFIG_ONLY = "config-only"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a verdict rests on: a sentence, the numbers, and rows worth showing."""

    summary: str
    numbers: Mapping[str, object] = field(default_factory=dict)
    rows: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        return {"summary": self.summary, **self.numbers, **({"rows": list(self.rows)} if self.rows else {})}

    def __str__(self) -> str:
        numbers = "\n".join(f"  {key}: {value}" for key, value in self.numbers.items())
        rows = "\n".join(f"  {row}" for row in self.rows)
        return "\n".join(part for part in (self.summary, numbers, rows) if part)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judged claim. `bool()` of it is `held`, or raises RunInvalid when the run cannot vouch for itself.

    `budget_s` is the time limit that was judged, None for a claim without time in it: `health.vouch` derives from
    it how starved the workstation may have been. `watched`: that was judged by a watch of its own moment, or by
    stamps of the kernel, so a whole run's worst moment is not held against it.
    """

    claim: str
    held: bool
    evidence: Evidence
    valid: bool = True
    invalid_because: str | None = None
    fidelity: Fidelity = Fidelity.REAL
    budget_s: float | None = None
    watched: bool = False

    def invalid(self, because: str) -> Verdict:
        """The same verdict, marked as resting on a run that cannot vouch for itself."""
        return replace(self, valid=False, invalid_because=because)

    def as_dict(self) -> dict[str, object]:
        """The fields of `verdicts.json`."""
        return {
            "claim": self.claim,
            "held": self.held,
            "valid": self.valid,
            "invalid_because": self.invalid_because,
            "evidence": self.evidence.as_dict(),
            "fidelity": str(self.fidelity),
        }

    def __bool__(self) -> bool:
        vouch, listener = _vouch.get(), _listener.get()
        seen = self if vouch is None else vouch(self)
        if listener is not None:
            listener.append(seen)
        if not seen.valid:
            raise RunInvalid(f"{seen.claim}: {seen.invalid_because}\n{seen.evidence}")
        return seen.held

    def __str__(self) -> str:
        word = "held" if self.held else "FALSE"
        if not self.valid:
            word = f"INVALID ({self.invalid_because})"
        return f"{self.claim}: {word}\n{self.evidence}"

    def __repr__(self) -> str:
        word = "invalid" if not self.valid else "held" if self.held else "false"
        return f"<{self.claim}: {word}; {self.evidence.summary}>"


_vouch: ContextVar[Callable[[Verdict], Verdict] | None] = ContextVar("railbed-vouch", default=None)
_listener: ContextVar[list[Verdict] | None] = ContextVar("railbed-verdicts", default=None)


@contextmanager
def judged() -> Iterator[list[Verdict]]:
    """Collect every verdict that is asked for its truth inside the block: the pytest plugin shows their evidence."""
    seen: list[Verdict] = []
    token = _listener.set(seen)
    try:
        yield seen
    finally:
        _listener.reset(token)


@contextmanager
def vouched(vouch: Callable[[Verdict], Verdict]) -> Iterator[None]:
    """Have every verdict that is asked for its truth inside the block vouched for first, by who watches a run."""
    token = _vouch.set(vouch)
    try:
        yield
    finally:
        _vouch.reset(token)
