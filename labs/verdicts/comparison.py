"""Is B slower than A? Timings of paired rounds, judged by the exact signed-rank interval of their log ratios.

A round measures A and B one after the other, with the same seed; the next round in the other order. Its result is
one number, D = ln(b / a). What is stated is the ratio b/a: the Hodges–Lehmann estimate (the median of all means of
two rounds) and the interval of those means that Wilcoxon's signed-rank test does not reject.

Why this interval, and not a t interval of the differences:

- A and B are exchangeable when nothing differs between them, so D is symmetric about 0 *exactly*, however skewed,
  heavy-tailed or bimodal the noise of a timing is; with B = ratio × A it is symmetric about ln ratio. That is all the
  test needs: its coverage is exact for every n, not in the limit. Ties (timings are polled) only widen it.
- The t interval needs normal differences where it matters most here, far out in the tail with few rounds: a timing
  that takes one of two values makes a spread of zero, and a false alarm, once in 2ⁿ⁻¹.
- The price: n rounds cannot state less than 2⁻ⁿ. `least_rounds()` says how many are needed, and fewer are refused;
  with so few the limits are the extreme rounds. From `sturdy_rounds()` on, the default, one outlier decides nothing.

Measured, 24 000 comparisons each, how often one limit is wrong (tests/unit/verdicts/test_comparison.py, with fewer):

    n, stated       normal    exp. tail   log-normal   5 × outliers   two modes   polled (ties)
    10, 0.0250      0.0241    0.0257      0.0235       0.0252         0.0248      0.0008
    24, 0.0250      0.0252    0.0248      0.0251       0.0253         0.0257      0.0002

What it does not cover: B with noise of another *shape* than A's. The interval then is one for the pseudomedian of D,
which need not be the ratio of the medians: where only B has an exponential tail of 10 %, a limit stated at 1e-4 is
wrong 3e-4 of the time, one stated at 2.5 % 11 % of it. No such limit came to lie beyond the margin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import accumulate
from statistics import median, stdev

from labs.verdicts import Evidence, Verdict

# The probability that all statements of one comparison hold together. An alarm is wrong on the slow side only, which
# is half of the rest: 5e-4 a comparison, so that in a month of 30 nights that compare an image with itself a false
# alarm has a probability of at most 1.5 %. (At most: it would take a true difference just at the margin. With no
# difference at all the whole interval would have to lie beyond the margin, which is far rarer.)
CONFIDENCE = 0.999
# A difference below this fraction is no regression.
MARGIN = 0.10
# More rounds than this are a night's work, and the table of the signed-rank law grows with their cube.
MOST_ROUNDS = 200
# Timings are rounded to milliseconds; nothing is taken to be faster than that.
RESOLUTION_S = 0.001


class Outcome(StrEnum):
    """What a comparison found."""

    NO_SLOWER = "no slower"
    FASTER = "faster"
    SLOWER = "slower"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Interval:
    """The ratio b/a: an estimate, and the limits it lies between with the stated confidence."""

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{percent(self.estimate)} ({percent(self.low)} … {percent(self.high)})"


@dataclass(frozen=True, slots=True)
class Timing:
    """One timing of A and B in paired rounds (seconds), and what follows from it.

    `ratio` is None when too few rounds have both values. `tail` is the probability that one limit of the interval
    is wrong. `rounds_needed` is None when nothing is undecided, or when more than MOST_ROUNDS would be needed.
    """

    metric: str
    a: tuple[float, ...]
    b: tuple[float, ...]
    margin: float
    tail: float
    ratio: Interval | None
    outcome: Outcome
    rounds_needed: int | None = None

    @property
    def words(self) -> str:
        """What was found; for an undecided timing also how far it is from a decision."""
        if self.ratio is None:
            return f"undecided: {len(self.a)} rounds have both values, {least_rounds(self.tail)} are needed"
        if self.outcome is not Outcome.UNDECIDED:
            return str(self.outcome)
        width = math.sqrt(self.ratio.high / self.ratio.low) - 1
        more = f"about {self.rounds_needed}" if self.rounds_needed else f"more than {MOST_ROUNDS}"
        return f"undecided: ±{width:.1%} with {len(self.a)} rounds, needs {more}"

    @property
    def summary(self) -> str:
        """The same in one sentence, with the numbers."""
        return f"{self.ratio}: {self.words}" if self.ratio else self.words

    @property
    def verdict(self) -> Verdict:
        """The claim that B is no slower. False: the whole interval lies beyond the margin. Invalid: undecided."""
        numbers: dict[str, object] = {
            "outcome": str(self.outcome),
            "rounds": len(self.a),
            "a_median_s": _median(self.a),
            "b_median_s": _median(self.b),
            "ratio": round(self.ratio.estimate, 4) if self.ratio else None,
            "interval": [round(self.ratio.low, 4), round(self.ratio.high, 4)] if self.ratio else None,
            "margin": self.margin,
            "tail": self.tail,
            "rounds_needed": self.rounds_needed,
        }
        rows = tuple(f"A {a:.3f} s, B {b:.3f} s" for a, b in zip(self.a, self.b, strict=True))
        claim = f"{self.metric}: B is no more than {self.margin:.0%} slower than A"
        verdict = Verdict(claim, self.outcome is not Outcome.SLOWER, Evidence(self.summary, numbers, rows))
        return verdict.invalid(self.words) if self.outcome is Outcome.UNDECIDED else verdict


@dataclass(frozen=True, slots=True)
class Settling:
    """In how many rounds A and B came to rest: converged, routed around a cut link, and back. `rows` tell of misses."""

    a: int
    b: int
    rounds: int
    outcome: Outcome
    rows: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The claim that B comes to rest wherever A does."""
        said = f"A in {self.a} of {self.rounds} rounds, B in {self.b} of {self.rounds}: {_SETTLING[self.outcome]}"
        numbers: dict[str, object] = {"outcome": str(self.outcome), "a": self.a, "b": self.b, "rounds": self.rounds}
        held = self.outcome is not Outcome.SLOWER
        return Verdict("B settles no less often than A", held, Evidence(said, numbers, self.rows))


_SETTLING = {
    Outcome.NO_SLOWER: "no less often",
    Outcome.FASTER: "more often",
    Outcome.SLOWER: "less often",
    Outcome.UNDECIDED: "undecided",
}


def tail_of(confidence: float, claims: int) -> float:
    """The probability that one limit may be wrong, when all limits of `claims` claims are to hold together.

    Bonferroni: the timings of one run depend on each other in ways nobody knows.
    """
    return (1 - confidence) / 2 / claims


def least_rounds(tail: float) -> int:
    """The fewest rounds, an even number, whose interval can be wrong on one side as rarely as `tail`."""
    rounds = math.ceil(-math.log2(tail))
    return rounds + rounds % 2


def sturdy_rounds(tail: float) -> int:
    """The fewest rounds, an even number, of which one may be as wrong as it likes without moving a limit far.

    One round is in n of the n(n+1)/2 means; a limit further in than that lies among the others.
    """
    rounds = least_rounds(tail)
    while _limit(rounds, tail) <= rounds:
        rounds += 2
    return rounds


def compare_timings(metric: str, pairs: Sequence[tuple[float, float]], *, margin: float, tail: float) -> Timing:
    """Judge one timing by its paired values (a, b) in seconds; `margin` is a fraction of A's."""
    a, b = tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)
    logs = [math.log(max(b, RESOLUTION_S) / max(a, RESOLUTION_S)) for a, b in pairs]
    found = signed_rank_interval(logs, tail)
    if found is None:
        return Timing(metric, a, b, margin, tail, None, Outcome.UNDECIDED)
    estimate, low, high = found
    most = math.log1p(margin)
    outcome = Outcome.UNDECIDED
    if low > most:
        outcome = Outcome.SLOWER
    elif high < -most:
        outcome = Outcome.FASTER
    elif high < most:
        outcome = Outcome.NO_SLOWER
    ratio = Interval(math.exp(estimate), math.exp(low), math.exp(high))
    needed = _rounds_needed(logs, most - estimate, tail) if outcome is Outcome.UNDECIDED else None
    return Timing(metric, a, b, margin, tail, ratio, outcome, needed)


def compare_settling(pairs: Sequence[tuple[bool, bool]], *, tail: float, rows: Sequence[str] = ()) -> Settling:
    """Judge how often A and B came to rest, by round.

    Not to settle in the time allowed is no matter of noise but a false verdict in itself: where A always did, a
    single time is enough to say that B does so less often. Where A too fails at times, the rounds in which only one
    of them failed decide, by the exact binomial law (McNemar).
    """
    a, b = sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
    only_a, only_b = sum(x and not y for x, y in pairs), sum(y and not x for x, y in pairs)
    told = tuple(rows)
    if b == a == len(pairs) or (b >= a and not only_a):
        return Settling(a, b, len(pairs), Outcome.FASTER if b > a else Outcome.NO_SLOWER, told)
    if b > a:
        return Settling(a, b, len(pairs), Outcome.NO_SLOWER, told)
    differ = only_a + only_b
    chance = sum(math.comb(differ, k) for k in range(only_a, differ + 1)) / 2**differ
    worse = (a == len(pairs) > b) or (b < a and chance <= tail)
    return Settling(a, b, len(pairs), Outcome.SLOWER if worse else Outcome.UNDECIDED, told)


def signed_rank_interval(differences: Sequence[float], tail: float) -> tuple[float, float, float] | None:
    """(estimate, low, high) of the centre of a symmetric law; each limit is wrong with a probability of at most `tail`.

    None when there are too few differences to say so.
    """
    k = _limit(len(differences), tail)
    if k == 0:
        return None
    walsh = sorted((x + y) / 2 for i, x in enumerate(differences) for y in differences[i:])
    return median(walsh), walsh[k - 1], walsh[-k]


def _limit(n: int, tail: float) -> int:
    """Which mean of two rounds is a limit, counted from either end: the largest k with P(T ≤ k−1) ≤ tail, or 0."""
    allowed = tail * 2**n
    return sum(count <= allowed for count in _subsets_by_sum(n))


@lru_cache(maxsize=64)
def _subsets_by_sum(n: int) -> tuple[int, ...]:
    """How many subsets of 1 … n have a sum of at most 0, 1, 2, …: the signed-rank law times 2ⁿ, its lower half."""
    most = n * (n + 1) // 4
    ways = [1] + [0] * most
    for rank in range(1, n + 1):
        for total in range(most, rank - 1, -1):
            ways[total] += ways[total - rank]
    return tuple(accumulate(ways))


def _rounds_needed(logs: Sequence[float], gap: float, tail: float) -> int | None:
    """About how many rounds put the interval on one side of the margin, `gap` away, three times of four.

    By the t interval of the same confidence, wider by √(π/3), which is what ranks cost on normal noise; the estimate
    itself wanders by 0.67 standard errors to the wrong side one time of four.
    """
    from scipy.special import stdtrit

    spread = stdev(logs) * math.sqrt(math.pi / 3)
    for rounds in range(len(logs) + 2 + len(logs) % 2, MOST_ROUNDS + 1, 2):
        if (float(stdtrit(rounds - 1, 1 - tail)) + 0.67) * spread / math.sqrt(rounds) < abs(gap):
            return rounds
    return None


def percent(ratio: float) -> str:
    """A ratio as people say it: 1.1 is ``+10.0 %``."""
    return f"{(ratio - 1) * 100:+.1f} %".replace("-", "−")


def _median(values: Sequence[float]) -> float | None:
    return round(median(values), 4) if values else None
