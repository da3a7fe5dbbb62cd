"""Is it cabled as it was planned, and do packets of every size come through?

What a switch hears from its neighbours (LLDP) says which cable is where; a design says where it should be. Two cables
that were swapped are two ports each with the other's neighbour. A link of a smaller MTU than its path's loses large
packets alone: small ones, and so all sessions, pass.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from labs.verdicts import Evidence, Verdict
from topologies.fabric import Fabric

MOST_ROWS = 12


@dataclass(frozen=True, slots=True)
class Neighbor:
    """What a node's port hears: the far end's node and port, in the design's own names."""

    node: str
    port: str
    far_node: str
    far_port: str


@dataclass(frozen=True, slots=True)
class SizeProbe:
    """IP packets of one size between two hosts, not to be fragmented: so many were sent, so many answered."""

    src: str
    dst: str
    packet_bytes: int
    sent: int
    answered: int


def wired_as_planned(fabric: Fabric, heard: Iterable[Neighbor], *, hosts: bool = False) -> Verdict:
    """Judge that every link between two switches joins the ports that the design joins.

    Args:
        heard: what every port hears; what hosts, or ports without a link of the design, hear is not judged.
        hosts: judge links to hosts too, which then have to speak LLDP.

    Bound: none is wrong and none is silent. Two ports that hear each other's neighbour are named as swapped. A silent
    port is a cable that is cut as well as a daemon that is down, so that alone is invalid, not false; invalid also
    when the design has no such link.
    """
    links = fabric.links if hosts else fabric.fabric_links
    planned = {str(near): str(link.far(near.node)) for link in links for near in link.ends}
    seen: dict[str, set[str]] = defaultdict(set)
    for one in heard:
        seen[f"{one.node}:{one.port}"].add(f"{one.far_node}:{one.far_port}")
    wrong = {port: min(seen[port] - {far}) for port, far in planned.items() if seen.get(port, {far}) - {far}}
    silent = sorted(port for port in planned if not seen.get(port))
    rows = [f"{port}: hears {far}, planned {planned[port]}" for port, far in wrong.items()]
    swapped = _swapped(wrong, planned)
    said = f"{len(planned)} ports hear whom they should"
    if wrong:
        said = f"{len(wrong)} of {len(planned)} ports hear somebody else"
        said += f": swapped at {' and '.join(swapped[0])}" if swapped else ""
    numbers: dict[str, object] = {
        "ports": len(planned),
        "wrong": len(wrong),
        "silent": silent[:MOST_ROWS],
        "swapped": [" and ".join(pair) for pair in swapped],
    }
    verdict = Verdict(
        "every cable is where the design has it",
        bool(planned) and not wrong and not silent,
        Evidence(said, numbers, tuple(rows[:MOST_ROWS])),
    )
    if wrong or (planned and not silent):
        return verdict
    return verdict.invalid(f"{len(silent)} ports hear nobody, as {silent[0]}" if silent else "there are no links")


def every_size_passes(probes: Iterable[SizeProbe], *, largest_bytes: int) -> Verdict:
    """Judge that packets of up to `largest_bytes`, the design's MTU, come through wherever the smallest do.

    Args:
        probes: at least two sizes for each pair of hosts, one of them `largest_bytes`.
        largest_bytes: an IP packet with its headers.

    Bound: 0: a size that loses all is a size that does not pass. Invalid when a pair was not asked with a small packet
    or with the largest, when its smallest packets do not pass either (no matter of size), or when a size lost some of
    its packets and not all, and no pair is false.
    """
    pairs: dict[tuple[str, str], dict[int, SizeProbe]] = defaultdict(dict)
    for one in probes:
        pairs[one.src, one.dst][one.packet_bytes] = one
    wrong, doubtful = [], []
    for (src, dst), sizes in pairs.items():
        asked = sorted(size for size in sizes if size <= largest_bytes)
        blind = _blind(sizes, asked, largest_bytes)
        if blind:
            doubtful.append(f"{src} to {dst}: {blind}")
            continue
        stuck = next((size for size in asked if not sizes[size].answered), None)
        if stuck is not None:
            through = max(size for size in asked if size < stuck)
            wrong.append(f"{src} to {dst}: {through} B pass, {stuck} B do not")
        elif any(sizes[size].answered < sizes[size].sent for size in asked):
            doubtful.append(f"{src} to {dst}: some packets were lost, of a size that passes")
    numbers: dict[str, object] = {"pairs": len(pairs), "wrong": len(wrong), "largest_bytes": largest_bytes}
    said = f"{len(wrong)} of {len(pairs)} pairs lose large packets alone" if wrong else f"{len(pairs)} pairs were asked"
    verdict = Verdict(
        f"packets of up to {largest_bytes} B pass",
        bool(pairs) and not wrong and not doubtful,
        Evidence(said, numbers, tuple((*wrong, *doubtful)[:MOST_ROWS])),
    )
    if wrong or (pairs and not doubtful):
        return verdict
    return verdict.invalid(doubtful[0] if doubtful else "nobody was asked")


def _blind(sizes: Mapping[int, SizeProbe], asked: list[int], largest_bytes: int) -> str | None:
    if len(asked) < 2 or asked[-1] != largest_bytes:
        return f"asked with {', '.join(map(str, asked)) or 'no'} B, a small size and {largest_bytes} B are needed"
    return None if sizes[asked[0]].answered else "the smallest packets do not pass either"


def _swapped(wrong: Mapping[str, str], planned: Mapping[str, str]) -> list[tuple[str, str]]:
    """Pairs of ports that hear each other's neighbour."""
    by_far = {planned[port]: port for port in wrong}
    pairs = ((port, by_far[far]) for port, far in wrong.items() if far in by_far)
    return [pair for pair in pairs if pair[0] < pair[1] and wrong[pair[1]] == planned[pair[0]]]
