"""Talks to a node that is a set of namespaces, by entering them: ``nsenter`` at its init."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from labs.channel import CommandResult
from labs.errors import CommandFailed, NotReady
from labs.waiting import wait_until


@dataclass(frozen=True, slots=True)
class NamespaceChannel:
    """The channel to one node. `init` gives the pid of its init, or raises NotReady when the node is stopped."""

    node: str
    init: Callable[[], int]

    def enter(self, *argv: str) -> tuple[str, ...]:
        """The workstation's command that runs `argv` inside the node."""
        return ("nsenter", "--target", str(self.init()), "--all", "--", *argv)

    def run(self, *argv: str, timeout: float = 30.0, stdin: str = "") -> CommandResult:
        """Run to the end; see labs.channel.Channel."""
        return _run(self.node, argv, self.enter(*argv), timeout, stdin)

    def kernel(self, *argv: str, timeout: float = 30.0, stdin: str = "") -> CommandResult:
        """See labs.channel.Channel."""
        return run_in_network(self.node, f"/proc/{self.init()}/ns/net", argv, timeout, stdin)

    def start(self, *argv: str) -> BackgroundProcess:
        """Start in the background; see labs.channel.Channel."""
        return BackgroundProcess(self.node, argv, self.enter(*argv))

    def unix_socket(self, path: PurePosixPath) -> Path | None:
        """See labs.channel.Channel."""
        return Path(f"/proc/{self.init()}/root", *path.parts[1:])

    def put(self, path: PurePosixPath, text: str) -> None:
        """Write a file inside the node; see labs.channel.Channel."""
        self.run("mkdir", "-p", str(path.parent))
        result = self.run("tee", str(path), stdin=text)
        if not result.ok:
            raise CommandFailed(self.node, result.argv, result.status, result.stderr)


def run_in_network(node: str, netns: str, argv: tuple[str, ...], timeout: float, stdin: str) -> CommandResult:
    """Run the workstation's own program in a network namespace, and nothing else of the node's."""
    return _run(node, argv, ("nsenter", f"--net={netns}", "--", *argv), timeout, stdin)


def _run(node: str, argv: tuple[str, ...], enter: tuple[str, ...], timeout: float, stdin: str) -> CommandResult:
    try:
        done = subprocess.run(
            enter,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            cwd="/",
            check=False,
        )
    except subprocess.TimeoutExpired as expired:
        raise CommandFailed(node, argv, None, _text(expired.output)) from None
    return CommandResult(argv, done.returncode, done.stdout, done.stderr)


def in_network(node: str, netns: Path, argv: tuple[str, ...]) -> BackgroundProcess:
    """Start the workstation's own program in a network namespace; it ends with whoever started it or its `stop`."""
    return BackgroundProcess(node, argv, ("nsenter", f"--net={netns}", "--", *argv))


def wait_for_words(who: str, text: str, said: Callable[[], str], running: Callable[[], bool], within: float) -> None:
    """Wait until what a process has said holds `text`. Raises NotReady past `within` seconds, or when it has ended."""
    waited = wait_until(
        f"{who} says {text!r}", lambda: (text in said(), running()), lambda seen: seen[0] or not seen[1], within=within
    )
    if text not in said():
        raise NotReady(f"{waited}; it said: {said().strip()[-400:]}")


class BackgroundProcess:
    """A command in a node's namespaces, its output in unnamed files. It ends with its node's init at the latest."""

    def __init__(self, node: str, argv: tuple[str, ...], enter: tuple[str, ...]) -> None:
        self.node = node
        self.argv = argv
        self._out = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._err = tempfile.TemporaryFile()  # noqa: SIM115
        # A session of its own: a signal from the terminal reaches it through stop(), in order, not by surprise.
        self._child = subprocess.Popen(
            enter,
            stdin=subprocess.PIPE,
            stdout=self._out,
            stderr=self._err,
            cwd="/",
            start_new_session=True,
        )

    @property
    def running(self) -> bool:
        """True until it has ended."""
        return self._child.poll() is None

    def wait(self, timeout: float) -> CommandResult:
        """Wait for its end; see traffic.engines.base.Process."""
        if self.running and not self._ended_within(timeout):
            raise CommandFailed(self.node, self.argv, None, self._read(self._out))
        return self._result()

    def wait_ready(self, text: str, timeout: float) -> None:
        """Wait until its output holds `text`; see traffic.engines.base.Process."""
        wait_for_words(f"{self.argv[0]} on {self.node}", text, self.said, lambda: self.running, timeout)

    def write(self, text: str) -> None:
        """Write to its standard input. One that has ended does not read; its end says why."""
        rest = text.encode()
        # Past the pipe's own buffer, which would keep what could not be written and fail again when it is closed.
        with suppress(BrokenPipeError):
            while rest and self._child.stdin and not self._child.stdin.closed:
                rest = rest[os.write(self._child.stdin.fileno(), rest) :]

    def said(self) -> str:
        """All it has written so far, standard output first."""
        return self._read(self._out) + self._read(self._err)

    def stop(self) -> CommandResult:
        """End it (TERM, two seconds later KILL) and collect it; idempotent.

        nsenter waits for the program it started and takes over its status: the signal goes to the program.
        """
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self.running:
                break
            self.signal(number)
            if self._ended_within(2.0):
                break
        return self._result()

    def signal(self, number: int) -> None:
        """Send the program a signal."""
        for pid in self._programs() or [self._child.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _programs(self) -> list[int]:
        with suppress(OSError):
            return [
                int(pid) for pid in Path(f"/proc/{self._child.pid}/task/{self._child.pid}/children").read_text().split()
            ]
        return []

    def _ended_within(self, seconds: float) -> bool:
        """Told by the kernel, not asked again and again: who waits for one to begin another loses no time."""
        try:
            fd = os.pidfd_open(self._child.pid)
        except ProcessLookupError:  # collected meanwhile, by another thread
            return True
        try:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            return bool(poll.poll(int(seconds * 1000)))
        finally:
            os.close(fd)

    def _result(self) -> CommandResult:
        status = self._child.wait()
        if self._child.stdin:
            self._child.stdin.close()
        return CommandResult(self.argv, status, self._read(self._out), self._read(self._err))

    @staticmethod
    def _read(file: object) -> str:
        fd = file.fileno()  # type: ignore[attr-defined]
        return os.pread(fd, os.fstat(fd).st_size, 0).decode(errors="replace")


def _text(output: object) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else str(output or "")
