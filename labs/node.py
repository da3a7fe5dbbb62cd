"""A running node: its place in the fabric and the channel to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from labs.channel import Channel, CommandResult, Process
from labs.errors import CommandFailed
from topologies.fabric import Node, Port


@dataclass(frozen=True, slots=True)
class LiveNode:
    """A node of a running lab. `kind` is its name in the kinds table, `ports` those of the design."""

    node: Node
    kind: str
    ports: tuple[Port, ...]
    channel: Channel

    @property
    def name(self) -> str:
        """The node's name in the fabric."""
        return self.node.name

    def run(self, *argv: str, timeout: float = 30.0, stdin: str = "") -> CommandResult:
        """Run a command in the node. Raises CommandFailed for a non-zero status or past `timeout` seconds."""
        return self._sound(self.channel.run(*argv, timeout=timeout, stdin=stdin))

    def kernel(self, *argv: str, timeout: float = 30.0, stdin: str = "") -> CommandResult:
        """Ask the node's kernel by the workstation's own program; otherwise as `run`. See labs.channel.Channel."""
        return self._sound(self.channel.kernel(*argv, timeout=timeout, stdin=stdin))

    def _sound(self, result: CommandResult) -> CommandResult:
        if not result.ok:
            raise CommandFailed(self.name, result.argv, result.status, result.stderr or result.stdout)
        return result

    def start(self, *argv: str) -> Process:
        """Start a command in the background; the caller stops it."""
        return self.channel.start(*argv)

    def put(self, path: PurePosixPath, text: str) -> None:
        """Write a file inside the node."""
        self.channel.put(path, text)

    def __str__(self) -> str:
        return self.name
