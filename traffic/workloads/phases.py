"""Workloads of phases as one graph: every collective by its default algorithm, in the groups that the file names.

Ranks count as Megatron has them: tensor groups (TP) are neighbours, expert (EP) and data groups (DP) stand across them,
expert's data groups (DP_EP) across both. A group of no known size, and any other name, is of all ranks. The nth
collective of a group is the same one on all its ranks; it begins on a rank when all that it waits for there is done.
Each collective has its own part of every buffer, so that what it leaves there can be checked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from topologies.errors import SpecError, Where
from traffic.composing import Part, bases_of, ends_of, moved
from traffic.graph import Buffer, Graph, Send, checked
from traffic.patterns import pattern
from traffic.workloads.source import MOST_SENDS, in_order
from traffic.workloads.workload import Collective, CollectiveKind, Compute, Message, Workload

PATTERNS: Mapping[CollectiveKind, str] = {
    CollectiveKind.ALL_REDUCE: "all_reduce",
    CollectiveKind.REDUCE: "reduce",
    CollectiveKind.ALL_GATHER: "all_gather",
    CollectiveKind.GATHER: "gather",
    CollectiveKind.SCATTER: "scatter",
    CollectiveKind.BROADCAST: "broadcast",
    CollectiveKind.ALL_TO_ALL: "alltoall",
    CollectiveKind.REDUCE_SCATTER: "reduce_scatter",
    CollectiveKind.BARRIER: "all_reduce",
}
SHARE = 16  # a collective's bytes are rounded up to so many a rank; a barrier has no more
MOST_ROOM = 1 << 31  # bytes of all ranks' buffers together: one workstation holds them

Key = tuple[str, tuple[int, ...], int]  # what, of which ranks, the how manieth


def graph_of(workloads: Sequence[Workload], name: str) -> Graph:
    """What ranks 0, 1 … do; a workload that is the same for every rank is given once a rank.

    Raises SpecError for messages (of traces that name every one, `chakra_graph` makes the graph), groups that do not
    divide the ranks, ranks that do not agree on a collective or wait for each other in a ring, and too many bytes.
    """
    keys = [_keys(workloads, rank, name) for rank in range(len(workloads))]
    places: dict[Key, dict[int, int]] = {key: {} for some in keys for key in some}
    for rank, some in enumerate(keys):
        for place, key in enumerate(some):
            places[key][rank] = place
    steps = list(places)
    number = {key: at for at, key in enumerate(steps)}
    waits = [
        tuple({number[keys[rank][other]] for rank, place in places[key].items()
               for other in workloads[rank].phases[place].after})
        for key in steps
    ]  # fmt: skip
    order, ring = in_order(waits)
    if ring is not None:
        raise _error(name, f"{steps[ring][0]} waits for itself through other ranks", "collectives in one order")
    lowering = _Lowering(name, len(workloads))
    for at in order:
        one = {rank: workloads[rank].phases[place] for rank, place in places[steps[at]].items()}
        after = {
            rank: tuple(keys[rank][other] for other in workloads[rank].phases[place].after)
            for rank, place in places[steps[at]].items()
        }
        phase = _agreed(name, steps[at], one)
        if isinstance(phase, Collective):
            lowering.collective(steps[at], phase, after)
        else:
            lowering.compute(steps[at], phase, after)
    return lowering.graph()


def members(workload: Workload, group: str, rank: int, ranks: int) -> tuple[int, ...]:
    """The ranks of `rank`'s group. Raises SpecError for groups that do not divide the ranks."""
    tensor, experts = workload.group_sizes.get("TP", 1), workload.group_sizes.get("EP", 1)
    stride = {"TP": 1, "DP": tensor, "EP": tensor, "DP_EP": tensor * experts}.get(group, 0)
    size = workload.group_sizes.get(group, ranks // (stride or 1)) if stride else ranks
    stride = stride or 1
    if size < 1 or ranks % (size * stride):
        found = f"{workload.name}: groups {group} of {size} ranks, {stride} apart, among {ranks}"
        raise SpecError(found, allowed=f"a number of ranks that {size * stride or stride} divides")
    first = rank - rank // stride % size * stride
    return tuple(first + place * stride for place in range(size))


def _keys(workloads: Sequence[Workload], rank: int, name: str) -> list[Key]:
    """What each phase of a rank is: a collective's name is the same on all its ranks."""
    counted: Counter[tuple[int, ...]] = Counter()
    found: list[Key] = []
    for place, phase in enumerate(workloads[rank].phases):
        if isinstance(phase, Message):
            raise _error(name, f"rank {rank} has a message, {phase.name!r}, beside collectives", "one or the other")
        if isinstance(phase, Compute):
            found.append(("computing", (rank,), place))
            continue
        group = members(workloads[rank], phase.group, rank, len(workloads))
        found.append(("collective", group, counted[group]))
        counted[group] += 1
    return found


def _agreed(name: str, key: Key, phases: Mapping[int, Compute | Collective | Message]) -> Compute | Collective:
    """The phase, once all its ranks say the same of it."""
    first = next(iter(phases.values()))
    if isinstance(first, Collective):
        said = {rank: (one.kind, one.size) for rank, one in phases.items() if isinstance(one, Collective)}
        missing = [rank for rank in key[1] if rank not in said]
        if missing or len(set(said.values())) != 1:
            found = f"collective {key[2]} of ranks {list(key[1])} ({first.name!r}): "
            found += f"rank {missing[0]} has none" if missing else f"{sorted(set(said.values()))}"
            raise _error(name, found, "the same kind and size on all its ranks")
    assert not isinstance(first, Message)  # noqa: S101 - `_keys` refused them
    return first


def _error(name: str, found: str, allowed: str) -> SpecError:
    return SpecError(found, allowed=allowed, where=Where(name))


@dataclass
class _Lowering:
    """The graph, send by send."""

    name: str
    ranks: int
    sends: list[Send] = field(default_factory=list)
    done: dict[tuple[Key, int], tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._used = {buffer: [0] * self.ranks for buffer in Buffer}

    def compute(self, key: Key, phase: Compute, after: Mapping[int, tuple[Key, ...]]) -> None:
        (rank,) = key[1]
        self._join(key, rank, after[rank], phase.seconds)

    def collective(self, key: Key, phase: Collective, after: Mapping[int, tuple[Key, ...]]) -> None:
        """The collective's own graph, every part of it after what its rank waits for."""
        gates = {rank: self._join(key, rank, after[rank], 0.0) for rank in key[1]}
        if len(key[1]) < 2:
            return
        count = len(key[1])
        shares = 1 if phase.kind is CollectiveKind.BARRIER else -(-phase.size // (SHARE * count))
        size = max(1, shares) * SHARE * count
        part = Part(pattern(PATTERNS[phase.kind]).graph(count, size), key[1])
        first = len(self.sends)
        for send in moved(part, bases_of(part, self._used), first):
            own = any(self.sends[earlier].src == send.src for earlier in send.after)
            self.sends.append(send if own else replace(send, after=tuple(sorted({*send.after, *gates[send.src]}))))
        room = sum(map(sum, self._used.values()))
        if len(self.sends) > MOST_SENDS or room > MOST_ROOM:
            found = f"{len(self.sends)} messages or more, buffers of {room} bytes or more"
            raise _error(self.name, found, f"up to {MOST_SENDS} messages, {MOST_ROOM} bytes")
        ends = ends_of(self.sends, first)
        self.done |= {(key, rank): ends.get(rank, gates[rank]) for rank in key[1]}

    def _join(self, key: Key, rank: int, after: Sequence[Key], seconds: float) -> tuple[int, ...]:
        waits = tuple(sorted({place for one in after for place in self.done[one, rank]}))
        self.sends.append(Send(rank, rank, 0, waits, compute_s=seconds))
        self.done[key, rank] = (len(self.sends) - 1,)
        return self.done[key, rank]

    def graph(self) -> Graph:
        room = {buffer: max(used) for buffer, used in self._used.items()}
        rooms = room[Buffer.INPUT], room[Buffer.OUTPUT], room[Buffer.SCRATCH]
        return checked(Graph(self.name, self.ranks, tuple(self.sends), *rooms))
