"""Chakra execution traces: MLCommons' protobuf (schema/protobuf/et_def.proto), one file a rank, gzipped or not.

A file is a row of messages, each after its length as a varint: GlobalMetadata, then the nodes of a dependency graph.
COMP nodes compute; so do METADATA, MEM_LOAD and MEM_STORE nodes, for as long as they say. COMM_SEND, COMM_RECV and
COMM_COLL nodes are messages and collectives, but for those with is_cpu_op: such a node is the call on the CPU, and
computes. Nodes may stand in any order.

Data and control dependencies both hold, but in a trace recorded on a CPU and a GPU (some node says is_cpu_op): there a
control dependency names the caller, often one that was left out, and Chakra's converter has put the order into the
data dependencies. So has its own feeder: it reads those alone.

Of a node's attributes these are read: comm_type, comm_size (bytes), comm_src, comm_dst, comm_tag, pg_name, is_cpu_op.
Fields and attributes that are not known are skipped, as protobuf has it.
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from traffic.workloads.protobuf_wire import BYTES, Field, Wire, signed, unzigzag
from traffic.workloads.source import (
    MOST_BYTES,
    MOST_EDGES,
    MOST_RANKS,
    MOST_SECONDS,
    MOST_SENDS,
    MOST_SIZE,
    in_order,
    read_bytes,
    whole_file,
)
from traffic.workloads.workload import Collective, CollectiveKind, Compute, Message, Phase, Workload

GZIP_MAGIC = b"\x1f\x8b"
MICROSECONDS = 1_000_000  # of a second
MOST_NAME = 4096
_NODE_TYPES = {
    1: "METADATA_NODE",
    2: "MEM_LOAD_NODE",
    3: "MEM_STORE_NODE",
    4: "COMP_NODE",
    5: "COMM_SEND_NODE",
    6: "COMM_RECV_NODE",
    7: "COMM_COLL_NODE",
}
_COMM_SEND, _COMM_RECV, _COMM_COLL = 5, 6, 7
# CollectiveCommType; REDUCE_SCATTER_BLOCK is a reduce-scatter of equal parts, as all of ours are.
_KINDS = {
    0: CollectiveKind.ALL_REDUCE,
    1: CollectiveKind.REDUCE,
    2: CollectiveKind.ALL_GATHER,
    3: CollectiveKind.GATHER,
    4: CollectiveKind.SCATTER,
    5: CollectiveKind.BROADCAST,
    6: CollectiveKind.ALL_TO_ALL,
    7: CollectiveKind.REDUCE_SCATTER,
    8: CollectiveKind.REDUCE_SCATTER,
    9: CollectiveKind.BARRIER,
}
_INT32, _INT64, _UINT32, _UINT64, _SINT32, _SINT64, _BOOL, _STRING = (
    7,
    9,
    11,
    13,
    15,
    17,
    27,
    29,
)  # of AttributeProto's oneof
_ATTRIBUTES = frozenset({"comm_type", "comm_size", "comm_src", "comm_dst", "comm_tag", "pg_name", "is_cpu_op"})
_RANK = re.compile(r"\.([0-9]{1,4})\.et(?:\.gz)?$")


def read(path: Path) -> Workload:
    """What one rank does; which rank, its name says: `<prefix>.<rank>.et`. Raises SpecError with byte and node."""
    return parse(read_bytes(path), str(path))


def parse(content: bytes, file: str) -> Workload:
    """As `read()`, from memory; `file` is what errors call it."""
    named = _RANK.search(Path(file).name)
    rank = int(named[1]) if named else None
    wire = Wire(unpacked(content, file), file)
    nodes = _nodes(wire)
    return Workload(file, _phases(wire, nodes, rank), rank=rank)


def unpacked(content: bytes, file: str) -> bytes:
    """The bytes of a file that may be gzipped. Raises SpecError for what does not unpack, and past `MOST_BYTES`."""
    if not content.startswith(GZIP_MAGIC):
        return content
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as packed:
            data = packed.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise whole_file(file, f"found gzip that does not unpack ({error})", "a whole gzip file") from None
    if len(data) > MOST_BYTES:
        raise whole_file(file, f"unpacks to more than {MOST_BYTES} bytes", f"at most {MOST_BYTES}")
    return data


@dataclass(slots=True)
class _Node:
    """A node as it is read; `at` is the byte where its message begins."""

    at: int
    id: int = 0
    name: str = ""
    type: int = 0
    micros: int = 0
    data: list[int] = field(default_factory=list)
    control: list[int] = field(default_factory=list)
    attributes: dict[str, int | str | None] = field(default_factory=dict)


def _nodes(wire: Wire) -> list[_Node]:
    at = _metadata(wire)
    nodes: list[_Node] = []
    edges = 0
    while at < len(wire.data):
        wire.node = len(nodes)
        if len(nodes) == MOST_SENDS:
            raise wire.error(at, f"found more than {MOST_SENDS} nodes", allowed=f"at most {MOST_SENDS}")
        start, end = _message(wire, at)
        nodes.append(_node(wire, start, end, MOST_EDGES - edges))
        edges += len(nodes[-1].data) + len(nodes[-1].control)
        at = end
    wire.node = None
    return nodes


def _message(wire: Wire, at: int) -> tuple[int, int]:
    size, start = wire.varint(at, len(wire.data))
    if size > len(wire.data) - start:
        found = f"a message says {size} bytes where {len(wire.data) - start} are left"
        raise wire.error(at, found, allowed="a length inside the file")
    return start, start + size


def _metadata(wire: Wire) -> int:
    """Where the nodes begin."""
    if not wire.data:
        raise wire.error(0, "found no bytes", allowed="GlobalMetadata, then nodes")
    start, end = _message(wire, 0)
    for found in wire.fields(start, end):
        if found.number == 1:
            wire.text(found, "the metadata's version", MOST_NAME)
        elif found.number == 2:
            wire.expect(found, BYTES, "a metadata attribute")
    return end


def _node(wire: Wire, start: int, end: int, most_edges: int) -> _Node:
    node = _Node(start)
    for found in wire.fields(start, end):
        if found.number == 2:
            node.name = wire.text(found, "the node's name", MOST_NAME)
        elif found.number == 1:
            node.id = wire.number(found, "the node's id")
        elif found.number == 3:
            node.type = wire.number(found, "the node's type")
        elif found.number == 7:
            node.micros = wire.number(found, "the node's duration")
        elif found.number in {4, 5}:
            _add_dependencies(wire, found, node, most_edges)
        elif found.number == 10:
            name, value = _attribute(wire, found)
            if name in _ATTRIBUTES:
                node.attributes[name] = value
    _check_node(wire, node)
    return node


def _add_dependencies(wire: Wire, found: Field, node: _Node, most: int) -> None:
    for other in wire.numbers(found, "a dependency"):
        if len(node.data) + len(node.control) == most:
            raise wire.error(found.at, f"found more than {MOST_EDGES} dependencies", allowed="fewer")
        (node.control if found.number == 4 else node.data).append(other)


def _check_node(wire: Wire, node: _Node) -> None:
    if node.type not in _NODE_TYPES:
        allowed = ", ".join(f"{number} {name}" for number, name in _NODE_TYPES.items())
        raise wire.error(node.at, f"found node type {node.type}", allowed=allowed)
    if node.micros > MOST_SECONDS * MICROSECONDS:
        raise wire.error(node.at, f"the node takes {node.micros} us", allowed=f"at most {MOST_SECONDS:.0f} s")


def _attribute(wire: Wire, found: Field) -> tuple[str, int | str | None]:
    """Name and value of an attribute; None for the types that no attribute we read has."""
    wire.expect(found, BYTES, "an attribute")
    name = ""
    value: int | str | None = None
    for part in wire.fields(found.start, found.end):
        if part.number == 1:
            name = wire.text(part, "an attribute's name", MOST_NAME)
        elif part.number == _STRING:
            value = wire.text(part, "an attribute's text", MOST_BYTES)
        elif part.number in {_INT32, _INT64, _UINT32, _UINT64, _SINT32, _SINT64, _BOOL}:
            value = _number(part.number, wire.number(part, "an attribute's number"))
        elif part.number > 2:
            value = None  # of a oneof, the last that was written holds
    return name, value


def _number(number: int, value: int) -> int:
    if number in {_SINT32, _SINT64}:
        return unzigzag(value)
    if number in {_INT32, _INT64}:
        return signed(value, 64)
    return value


def _phases(wire: Wire, nodes: list[_Node], rank: int | None) -> tuple[Phase, ...]:
    """The nodes as phases, each after those it waits for."""
    place: dict[int, int] = {}
    for number, node in enumerate(nodes):
        wire.node = number
        if node.id in place:
            found = f"found id {node.id}, which node {place[node.id]} of the file has"
            raise wire.error(node.at, found, allowed="an id of its own")
        place[node.id] = number
    recorded = any(node.attributes.get("is_cpu_op") for node in nodes)
    waits = [_places(wire, nodes, number, place, recorded=recorded) for number in range(len(nodes))]
    order, ring = in_order(waits)
    if ring is not None:
        wire.node = ring
        found = f"node id {nodes[ring].id} waits for itself, directly or through others"
        raise wire.error(nodes[ring].at, found, allowed="dependencies without a ring")
    moved = {number: new for new, number in enumerate(order)}
    phases: list[Phase] = []
    for number in order:
        wire.node = number
        phase = _phase(wire, nodes[number], rank)
        phases.append(replace(phase, after=tuple(sorted({moved[other] for other in waits[number]}))))
    return tuple(phases)


def _places(
    wire: Wire, nodes: list[_Node], number: int, place: Mapping[int, int], *, recorded: bool
) -> tuple[int, ...]:
    """Which nodes of the file, by their places, the node at `number` waits for."""
    node = nodes[number]
    wire.node = number
    waits_for = node.data if recorded else node.data + node.control
    for other in waits_for:
        if other not in place:
            raise wire.error(node.at, f"node id {node.id} waits for id {other}", allowed="the id of a node of the file")
    return tuple(place[other] for other in waits_for)


def _phase(wire: Wire, node: _Node, rank: int | None) -> Phase:
    name = node.name or f"node {node.id}"
    if node.attributes.get("is_cpu_op"):
        return Compute(name, node.micros / MICROSECONDS)
    if node.type == _COMM_COLL:
        kind = _KINDS.get(_whole(wire, node, "comm_type", -1, 1 << 32))
        if kind is None:
            found = f"comm_type is {node.attributes['comm_type']}"
            raise wire.error(node.at, found, allowed=f"0 to {max(_KINDS)}")
        # A barrier moves nothing, and need not say so.
        size = _whole(wire, node, "comm_size", 0, MOST_SIZE, missing=0 if kind is CollectiveKind.BARRIER else None)
        return Collective(name, kind, size, _group(wire, node))
    if node.type in {_COMM_SEND, _COMM_RECV}:
        return _half(wire, node, name, rank)
    return Compute(name, node.micros / MICROSECONDS)


def _half(wire: Wire, node: _Node, name: str, rank: int | None) -> Message:
    receives = node.type == _COMM_RECV
    size = _whole(wire, node, "comm_size", 1, MOST_SIZE)
    ends: dict[str, int | None] = {}
    for key, own in (("comm_src", not receives), ("comm_dst", receives)):
        ends[key] = rank if own else None
        if key in node.attributes:
            ends[key] = _whole(wire, node, key, 0, MOST_RANKS - 1)
            if own and rank is not None and ends[key] != rank:
                found = f"{key} is {ends[key]} in the file of rank {rank}"
                raise wire.error(node.at, found, allowed=str(rank))
    src, dst = ends["comm_src"], ends["comm_dst"]
    if src is not None and src == dst:
        raise wire.error(node.at, f"found a message of rank {src} to itself", allowed="another rank")
    tag = _whole(wire, node, "comm_tag", -(1 << 31), (1 << 32) - 1, missing=0)
    return Message(name, size, receives, src, dst, tag)


def _whole(wire: Wire, node: _Node, key: str, least: int, most: int, *, missing: int | None = None) -> int:
    if key not in node.attributes and missing is not None:
        return missing
    value = node.attributes.get(key)
    if not isinstance(value, int) or not least <= value <= most:
        what = f"{key} is {value}" if isinstance(value, int) else f"found no number {key}"
        raise wire.error(
            node.at, f"{what} ({_NODE_TYPES[node.type]})", allowed=f"a whole number from {least} to {most}"
        )
    return value


def _group(wire: Wire, node: _Node) -> str:
    """The process group's name; '' is all ranks."""
    group = node.attributes.get("pg_name", "")
    if not isinstance(group, str) or len(group) > MOST_NAME:
        raise wire.error(node.at, "found a pg_name that is no text", allowed=f"text of at most {MOST_NAME} bytes")
    return group
