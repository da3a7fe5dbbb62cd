"""WRED and ECN: SONiC's curve on the instantaneous depth, at enqueue for drops and at dequeue for marks.

Draws come from a seeded sequence, so a test here says the same every time. How far a share may lie from its
probability is nevertheless derived: an exact binomial interval that an honest curve leaves once in 10^9 times. With n
draws it is some 6 standard deviations wide to each side, 6 sqrt(p (1 - p) / n): for p = 5 % and n = 40 000 +- 0.7 %,
which tells each depth tested from its neighbours, and P from P - 1 %.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from scipy.stats import binom

from labs.dataplane import abi

if TYPE_CHECKING:
    from tests.dataplane.conftest import Bench

PASS, DROP = -1, 2
OUT, CAME = 3, 1
QUEUE = 3
KMIN, KMAX, PMAX = 10_000, 50_000, 0.25
DRAWS, MARKS = 40_000, 4_000
ONCE_IN = 1e9
NOT_ECT, ECT_1, ECT_0, CE = range(4)
DEPTHS = [0, KMIN - 1, KMIN, 14_000, 20_000, 30_000, 44_000, KMAX, KMAX + 1, 10**6]


def curve(depth: int) -> float:
    if depth < KMIN:
        return 0.0
    return PMAX * (depth - KMIN) / (KMAX - KMIN) if depth <= KMAX else 1.0


def honest(seen: int, draws: int, probability: float) -> bool:
    if probability in {0.0, 1.0}:
        return seen == draws * probability
    low, high = binom.interval(1 - 1 / ONCE_IN, draws, probability)
    return bool(low <= seen <= high)


@pytest.fixture(autouse=True)
def wred(bench: Bench) -> None:
    profile = bench.profile.queue[QUEUE].wred
    profile.min_bytes, profile.max_bytes = KMIN, KMAX
    profile.probability = int(PMAX * abi.PROBABILITY_ONE)
    profile.ecn = profile.drop = 1


def fill_to(bench: Bench, depth: int) -> None:
    bench.queue(OUT, QUEUE).depth = (9 << abi.PACKED_SHIFT) + depth


def dropped(bench: Bench, frame: bytes, depth: int, draws: int = DRAWS) -> int:
    """How many of `draws` frames WRED drops at a depth. A queue without room keeps its depth: tail drop is next."""
    bench.profile.queue[QUEUE].limit = 0
    fill_to(bench, depth)
    state = bench.queue(OUT, QUEUE)
    before, before_bytes = state.wred_dropped_packets, state.wred_dropped_bytes
    bench.egress(OUT, frame, came=CAME, repeat=draws)
    assert bench.depth(OUT, QUEUE) == (9, depth)
    count: int = state.wred_dropped_packets - before
    assert state.wred_dropped_bytes - before_bytes == count * len(frame)
    return count


def marked(bench: Bench, frame: bytes, depth: int, draws: int = MARKS) -> int:
    """How many of `draws` frames are CE when each leaves `depth` bytes behind."""
    stamp = bench.stamp(OUT, frame) & ~7 | QUEUE
    state = bench.queue(OUT, QUEUE)
    before, count = state.marked_packets, 0
    for _ in range(draws):
        fill_to(bench, depth + len(frame))
        ran = bench.ingress(bench.ports[OUT].peer, frame, stamp)
        assert ran.verdict == PASS
        count += ran.frame[15] & 3 == CE
    assert frame[15] & 3 == CE or state.marked_packets - before == count
    return count


@pytest.mark.parametrize("depth", DEPTHS)
def test_what_cannot_be_marked_is_dropped_by_the_curve(bench: Bench, udp: Callable[..., bytes], depth: int) -> None:
    assert honest(dropped(bench, udp(QUEUE, NOT_ECT), depth), DRAWS, curve(depth))


@pytest.mark.parametrize("ecn", [ECT_1, ECT_0, CE])
def test_what_can_be_marked_is_not_dropped(bench: Bench, udp: Callable[..., bytes], ecn: int) -> None:
    assert dropped(bench, udp(QUEUE, ecn), 10**6, 1000) == 0
    assert dropped(bench, udp(QUEUE, ecn, v6=True), 10**6, 1000) == 0
    # ecn_none with wred_green_enable: nothing can be marked, so ECT is dropped too.
    bench.profile.queue[QUEUE].wred.ecn = 0
    assert dropped(bench, udp(QUEUE, ecn), 10**6, 1000) == 1000
    assert honest(dropped(bench, udp(QUEUE, ecn), 30_000), DRAWS, curve(30_000))


@pytest.mark.parametrize("off", ["drop", "max_bytes"])
def test_wred_off_drops_nothing(bench: Bench, udp: Callable[..., bytes], off: str) -> None:
    setattr(bench.profile.queue[QUEUE].wred, off, 0)
    for depth in DEPTHS:
        assert dropped(bench, udp(QUEUE, NOT_ECT), depth, 2000) == 0


def test_the_check_itself_tells_curves_apart(bench: Bench, udp: Callable[..., bytes]) -> None:
    seen = dropped(bench, udp(QUEUE, NOT_ECT), 18_000)  # 5 %
    assert honest(seen, DRAWS, 0.05)
    assert not honest(seen, DRAWS, 0.04)
    assert not honest(seen, DRAWS, 0.06)


def test_a_curve_without_a_slope_and_one_of_100_percent(bench: Bench, udp: Callable[..., bytes]) -> None:
    wred = bench.profile.queue[QUEUE].wred
    wred.probability = abi.PROBABILITY_ONE
    assert honest(dropped(bench, udp(QUEUE), 30_000), DRAWS, 0.5)
    assert dropped(bench, udp(QUEUE), KMAX, 1000) == 1000
    wred.min_bytes = wred.max_bytes
    wred.probability = abi.PROBABILITY_ONE // 10
    assert dropped(bench, udp(QUEUE), KMAX - 1, 1000) == 0
    assert honest(dropped(bench, udp(QUEUE), KMAX), DRAWS, 0.1)
    assert dropped(bench, udp(QUEUE), KMAX + 1, 1000) == 1000


@pytest.mark.parametrize("depth", DEPTHS)
def test_marks_follow_the_depth_that_is_left_behind(bench: Bench, udp: Callable[..., bytes], depth: int) -> None:
    assert honest(marked(bench, udp(QUEUE, ECT_0), depth), MARKS, curve(depth))


@pytest.mark.parametrize(("v6", "ecn"), [(False, ECT_0), (False, ECT_1), (True, ECT_0), (True, ECT_1)])
def test_a_mark_is_ce_and_nothing_else(bench: Bench, udp: Callable[..., bytes], v6: bool, ecn: int) -> None:
    frame, as_ce = udp(QUEUE, ecn, v6=v6), udp(QUEUE, CE, v6=v6)
    fill_to(bench, 10**6)
    stamp = bench.stamp(OUT, frame) & ~7 | QUEUE
    ran = bench.ingress(bench.ports[OUT].peer, frame, stamp)
    assert ran.frame == as_ce, "CE, and an IPv4 checksum that is right"
    assert bench.queue(OUT, QUEUE).marked_bytes == len(frame)
    assert bench.ingress(bench.ports[OUT].peer, as_ce, stamp).frame == as_ce
    assert bench.queue(OUT, QUEUE).marked_packets == 1, "CE stays CE and is not counted again"


def test_what_is_not_marked(bench: Bench, udp: Callable[..., bytes]) -> None:
    assert marked(bench, udp(QUEUE, NOT_ECT), 10**6, 50) == 0
    bench.profile.queue[QUEUE].wred.ecn = 0
    assert marked(bench, udp(QUEUE, ECT_0), 10**6, 50) == 0


def test_the_last_frame_of_a_burst_leaves_nothing_behind(bench: Bench, udp: Callable[..., bytes]) -> None:
    """The j-th of N frames leaves N - j behind: with Kmin = Kmax the marks stop at a frame that can be named."""
    wred = bench.profile.queue[QUEUE].wred
    wred.min_bytes, wred.max_bytes = 4999, 4999
    frame, packets = udp(QUEUE, ECT_0, size=1000), 12
    for _ in range(packets):
        assert bench.egress(OUT, frame, came=CAME).queue == QUEUE
    ce = [bench.cross(OUT, frame, came=CAME).frame[15] & 3 == CE for _ in range(packets)]
    assert ce == [(packets - j) * 1000 > 4999 for j in range(1, packets + 1)]


def test_a_seed_names_a_sequence(bench: Bench, udp: Callable[..., bytes]) -> None:
    def draws(seed: int) -> list[int]:
        bench.profile.queue[QUEUE].limit = 0
        fill_to(bench, 30_000)
        bench.ports[OUT].seed, bench.ports[OUT].random = seed, 0
        state = bench.queue(OUT, QUEUE)
        totals = []
        for _ in range(200):
            bench.egress(OUT, udp_frame, came=CAME)
            totals.append(state.wred_dropped_packets)
        return [total - totals[0] for total in totals]

    udp_frame = udp(QUEUE, NOT_ECT)
    assert draws(1) == draws(1)
    assert draws(1) != draws(2)
