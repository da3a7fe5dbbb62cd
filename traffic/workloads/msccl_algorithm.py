"""An MSCCL algorithm as values: what every thread block of every GPU does, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from topologies.errors import SpecError, Where


class StepType(StrEnum):
    """What a step does, by MSCCL's letters: r receives, r reduces, c copies, s sends on."""

    SEND = "s"
    RECV = "r"
    RECV_COPY_SEND = "rcs"
    RECV_REDUCE_SEND = "rrs"
    RECV_REDUCE_COPY = "rrc"
    RECV_REDUCE_COPY_SEND = "rrcs"
    COPY = "cpy"
    REDUCE = "re"
    NOP = "nop"

    @property
    def receives(self) -> bool:
        """Whether something comes from the block's receive peer."""
        return self in _RECEIVING

    @property
    def sends(self) -> bool:
        """Whether something goes to the block's send peer."""
        return self in _SENDING


_RECEIVING = frozenset({"r", "rcs", "rrs", "rrc", "rrcs"})
_SENDING = frozenset({"s", "rcs", "rrs", "rrcs"})


class Side(StrEnum):
    """MSCCL's three buffers."""

    INPUT = "i"
    OUTPUT = "o"
    SCRATCH = "s"


@dataclass(frozen=True, slots=True)
class Region:
    """`count` chunks of a buffer from `offset`."""

    side: Side
    offset: int
    count: int


@dataclass(frozen=True, slots=True)
class Step:
    """One step, and the line of the file it stands on. `waits_for`: (thread block, step) of the same GPU."""

    line: int
    type: StepType
    source: Region
    target: Region
    count: int
    waits_for: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Block:
    """A thread block: its steps run one after the other. Peers are ranks, None for none."""

    send_peer: int | None
    receive_peer: int | None
    channel: int
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Gpu:
    """A rank: how many chunks its buffers hold, and its thread blocks by their number."""

    input_chunks: int
    output_chunks: int
    scratch_chunks: int
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Algorithm:
    """What a file says. `chunks` is its nchunksperloop: into how many chunks the total size is cut."""

    file: str
    name: str
    collective: str
    in_place: bool
    chunks: int
    gpus: tuple[Gpu, ...]

    def error(self, at: tuple[int, int, int], found: str, *, allowed: str) -> SpecError:
        """The error for the step at (GPU, thread block, step)."""
        gpu, block, step = at
        line = self.gpus[gpu].blocks[block].steps[step].line
        key = f"gpu {gpu} tb {block} step {step}"
        return SpecError(found, allowed=allowed, where=Where(self.file, line, key))
