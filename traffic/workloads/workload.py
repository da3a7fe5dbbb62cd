"""What a trace of a training step says one rank does: it computes, takes part in collectives, sends and receives.

For files that name a collective by its size and leave it to the player how it is carried out. Files that name every
message become a `traffic.graph.Graph`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType


class CollectiveKind(StrEnum):
    """What a collective does, by MPI's names."""

    ALL_REDUCE = "all-reduce"
    REDUCE = "reduce"
    ALL_GATHER = "all-gather"
    GATHER = "gather"
    SCATTER = "scatter"
    BROADCAST = "broadcast"
    ALL_TO_ALL = "all-to-all"
    REDUCE_SCATTER = "reduce-scatter"
    BARRIER = "barrier"


@dataclass(frozen=True, slots=True)
class Compute:
    """The rank works for itself. 0 seconds: a point where dependencies meet."""

    name: str
    seconds: float
    after: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Collective:
    """The rank takes part in a collective over `size` bytes, as the file counts them, in a named group of ranks."""

    name: str
    kind: CollectiveKind
    size: int
    group: str
    after: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """This rank's half of a message of `size` bytes: it sends it, or (`receives`) waits for it.

    `src` and `dst` are ranks, None where the file does not name them.
    """

    name: str
    size: int
    receives: bool
    src: int | None
    dst: int | None
    tag: int = 0
    after: tuple[int, ...] = ()


Phase = Compute | Collective | Message


@dataclass(frozen=True, slots=True)
class Workload:
    """Phases of one rank, in an order in which each comes after those it waits for (`after`: places in `phases`).

    `rank` is None where every rank does the same. `group_sizes` says how many ranks a group has, where the file does;
    `parameters` are its other whole numbers, by the names it gives them.
    """

    name: str
    phases: tuple[Phase, ...]
    rank: int | None = None
    group_sizes: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    parameters: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    def __iter__(self) -> Iterator[Phase]:
        return iter(self.phases)

    @property
    def collectives(self) -> tuple[Collective, ...]:
        """Those of the phases that are collectives, in order."""
        return tuple(phase for phase in self.phases if isinstance(phase, Collective))
