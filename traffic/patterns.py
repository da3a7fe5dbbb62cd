"""nccl-tests' collectives by name, and by which algorithm each may be played: names to graphs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from topologies.errors import SpecError
from traffic import collectives as made
from traffic.busbw import Collective, rounded
from traffic.graph import Graph

Build = Callable[[int, int, int, bool], Graph]
"""Of ranks, bytes (nccl-tests' first column), root, and whether in place."""

CHUNK_BYTES = 1 << 19  # parts that follow each other along a chain or through a tree, as NCCL's buffers do
MOST_CHUNKS = 64


def _chunks(size: int) -> int:
    return max(1, min(MOST_CHUNKS, size // CHUNK_BYTES))


ALGORITHMS: Mapping[Collective, Mapping[str, Build]] = {
    Collective.ALL_REDUCE: {
        "ring": lambda n, size, _root, inside: made.ring_all_reduce(n, size=size, in_place=inside),
        "tree": lambda n, size, _root, inside: made.tree_all_reduce(
            n, size=size, in_place=inside, chunks=_chunks(size)
        ),
        "double-tree": lambda n, size, _root, inside: made.double_tree_all_reduce(
            n, size=size, in_place=inside, chunks=_chunks(size)
        ),
        "halving-doubling": lambda n, size, _root, inside: made.halving_doubling_all_reduce(
            n, size=size, in_place=inside
        ),
        "doubling": lambda n, size, _root, inside: made.doubling_all_reduce(n, size=size, in_place=inside),
    },
    Collective.ALL_GATHER: {
        "ring": lambda n, size, _root, inside: made.ring_all_gather(n, size=size, in_place=inside),
        "doubling": lambda n, size, _root, inside: made.doubling_all_gather(n, size=size, in_place=inside),
    },
    Collective.REDUCE_SCATTER: {
        "ring": lambda n, size, _root, inside: made.ring_reduce_scatter(n, size=size, in_place=inside),
        "halving": lambda n, size, _root, inside: made.halving_reduce_scatter(n, size=size, in_place=inside),
    },
    Collective.ALL_TO_ALL: {
        "pairwise": lambda n, size, _root, inside: made.all_to_all(n, size=size, in_place=inside),
        "at-once": lambda n, size, _root, inside: made.all_to_all(n, size=size, in_place=inside, in_flight=None),
        "bruck": lambda n, size, _root, inside: made.bruck_all_to_all(n, size=size, in_place=inside),
    },
    Collective.BROADCAST: {
        "chain": lambda n, size, root, inside: made.broadcast_chain(
            n, size=size, root=root, in_place=inside, chunks=_chunks(size)
        ),
        "binomial": lambda n, size, root, inside: made.broadcast_binomial(n, size=size, root=root, in_place=inside),
    },
    Collective.REDUCE: {
        "binomial": lambda n, size, root, inside: made.reduce_binomial(n, size=size, root=root, in_place=inside),
    },
    Collective.GATHER: {"direct": lambda n, size, root, inside: made.gather(n, size=size, root=root, in_place=inside)},
    Collective.SCATTER: {
        "direct": lambda n, size, root, inside: made.scatter(n, size=size, root=root, in_place=inside)
    },
    Collective.SEND_RECV: {"ring": lambda n, size, _root, _inside: made.send_recv(n, size=size)},
    Collective.HYPERCUBE: {
        "hypercube": lambda n, size, _root, inside: made.hypercube_all_gather(n, size=size, in_place=inside)
    },
}
"""The first of each is the one that is meant where none is named."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A collective, and how it is played."""

    collective: Collective
    algorithm: str

    def graph(self, ranks: int, size: int, *, root: int = 0, in_place: bool = False) -> Graph:
        """The graph of `size` bytes. Raises SpecError for sizes, ranks or roots that it does not have."""
        if rounded(self.collective, size, ranks=ranks).size == 0:
            raise SpecError(f"{size} bytes of {self.collective} for {ranks} ranks", allowed="16 bytes a rank, or more")
        return ALGORITHMS[self.collective][self.algorithm](ranks, size, root, in_place)


def pattern(name: str, algorithm: str | None = None) -> Pattern:
    """The pattern of a name as ``all_reduce``, ``all-reduce`` or nccl-tests' ``all_reduce_perf``.

    Raises SpecError that lists what there is, for a name or an algorithm that is not there.
    """
    word = name.lower().replace("-", "_").removesuffix("_perf")
    known = {str(one): one for one in ALGORITHMS}
    word = {"all_to_all": "alltoall", "send_recv": "sendrecv", "incast": "gather"}.get(word, word)
    if word not in known:
        near = get_close_matches(word, known, 1)
        found = f"pattern {name!r}" + (f" (meant {near[0]}?)" if near else "")
        raise SpecError(found, allowed=", ".join(known))
    played = ALGORITHMS[known[word]]
    if algorithm is not None and algorithm not in played:
        raise SpecError(f"{word} by {algorithm!r}", allowed=", ".join(played))
    return Pattern(known[word], algorithm or next(iter(played)))
