"""One to all, all to one, and one to one."""

from __future__ import annotations

import random
from collections.abc import Sequence

from topologies.errors import SpecError
from traffic.collectives.score import INPUT, OUTPUT, Ranks, Score, counted, spans
from traffic.graph import Graph


def scatter(ranks: Ranks, *, size: int, root: int = 0, element: int = 4, in_place: bool = False) -> Graph:
    """Rank r ends with the r-th share of the root's input, at its output's begin; in place, where the share stands.

    Args:
        size: bytes of the root's input (nccl-tests' S).
    """
    score = Score(ranks, element=element, in_place=in_place)
    one_of(root, score.ranks, "root")
    shares = spans(size, score.ranks, element)
    for rank, share in enumerate(shares):
        begin, end = INPUT + share.offset, OUTPUT + (share.offset if in_place else 0)
        if rank == root:
            score.copy(rank, share.size, begin, end)
        else:
            score.send(root, rank, share.size, begin, end)
    largest = size if in_place else shares[0].size
    return score.graph(f"scatter to {score.ranks}", input_bytes=size, output_bytes=largest)


def gather(ranks: Ranks, *, size: int, root: int = 0, element: int = 4, in_place: bool = False) -> Graph:
    """The root ends with everybody's share: an incast of all others at once. Shares stand as in `ring_all_gather`.

    Args:
        size: bytes of the root's output (nccl-tests' S).
    """
    score = Score(ranks, element=element, in_place=in_place)
    one_of(root, score.ranks, "root")
    shares = spans(size, score.ranks, element)
    for rank, share in enumerate(shares):
        begin = INPUT + (share.offset if in_place else 0)
        if rank == root:
            score.copy(rank, share.size, begin, OUTPUT + share.offset)
        else:
            score.send(rank, root, share.size, begin, OUTPUT + share.offset)
    largest = size if in_place else shares[0].size
    return score.graph(f"gather from {score.ranks}", input_bytes=largest, output_bytes=size)


def incast(ranks: Ranks, *, size: int, root: int = 0, element: int = 4, messages: int = 1) -> Graph:
    """All others send `size` bytes to the root at once: (n-1):1. They end side by side, by rank.

    Args:
        messages: how often each sends them, one message behind the other, to the same place: as long a flow as needed.
    """
    score = Score(ranks, element=element)
    one_of(root, score.ranks, "root")
    if messages < 1:
        raise SpecError(f"{messages} messages", allowed="1 or more")
    senders = [rank for rank in range(score.ranks) if rank != root]
    for _ in range(messages):
        for nth, src in enumerate(senders):
            score.send(src, root, size, INPUT, OUTPUT + nth * size)
    return score.graph(f"incast {len(senders)}:1", input_bytes=size, output_bytes=size * len(senders))


def send_recv(ranks: Ranks, to: Sequence[int] | None = None, *, size: int, element: int = 4) -> Graph:
    """Rank i's input becomes the output of rank `to[i]`; of the next rank where `to` is None (nccl-tests' sendrecv).

    A rank that is its own target copies. Raises SpecError unless every rank is the target of one.
    """
    score = Score(ranks, element=element)
    targets = strided(score.ranks) if to is None else tuple(to)
    if sorted(targets) != list(range(score.ranks)):
        raise SpecError(f"targets {list(targets)}", allowed=f"each of 0 to {score.ranks - 1} once")
    for src, dst in enumerate(targets):
        if src == dst:
            score.copy(src, size, INPUT, OUTPUT)
        else:
            score.send(src, dst, size, INPUT, OUTPUT)
    return score.graph(f"send-recv of {score.ranks}", input_bytes=size, output_bytes=size)


def strided(ranks: int, stride: int = 1) -> tuple[int, ...]:
    """The bijection of rank i to i + `stride`. Raises SpecError for a stride that maps ranks to themselves."""
    if stride % ranks == 0:
        found = f"stride {stride} of {ranks} ranks"
        raise SpecError(found, allowed=f"any integer that {ranks} does not divide")
    return tuple((rank + stride) % ranks for rank in range(ranks))


def random_bijection(ranks: int, *, seed: int) -> tuple[int, ...]:
    """A random bijection that maps no rank to itself, each with the same chance. Raises SpecError below 2 ranks."""
    counted(ranks)
    draw = random.Random(seed)  # noqa: S311 - to be repeated, not a secret
    targets = list(range(ranks))
    while any(rank == target for rank, target in enumerate(targets)):
        draw.shuffle(targets)
    return tuple(targets)


def one_of(rank: int, count: int, word: str) -> None:
    """Raise SpecError unless `rank` is one of `count`."""
    if not 0 <= rank < count:
        raise SpecError(f"{word} {rank}", allowed=f"0 to {count - 1}")
