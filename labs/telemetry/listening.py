"""What a lab's Recorder listens to: written beside the lab's journal by whoever starts it, read by the Recorder."""

from __future__ import annotations

from pathlib import Path

import msgspec

from labs import index

FILE = "recorder.json"
CADENCE_S = 1.0
LEAST_CADENCE_S, MOST_CADENCE_S = 0.1, 3600.0


class ListenedNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node: its network namespace, the port behind each network device, and behind each neighbour's address or name.

    `log` is its FRR log, "" for a node without one of ours.
    """

    netns: str
    ports: dict[str, str]
    peers: dict[str, str] = {}
    log: str = ""


class Listening(msgspec.Struct, frozen=True, kw_only=True):
    """Where the Recorder of a lab writes, and what it listens to.

    Containers of `engine` (an address, "" for none) that carry `labels`, from `since_s` (of the epoch) on. `asic` names
    the ports of the soft ASIC in the order of its maps; None for a lab without one, or one that is not attached yet.
    """

    lab: str
    file: str
    nodes: dict[str, ListenedNode]
    since_s: float
    engine: str = ""
    labels: dict[str, str] = {}
    cadence_s: float = CADENCE_S
    asic: list[tuple[str, str]] | None = None


def path_of(lab_name: str) -> Path:
    """Where it stands."""
    return index.lab_dir(lab_name) / FILE


def write(listening: Listening) -> None:
    """Replace it, in one step: the Recorder looks again at every sample."""
    path = path_of(listening.lab)
    draft = path.with_suffix(".new")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(listening)))
    draft.replace(path)


def read(lab_name: str) -> Listening:
    """Read it. Raises OSError, or msgspec.MsgspecError for one of another version."""
    return msgspec.json.decode(path_of(lab_name).read_bytes(), type=Listening)
