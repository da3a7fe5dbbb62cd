"""Which row of a table speaks for a port, or for one of its queues or priority groups.

`*|3-4`, `eth1|3`, `leaf1:*|3`, `leaf1:eth1|3`: the more exact port wins (in this order, last first), then a single
number before a range. The row that wins speaks alone: rows are not added up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

EVERY = "*"


@dataclass(frozen=True, slots=True)
class Selector:
    """A row's key, taken apart. `first` and `last` are 0 and 7 where the key names only a port."""

    node: str
    port: str
    first: int
    last: int

    def matches(self, node: str, port: str) -> bool:
        """True where the key covers this port."""
        return self.node in {EVERY, node} and self.port in {EVERY, port}

    def covers(self, index: int) -> bool:
        """True where the key covers this queue, or priority group."""
        return self.first <= index <= self.last

    @property
    def rank(self) -> tuple[int, bool]:
        """The higher, the more exact."""
        return (2 * (self.node != EVERY) + (self.port != EVERY), self.first == self.last)

    def meets(self, other: Selector) -> bool:
        """True where both speak for the same port and number with the same right."""
        same_port = (self.node, self.port, self.rank) == (other.node, other.port, other.rank)
        return same_port and self.first <= other.last and other.first <= self.last


@lru_cache(maxsize=4096)
def selector(key: str) -> Selector:
    """The key of a row, already checked for its shape."""
    where, _, numbers = key.partition("|")
    node, _, port = where.rpartition(":")
    first, _, last = numbers.partition("-")
    return Selector(node or EVERY, port, int(first or 0), int(last or first or 7))


def best(keys: Iterable[str], node: str, port: str, index: int | None = None) -> str | None:
    """The key that speaks for a port (and queue or priority group), None where none does."""
    found = [
        (one.rank, key)
        for key in keys
        if (one := selector(key)).matches(node, port) and (index is None or one.covers(index))
    ]
    return max(found)[1] if found else None


def samples(keys: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """(node, port) pairs such that every combination of rows that some port can meet is met by one of them."""
    chosen = {selector(key) for key in keys} | {Selector(EVERY, EVERY, 0, 7)}
    alone = {one.port for one in chosen if one.node == EVERY}
    pairs = {(one.node, one.port) for one in chosen}
    pairs |= {(one.node, port) for one in chosen if one.port == EVERY for port in alone}
    return tuple(sorted(pairs))
