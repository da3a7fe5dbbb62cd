"""Collectives of named hosts, as tests and scripts ask for them: what is sent, and as what nccl-tests would count it.

Pure. A rank stands on each host that is named; one that is named again has a rank on its next card too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from topologies.errors import SpecError
from traffic.bounds import wire_efficiency
from traffic.busbw import GB, Collective, bandwidth, rounded
from traffic.collectives import ring_all_reduce as made_ring
from traffic.collectives.score import Ranks, counted
from traffic.graph import Graph
from traffic.patterns import Pattern, pattern


@dataclass(frozen=True, slots=True)
class Operation:
    """One collective: its graph, and the bytes that nccl-tests has in its first column."""

    graph: Graph
    collective: Collective
    size: int

    def __str__(self) -> str:
        return self.graph.name

    @property
    def hosts(self) -> tuple[str, ...]:
        """The ranks' hosts; empty: every card of the lab has one."""
        return self.graph.hosts

    def busbw_bps(self, took_s: float) -> float:
        """Bus bandwidth in bit/s, when once took so many seconds."""
        return bandwidth(self.collective, took_s, size=self.size, ranks=self.graph.ranks).bus_bw * GB * 8

    def busbw_ratio(self, took_s: float, *, rate_bps: float, mtu: int) -> float:
        """Bus bandwidth over what a line's rate leaves to payload in packets of `mtu`: 1 is as fast as can be.

        Raises SpecError for a rate of 0 or less.
        """
        if rate_bps <= 0:
            raise SpecError(f"a line rate of {rate_bps} bit/s", allowed="more than 0")
        return self.busbw_bps(took_s) / (rate_bps * wire_efficiency(mtu))


def operation(
    name: str, hosts: Ranks, *, size: int, algorithm: str | None = None, root: int = 0, in_place: bool = False
) -> Operation:
    """A collective by nccl-tests' name (``all_gather``) and, where it is to be another than the first, its algorithm.

    Args:
        hosts: where the ranks stand, in their order, or how many there are.
        size: bytes, as nccl-tests counts them; refused where it would run fewer.

    Raises SpecError for names, sizes, ranks and roots that there are not.
    """
    return _of(pattern(name, algorithm), hosts, size, root, in_place)


def ring_all_reduce(hosts: Ranks, *, size: int, in_place: bool = False, rings: int = 1) -> Operation:
    """All-reduce of `size` bytes, each rank sending to the next only.

    Args:
        rings: how many share the bytes, every second one the other way round: one sends while another waits.
    """
    found = operation("all_reduce", hosts, size=size, algorithm="ring", in_place=in_place)
    if rings == 1:
        return found
    graph = made_ring(found.graph.ranks, size=size, in_place=in_place, rings=rings)
    return replace(found, graph=replace(graph, hosts=found.hosts))


def halving_doubling_all_reduce(hosts: Ranks, *, size: int, in_place: bool = False) -> Operation:
    """All-reduce of `size` bytes in 2 log2 n steps, for powers of two."""
    return operation("all_reduce", hosts, size=size, algorithm="halving-doubling", in_place=in_place)


def all_gather(hosts: Ranks, *, size: int, in_place: bool = False) -> Operation:
    """Everybody ends with all shares, `size` bytes, round a ring."""
    return operation("all_gather", hosts, size=size, in_place=in_place)


def reduce_scatter(hosts: Ranks, *, size: int, in_place: bool = False) -> Operation:
    """Everybody ends with a share of the sum of `size` bytes, round a ring."""
    return operation("reduce_scatter", hosts, size=size, in_place=in_place)


def all_to_all(hosts: Ranks, *, size: int, at_once: bool = False) -> Operation:
    """Everybody's `size` bytes in equal shares to everybody: pairwise, step by step or all steps at once."""
    return operation("alltoall", hosts, size=size, algorithm="at-once" if at_once else "pairwise")


def broadcast(hosts: Ranks, *, size: int, root: int = 0) -> Operation:
    """The root's `size` bytes to all, along a chain."""
    return operation("broadcast", hosts, size=size, root=root)


def gather(hosts: Ranks, *, size: int, root: int = 0) -> Operation:
    """Everybody's share of `size` bytes to the root, all at once: an incast."""
    return operation("gather", hosts, size=size, root=root)


def _of(chosen: Pattern, hosts: Ranks, size: int, root: int, in_place: bool) -> Operation:
    ranks, names = counted(hosts)
    whole = rounded(chosen.collective, size, ranks=ranks).size
    if whole != size:
        raise SpecError(f"{size} bytes of {chosen.collective} for {ranks} ranks", allowed=f"{whole}, or more")
    graph = chosen.graph(ranks, size, root=root, in_place=in_place)
    return Operation(replace(graph, hosts=names), chosen.collective, size)
