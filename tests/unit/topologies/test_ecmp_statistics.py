"""Laws of hashing that do not depend on a switch, tried on the model: spread, polarisation, disruption.

No flow is random here and no seed is: every run has the same numbers. The bounds are as wide as another choice of
seeds would need.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import repeat
from math import factorial, sqrt
from random import Random
from statistics import fmean, stdev

import pytest
from scipy.special import chdtrc

from topologies.ecmp import FIVE_TUPLE, EcmpMode, EcmpRule, HashAlgorithm, HashField, Headers
from topologies.ecmp_model import State, group_of, pick, shares
from topologies.resilient import fresh_buckets, rebucket
from topologies.switch_hash import flow_hash, hashed_bytes, mix, raw_hash

CHANCE = Random(20_240_804)
SEEDS = [CHANCE.getrandbits(32) for _ in range(400)]
ROCE = FIVE_TUPLE | HashField.DST_QP


def headers(host: int, sport: int = 49152, pair: int | None = None) -> Headers:
    src, dst = bytes((10, 1, host >> 8, host & 255)), bytes((10, 2, host >> 8, host & 255))
    return Headers(0, bytes(6), bytes(6), 0x0800, 17, src, dst, sport, 4791, queue_pair=pair)


def raws(flows: Iterable[Headers], fields: HashField = FIVE_TUPLE) -> list[int]:
    """What is left to mix with a seed: the same for every seed."""
    return [raw_hash(hashed_bytes(flow, fields), HashAlgorithm.CRC) for flow in flows]


def loads(hashed: Sequence[int], paths: int, seed: int) -> list[int]:
    counts = Counter(h % paths for h in map(mix, hashed, repeat(seed)))
    return [counts[path] for path in range(paths)]


def test_the_short_cut_is_the_model() -> None:
    rule, group = EcmpRule(EcmpMode.ROCE, fields=ROCE, seed=SEEDS[0]), group_of(range(1, 5), [1] * 4, [1] * 4)
    flows = [headers(host, pair=host % 7) for host in range(40)]
    picks = [pick(rule, flow, group, State(), 0, 1) for flow in flows]
    assert [one.place for one in picks if one] == [h % 4 for h in map(mix, raws(flows, ROCE), repeat(SEEDS[0]))]
    assert [one.h for one in picks if one] == [flow_hash(rule, flow) for flow in flows]


def test_a_thousand_queue_pairs_on_sixteen_paths() -> None:
    """Meta's imbalance: max/mean 1.229 expected. Mean of 100 seeds 1.20 to 1.26, each seed 1.08 to 1.53 (99.9 %).

    Control: the five-tuple alone, the source port being fixed and the pairs being 16, cannot reach that.
    """
    flows = [headers(pair % 16, pair=0x100 + pair) for pair in range(1000)]
    told, untold = raws(flows, ROCE), raws(flows)
    worst = [max(loads(told, 16, seed)) * 16 / 1000 for seed in SEEDS[:100]]
    assert 1.20 <= fmean(worst) <= 1.26
    assert all(1.08 <= one <= 1.53 for one in worst)
    blind = [max(loads(untold, 16, seed)) * 16 / 1000 for seed in SEEDS[:100]]
    assert fmean(blind) > 2


def expected_max(flows: int, paths: int) -> float:
    """E[max] of balls in bins, exactly: P(max ≤ k) = n!/mⁿ × [xⁿ] (Σ_{j≤k} xʲ/j!)ᵐ."""
    at_most: list[float] = []
    one_over = [1 / factorial(n) for n in range(flows + 1)]
    for k in range(flows + 1):
        power = [1.0] + [0.0] * flows
        for _ in range(paths):
            power = [sum(power[n - j] * one_over[j] for j in range(min(k, n) + 1)) for n in range(flows + 1)]
        at_most.append(power[flows] * factorial(flows) / paths**flows)
    return sum(1 - p for p in at_most)


@pytest.mark.parametrize(("pairs", "table_max", "table_used"), [(1, 2.13, 0.683), (4, 6.14, 0.990), (16, 20.2, 1.0)])
def test_more_queue_pairs_use_more_paths(pairs: int, table_max: float, table_used: float) -> None:
    """Four connections over four paths with 1, 4, 16 queue pairs each, hashed with them: 4, 16, 64 balls in 4 bins.

    Over S = 400 seeds a mean lies within 4 s/√S of its expectation (6 in 100 000), s being the sample's deviation;
    where every seed says the same, within what one of S seeds could add. The used fraction is expected as
    1 − (1 − 1/m)ⁿ. Control: without the queue pair all pairs of a connection go one way, so that the busiest path is
    as bad as with one each, and no more paths are used.
    """
    flows = [headers(host, pair=0x200 + pair) for host in range(4) for pair in range(pairs)]
    n, paths = len(flows), 4
    exact, used = expected_max(n, paths), 1 - (1 - 1 / paths) ** n
    assert exact == pytest.approx(table_max, abs=0.05)
    assert used == pytest.approx(table_used, abs=0.001)
    told, untold = raws(flows, ROCE), raws(flows)
    found = [loads(told, paths, seed) for seed in SEEDS]
    for expected, seen in (
        (exact, [float(max(one)) for one in found]),
        (used, [sum(map(bool, one)) / paths for one in found]),
    ):
        assert fmean(seen) == pytest.approx(expected, abs=max(4 * stdev(seen) / sqrt(len(seen)), 1 / len(seen)))
    blind = [loads(untold, paths, seed) for seed in SEEDS]
    spread = 4 * pairs * stdev(max(one) / pairs for one in blind) / sqrt(len(blind))
    assert fmean(max(one) for one in blind) == pytest.approx(pairs * expected_max(4, paths), abs=spread)
    assert fmean(sum(map(bool, one)) / paths for one in blind) == pytest.approx(0.683, abs=0.05)


def second_tier(raw: Sequence[int], paths: int, seeds: tuple[int, int], offset: int = 0) -> list[list[int]]:
    """Flows on each uplink of each switch of the second tier; the first tier's choice is the switch."""
    found = [[0] * paths for _ in range(paths)]
    for one in raw:
        found[mix(one, seeds[0]) % paths][mix(one, seeds[1], offset) % paths] += 1
    return found


def evenness(switches: Sequence[Sequence[int]]) -> float:
    """The p-value of all switches' χ² together, m(m−1) degrees of freedom."""
    total = sum((c - sum(ports) / len(ports)) ** 2 / (sum(ports) / len(ports)) for ports in switches for c in ports)
    return float(chdtrc(sum(len(ports) - 1 for ports in switches), total))


@pytest.mark.parametrize("paths", [2, 4, 8])
def test_one_seed_for_two_tiers_polarises(paths: int) -> None:
    """Every switch of the second tier uses one of its m uplinks: max/mean = m. Another seed, or offset, heals it."""
    raw = raws(headers(host, 49152 + host) for host in range(2000))
    polarised = second_tier(raw, paths, (SEEDS[0], SEEDS[0]))
    assert [max(ports) * paths / sum(ports) for ports in polarised] == [paths] * paths
    assert evenness(polarised) < 1e-12
    for seed in SEEDS[1:11]:
        assert evenness(second_tier(raw, paths, (SEEDS[0], seed))) > 0.001
    assert evenness(second_tier(raw, paths, (SEEDS[0], SEEDS[0]), offset=5)) > 0.001


def test_a_seed_that_is_only_xored_into_a_crc_would_not_heal_it() -> None:
    """Why there is a finaliser: without it the second tier's choice is the first's with another name."""
    raw = raws(headers(host, 49152 + host) for host in range(2000))
    assert len({((one ^ SEEDS[0]) % 4, (one ^ SEEDS[1]) % 4) for one in raw}) == 4
    assert len({(mix(one, SEEDS[0]) % 4, mix(one, SEEDS[1]) % 4) for one in raw}) == 16


FLOWS = [mix(one, SEEDS[0]) for one in raws(headers(host, 49152 + host) for host in range(10_000))]


@pytest.mark.parametrize("n", [4, 8, 16])
@pytest.mark.parametrize("lost", [0, 2])
def test_who_moves_when_a_next_hop_is_lost(n: int, lost: int) -> None:
    """Modulo moves (n−1)/n of the flows. Resilient moves exactly the lost member's: 1/n of the buckets.

    Of 10 000 flows a fraction p lies within 4√(p(1−p)/10 000) of its expectation. The control is modulo itself: most
    of the flows it moves were on members that stayed.
    """
    ports, left = list(range(n)), [port for port in range(n) if port != lost]
    before, after = [ports[h % n] for h in FLOWS], [left[h % (n - 1)] for h in FLOWS]
    moved = [a != b for a, b in zip(before, after, strict=True)]
    assert fmean(moved) == pytest.approx((n - 1) / n, abs=4 * sqrt((n - 1) / n / n / len(FLOWS)))
    assert sum(was != lost for was, went in zip(before, moved, strict=True) if went) > sum(moved) / 2

    table = fresh_buckets(n)
    renewed, buckets = rebucket(ports, table, left)
    assert len(buckets) == 256 // n
    on = [ports[table[h % 256]] for h in FLOWS]
    assert [left[renewed[h % 256]] != was for h, was in zip(FLOWS, on, strict=True)] == [was == lost for was in on]


@pytest.mark.parametrize(("n", "lost", "part"), [(4, 0, 1 / 2), (4, 1, 1 / 3), (8, 0, 1 / 2), (16, 0, 1 / 2)])
def test_equal_shares_move_as_a_hash_threshold_does(n: int, lost: int, part: float) -> None:
    """RFC 2992: an edge's loss moves half of all flows, one in the middle a quarter to a third."""
    left = [port for port in range(n) if port != lost]
    wide, narrow = shares([1] * n), shares([1] * (n - 1))
    moved = [bisect_left(wide, h) != left[bisect_left(narrow, h)] for h in FLOWS]
    assert fmean(moved) == pytest.approx(part, abs=4 * sqrt(0.25 / len(FLOWS)))
