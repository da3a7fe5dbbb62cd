"""Graphs put together: beside each other, one after the other, with computing between; and communicators split.

Each graph keeps its own part of every buffer, so that none can write where another reads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from topologies.errors import SpecError
from traffic.graph import Buffer, Graph, Send, checked

_SPLITS: Mapping[str, Callable[[int, int], int]] = {
    "AND": lambda rank, value: rank & value,
    "OR": lambda rank, value: rank | value,
    "MOD": lambda rank, value: rank % value,
    "DIV": lambda rank, value: rank // value,
}
_SIGNS = {"&": "AND", "|": "OR", "%": "MOD", "/": "DIV"}


@dataclass(frozen=True, slots=True)
class Part:
    """A graph whose rank i is rank `ranks[i]` of the whole."""

    graph: Graph
    ranks: tuple[int, ...]


def split(ranks: int, how: str) -> tuple[tuple[int, ...], ...]:
    """Communicators, as nccl-tests' NCCL_TESTS_SPLIT makes them: ranks of one colour, in the colours' order.

    Args:
        how: AND, OR, MOD or DIV (or ``& | % /``) and a number, decimal, 0x… or 0b…: ``"MOD 4"``, ``"&0x3"``.

    Raises SpecError for anything else, and for division by 0.
    """
    allowed = "AND, OR, MOD or DIV and a number, such as MOD 4 or AND 0x3"
    found = re.fullmatch(r"\s*(AND|OR|MOD|DIV|[&|%/])\s*(0x[0-9a-f]+|0b[01]+|[0-9]+)\s*", how, re.IGNORECASE)
    if found is None:
        raise SpecError(f"split {how!r}", allowed=allowed)
    word, digits = found[1].upper(), found[2]
    value = int(digits, 10) if digits.isdecimal() else int(digits, 0)
    word = _SIGNS.get(word, word)
    if word in {"MOD", "DIV"} and value == 0:
        raise SpecError(f"split {how!r}", allowed="a divisor of 1 or more")
    colours: dict[int, list[int]] = {}
    for rank in range(ranks):
        colours.setdefault(_SPLITS[word](rank, value), []).append(rank)
    return tuple(tuple(colours[colour]) for colour in sorted(colours))


def together(name: str, parts: Sequence[Part], *, hosts: Sequence[str] = (), ranks: int | None = None) -> Graph:
    """All `parts` at once, as one graph: several communicators, or a collective and what runs beside it.

    Args:
        hosts: where the whole's ranks stand.
        ranks: how many the whole has; None for those that the parts name.

    Raises SpecError for no parts, a part with a rank too few, too many or twice, and parts of which some are in place
    or have elements of another size.
    """
    count = ranks if ranks is not None else max((rank for part in parts for rank in part.ranks), default=-1) + 1
    _check_parts(parts, count)
    used = {buffer: [0] * count for buffer in Buffer}
    sends: list[Send] = []
    for part in parts:
        sends += moved(part, bases_of(part, used), len(sends))
    first = parts[0].graph
    return checked(
        Graph(
            name,
            count,
            tuple(sends),
            max(used[Buffer.INPUT]),
            max(used[Buffer.OUTPUT]),
            max(used[Buffer.SCRATCH]),
            first.in_place,
            first.element_bytes,
            tuple(hosts),
        )
    )


def then(name: str, *graphs: Graph, compute_s: Sequence[float] = ()) -> Graph:
    """One graph after the other, of the same ranks: a rank begins the next when it is done with the one before.

    Args:
        compute_s: for how long every rank computes between one graph and the next; none where it is empty.

    Raises SpecError for graphs of different ranks, and a number of times that is not one less than the graphs.
    """
    if compute_s and len(compute_s) != len(graphs) - 1:
        raise SpecError(f"{len(compute_s)} compute times", allowed=f"{len(graphs) - 1}: one between two graphs")
    if len({graph.ranks for graph in graphs}) != 1:
        raise SpecError(f"graphs of {[graph.ranks for graph in graphs]} ranks", allowed="the same ranks")
    everybody = tuple(range(graphs[0].ranks))
    whole = together(name, [Part(graph, everybody) for graph in graphs], hosts=graphs[0].hosts)
    return checked(replace(whole, sends=tuple(_in_turn(graphs, whole.sends, compute_s))))


def _in_turn(graphs: Sequence[Graph], sends: Sequence[Send], compute_s: Sequence[float]) -> list[Send]:
    """The sends of all graphs; those that wait for nothing their rank did itself now wait for what it did last."""
    told: list[Send] = []
    begin = 0
    ends: dict[int, tuple[int, ...]] = {}
    for turn, graph in enumerate(graphs):
        if turn and compute_s:
            for rank in range(graph.ranks):
                told.append(Send(rank, rank, 0, ends.get(rank, ()), compute_s=compute_s[turn - 1]))
                ends[rank] = (len(told) - 1,)
        shift = len(told) - begin
        first = len(told)
        for send in sends[begin : begin + len(graph.sends)]:
            after = tuple(earlier + shift for earlier in send.after)
            if all(told[earlier].src != send.src for earlier in after):
                after += ends.get(send.src, ())
            told.append(replace(send, after=tuple(sorted(after))))
        ends |= ends_of(told, first)
        begin += len(graph.sends)
    return told


def ends_of(sends: Sequence[Send], first: int) -> dict[int, tuple[int, ...]]:
    """For each rank in sends from `first` on, those of and to it that no other of its sends waits for."""
    open_ends: dict[int, set[int]] = {}
    for place, send in enumerate(sends[first:], start=first):
        mine = open_ends.setdefault(send.src, set())
        mine -= set(send.after)
        mine.add(place)
        open_ends.setdefault(send.dst, set()).add(place)
    return {rank: tuple(sorted(places)) for rank, places in open_ends.items()}


def _check_parts(parts: Sequence[Part], count: int) -> None:
    if not parts:
        raise SpecError("no graphs", allowed="1 or more")
    for part in parts:
        ranks = part.ranks
        if len(ranks) != part.graph.ranks or len(set(ranks)) != len(ranks):
            found = f"{part.graph.name} of {part.graph.ranks} ranks on {list(ranks)}"
            raise SpecError(found, allowed="as many ranks, each once")
        if not all(0 <= rank < count for rank in ranks):
            raise SpecError(f"{part.graph.name} on {list(ranks)}", allowed=f"ranks 0 to {count - 1}")
    if len({(part.graph.in_place, part.graph.element_bytes) for part in parts}) != 1:
        found = ", ".join(
            f"{part.graph.name} (in place: {part.graph.in_place}, elements of {part.graph.element_bytes})"
            for part in parts
        )
        raise SpecError(found, allowed="all in place or none, elements of one size")


def bases_of(part: Part, used: dict[Buffer, list[int]]) -> dict[Buffer, int]:
    """Where the part's buffers begin: past all that its ranks hold already.

    In place, a graph's input and output take the same room, so that they move as one.
    """
    bases = {buffer: max(used[buffer][rank] for rank in part.ranks) for buffer in Buffer}
    for buffer, base in bases.items():
        aligned = -(-base // part.graph.element_bytes) * part.graph.element_bytes
        bases[buffer] = aligned
        for rank in part.ranks:
            used[buffer][rank] = aligned + part.graph.room(buffer)
    return bases


def moved(part: Part, bases: Mapping[Buffer, int], shift: int) -> list[Send]:
    """The part's sends, as the whole numbers ranks, sends and bytes."""
    return [
        replace(
            send,
            src=part.ranks[send.src],
            dst=part.ranks[send.dst],
            after=tuple(earlier + shift for earlier in send.after),
            from_offset=send.from_offset + bases[send.from_buffer],
            to_offset=send.to_offset + bases[send.to_buffer],
        )
        for send in part.graph.sends
    ]
