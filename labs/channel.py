"""How one running node is talked to: a few verbs, whatever carries them."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Protocol

from traffic.engines.base import CommandResult, Process

__all__ = ["Channel", "CommandResult", "Process"]


class Channel(Protocol):
    """Commands are argv lists, never shell strings. The node's name has been checked by the caller."""

    def run(self, *argv: str, timeout: float = 30.0, stdin: str = "") -> CommandResult:
        """Run to the end; a non-zero status is returned, not raised. Raises CommandFailed past `timeout` seconds."""
        ...

    def start(self, *argv: str) -> Process:
        """Start in the background; the caller stops it."""
        ...

    def kernel(self, *argv: str, timeout: float = 30.0, stdin: str = "") -> CommandResult:
        """As `run`, but the workstation's own program (ip, sysctl, fping) in the node's network namespace.

        What the node's kernel is asked needs nothing of its image, and costs a fraction of entering a container.
        """
        ...

    def unix_socket(self, path: PurePosixPath) -> Path | None:
        """Where the workstation sees a unix socket of the node; None where it cannot reach into it."""
        ...

    def put(self, path: PurePosixPath, text: str) -> None:
        """Write a file inside the node."""
        ...
