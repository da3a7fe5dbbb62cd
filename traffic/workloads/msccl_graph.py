"""An MSCCL algorithm as a graph of sends.

In MSCCL a message waits in its connection until the receiver's thread block comes to the step that takes it. A `Send`
writes its bytes when they come. So a message goes straight to its place only where everything that used that place
before is over when the message starts; else it lands in scratch room of its own, and a send of the receiver to itself
brings it home. Either way the bytes end up as MSCCL leaves them.

What an operation waits for: whatever touched the same chunks before (in an order that MSCCL allows), the step its own
step names, and what its thread block last received.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from topologies.errors import SpecError, Where
from traffic.graph import Buffer, Graph, Send
from traffic.workloads.msccl_algorithm import Algorithm, Region, Side, Step, StepType
from traffic.workloads.source import MOST_EDGES, MOST_SENDS, in_order

_BUFFERS = {Side.INPUT: Buffer.INPUT, Side.OUTPUT: Buffer.OUTPUT, Side.SCRATCH: Buffer.SCRATCH}
MOST_SIZE = 1 << 40  # bytes of the whole: 71 times as much, sent by 65536 steps, still fits 63 bits
# How far the search for "is over by then" goes, over a whole algorithm. Past it, messages land in scratch, which is
# always right.
_MOST_LOOKS = 4_000_000

At = tuple[int, int, int]  # GPU, thread block, step


def graph_of(algorithm: Algorithm, size: int, *, element_bytes: int = 4) -> Graph:
    """The graph of an algorithm over `size` bytes, as nccl-tests counts them, of elements of `element_bytes`.

    Raises SpecError where the size does not divide into the chunks, a send finds no receive, or steps wait in a ring.
    """
    where = Where(algorithm.file)
    if not 0 < size <= MOST_SIZE or size % (algorithm.chunks * element_bytes):
        parts = f"{algorithm.chunks} chunks (nchunksperloop) of elements of {element_bytes} bytes"
        allowed = f"a multiple of {algorithm.chunks * element_bytes} up to {MOST_SIZE}: {parts}"
        raise SpecError(f"size is {size} bytes", allowed=allowed, where=where)
    lowering = _Lowering(algorithm, size // algorithm.chunks)
    for at in _ordered(algorithm, lowering.sender_of):
        lowering.lower(at)
    return replace(lowering.graph(), element_bytes=element_bytes)


def _step(algorithm: Algorithm, at: At) -> Step:
    gpu, block, step = at
    return algorithm.gpus[gpu].blocks[block].steps[step]


def _all_steps(algorithm: Algorithm) -> list[At]:
    """Every step, the first steps of all blocks first: the order in which independent sends are listed."""
    return sorted(
        (
            (rank, number, step)
            for rank, gpu in enumerate(algorithm.gpus)
            for number, block in enumerate(gpu.blocks)
            for step in range(len(block.steps))
        ),
        key=lambda at: (at[2], at[0], at[1]),
    )


def _matched(algorithm: Algorithm) -> dict[At, At]:
    """For each step that receives, the step that sends to it: on a connection, the nth receive takes the nth send."""
    sent: dict[tuple[int, int, int], list[At]] = defaultdict(list)
    received: dict[tuple[int, int, int], list[At]] = defaultdict(list)
    for at in sorted(_all_steps(algorithm)):
        block = algorithm.gpus[at[0]].blocks[at[1]]
        kind = _step(algorithm, at).type
        if kind.sends and block.send_peer is not None:
            sent[block.channel, at[0], block.send_peer].append(at)
        if kind.receives and block.receive_peer is not None:
            received[block.channel, block.receive_peer, at[0]].append(at)
    pairs: dict[At, At] = {}
    for connection in sorted(sent.keys() | received.keys()):
        channel, src, dst = connection
        name = f"channel {channel} from gpu {src} to gpu {dst}"
        senders, receivers = sent[connection], received[connection]
        if len(senders) != len(receivers):
            at = (senders if len(senders) > len(receivers) else receivers)[min(len(senders), len(receivers))]
            found = f"found {len(senders)} sends and {len(receivers)} receives on {name}"
            raise algorithm.error(at, found, allowed="as many receives as sends")
        for sender, receiver in zip(senders, receivers, strict=True):
            counts = _step(algorithm, sender).count, _step(algorithm, receiver).count
            if counts[0] != counts[1]:
                found = f"receives {counts[1]} chunks of {counts[0]} that come on {name}"
                raise algorithm.error(receiver, found, allowed="the same cnt at both ends")
            pairs[receiver] = sender
    return pairs


def _ordered(algorithm: Algorithm, sender_of: dict[At, At]) -> list[At]:
    """The steps in an order in which MSCCL could take them."""
    steps = _all_steps(algorithm)
    place = {at: number for number, at in enumerate(steps)}
    waits: list[tuple[int, ...]] = []
    for at in steps:
        gpu, block, number = at
        before: list[At] = [(gpu, block, number - 1)] if number else []
        if (named := _step(algorithm, at).waits_for) is not None:
            before.append((gpu, *named))
        if at in sender_of:
            before.append(sender_of[at])
        waits.append(tuple(place[other] for other in before))
    order, ring = in_order(waits)
    if ring is not None:
        found = "waits for itself through other steps: the algorithm would hang"
        raise algorithm.error(steps[ring], found, allowed="dependencies and messages without a ring")
    return [steps[number] for number in order]


@dataclass(slots=True)
class _Draft:
    """A send that is still being filled in."""

    src: int
    dst: int
    count: int
    from_: Region
    to: Region
    reduce: bool
    step: int
    after: tuple[int, ...]


@dataclass(slots=True)
class _Use:
    """Who touched a chunk: the last operation that wrote it, and those that read it since."""

    written: int | None = None
    read: list[int] = field(default_factory=list)


class _Lowering:
    """Takes steps in their order and drafts sends. `staged` chunks of a rank's scratch lie behind the file's own."""

    def __init__(self, algorithm: Algorithm, chunk_bytes: int) -> None:
        self.algorithm = algorithm
        self.chunk_bytes = chunk_bytes
        self.sender_of = _matched(algorithm)
        self.drafts: list[_Draft] = []
        self.uses: dict[tuple[int, Side, int], _Use] = defaultdict(_Use)
        self.staged = [gpu.scratch_chunks for gpu in algorithm.gpus]
        self.sent: dict[At, int] = {}  # by the step that sends
        self.done: dict[At, frozenset[int]] = {}  # by a step that others name: what they wait for
        self.block_waits: dict[tuple[int, int], frozenset[int]] = defaultdict(frozenset)
        self.edges = 0
        self.looks = _MOST_LOOKS

    def lower(self, at: At) -> None:
        """Draft what one step does."""
        gpu, block, _ = at
        step = _step(self.algorithm, at)
        waits = self.block_waits[gpu, block]
        if step.waits_for is not None:
            waits |= self.done[gpu, *step.waits_for]
        parts: list[int] = []
        source = self._canonical(gpu, step.source)
        target = self._canonical(gpu, step.target)
        if step.type.receives:
            arrived, source = self._receive(at, step, source, target, waits)
            parts.append(arrived)
            # What comes over one connection comes in order: the last of it stands for all before.
            waits = frozenset({arrived}) | (self.done[gpu, *step.waits_for] if step.waits_for else frozenset())
        elif step.type in {StepType.COPY, StepType.REDUCE}:
            reduce = step.type is StepType.REDUCE
            parts.append(self._local(at, source, target, waits, reduce=reduce))
            waits = frozenset(parts)
        if step.type.sends:
            parts.append(self._send(at, source, waits))
        self.block_waits[gpu, block] = waits
        self.done[at] = frozenset(parts) if parts else waits

    def _receive(self, at: At, step: Step, source: Region, target: Region, waits: frozenset[int]) -> tuple[int, Region]:
        """The operation after which the step's bytes are where it wants them, and where a send takes them from."""
        gpu = at[0]
        incoming = self.sent[self.sender_of[at]]
        reduces = step.type in {
            StepType.RECV_REDUCE_SEND,
            StepType.RECV_REDUCE_COPY,
            StepType.RECV_REDUCE_COPY_SEND,
        }
        stays = step.type is not StepType.RECV_REDUCE_SEND
        if stays and (not reduces or source == target) and self._over_by(gpu, target, incoming):
            self.drafts[incoming].to = target
            self.drafts[incoming].reduce = reduces
            self._note(gpu, incoming, reads=None, writes=target)
            return incoming, target
        room = self._staging(gpu, step.count)
        self.drafts[incoming].to = room
        self._note(gpu, incoming, reads=None, writes=room)
        if not stays:
            return self._local(at, source, room, waits, reduce=True), room
        if reduces and source != target:
            self._local(at, source, target, waits, reduce=False)
        return self._local(at, room, target, waits, reduce=reduces), target

    def _send(self, at: At, source: Region, waits: frozenset[int]) -> int:
        gpu, block, _ = at
        peer = self.algorithm.gpus[gpu].blocks[block].send_peer
        assert peer is not None  # noqa: S101 - the file was checked: a block that sends has a peer
        operation = self._draft(at, gpu, peer, source, source, waits | self._before(gpu, reads=source, writes=None))
        self._note(gpu, operation, reads=source, writes=None)
        self.sent[at] = operation
        return operation

    def _local(self, at: At, source: Region, target: Region, waits: frozenset[int], *, reduce: bool) -> int:
        gpu = at[0]
        before = waits | self._before(gpu, reads=source, writes=target)
        operation = self._draft(at, gpu, gpu, source, target, before)
        self.drafts[operation].reduce = reduce
        self._note(gpu, operation, reads=source, writes=target)
        return operation

    def _draft(self, at: At, src: int, dst: int, source: Region, target: Region, after: frozenset[int]) -> int:
        self.edges += len(after)
        if len(self.drafts) >= MOST_SENDS or self.edges > MOST_EDGES:
            found = f"found more than {MOST_SENDS} sends or {MOST_EDGES} dependencies"
            raise self.algorithm.error(at, found, allowed="fewer")
        draft = _Draft(src, dst, source.count, source, target, reduce=False, step=at[2], after=tuple(sorted(after)))
        self.drafts.append(draft)
        return len(self.drafts) - 1

    def _canonical(self, gpu: int, region: Region) -> Region:
        """The same memory under one name: in place, input and output are one buffer."""
        if not self.algorithm.in_place or region.side is Side.SCRATCH:
            return region
        part = self.algorithm.chunks // len(self.algorithm.gpus)
        if self.algorithm.collective == "allgather" and region.side is Side.INPUT:
            return Region(Side.OUTPUT, gpu * part + region.offset, region.count)
        if self.algorithm.collective == "reduce_scatter":
            offset = gpu * part if region.side is Side.OUTPUT else 0
            return Region(Side.INPUT, offset + region.offset, region.count)
        return Region(Side.OUTPUT, region.offset, region.count)

    def _staging(self, gpu: int, count: int) -> Region:
        room = Region(Side.SCRATCH, self.staged[gpu], count)
        self.staged[gpu] += count
        return room

    def _chunks(self, gpu: int, region: Region | None) -> Iterable[tuple[int, Side, int]]:
        if region is not None:
            for offset in range(region.offset, region.offset + region.count):
                yield gpu, region.side, offset

    def _before(self, gpu: int, *, reads: Region | None, writes: Region | None) -> frozenset[int]:
        """What must be over before an operation may read one region and write another."""
        found: set[int] = set()
        for region, writing in ((reads, False), (writes, True)):
            for chunk in self._chunks(gpu, region):
                if (use := self.uses.get(chunk)) is not None:
                    found.update(use.read if writing else ())
                    if use.written is not None:
                        found.add(use.written)
        return frozenset(found)

    def _note(self, gpu: int, operation: int, *, reads: Region | None, writes: Region | None) -> None:
        for chunk in self._chunks(gpu, reads):
            self.uses[chunk].read.append(operation)
        for chunk in self._chunks(gpu, writes):
            self.uses[chunk] = _Use(written=operation)

    def _over_by(self, gpu: int, region: Region, operation: int) -> bool:
        """Whether all that touched the region is certainly over when the operation starts."""
        sought = set(self._before(gpu, reads=None, writes=region))
        if not sought:
            return True
        least = min(sought)
        seen: set[int] = set()
        stack = list(self.drafts[operation].after)
        while stack and sought and self.looks > 0:
            self.looks -= 1
            earlier = stack.pop()
            if earlier < least or earlier in seen:
                continue
            seen.add(earlier)
            sought.discard(earlier)
            stack.extend(self.drafts[earlier].after)
        return not sought

    def graph(self) -> Graph:
        """All drafts as sends."""
        algorithm, chunk = self.algorithm, self.chunk_bytes
        inputs = max(gpu.input_chunks for gpu in algorithm.gpus)
        outputs = max(gpu.output_chunks for gpu in algorithm.gpus)
        if algorithm.in_place:
            inputs = outputs = algorithm.chunks
        scratch = max(self.staged) * chunk
        if scratch > MOST_SIZE:
            raise SpecError(
                f"found {scratch} bytes of scratch", allowed=f"at most {MOST_SIZE}", where=Where(algorithm.file)
            )
        return Graph(
            name=algorithm.name,
            ranks=len(algorithm.gpus),
            sends=tuple(self._finished(draft) for draft in self.drafts),
            input_bytes=inputs * chunk,
            output_bytes=outputs * chunk,
            scratch_bytes=scratch,
            in_place=algorithm.in_place,
        )

    def _finished(self, draft: _Draft) -> Send:
        return Send(
            draft.src,
            draft.dst,
            draft.count * self.chunk_bytes,
            after=draft.after,
            from_buffer=_BUFFERS[draft.from_.side],
            from_offset=draft.from_.offset * self.chunk_bytes,
            to_buffer=_BUFFERS[draft.to.side],
            to_offset=draft.to.offset * self.chunk_bytes,
            reduce=draft.reduce,
            step=draft.step,
        )
