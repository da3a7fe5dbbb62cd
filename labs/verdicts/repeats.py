"""A budget over repeats: how often was it kept, and what does that say of the next time? And a number over repeats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

from labs.verdicts import Evidence, Verdict

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Repeat:
    """One measurement in seconds; `invalid_because` where it cannot vouch for itself."""

    took_s: float
    invalid_because: str | None = None


def kept_in(
    repeats: Sequence[Repeat], *, what: str, budget_s: float, share: float = 0.95, least_valid: int = 1
) -> Verdict:
    """Judge that a budget was kept in at least `share` of the valid repeats: 19 of 20.

    Evidence: p50, p95 and the longest, and what so many successes prove of the next time, by the exact binomial
    (Clopper and Pearson, one-sided): at least that share of runs keeps it, with 95 % confidence. 20 of 20 prove 86 %.

    Invalid when fewer than `least_valid` repeats are valid, unless so many broke the budget that no further one could
    mend it.
    """
    valid = sorted(one.took_s for one in repeats if one.invalid_because is None)
    reasons = [one.invalid_because for one in repeats if one.invalid_because is not None]
    kept = sum(took <= budget_s for took in valid)
    needed = math.ceil(share * max(len(valid), least_valid) - 1e-9)
    verdict = Verdict(
        f"{what} keeps {1000 * budget_s:g} ms in {share:.0%} of repeats",
        kept >= needed and bool(valid),
        Evidence(
            f"{kept} of {len(valid)} valid repeats ({len(repeats)} started) kept it",
            {
                "p50_ms": _ms(percentile(valid, 0.5)),
                "p95_ms": _ms(percentile(valid, 0.95)),
                "max_ms": _ms(valid[-1] if valid else None),
                "kept": kept,
                "needed": needed,
                "valid": len(valid),
                "started": len(repeats),
                "proves": round(proven_share(kept, len(valid)), 3),
                "confidence": CONFIDENCE,
            },
            tuple(f"invalid: {reason}" for reason in reasons),
        ),
        # Each repeat was judged with its own starvation: what is left was kept, or broken on a sound workstation.
        budget_s=None,
    )
    hopeless = len(valid) - kept > max(len(valid), least_valid) - needed
    if len(valid) < least_valid and not hopeless:
        return verdict.invalid(f"{len(valid)} repeats are valid, {least_valid} are needed: {'; '.join(reasons[:3])}")
    return verdict


@dataclass(frozen=True, slots=True)
class Spread:
    """What a number came to in so many repeats; infinite where it had no end.

    `p50_between` and `p95_between` hold the percentile of all runs with 95 % confidence, whatever their distribution
    is; an end is None where so few repeats say nothing of it. `covers` is the share of all runs that, with the same
    confidence, does not exceed `most`.
    """

    count: int
    p50: float
    p95: float
    most: float
    p50_between: tuple[float | None, float | None]
    p95_between: tuple[float | None, float | None]
    covers: float


def spread(values: Sequence[float]) -> Spread | None:
    """How a number is spread over repeats; None without any."""
    ranked = sorted(values)
    p50, p95 = percentile(ranked, 0.5), percentile(ranked, 0.95)
    if p50 is None or p95 is None:
        return None
    between = (percentile_between(ranked, 0.5), percentile_between(ranked, 0.95))
    return Spread(len(ranked), p50, p95, ranked[-1], *between, covers=proven_share(len(ranked), len(ranked)))


def percentile_between(
    ranked: Sequence[float], share: float, confidence: float = CONFIDENCE
) -> tuple[float | None, float | None]:
    """Between which of a rising list's values the percentile of all runs is, by order statistics.

    Of n values B are below it, and B is binomial (n, share). The l-th value is not above it where l or more are below,
    the u-th not below it where fewer than u are: l and u leave half of what is not confidence to each side.
    """
    tail, below = (1 - confidence) / 2, stats.binom(len(ranked), share)
    first = max((at for at in range(1, len(ranked) + 1) if below.cdf(at - 1) <= tail), default=0)
    last = next((at for at in range(1, len(ranked) + 1) if below.cdf(at - 1) >= 1 - tail), 0)
    return ranked[first - 1] if first else None, ranked[last - 1] if last else None


def percentile(ranked: Sequence[float], share: float) -> float | None:
    """The least value that `share` of a rising list does not exceed; None of an empty list."""
    return ranked[max(0, math.ceil(share * len(ranked) - 1e-9) - 1)] if ranked else None


def proven_share(kept: int, of: int, confidence: float = CONFIDENCE) -> float:
    """The share of all runs of which `kept` successes in `of` are proof, with this confidence."""
    return float(stats.beta.ppf(1 - confidence, kept, of - kept + 1)) if kept else 0.0


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None or seconds == float("inf") else round(1000 * seconds, 2)
