"""Collectives of hosts with several accelerators: between hosts only ranks of one local number, a rail, meet.

Rank g L + l is accelerator l of host g (NCCL's PXN for rails first within the host).
Where a rail is one leaf, nothing crosses a spine.
"""

from __future__ import annotations

from topologies.errors import SpecError
from traffic.collectives.alltoall import even_share
from traffic.collectives.ring import ring_add, ring_pass, ring_sum
from traffic.collectives.score import INPUT, OUTPUT, Ranks, Score, counted, spans
from traffic.graph import Graph


def hierarchical_all_reduce(
    ranks: Ranks, *, per_host: int, size: int, element: int = 4, in_place: bool = False
) -> Graph:
    """Reduce-scatter within each host, all-reduce of each share along its rail, all-gather within the host; rings.

    Bytes a rank sends to other hosts, of S, with G hosts of L: 2 (G-1)/G S/L.
    Raises SpecError unless `per_host` divides the ranks.
    """
    score = Score(ranks, element=element, in_place=in_place)
    hosts = _hosts(score.ranks, per_host)
    shares = spans(size, per_host, element)
    steps = per_host - 1
    for members in hosts:
        if per_host == 1:
            score.copy(members[0], size, INPUT, OUTPUT)
        else:
            ring_add(score, members, shares, results=[OUTPUT + share.offset for share in shares], room=OUTPUT)
    if len(hosts) > 1:
        for local, share in enumerate(shares):
            rail = [members[local] for members in hosts]
            parts = spans(share.size, len(hosts), element, base=share.offset)
            ring_sum(score, rail, parts, staged=True, step=steps)
    for members in hosts:
        ring_pass(score, members, shares, step=steps + 2 * (len(hosts) - 1))
    name = f"hierarchical all-reduce of {len(hosts)} x {per_host}"
    return score.graph(name, input_bytes=size, output_bytes=size)


def rail_ring_all_reduce(ranks: Ranks, *, per_host: int, size: int, element: int = 4, in_place: bool = False) -> Graph:
    """One ring a rail, each over all ranks with S/L of the bytes, entering and leaving every host on one rail.

    Every second host is walked backwards, so that a ring leaves a host on the rail on which it enters the next one.
    Raises SpecError unless `per_host` divides the ranks, into an even number of hosts where a host has several.
    """
    score = Score(ranks, element=element, in_place=in_place)
    hosts = _hosts(score.ranks, per_host)
    if per_host > 1 and len(hosts) % 2:
        raise SpecError(f"{len(hosts)} hosts of {per_host}", allowed="an even number: a ring has to close on its rail")
    for ring, span in enumerate(spans(size, per_host, element)):
        order: list[int] = []
        for number, members in enumerate(hosts):
            walked = [members[(ring + nth) % per_host] for nth in range(per_host)]
            order += walked if number % 2 == 0 else walked[::-1]
        ring_sum(score, order, spans(span.size, score.ranks, element, base=span.offset))
    name = f"rail ring all-reduce of {len(hosts)} x {per_host}"
    return score.graph(name, input_bytes=size, output_bytes=size)


def hierarchical_all_to_all(ranks: Ranks, *, per_host: int, size: int, element: int = 4) -> Graph:
    """All-to-all, first along the rails (all blocks for a host in one message), then within the hosts."""
    count, _ = counted(ranks)
    score, block = Score(ranks, element=element), even_share(size, count, element)
    hosts = _hosts(count, per_host)
    rooms = [score.scratch(rank, size) for rank in range(count)]
    bundle = per_host * block
    for turn in range(len(hosts)):
        for rank in range(count):
            host, local = divmod(rank, per_host)
            target = (host + turn) % len(hosts)
            peer, begin, end = target * per_host + local, INPUT + target * bundle, rooms[rank] + host * bundle
            score.send(rank, peer, bundle, begin, end, step=turn)
    for turn in range(per_host):
        for rank in range(count):
            host, local = divmod(rank, per_host)
            to = (local + turn) % per_host
            for origin in range(len(hosts)):
                begin = rooms[rank] + origin * bundle + to * block
                end = OUTPUT + (origin * per_host + local) * block
                score.send(rank, host * per_host + to, block, begin, end, step=len(hosts) + turn)
    return score.graph(f"hierarchical all-to-all of {len(hosts)} x {per_host}", input_bytes=size, output_bytes=size)


def rail_all_to_all(ranks: Ranks, *, per_host: int, size: int, element: int = 4) -> Graph:
    """All-to-all, first within the host to the accelerator on the target's rail, then along the rail (NCCL's PXN).

    Bytes a rank sends to other hosts, of S, with n ranks, L a host: (n-L)/n S, all to its own rail.
    """
    count, _ = counted(ranks)
    score, block = Score(ranks, element=element), even_share(size, count, element)
    hosts = _hosts(count, per_host)
    rooms = [score.scratch(rank, size) for rank in range(count)]
    bundle = per_host * block
    for turn in range(per_host):
        for rank in range(count):
            host, local = divmod(rank, per_host)
            rail = (local + turn) % per_host
            for target in range(len(hosts)):
                peer, begin = host * per_host + rail, INPUT + (target * per_host + rail) * block
                end = OUTPUT + rank * block if target == host else rooms[rank] + target * bundle + local * block
                score.send(rank, peer, block, begin, end, step=turn)
    for turn in range(1, len(hosts)):
        for rank in range(count):
            host, local = divmod(rank, per_host)
            target = (host + turn) % len(hosts)
            begin, end = rooms[rank] + target * bundle, OUTPUT + host * bundle
            score.send(rank, target * per_host + local, bundle, begin, end, step=per_host + turn - 1)
    return score.graph(f"rail all-to-all of {len(hosts)} x {per_host}", input_bytes=size, output_bytes=size)


def _hosts(count: int, per_host: int) -> list[list[int]]:
    """The ranks of each host."""
    if per_host < 1 or count % per_host:
        raise SpecError(f"{per_host} ranks a host of {count} ranks", allowed=f"a divisor of {count}")
    return [list(range(first, first + per_host)) for first in range(0, count, per_host)]
