"""Which row of a table speaks for a port, or for one of its queues or priority groups; which for a switch's class.

`*|3-4`, `eth1|3`, `leaf1:*|3`, `leaf1:eth1|3`: the more exact port wins (in this order, last first), then a single
number before a range. The row that wins speaks alone: rows are not added up.

`*`, `tier:leaf`, `leaf1`, each also as `leaf1|3-4`: the same for switches and their traffic classes; a row without
classes speaks for those that no other of the same switches names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from topologies.fabric import Tier

EVERY = "*"
SWITCH = "switch"  # APPL_DB's own key of SWITCH_TABLE
LAST_CLASS = 15


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


@dataclass(frozen=True, slots=True)
class SwitchSelector:
    """A row's key, taken apart: a tier, a node, or neither for every switch. `first` None: it names no classes."""

    tier: str | None
    node: str | None
    first: int | None = None
    last: int | None = None

    def matches(self, node: str, tier: Tier) -> bool:
        """True where the key covers this switch."""
        return (self.node or node) == node and (self.tier or tier) == tier

    def covers(self, index: int) -> bool:
        """True where the key covers this class."""
        return self.first is None or self.last is None or self.first <= index <= self.last

    @property
    def classes(self) -> range:
        """The classes that it covers."""
        return range(self.first or 0, (LAST_CLASS if self.last is None else self.last) + 1)

    @property
    def rank(self) -> tuple[int, int]:
        """The higher, the more exact."""
        place = 2 if self.node else 1 if self.tier else 0
        return place, 0 if self.first is None else 2 if self.first == self.last else 1

    def meets(self, other: SwitchSelector) -> bool:
        """True where both speak for the same switch and class with the same right."""
        same = (self.tier, self.node, self.rank) == (other.tier, other.node, other.rank)
        return same and bool(set(self.classes) & set(other.classes))


@lru_cache(maxsize=4096)
def switch_selector(key: str) -> SwitchSelector:
    """The key of a row, already checked for its shape."""
    where, _, numbers = key.partition("|")
    first, _, last = numbers.partition("-")
    classes = (int(first), int(last or first)) if first else (None, None)
    tier = where.removeprefix("tier:") if where.startswith("tier:") else None
    return SwitchSelector(tier, None if tier or where in {EVERY, SWITCH} else where, *classes)


def best_for(keys: Iterable[str], node: str, tier: Tier, index: int = 0) -> str | None:
    """The key that speaks for a class of a switch, None where none does. `node` "": any that no key names."""
    found = [(one.rank, key) for key in keys if (one := switch_selector(key)).matches(node, tier) and one.covers(index)]
    return max(found)[1] if found else None
