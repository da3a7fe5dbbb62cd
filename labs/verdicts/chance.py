"""Balls in bins, exactly: how many of m members n flows use, how many the busiest gets, and sums of such numbers.

    used      P(U = u) after one flow more: a flow finds one of the u used members with u/m, a new one with (m - u)/m
    busiest   P(max <= k) = n!/mⁿ · [xⁿ] (Σᵢ₌₀ᵏ xⁱ/i!)ᵐ, the multinomial's counts of at most k each; here as m
              independent Poisson(n/m) counts of at most k, on the condition that they sum to n
    sums      of independent draws: one law convolved with the other

Every flow is independent and uniform: what a good hash makes of flows that differ in what it reads. Laws are arrays,
`law[v]` being the probability of the value v. Probabilities below `RESOLUTION` are not told from it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from labs.errors import SpecError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Law = NDArray[np.float64]

RESOLUTION = 1e-15
# 1000 flows over 16 members take half a second, and the time grows with their square.
MOST_FLOWS = 20_000


@lru_cache(maxsize=256)
def used_law(flows: int, members: int) -> Law:
    """The law of how many of `members` some flows use. Raises SpecError for no members, or flows beyond MOST_FLOWS."""
    import numpy as np

    _checked(flows, members)
    law = np.zeros(min(flows, members) + 1)
    law[0] = 1.0
    used = np.arange(len(law))
    for _ in range(flows):
        stays, comes = law * used / members, law * (members - used) / members
        law = stays
        law[1:] += comes[:-1]
    return law


@lru_cache(maxsize=64)
def busiest_law(flows: int, members: int) -> Law:
    """The law of how many flows the busiest of `members` gets. Raises as `used_law` does."""
    import numpy as np
    from scipy.special import gammaln

    _checked(flows, members)
    mean = flows / members
    counts = np.arange(flows + 1)
    poisson = np.exp(counts * math.log(mean) - mean - gammaln(counts + 1)) if flows else np.ones(1)
    whole = math.exp(flows * math.log(flows) - flows - math.lgamma(flows + 1)) if flows else 1.0
    at_most = np.zeros(flows + 1)
    for most in range(math.ceil(mean), flows + 1):
        at_most[most] = _power(poisson[: most + 1], members, flows)[flows] / whole
        if at_most[most] > 1 - RESOLUTION or poisson[most] * members < whole * RESOLUTION / 10:
            at_most[most:] = 1.0
            break
    return np.trim_zeros(np.maximum(np.diff(at_most, prepend=0.0), 0.0), "b")


def sum_of(laws: Iterable[Law]) -> Law:
    """The law of the sum of independent numbers."""
    import numpy as np

    total = np.ones(1)
    for law in laws:
        total = np.convolve(total, law)
    return total


def at_most(law: Law, value: int) -> float:
    """P(number <= value)."""
    return min(1.0, float(law[: max(0, value + 1)].sum()))


def at_least(law: Law, value: int) -> float:
    """P(number >= value)."""
    return min(1.0, float(law[max(0, value) :].sum()))


def mean_of(law: Law) -> float:
    """The expected number."""
    return float(sum(value * chance for value, chance in enumerate(law)))


def allowed(law: Law, tail: float) -> tuple[int, int]:
    """The least and the largest value whose own tail, on its side, is above `tail`."""
    lower, upper = law.cumsum(), law[::-1].cumsum()[::-1]
    return int((lower > tail).argmax()), int(len(law) - 1 - (upper > tail)[::-1].argmax())


def binomial_tails(count: int, of: int, p: float) -> tuple[float, float]:
    """(P(X <= count), P(X >= count)) of a binomial number."""
    from scipy.special import bdtr, bdtrc

    return float(bdtr(count, of, p)), float(bdtrc(count - 1, of, p)) if count else 1.0


def binomial_allowed(of: int, p: float, tail: float) -> tuple[int, int]:
    """The least and the largest count of a binomial number whose own tail is above `tail`."""
    from scipy.special import bdtr

    lower: Sequence[float] = [float(bdtr(count, of, p)) for count in range(of + 1)]
    least = next(count for count, chance in enumerate(lower) if chance > tail)
    most = max((count for count in range(1, of + 1) if 1 - lower[count - 1] > tail), default=0)
    return least, most


def _power(law: Law, times: int, most: int) -> Law:
    """A law convolved with itself, values beyond `most` left out."""
    import numpy as np

    total, square = np.ones(1), law
    while times:
        if times & 1:
            total = np.convolve(total, square)[: most + 1]
        times >>= 1
        square = np.convolve(square, square)[: most + 1] if times else square
    padded = np.zeros(most + 1)
    padded[: len(total)] = total
    return padded


def _checked(flows: int, members: int) -> None:
    if members < 1 or not 0 <= flows <= MOST_FLOWS:
        raise SpecError(f"{flows} flows over {members} members", allowed=f"0 to {MOST_FLOWS} flows, 1 member or more")
