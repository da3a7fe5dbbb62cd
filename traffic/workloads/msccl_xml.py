"""MSCCL algorithms in XML, as msccl-tools writes them and the MSCCL runtime reads them.

    <algo name="ring" proto="Simple" nchannels="1" nchunksperloop="2" ngpus="2" coll="allreduce" inplace="1" …>
      <gpu id="0" i_chunks="2" o_chunks="2" s_chunks="0">
        <tb id="0" send="1" recv="1" chan="0">
          <step s="0" type="s" srcbuf="i" srcoff="0" dstbuf="i" dstoff="0" cnt="1" depid="-1" deps="-1" hasdep="0"/>

A file is refused where the runtime would refuse it, hang, or read past a buffer. No DOCTYPE is read, so there are no
entities to expand and no outside files to fetch.
"""

from __future__ import annotations

import re
import xml.parsers.expat
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from topologies.errors import SpecError, Where
from traffic.graph import Graph
from traffic.workloads.msccl_algorithm import Algorithm, Block, Gpu, Region, Side, Step, StepType
from traffic.workloads.msccl_graph import graph_of
from traffic.workloads.source import MOST_RANKS, read_bytes, shown, whole_file

MOST_BYTES = 8 * 1024 * 1024
MOST_ELEMENTS = 1 << 16
MOST_STEPS_OF_BLOCK = 256  # the runtime's own bounds: MSCCL_MAX_NUM_STEPS
MOST_BLOCKS = 216  # MSCCL_MAX_NUM_THREAD_BLOCKS
MOST_CHANNELS = 32  # MAXCHANNELS
MOST_COUNT = 71  # MSCCL_MAX_COUNT, less one
MOST_CHUNKS = 1 << 20
COLLECTIVES = ("allreduce", "allgather", "reduce", "broadcast", "alltoall", "reduce_scatter", "custom")
PROTOCOLS = ("Simple", "LL", "LL128")
_PARENT = {"algo": "", "gpu": "algo", "tb": "gpu", "step": "tb"}
_WHOLE = re.compile(r"-?[0-9]{1,10}")


def read(path: Path, *, size: int, element_bytes: int = 4) -> Graph:
    """The graph of an algorithm over `size` bytes, as nccl-tests counts them. Raises SpecError with the place."""
    return graph_of(parse(read_bytes(path), str(path)), size, element_bytes=element_bytes)


def parse(content: bytes, file: str) -> Algorithm:
    """The algorithm of a file in memory; `file` is what errors call it. Raises SpecError with line and column."""
    if len(content) > MOST_BYTES:
        raise whole_file(file, f"found {len(content)} bytes of XML", f"at most {MOST_BYTES}")
    root = _Reader(file).root(content)
    gpu_count = root.whole("ngpus", 1, MOST_RANKS)
    chunks = root.whole("nchunksperloop", 1, MOST_CHUNKS)
    collective = root.one_of("coll", COLLECTIVES)
    root.one_of("proto", PROTOCOLS)
    channels = root.whole("nchannels", 1, MOST_CHANNELS)
    gpus = _numbered(root, "gpu", gpu_count)
    share = (chunks, gpu_count, collective)
    return Algorithm(
        file=file,
        name=root.attributes.get("name", "unnamed")[:80],
        collective=collective,
        in_place=bool(root.whole("inplace", 0, 1)),
        chunks=chunks,
        gpus=tuple(_gpu(gpu, rank, share, channels) for rank, gpu in enumerate(gpus)),
    )


@dataclass(slots=True)
class _Element:
    """An element of the file, with its place."""

    file: str
    tag: str
    line: int
    column: int
    attributes: Mapping[str, str]
    children: list[_Element] = field(default_factory=list)

    def error(self, found: str, *, allowed: str) -> SpecError:
        where = Where(self.file, self.line, f"column {self.column}: <{self.tag}>")
        return SpecError(found, allowed=allowed, where=where)

    def text(self, key: str, allowed: str) -> str:
        if key not in self.attributes:
            raise self.error(f"found no {key}", allowed=allowed)
        return self.attributes[key]

    def whole(self, key: str, least: int, most: int) -> int:
        allowed = f"{key} a whole number from {least} to {most}"
        text = self.text(key, allowed)
        if not _WHOLE.fullmatch(text) or not least <= (value := int(text)) <= most:
            raise self.error(f"{key} is {shown(text)}", allowed=allowed)
        return value

    def one_of(self, key: str, values: Collection[str]) -> str:
        allowed = f"{key} one of {', '.join(values)}"
        text = self.text(key, allowed)
        if text not in values:
            raise self.error(f"{key} is {shown(text)}", allowed=allowed)
        return text


class _Reader:
    """Builds elements as expat meets them, and refuses at once what cannot stand there."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.elements = 0
        self.open: list[_Element] = []
        self.found: list[_Element] = []
        # The encoding is ours to say: a file's own declaration could name any of Python's codecs.
        self.parser = xml.parsers.expat.ParserCreate("utf-8")
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.StartDoctypeDeclHandler = self.doctype
        self.parser.CharacterDataHandler = self.characters

    def root(self, content: bytes) -> _Element:
        try:
            self.parser.Parse(content, True)
        except xml.parsers.expat.ExpatError as error:
            said = xml.parsers.expat.ErrorString(error.code) or "not XML"
            where = Where(self.file, error.lineno, f"column {error.offset + 1}")
            raise SpecError(f"found no well-formed XML ({said})", allowed="an MSCCL algorithm", where=where) from None
        return self.found[0]

    def error(self, found: str, allowed: str) -> SpecError:
        where = Where(self.file, self.parser.CurrentLineNumber, f"column {self.parser.CurrentColumnNumber + 1}")
        return SpecError(found, allowed=allowed, where=where)

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        inside = self.open[-1].tag if self.open else ""
        if _PARENT.get(tag) != inside:
            fits = [child for child, parent in _PARENT.items() if parent == inside]
            raise self.error(
                f"found <{shown(tag)[1:-1]}> in {f'<{inside}>' if inside else 'the file'}",
                f"<{fits[0]}>" if fits else "nothing",
            )
        self.elements += 1
        if self.elements > MOST_ELEMENTS:
            raise self.error(f"found more than {MOST_ELEMENTS} elements", f"at most {MOST_ELEMENTS}")
        line, column = self.parser.CurrentLineNumber, self.parser.CurrentColumnNumber + 1
        element = _Element(self.file, tag, line, column, attributes)
        (self.open[-1].children if self.open else self.found).append(element)
        self.open.append(element)

    def end(self, _tag: str) -> None:
        self.open.pop()

    def doctype(self, *_: object) -> None:
        raise self.error("found a DOCTYPE", "none: an algorithm needs no entities")

    def characters(self, text: str) -> None:
        if text.strip():
            raise self.error(f"found text {shown(text)}", "elements only")


def _numbered(parent: _Element, tag: str, count: int) -> list[_Element]:
    """The children by their id, which count from 0 without a gap."""
    found: dict[int, _Element] = {}
    for child in parent.children:
        number = child.whole("id", 0, count - 1)
        if number in found:
            raise child.error(f"found {tag} {number} a second time", allowed="each once")
        found[number] = child
    missing = next((number for number in range(count) if number not in found), None)
    if missing is not None:
        raise parent.error(f"found no {tag} {missing}", allowed=f"{tag} 0 to {count - 1}")
    return [found[number] for number in range(count)]


def _gpu(element: _Element, rank: int, share: tuple[int, int, str], channels: int) -> Gpu:
    chunks, ranks, collective = share
    inputs = element.whole("i_chunks", 0, MOST_CHUNKS)
    outputs = element.whole("o_chunks", 0, MOST_CHUNKS)
    scratch = element.whole("s_chunks", 0, MOST_CHUNKS)
    # nchunksperloop counts the whole array: an all-gather's input and a reduce-scatter's output are one rank's part.
    for key, found, parts in (
        ("i_chunks", inputs, ranks if collective == "allgather" else 1),
        ("o_chunks", outputs, ranks if collective == "reduce_scatter" else 1),
    ):
        if found and found * parts != chunks:
            allowed = f"0 or {chunks / parts:g}: {chunks} chunks" + (f" over {parts} ranks" if parts > 1 else "")
            raise element.error(f"{key} is {found}", allowed=allowed)
    if len(element.children) > MOST_BLOCKS:
        raise element.error(f"found {len(element.children)} thread blocks", allowed=f"at most {MOST_BLOCKS}")
    room = {Side.INPUT: inputs, Side.OUTPUT: outputs, Side.SCRATCH: scratch}
    elements = _numbered(element, "tb", len(element.children))
    blocks = [_block(block, rank, ranks, channels, room) for block in elements]
    for number, block in enumerate(elements):
        _check_connections(block, number, blocks)
        _check_waits(block, number, elements)
    return Gpu(inputs, outputs, scratch, tuple(blocks))


def _block(element: _Element, rank: int, ranks: int, channels: int, room: Mapping[Side, int]) -> Block:
    peers = {}
    for key in ("send", "recv"):
        peer = element.whole(key, -1, ranks - 1)
        if peer == rank:
            raise element.error(f"{key} is {peer}, the GPU itself", allowed="another GPU, or -1 for none")
        peers[key] = None if peer < 0 else peer
    if len(element.children) > MOST_STEPS_OF_BLOCK:
        raise element.error(f"found {len(element.children)} steps", allowed=f"at most {MOST_STEPS_OF_BLOCK}")
    steps = tuple(_step(step, number, peers, room) for number, step in enumerate(element.children))
    return Block(peers["send"], peers["recv"], element.whole("chan", 0, channels - 1), steps)


def _step(element: _Element, number: int, peers: Mapping[str, int | None], room: Mapping[Side, int]) -> Step:
    if (found := element.whole("s", 0, MOST_STEPS_OF_BLOCK - 1)) != number:
        raise element.error(f"s is {found}", allowed=f"{number}: steps count from 0, in their order")
    kind = StepType(element.one_of("type", tuple(StepType)))
    for key, needed in (("send", kind.sends), ("recv", kind.receives)):
        if needed and peers[key] is None:
            raise element.error(
                f"found type {kind} in a thread block with {key}=-1", allowed=f"a block with a {key} peer"
            )
    block = element.whole("depid", -1, MOST_BLOCKS - 1)
    step = element.whole("deps", -1, MOST_STEPS_OF_BLOCK - 1)
    if (block < 0) != (step < 0):
        raise element.error(f"depid is {block} and deps {step}", allowed="both -1, or neither")
    element.whole("hasdep", 0, 1)
    count = 0 if kind is StepType.NOP else element.whole("cnt", 1, MOST_COUNT)
    return Step(
        line=element.line,
        type=kind,
        source=_region(element, "src", count, room, used=kind not in {StepType.RECV, StepType.RECV_COPY_SEND}),
        target=_region(element, "dst", count, room, used=kind not in {StepType.SEND, StepType.RECV_REDUCE_SEND}),
        count=count,
        waits_for=None if block < 0 else (block, step),
    )


def _region(element: _Element, end: str, count: int, room: Mapping[Side, int], *, used: bool) -> Region:
    """A step's source or target; where its type does not use it, nothing is said of it."""
    if not used or not count:
        return Region(Side.SCRATCH, 0, 0)
    side = Side(element.one_of(f"{end}buf", tuple(Side)))
    offset = element.whole(f"{end}off", 0, MOST_CHUNKS)
    if offset + count > room[side]:
        found = f"{end}off {offset} and cnt {count} reach chunk {offset + count - 1} of {end}buf {side}"
        raise element.error(found, allowed=f"chunks below {room[side]}, what {side}_chunks says")
    return Region(side, offset, count)


def _check_connections(element: _Element, number: int, blocks: list[Block]) -> None:
    """A connection (channel, peer, direction) is one thread block's: with two, the order on it would be chance."""
    block = blocks[number]
    for other, earlier in enumerate(blocks[:number]):
        if earlier.channel == block.channel and (
            (block.send_peer is not None and block.send_peer == earlier.send_peer)
            or (block.receive_peer is not None and block.receive_peer == earlier.receive_peer)
        ):
            found = f"thread blocks {other} and {number} share a peer on channel {block.channel}"
            raise element.error(found, allowed="one thread block for each channel, peer and direction")


def _check_waits(element: _Element, number: int, blocks: list[_Element]) -> None:
    for step in element.children:
        block, place = int(step.attributes["depid"]), int(step.attributes["deps"])
        if block < 0:
            continue
        if block == number:
            raise step.error(f"depid is {block}, its own thread block", allowed="another: a block's steps run in order")
        if block >= len(blocks) or place >= len(blocks[block].children):
            raise step.error(f"found no step {place} of tb {block}", allowed="a step of this GPU")
        if blocks[block].children[place].attributes["hasdep"] != "1":
            found = f"waits for tb {block} step {place}, which says hasdep=0"
            raise step.error(found, allowed="a step with hasdep=1: without, it signals nobody")
