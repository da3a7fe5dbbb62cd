"""How unevenly n flows fall on m paths when each picks its path uniformly and independently: the law of Pearson's χ².

    χ² = Σ (cᵢ − n/m)² / (n/m)      cᵢ flows on path i, (c₁ … cₘ) multinomial(n; 1/m … 1/m)

The textbook law, χ² with m−1 degrees of freedom, holds for many flows only, and fails first where this project
looks: far out in the tail. Measured (exact tail ÷ textbook tail, where the exact tail is about 3e-6):

    n, m                64,4    64,8   64,16   64,32   256,8   256,16   1024,16
    upper tail          1.18    2.30   4.05    7.01    1.35    1.59     1.14

With the textbook law a verdict that states one false alarm in 10⁵ would give up to seven. So the law is computed
exactly wherever that takes less than about a second (`EXACT_WORK`), which is up to 285 flows over 2 paths, 434
over 4, 735 over 8, 1179 over 16, 2493 over 64. Beyond, the textbook tail times `SAFETY` stands in. Measured for
m = 2 … 64, for every attainable tail from 1e-2 to 1e-8, just above the switch-over (the ratio falls with n from
there): the upper tail is at most 1.49 times the textbook's; the lower one at most 1.33 times from 12 paths on,
while with fewer its few attainable values make the textbook law useless (ratios of 1.7 and more), so that it is
not offered there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Complex multiply-adds the exact law may cost: 0.6 to 1 s on one core of the CI machines.
EXACT_WORK = 1.5e9
# What the textbook tail is multiplied with, from the measurement above (worst case 1.49).
SAFETY = 1.6
# From so many paths on, the textbook lower tail times SAFETY bounds the exact one.
LOWER_TAIL_PATHS = 12
# Rounding of the transform below: sums of 10⁵ terms of 10⁻¹⁷ each. No probability is stated below it.
RESOLUTION = 1e-12


class Dispersion(Protocol):
    """The law of χ² for one (flows, paths). Both tails are upper bounds on the true probability."""

    @property
    def method(self) -> str:
        """How the probabilities are had, for the evidence."""
        ...

    def at_least(self, chi2: float) -> float:
        """P(χ² ≥ chi2)."""
        ...

    def at_most(self, chi2: float) -> float:
        """P(χ² ≤ chi2); 1 where nothing trustworthy is known."""
        ...

    def allowed(self, upper: float, lower: float) -> tuple[float, float]:
        """The values (least, most) of χ² whose tails stay above `lower` and `upper`."""
        ...


@dataclass(frozen=True, eq=False)
class ExactDispersion:
    """The law as a table: `probability[i]` of the value `chi2[i]`, rising; the far upper end is cut off at 1e-14."""

    chi2: NDArray[np.float64]
    probability: NDArray[np.float64]
    method: str = "exact multinomial"

    def at_least(self, chi2: float) -> float:
        """P(χ² ≥ chi2)."""
        first = int(self.chi2.searchsorted(chi2 - 1e-9))
        return min(1.0, max(RESOLUTION, float(self.probability[first:].sum())))

    def at_most(self, chi2: float) -> float:
        """P(χ² ≤ chi2)."""
        end = int(self.chi2.searchsorted(chi2 + 1e-9))
        return min(1.0, max(RESOLUTION, float(self.probability[:end].sum())))

    def allowed(self, upper: float, lower: float) -> tuple[float, float]:
        """The values (least, most) of χ² whose tails stay above `lower` and `upper`."""
        most = self.chi2[self.probability[::-1].cumsum()[::-1] > upper][-1]
        least = self.chi2[(self.probability.cumsum() > lower) & (self.probability > RESOLUTION)][0]
        return float(least), float(most)


@dataclass(frozen=True, slots=True)
class TextbookDispersion:
    """χ² with paths−1 degrees of freedom, its tails multiplied with SAFETY."""

    paths: int
    method: str = f"chi-square times {SAFETY}"

    def at_least(self, chi2: float) -> float:
        """P(χ² ≥ chi2), at most."""
        from scipy.special import chdtrc

        return min(1.0, max(RESOLUTION, SAFETY * float(chdtrc(self.paths - 1, max(0.0, chi2)))))

    def at_most(self, chi2: float) -> float:
        """P(χ² ≤ chi2), at most; 1 for fewer than LOWER_TAIL_PATHS paths."""
        from scipy.special import chdtr

        if self.paths < LOWER_TAIL_PATHS:
            return 1.0
        return min(1.0, max(RESOLUTION, SAFETY * float(chdtr(self.paths - 1, max(0.0, chi2)))))

    def allowed(self, upper: float, lower: float) -> tuple[float, float]:
        """The values (least, most) of χ² whose tails stay above `lower` and `upper`."""
        from scipy.special import chdtri

        least = 0.0 if self.paths < LOWER_TAIL_PATHS else float(chdtri(self.paths - 1, 1 - lower / SAFETY))
        return least, float(chdtri(self.paths - 1, upper / SAFETY))


@lru_cache(maxsize=64)
def dispersion(flows: int, paths: int) -> Dispersion:
    """The law of χ² for `flows` ≥ 1 flows over `paths` ≥ 2 paths, exact where that is affordable."""
    grid = _Grid.of(flows, paths)
    return _exact(grid) if grid.work <= EXACT_WORK else TextbookDispersion(paths)


def chi_square(counts: tuple[int, ...]) -> float:
    """Pearson's χ² of counts against an even spread; there is at least one flow and one path."""
    flows, paths = sum(counts), len(counts)
    return paths / flows * sum(count * count for count in counts) - flows


def probability_of_even_split(flows: int, paths: int) -> float:
    """The probability of the most even outcome there is, in closed form: n! / Π cᵢ! / mⁿ times its arrangements."""
    each, over = divmod(flows, paths)
    one_arrangement = (
        math.lgamma(flows + 1)
        - over * math.lgamma(each + 2)
        - (paths - over) * math.lgamma(each + 1)
        - flows * math.log(paths)
    )
    return math.exp(one_arrangement + math.log(math.comb(paths, over)))


@dataclass(frozen=True, slots=True)
class _Grid:
    """Sizes of the transform: counts `low` … `high` of one path, `squares` values of Σ(c−base)², `sums` of Σc."""

    flows: int
    paths: int
    base: int
    low: int
    high: int
    squares: int
    sums: int

    @classmethod
    def of(cls, flows: int, paths: int) -> _Grid:
        """Wide enough that what wraps around is below 1e-14: see the two margins."""
        from scipy.special import chdtri

        mean = flows / paths
        base = round(mean)
        # 2.2 times the textbook's 1e-14 quantile; the most uneven outcome is the bound where that is less.
        wide = int(2.2 * float(chdtri(paths - 1, 1e-14)) * mean) + 64
        squares = min(wide, (flows - base) ** 2 + (paths - 1) * base * base) + 2
        squares = 1 << (squares - 1).bit_length()
        # ±16 standard deviations of a Poisson sum.
        sums = 16 * math.isqrt(flows) + 64
        # A count beyond 12 standard deviations (and 30 more, for the skewed small means) has less than 1e-20.
        reach = min(math.isqrt(squares), int(12 * math.sqrt(mean)) + 30)
        return cls(flows, paths, base, max(0, base - reach), min(flows, base + reach), squares, sums)

    @property
    def work(self) -> float:
        """Complex multiply-adds."""
        return self.sums * (self.high - self.low + 1) * self.squares / 2


def _exact(grid: _Grid) -> ExactDispersion:
    """The exact law by characteristic functions.

    A multinomial is m independent Poisson(n/m) counts on the condition that they sum to n. The joint law of
    (Σc, Σ(c−b)²) is the m-fold convolution of one path's; so: transform one path's, take the m-th power, transform
    back at Σc = n, divide by P(Poisson(n) = n).
    """
    import numpy as np
    from scipy.special import gammaln

    n, m, size = grid.flows, grid.paths, grid.squares
    counts = np.arange(grid.low, grid.high + 1)
    weight = np.exp(counts * math.log(n / m) - n / m - gammaln(counts + 1))
    half = size // 2 + 1
    by_square = np.exp(-2j * np.pi / size * (np.outer((counts - grid.base) ** 2, np.arange(half)) % size))
    found = np.zeros(half, dtype=np.complex128)
    for some in np.array_split(np.arange(grid.sums), math.ceil(grid.sums * half / 2_000_000)):  # 32 MB at a time
        by_sum = weight * np.exp(-2j * np.pi / grid.sums * (np.outer(some, counts) % grid.sums))
        found += np.exp(2j * np.pi / grid.sums * (some * n % grid.sums)) @ (by_sum @ by_square) ** m
    given_sum = math.exp(n * math.log(n) - n - math.lgamma(n + 1))
    probability = np.asarray(np.fft.irfft(found / grid.sums, size) / given_sum, dtype=np.float64)
    chi2 = np.asarray(m / n * (np.arange(size) - (n - m * grid.base) ** 2 / m), dtype=np.float64)
    probability[probability < 0] = 0.0
    return ExactDispersion(chi2, probability)
