"""Flow files of the ns-3 RDMA simulators (HPCC and its offspring), read and written.

    2                          how many flows
    2 1 3 100 200000000 2      source, destination, priority group, destination port, bytes, start in seconds
    3 1 3 100 200000000 2.5

As the simulator takes them: flows stand in the order of their starts (it schedules each when the one before has
started, and cannot schedule the past), bytes fit 32 bits, and lines after the last flow are not read. Nodes are
numbered from 0; a node's number is its rank.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from topologies.errors import SpecError
from traffic.graph import Graph, Send
from traffic.workloads.source import (
    MOST_RANKS,
    MOST_SECONDS,
    MOST_SENDS,
    Line,
    decoded,
    lines,
    read_bytes,
    whole_file,
)

COLUMNS = ("src", "dst", "pg", "dport", "bytes", "start")
MOST_FLOW_BYTES = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Ns3Flow:
    """One flow: nodes from 0, priority group 0 to 7, destination port, payload bytes, start in seconds."""

    src: int
    dst: int
    priority: int
    dport: int
    size: int
    start_s: float


def read(path: Path) -> Graph:
    """The graph of a flow file: every flow a send that waits only for its start. Raises SpecError with the place."""
    return parse(read_bytes(path), str(path))


def parse(content: bytes, file: str) -> Graph:
    """As `read()`, from memory; `file` is what errors call it."""
    return graph_of(parse_flows(content, file), file)


def read_flows(path: Path) -> tuple[Ns3Flow, ...]:
    """The flows of a file, in its order. Raises SpecError with line and column."""
    return parse_flows(read_bytes(path), str(path))


def parse_flows(content: bytes, file: str) -> tuple[Ns3Flow, ...]:
    """As `read_flows()`, from memory; `file` is what errors call it."""
    rest = lines(decoded(content, file), file)
    first = next(rest, None)
    if first is None:
        raise whole_file(file, "found no line", "the number of flows, then a line for each")
    first.expect_words(("flows",))
    count = first.whole(0, "the number of flows", 0, MOST_SENDS)
    flows: list[Ns3Flow] = []
    for line in rest:
        if len(flows) == count:
            break
        flows.append(_flow(line, flows[-1].start_s if flows else 0.0))
    if len(flows) < count:
        raise first.error(f"found {len(flows)} flows", allowed=f"{count}, as this line says", word=0)
    return tuple(flows)


def graph_of(flows: Sequence[Ns3Flow], name: str) -> Graph:
    """Every flow as a send that starts `compute_s` after the graph does, with a place of its own in the output."""
    landed: dict[int, int] = {}
    sends: list[Send] = []
    for flow in flows:
        at = landed.get(flow.dst, 0)
        landed[flow.dst] = at + flow.size
        sends.append(Send(flow.src, flow.dst, flow.size, to_offset=at, compute_s=flow.start_s))
    return Graph(
        name=f"flows of {name}",
        ranks=max((max(flow.src, flow.dst) for flow in flows), default=1) + 1,
        sends=tuple(sends),
        input_bytes=max((flow.size for flow in flows), default=0),
        output_bytes=max(landed.values(), default=0),
    )


def flows_of(graph: Graph, *, priority: int = 3, dport: int = 100) -> tuple[Ns3Flow, ...]:
    """A graph's sends as flows, for the simulator to play the same. What stays within a rank is none.

    Raises SpecError for a send that waits for another: a flow file has no dependencies.
    """
    flows = []
    for place, send in enumerate(graph):
        if send.after:
            found = f"send {place} of {graph.name} waits for {len(send.after)} others"
            raise SpecError(found, allowed="sends that wait for none: ns-3 flows have only a start")
        if send.src != send.dst:
            flows.append(Ns3Flow(send.src, send.dst, priority, dport, send.size, send.compute_s))
    return tuple(sorted(flows, key=lambda flow: flow.start_s))


def written(flows: Iterable[Ns3Flow]) -> str:
    """The text of a flow file, in the order of starts. Reading it gives the same flows.

    Raises SpecError for what the simulator cannot take.
    """
    ordered = sorted(flows, key=lambda flow: flow.start_s)
    rows = [
        f"{flow.src} {flow.dst} {flow.priority} {flow.dport} {flow.size} {float(flow.start_s)!r}" for flow in ordered
    ]
    text = "\n".join([str(len(rows)), *rows]) + "\n"
    parse_flows(text.encode(), "flows to be written")
    return text


def _flow(line: Line, earliest_s: float) -> Ns3Flow:
    line.expect_words(COLUMNS)
    src = line.whole(0, "the source", 0, MOST_RANKS - 1)
    dst = line.whole(1, "the destination", 0, MOST_RANKS - 1)
    if src == dst:
        raise line.error(f"found a flow from node {src} to itself", allowed="another destination", word=1)
    priority = line.whole(2, "the priority group", 0, 7)
    dport = line.whole(3, "the destination port", 1, 65535)
    size = line.whole(4, "the number of bytes", 1, MOST_FLOW_BYTES)
    start_s = line.decimal(5, "the start", MOST_SECONDS)
    if start_s < earliest_s:
        allowed = f"from {earliest_s:g} s, when the flow before starts"
        raise line.error(f"the flow starts at {start_s:g} s", allowed=allowed, word=5)
    return Ns3Flow(src, dst, priority, dport, size, start_s)
