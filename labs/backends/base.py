"""Who runs a lab: a few verbs, and who has checked what before they are called."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Protocol

from labs.channel import Channel
from labs.journal import Journal
from labs.spec import RenderedLab


class NodeState(StrEnum):
    """What a backend can make of a node."""

    RUNNING = "running"
    STOPPED = "stopped"  # a power cut: processes gone, carrier lost at the far ends
    PAUSED = "paused"  # processes frozen, links up


@dataclass(frozen=True, slots=True)
class Capability:
    """Something a lab may need that is here, or is not because of `because`."""

    name: str
    have: bool
    because: str | None = None


Progress = Callable[[str], None]


class Backend(Protocol):
    """The caller has validated the lab, holds the lab's lock and knows the name is free."""

    name: ClassVar[str]

    def preflight(self, lab: RenderedLab) -> None:
        """Raise PreflightFailed, with its remedy, when this workstation cannot run the lab. Changes nothing."""
        ...

    def capabilities(self) -> tuple[Capability, ...]:
        """What labs on this backend can and cannot do here."""
        ...

    def deploy(self, lab: RenderedLab, run_dir: Path, journal: Journal, progress: Progress) -> Deployment:
        """Build the lab, each change journaled before it is made. Raises DeployFailed."""
        ...

    def adopt(self, lab: RenderedLab, run_dir: Path, journal: Journal) -> Deployment:
        """Attach to a lab that is already running."""
        ...


class Deployment(Protocol):
    """The nodes of a running lab, as their backend reaches them."""

    def channel(self, node: str) -> Channel:
        """How to talk to a node. Raises NotReady for one that is stopped when it is used."""
        ...

    def netns(self, node: str) -> Path:
        """The node's network namespace, for captures and whatever attaches to its ports."""
        ...

    def shell_argv(self, node: str, argv: Iterable[str]) -> tuple[str, ...]:
        """The workstation's command that runs `argv` in the node on the caller's terminal."""
        ...

    def states(self) -> Mapping[str, NodeState]:
        """The state of every node."""
        ...

    def set_state(self, node: str, state: NodeState) -> None:
        """Change a node's state; links and configuration come back with RUNNING."""
        ...
