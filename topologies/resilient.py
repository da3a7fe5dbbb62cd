"""A resilient group's bucket table: what moves when members go and come, and what stays.

Real silicon (SAI's fine-grained ECMP, Spectrum's adaptive buckets) does the same with tables of its own sizes; here
every group has 256. Linux' own resilient nexthop groups are not used: FRR installs none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from topologies.ecmp import BUCKETS

Table = tuple[int, ...]
"""The place of each bucket's member in the group."""


def fresh_buckets(members: int) -> Table:
    """The table of a new group."""
    return tuple(bucket % members for bucket in range(BUCKETS))


def rebucket(old_ports: Sequence[int], buckets: Sequence[int], new_ports: Sequence[int]) -> tuple[Table, Table]:
    """The table after the members have changed, and the buckets that went to another member.

    A member is known again by its port, and by occurrence where several have the same. Buckets of members that are
    gone go, in their order, each to the member that has the fewest then; a member that came has none before that.
    """
    places = {key: place for place, key in enumerate(_keys(new_ports))}
    kept = [places.get(key) for key in _keys(old_ports)]
    table = [kept[place] for place in buckets]
    has = [table.count(place) for place in range(len(new_ports))]
    moved = []
    renewed = []
    for bucket, stays in enumerate(table):
        place = stays
        if place is None:
            place = has.index(min(has))
            has[place] += 1
            moved.append(bucket)
        renewed.append(place)
    return tuple(renewed), tuple(moved)


def unbalanced(buckets: Sequence[int], members: int) -> bool:
    """Whether some member has fewer buckets than its whole part."""
    has = Counter(buckets)
    return any(has[place] < BUCKETS // members for place in range(members))


def refill(buckets: Sequence[int], members: int, may_move: Callable[[int], bool]) -> tuple[Table, Table]:
    """The table after members with too few buckets were given some, and the buckets that moved, in their order.

    A bucket moves from a member with more than its part rounded up (if none has that, more than rounded down) to the
    member with the fewest, as long as that has fewer than its part rounded down. `may_move` says of a bucket whether
    it is idle, or the group out of balance for too long: see `idle`.
    """
    table, moved = list(buckets), []
    floor, ceiling = BUCKETS // members, -(-BUCKETS // members)
    has = [table.count(place) for place in range(members)]
    for bucket, place in enumerate(buckets):
        least = min(has)
        if least >= floor:
            break
        most = ceiling if max(has) > ceiling else floor
        if has[place] > most and may_move(bucket):
            to = has.index(least)
            has[place] -= 1
            has[to] += 1
            table[bucket] = to
            moved.append(bucket)
    return tuple(table), tuple(moved)


def idle(seen_ns: int, now_ns: int, idle_ms: int) -> bool:
    """Whether nothing hit a bucket for so long."""
    return now_ns - seen_ns >= idle_ms * 1_000_000


def _keys(ports: Sequence[int]) -> list[tuple[int, int]]:
    met: Counter[int] = Counter()
    keys = []
    for port in ports:
        keys.append((port, met[port]))
        met[port] += 1
    return keys
