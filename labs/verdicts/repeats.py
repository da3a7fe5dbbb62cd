"""A budget over repeats: how often was it kept, and what does that say of the next time?"""

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


def percentile(ranked: Sequence[float], share: float) -> float | None:
    """The least value that `share` of a rising list does not exceed; None of an empty list."""
    return ranked[max(0, math.ceil(share * len(ranked) - 1e-9) - 1)] if ranked else None


def proven_share(kept: int, of: int, confidence: float = CONFIDENCE) -> float:
    """The share of all runs of which `kept` successes in `of` are proof, with this confidence."""
    return float(stats.beta.ppf(1 - confidence, kept, of - kept + 1)) if kept else 0.0


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None or seconds == float("inf") else round(1000 * seconds, 2)
