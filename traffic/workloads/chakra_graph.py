"""Chakra traces of all ranks as one graph, where they name every message and no collective.

Computing becomes a send of no bytes from a rank to itself. A receive is where the message comes to; what waits for it
waits for the message and for what the receive itself waited for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from topologies.errors import SpecError, Where
from traffic.graph import Graph, Send
from traffic.workloads.chakra import read
from traffic.workloads.source import MOST_EDGES, MOST_RANKS, MOST_SENDS, in_order
from traffic.workloads.workload import Collective, Message, Phase, Workload

At = tuple[int, int]  # rank, place in its phases


def read_ranks(prefix: Path) -> tuple[Workload, ...]:
    """The workloads of all ranks: `<prefix>.0.et`, `<prefix>.1.et` and so on, without a gap.

    Raises SpecError where there is no rank 0, where a rank is missing, and for what `read` refuses.
    """
    found: dict[int, Path] = {}
    for path in sorted(prefix.parent.glob("*.et")):
        rank = path.name.removeprefix(f"{prefix.name}.").removesuffix(".et")
        if path.name.startswith(f"{prefix.name}.") and rank.isascii() and rank.isdecimal() and len(rank) <= 4:
            found[int(rank)] = path
    missing = next(rank for rank in range(len(found) + 1) if rank not in found)
    if missing < len(found) or not found:
        raise SpecError(
            f"there is no file of rank {missing}",
            allowed=f"{prefix.name}.0.et and on, a file for each rank",
            where=Where(str(prefix)),
        )
    if len(found) > MOST_RANKS:
        raise SpecError(f"found {len(found)} ranks", allowed=f"at most {MOST_RANKS}", where=Where(str(prefix)))
    return tuple(read(found[rank]) for rank in range(len(found)))


def graph_of(workloads: Sequence[Workload], name: str) -> Graph:
    """The graph of what ranks 0, 1 … do.

    Raises SpecError for a collective (its algorithm is the player's to choose), a message whose peer is not named, one
    that only one side knows, and ranks that wait for each other in a ring.
    """
    phases = {(rank, place): phase for rank, one in enumerate(workloads) for place, phase in enumerate(one)}
    if not 1 <= len(workloads) <= MOST_RANKS or len(phases) > MOST_SENDS:
        found = f"{name}: {len(workloads)} ranks of {len(phases)} nodes"
        raise SpecError(found, allowed=f"1 to {MOST_RANKS} ranks, at most {MOST_SENDS} nodes")
    sender_of = _matched(phases, workloads)
    steps = list(phases)
    number = {at: place for place, at in enumerate(steps)}
    waits = [
        tuple(number[at[0], other] for other in phases[at].after)
        + ((number[sender_of[at]],) if at in sender_of else ())
        for at in steps
    ]
    order, ring = in_order(waits)
    if ring is not None:
        found = "waits for itself through other ranks' messages"
        raise _error(workloads, steps[ring], phases[steps[ring]], found, "messages without a ring")
    return _lowered([steps[place] for place in order], phases, sender_of, Graph(name, len(workloads), ()))


def _error(workloads: Sequence[Workload], at: At, phase: Phase, found: str, allowed: str) -> SpecError:
    return SpecError(found, allowed=allowed, where=Where(workloads[at[0]].name, key=f"node {phase.name!r}"))


def _matched(phases: dict[At, Phase], workloads: Sequence[Workload]) -> dict[At, At]:
    """For each receive its send: between two ranks, of one tag, in order."""
    sent: dict[tuple[int, int, int], list[At]] = defaultdict(list)
    received: dict[tuple[int, int, int], list[At]] = defaultdict(list)
    for at, phase in phases.items():
        if isinstance(phase, Collective):
            raise _error(workloads, at, phase, f"found an {phase.kind}", "messages: its algorithm is not in the file")
        if isinstance(phase, Message):
            src = phase.src if phase.receives else at[0]
            dst = at[0] if phase.receives else phase.dst
            if src is None or dst is None or max(src, dst) >= len(workloads):
                found = f"found a message from rank {src} to rank {dst}"
                raise _error(workloads, at, phase, found, f"ranks 0 to {len(workloads) - 1}, named at both ends")
            (received if phase.receives else sent)[src, dst, phase.tag].append(at)
    pairs: dict[At, At] = {}
    for key in sorted(sent.keys() | received.keys()):
        senders, receivers = sent[key], received[key]
        if len(senders) != len(receivers):
            at = (senders if len(senders) > len(receivers) else receivers)[min(len(senders), len(receivers))]
            found = f"found {len(senders)} sends and {len(receivers)} receives from rank {key[0]} to {key[1]}"
            raise _error(workloads, at, phases[at], f"{found}, tag {key[2]}", "as many receives as sends")
        for sender, receiver in zip(senders, receivers, strict=True):
            sizes = [phase.size for phase in (phases[sender], phases[receiver]) if isinstance(phase, Message)]
            for given, taken in pairwise(sizes):
                if given != taken:
                    found = f"receives {taken} bytes of {given}"
                    raise _error(workloads, receiver, phases[receiver], found, "the same comm_size at both ends")
            pairs[receiver] = sender
    return pairs


def _lowered(order: list[At], phases: dict[At, Phase], sender_of: dict[At, At], empty: Graph) -> Graph:
    sends: list[Send] = []
    done: dict[At, tuple[int, ...]] = {}  # what a phase's followers wait for, in the graph
    landed = [0] * empty.ranks
    largest = edges = 0
    for at in order:
        phase, rank = phases[at], at[0]
        after = tuple(sorted({place for other in phase.after for place in done[rank, other]}))
        if (edges := edges + len(after)) > MOST_EDGES:
            raise SpecError(f"{empty.name}: more than {MOST_EDGES} dependencies", allowed="fewer")
        if isinstance(phase, Message) and phase.receives:
            done[at] = tuple(sorted({*after, *done[sender_of[at]]}))
            continue
        if isinstance(phase, Message):
            dst = phase.dst if phase.dst is not None else rank
            sends.append(Send(rank, dst, phase.size, after, to_offset=landed[dst]))
            landed[dst] += phase.size
            largest = max(largest, phase.size)
        elif not isinstance(phase, Collective):
            sends.append(Send(rank, rank, 0, after, compute_s=phase.seconds))
        done[at] = (len(sends) - 1,)
    return Graph(empty.name, empty.ranks, tuple(sends), input_bytes=largest, output_bytes=max(landed, default=0))
