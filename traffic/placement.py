"""Which host, which of its network cards and how fast an accelerator each rank has: mixed hosts are said here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from topologies.errors import SpecError
from traffic.graph import Graph

Addresses = Callable[[str, int], str]
"""The address of a host's card: ``addresses("host1", 1)``. Raises SpecError for one that is not there."""


@dataclass(frozen=True, slots=True)
class Rank:
    """One rank's place.

    `nics`, from 1, are the cards it sends and receives with, its bytes spread evenly over them; ranks of one host may
    share a card. `rate_bps` is the rate of each of its cards, `receive_bps` that at which it takes what comes: its
    link's, where it sends slower than that; else the same. `compute_scale` multiplies its compute times: 2 for an
    accelerator of half the speed.
    """

    host: str
    nics: tuple[int, ...] = (1,)
    rate_bps: float | None = None
    compute_scale: float = 1.0
    receive_bps: float | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """Bytes that one card sends and receives."""

    sent: float
    received: float


@dataclass(frozen=True, slots=True)
class Placement:
    """Where all ranks stand, in their order. `checked_placement` makes one."""

    ranks: tuple[Rank, ...]

    @property
    def hosts(self) -> tuple[str, ...]:
        """Every rank's host."""
        return tuple(rank.host for rank in self.ranks)

    def place(self, graph: Graph) -> Graph:
        """The graph on these hosts, its compute times scaled. Raises SpecError for a graph of other ranks."""
        self._check(graph)
        sends = tuple(
            replace(send, compute_s=send.compute_s * self.ranks[send.src].compute_scale) if send.compute_s else send
            for send in graph.sends
        )
        return replace(graph, sends=sends, hosts=self.hosts)

    def fabric_matrix(self, graph: Graph) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        """`graph.matrix` without what ranks of one host send each other: what the fabric carries."""
        self._check(graph)
        hosts = np.array(self.hosts)
        matrix = graph.matrix
        matrix[hosts[:, None] == hosts[None, :]] = 0
        return matrix

    def loads(self, graph: Graph) -> Mapping[tuple[str, int], Load]:
        """What each (host, card) sends to and receives from the fabric, in bytes."""
        matrix = self.fabric_matrix(graph)
        loads: dict[tuple[str, int], Load] = {}
        for rank, sent, received in zip(self.ranks, matrix.sum(axis=1), matrix.sum(axis=0), strict=True):
            for nic in rank.nics:
                had = loads.get((rank.host, nic), Load(0.0, 0.0))
                share = len(rank.nics)
                loads[rank.host, nic] = Load(had.sent + float(sent) / share, had.received + float(received) / share)
        return loads

    def rates_bps(self) -> Mapping[tuple[str, int], float]:
        """The rate of each (host, card). Raises SpecError where a rank has none."""
        rates: dict[tuple[str, int], float] = {}
        for number, rank in enumerate(self.ranks):
            if rank.rate_bps is None:
                raise SpecError(f"rank {number} on {rank.host} has no rate", allowed="bit/s, more than 0")
            rates |= {(rank.host, nic): rank.rate_bps for nic in rank.nics}
        return rates

    def receive_bps(self) -> Mapping[tuple[str, int], float]:
        """The rate at which each (host, card) receives. Raises SpecError where a rank has none."""
        rates = dict(self.rates_bps())
        for rank in self.ranks:
            rates |= {(rank.host, nic): rank.receive_bps for nic in rank.nics if rank.receive_bps is not None}
        return rates

    def _check(self, graph: Graph) -> None:
        if graph.ranks != len(self.ranks):
            raise SpecError(f"{len(self.ranks)} places for {graph.ranks} ranks", allowed="one a rank")


def checked_placement(ranks: Sequence[Rank]) -> Placement:
    """A placement.

    Raises SpecError for no ranks, a rank without cards or with one twice, a rate or scale that is not positive, and
    ranks that share a card and differ in its rate.
    """
    if not ranks:
        raise SpecError("no ranks", allowed="1 or more")
    rates: dict[tuple[str, int], float | None] = {}
    for number, rank in enumerate(ranks):
        if not rank.nics or len(set(rank.nics)) != len(rank.nics) or min(rank.nics) < 1:
            raise SpecError(f"rank {number} on {rank.host}: cards {list(rank.nics)}", allowed="from 1, each once")
        if rank.compute_scale <= 0 or (rank.rate_bps is not None and rank.rate_bps <= 0):
            found = f"rank {number} on {rank.host}: rate {rank.rate_bps}, scale {rank.compute_scale}"
            raise SpecError(found, allowed="more than 0")
        for nic in rank.nics:
            if rates.setdefault((rank.host, nic), rank.rate_bps) != rank.rate_bps:
                found = f"rank {number}: card {nic} of {rank.host} at {rank.rate_bps}"
                raise SpecError(found, allowed=f"{rates[rank.host, nic]} bit/s, as another rank has it")
    return Placement(tuple(ranks))


def one_each(hosts: Sequence[str], *, rate_bps: float | None = None, nics: int = 1) -> Placement:
    """A rank for every card of every host: rank g L + l is on card l + 1 of host g."""
    if nics < 1:
        raise SpecError(f"{nics} cards a host", allowed="1 or more")
    return checked_placement([Rank(host, (nic,), rate_bps) for host in hosts for nic in range(1, nics + 1)])
