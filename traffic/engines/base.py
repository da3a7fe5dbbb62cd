"""What an engine needs of a node (`RunsCommands`), and what it gives (`Engine`).

`labs.node.LiveNode` happens to satisfy `RunsCommands`; this package never imports it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

from traffic.flows import TrafficPlan, TrafficReport


@dataclass(frozen=True, slots=True)
class CommandResult:
    """A command that ended. `status` is its exit status, negative for the signal that ended it."""

    argv: tuple[str, ...]
    status: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        """True for exit status 0."""
        return self.status == 0


class Process(Protocol):
    """A command in the background."""

    def wait(self, timeout: float) -> CommandResult:
        """Wait for its end, at most `timeout` seconds. Raises CommandFailed past that; it is then still running."""
        ...

    def wait_ready(self, text: str, timeout: float) -> None:
        """Wait until a line of its output holds `text`. Raises NotReady past `timeout` or when it ended before."""
        ...

    def stop(self) -> CommandResult:
        """End it (TERM, then KILL) and collect it; idempotent."""
        ...

    @property
    def running(self) -> bool:
        """True until it has ended."""
        ...


class RunsCommands(Protocol):
    """A place where commands run."""

    @property
    def name(self) -> str:
        """The node's name in the fabric."""
        ...

    def run(self, *argv: str, timeout: float = 30.0, stdin: str = "") -> CommandResult:
        """Run to the end. Raises LabError of kind CommandFailed for a non-zero status or past `timeout`."""
        ...

    def start(self, *argv: str) -> Process:
        """Start in the background."""
        ...

    def put(self, path: PurePosixPath, text: str) -> None:
        """Write a file inside the node."""
        ...


class Engine(Protocol):
    """Plays a plan: flows of one plan start together, once every receiver is ready."""

    def start(self, plan: TrafficPlan, hosts: Mapping[str, RunsCommands]) -> RunningTraffic:
        """Start every flow; returns once all of them are sending."""
        ...


class RunningTraffic(Protocol):
    """Traffic under way."""

    def finish(self, timeout: float) -> TrafficReport:
        """Wait until every flow has sent what it was to send, and report."""
        ...

    def stop(self) -> TrafficReport:
        """End it now and report what was sent until now; leaves no process behind."""
        ...
