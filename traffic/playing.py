"""Play a graph on memory instead of on a network: what every rank ends with, and no time at all."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from topologies.errors import SpecError
from traffic.graph import Buffer, Graph, Send

Bytes = npt.NDArray[np.uint8]
_Thing = TypeVar("_Thing")

_ADDENDS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def play(graph: Graph, inputs: Sequence[Bytes], *, seed: int | None = None) -> tuple[Bytes, ...]:
    """The ranks' outputs, when rank i begins with `inputs[i]`.

    Args:
        inputs: bytes of every rank's input, none longer than the graph's; what is missing is zero. Elements are
            added as unsigned integers, which wrap.
        seed: None plays the sends one by one, as they stand. A seed draws one of the orders that what they wait for
            leaves open, with several under way at once: a send's bytes are read when it begins or when it ends,
            whichever is drawn.

    Raises SpecError for inputs that are not the graph's, or elements of a size that no integer has.
    """
    if len(inputs) != graph.ranks or any(len(given) > graph.room(Buffer.INPUT) for given in inputs):
        found = f"inputs of {[len(given) for given in inputs]} bytes"
        raise SpecError(found, allowed=f"{graph.ranks}, each of at most {graph.room(Buffer.INPUT)} bytes")
    if graph.element_bytes not in _ADDENDS:
        raise SpecError(f"elements of {graph.element_bytes} bytes", allowed=", ".join(map(str, _ADDENDS)))
    memory = _Memory(graph, inputs)
    if seed is None:
        for send in graph.sends:
            memory.write(send, memory.read(send))
    else:
        _at_random(graph, memory, random.Random(seed))  # noqa: S311 - an order to be repeated, not a secret
    return tuple(memory.at(rank, Buffer.OUTPUT) for rank in range(graph.ranks))


class _Memory:
    """Every rank's buffers."""

    def __init__(self, graph: Graph, inputs: Sequence[Bytes]) -> None:
        self._in_place = graph.in_place
        self._addend = _ADDENDS[graph.element_bytes]
        self._held = {
            (rank, buffer): np.zeros(graph.room(buffer), dtype=np.uint8)
            for rank in range(graph.ranks)
            for buffer in Buffer
        }
        for rank, given in enumerate(inputs):
            self.at(rank, Buffer.INPUT)[: len(given)] = given

    def at(self, rank: int, buffer: Buffer) -> Bytes:
        return self._held[rank, Buffer.OUTPUT if self._in_place and buffer is Buffer.INPUT else buffer]

    def read(self, send: Send) -> Bytes:
        held = self.at(send.src, send.from_buffer)
        return held[send.from_offset : send.from_offset + send.size].copy()

    def write(self, send: Send, sent: Bytes) -> None:
        target = self.at(send.dst, send.to_buffer)[send.to_offset : send.to_offset + send.size]
        if send.reduce:
            sent = (target.copy().view(self._addend) + sent.view(self._addend)).view(np.uint8)
        target[:] = sent


def _at_random(graph: Graph, memory: _Memory, draw: random.Random) -> None:
    """Begin and end sends in a drawn order that `after` allows."""
    waiting = [len(set(send.after)) for send in graph.sends]
    followers = _followers(graph)
    ready = [place for place, count in enumerate(waiting) if count == 0]
    under_way: list[tuple[int, Bytes | None]] = []
    while ready or under_way:
        if ready and (not under_way or draw.random() < 0.5):
            place = _take(ready, draw)
            under_way.append((place, memory.read(graph.sends[place]) if draw.random() < 0.5 else None))
            continue
        place, sent = _take(under_way, draw)
        memory.write(graph.sends[place], memory.read(graph.sends[place]) if sent is None else sent)
        for follower in followers[place]:
            waiting[follower] -= 1
            if waiting[follower] == 0:
                ready.append(follower)


def _take(things: list[_Thing], draw: random.Random) -> _Thing:
    """One of them, taken out."""
    place = draw.randrange(len(things))
    things[place], things[-1] = things[-1], things[place]
    return things.pop()


def _followers(graph: Graph) -> list[list[int]]:
    """For every send, those that wait for it."""
    followers: list[list[int]] = [[] for _ in graph.sends]
    for place, send in enumerate(graph.sends):
        for earlier in set(send.after):
            followers[earlier].append(place)
    return followers


def orders(graph: Graph, inputs: Sequence[Bytes], seeds: Sequence[int]) -> Iterator[tuple[Bytes, ...]]:
    """Outputs of `play`, as they stand and for every seed."""
    yield play(graph, inputs)
    for seed in seeds:
        yield play(graph, inputs, seed=seed)
