"""A channel to a node that is not there: every command is answered by a function. For tests of the harness."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from labs.channel import CommandResult, Process
from labs.errors import CommandFailed

Answer = Callable[[tuple[str, ...], str], CommandResult]


@dataclass(frozen=True, slots=True)
class ScriptedChannel:
    """`answer` gets argv and stdin and gives the result; `calls` and `files` record what was asked and put."""

    node: str
    answer: Answer
    calls: list[tuple[str, ...]] = field(default_factory=list)
    files: dict[PurePosixPath, str] = field(default_factory=dict)

    def run(self, *argv: str, timeout: float = 30.0, stdin: str = "") -> CommandResult:
        """See labs.channel.Channel."""
        del timeout
        self.calls.append(argv)
        return self.answer(argv, stdin)

    def kernel(self, *argv: str, timeout: float = 30.0, stdin: str = "") -> CommandResult:
        """See labs.channel.Channel."""
        return self.run(*argv, timeout=timeout, stdin=stdin)

    def start(self, *argv: str) -> Process:
        """A script has no background."""
        raise CommandFailed(self.node, argv, None, "the fake backend runs nothing in the background")

    def unix_socket(self, path: PurePosixPath) -> Path | None:
        """A script has none."""
        del path
        return None

    def put(self, path: PurePosixPath, text: str) -> None:
        """See labs.channel.Channel."""
        self.files[path] = text
