"""A resilient group's buckets: who keeps, who gets, and when."""

from __future__ import annotations

import pytest

from topologies.ecmp import BUCKETS
from topologies.resilient import fresh_buckets, idle, rebucket, refill, unbalanced

SIZES = (2, 3, 4, 5, 7, 8, 16, 63, 64)


def sizes(buckets: tuple[int, ...], members: int) -> list[int]:
    return [buckets.count(place) for place in range(members)]


@pytest.mark.parametrize("n", SIZES)
def test_a_new_group_is_even(n: int) -> None:
    has = sizes(fresh_buckets(n), n)
    assert (sum(has), max(has) - min(has) <= 1) == (BUCKETS, True)
    assert not unbalanced(fresh_buckets(n), n)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("place", [0, 1, -1])
def test_a_lost_member_moves_its_own_buckets_alone(n: int, place: int) -> None:
    """Those that stay are renumbered, which is no move, and share the lost ones' as evenly as can be."""
    ports, buckets, lost = list(range(10, 10 + n)), fresh_buckets(n), place % n
    left = ports[:lost] + ports[lost + 1 :]
    after, moved = rebucket(ports, buckets, left)
    assert moved == tuple(b for b in range(BUCKETS) if buckets[b] == lost)
    assert all(left[after[b]] == ports[buckets[b]] for b in range(BUCKETS) if b not in moved)
    has = sizes(after, n - 1)
    assert max(has) - min(has) <= 1


def test_lost_buckets_go_to_the_least_filled_lowest_first() -> None:
    after, moved = rebucket([1, 2, 3], fresh_buckets(3), [1, 2])  # 86, 85, 85
    assert moved[:3] == (2, 5, 8)
    assert [after[b] for b in moved[:4]] == [1, 0, 1, 0]


def test_equal_ports_are_told_apart_by_occurrence() -> None:
    after, moved = rebucket([7, 7, 8], fresh_buckets(3), [8, 7])
    assert {b % 3 for b in moved} == {1}
    assert all(after[b] == {0: 1, 2: 0}[b % 3] for b in range(BUCKETS) if b % 3 != 1)


def test_another_order_moves_nothing() -> None:
    after, moved = rebucket([1, 2, 3, 4], fresh_buckets(4), [4, 3, 2, 1])
    assert moved == ()
    assert after == tuple(3 - b % 4 for b in range(BUCKETS))


@pytest.mark.parametrize("n", SIZES[1:])
def test_a_member_that_came_is_refilled_with_its_part(n: int) -> None:
    """All idle: it gets its part and no bucket moves but to it. In use: none moves, the control."""
    ports = list(range(n))
    short, moved = rebucket(ports[:-1], fresh_buckets(n - 1), ports)
    assert (moved, short.count(n - 1), unbalanced(short, n)) == ((), 0, True)
    assert refill(short, n, lambda _: False) == (short, ())
    table, total = short, 0
    while unbalanced(table, n):
        table, moved = refill(table, n, lambda _: True)
        assert moved
        assert {table[b] for b in moved} == {n - 1}
        total += len(moved)
    assert total == BUCKETS // n
    assert refill(table, n, lambda _: True) == (table, ())


def test_idle_buckets_alone_move() -> None:
    short, _ = rebucket([1, 2, 3], fresh_buckets(3), [1, 2, 3, 4])
    seen = {b: 1_000_000_000 if b % 2 else 400_000_000 for b in range(BUCKETS)}
    after, moved = refill(short, 4, lambda b: idle(seen[b], 1_000_000_001, 600))
    assert moved
    assert all(b % 2 == 0 for b in moved)
    assert sizes(after, 4)[3] == len(moved) == 64


@pytest.mark.parametrize(("now_ns", "is_idle"), [(5_999_999, False), (6_000_000, True)])
def test_idle_from_when_on(now_ns: int, is_idle: bool) -> None:
    assert idle(1_000_000, now_ns, 5) is is_idle
