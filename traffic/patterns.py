"""nccl-tests' collectives by name, and by which algorithm each may be played: names to graphs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from topologies.errors import SpecError
from traffic import collectives as made
from traffic.busbw import Collective, busiest, rounded
from traffic.collectives.skew import Matrix, spread_matrix
from traffic.graph import Graph

Build = Callable[[int, int, int, bool], Graph]
"""Of ranks, bytes (nccl-tests' first column), root, and whether in place."""

ALIASES = {"all_to_all": "alltoall", "all_to_allv": "alltoallv", "send_recv": "sendrecv", "incast": "gather"}
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
        # nccl-tests posts all sends and receives in one group
        "at-once": lambda n, size, _root, inside: made.all_to_all(n, size=size, in_place=inside, in_flight=None),
        "pairwise": lambda n, size, _root, inside: made.all_to_all(n, size=size, in_place=inside),
        "bruck": lambda n, size, _root, inside: made.bruck_all_to_all(n, size=size, in_place=inside),
    },
    # As nccl-tests generates it where nothing else is said: more to ranks further on.
    Collective.ALL_TO_ALL_V: {
        "pairwise": lambda n, size, _root, inside: made.all_to_allv(n, spread_matrix(n, size=size), in_place=inside),
        "at-once": lambda n, size, _root, inside: made.all_to_allv(
            n, spread_matrix(n, size=size), in_place=inside, in_flight=None
        ),
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
class Uneven:
    """An alltoallv's bytes: the matrix of so many ranks and bytes.

    `fixed`: it is of this size and of `ranks` alone, as a file's is.
    """

    matrix: Callable[[int, int], Matrix]
    fixed: int | None = None
    ranks: int | None = None


@dataclass(frozen=True, slots=True)
class Pattern:
    """A collective, and how it is played.

    `uneven` is of an alltoallv, where it is not nccl-tests' own; `build` makes the graph of an algorithm that is not
    listed, of which `in_place` then says which side it is, and `only_ranks` how many it is of.
    """

    collective: Collective
    algorithm: str
    uneven: Uneven | None = None
    build: Build | None = None
    in_place: bool | None = None
    only_ranks: int | None = None

    @property
    def ranks(self) -> int | None:
        """How many ranks it is of; None for any number."""
        return self.uneven.ranks if self.uneven is not None else self.only_ranks

    def graph(self, ranks: int, size: int, *, root: int = 0, in_place: bool = False) -> Graph:
        """The graph of `size` bytes. Raises SpecError for sizes, ranks or roots that it does not have."""
        if self.uneven is not None:
            matrix = self.uneven.matrix(ranks, size)
            in_flight = None if self.algorithm == "at-once" else 1
            return made.all_to_allv(ranks, matrix, in_place=in_place, in_flight=in_flight)
        if rounded(self.collective, size, ranks=ranks).size == 0:
            raise SpecError(f"{size} bytes of {self.collective} for {ranks} ranks", allowed="16 bytes a rank, or more")
        build = self.build or ALGORITHMS[self.collective][self.algorithm]
        return build(ranks, size, root, in_place)

    def sides(self) -> tuple[bool, bool]:
        """Whether it is run out of place, and in place."""
        if self.in_place is not None:
            return not self.in_place, self.in_place
        return True, self.collective.checked_in_place

    def counted(self, ranks: int, size: int) -> int:
        """The size that its line shows and its bandwidths are of: an alltoallv's busiest rank's, else `size`."""
        if self.collective is not Collective.ALL_TO_ALL_V:
            return size
        return busiest(self.uneven.matrix(ranks, size) if self.uneven else spread_matrix(ranks, size=size))


def pattern(name: str, algorithm: str | None = None) -> Pattern:
    """The pattern of a name as ``all_reduce``, ``all-reduce`` or nccl-tests' ``all_reduce_perf``.

    Raises SpecError that lists what there is, for a name or an algorithm that is not there.
    """
    word = name.lower().replace("-", "_").removesuffix("_perf")
    known = {str(one): one for one in ALGORITHMS}
    word = ALIASES.get(word, word)
    if word not in known:
        near = get_close_matches(word, known, 1)
        found = f"pattern {name!r}" + (f" (meant {near[0]}?)" if near else "")
        raise SpecError(found, allowed=", ".join(known))
    played = ALGORITHMS[known[word]]
    if algorithm is not None and algorithm not in played:
        raise SpecError(f"{word} by {algorithm!r}", allowed=", ".join(played))
    return Pattern(known[word], algorithm or next(iter(played)))
