"""Talks to a node that is a container, through the engine: as ``docker exec`` does, without its command line."""

from __future__ import annotations

import os
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from labs import engine
from labs.channel import CommandResult
from labs.channels.namespaces import run_in_network, wait_for_words
from labs.errors import CommandFailed, DeployFailed, NotReady
from labs.waiting import wait_until

_HEADER = struct.Struct(">BxxxL")  # which stream, how many bytes follow: the engine's own framing
STDERR = 2


@dataclass(frozen=True, slots=True)
class ContainerChannel:
    """The channel to one node. `init` gives the pid of its first process, or raises NotReady when it is stopped.

    `at` is the engine's address, `container` the container's name there.
    """

    node: str
    container: str
    at: str
    init: Callable[[], int]

    def run(self, *argv: str, timeout: float = 30.0, stdin: str = "") -> CommandResult:
        """Run to the end; see labs.channel.Channel."""
        process = self._exec(argv, stdin.encode())
        try:
            return process.wait(timeout)
        except CommandFailed:
            process.stop()
            raise

    def start(self, *argv: str) -> ContainerProcess:
        """Start in the background; see labs.channel.Channel."""
        return self._exec(argv, None)

    def _exec(self, argv: tuple[str, ...], stdin: bytes | None) -> ContainerProcess:
        """`stdin` None keeps the command's standard input open until it is stopped."""
        self.init()
        try:
            with engine.asking(self.at):
                api = engine.client(self.at).api
                made = api.exec_create(self.container, list(argv), stdin=stdin is None or bool(stdin))
                stream = api.exec_start(made["Id"], socket=True)
        except DeployFailed as refused:  # paused, or stopped this moment
            raise NotReady(f"{self.node}: {refused.message}") from None
        return ContainerProcess(self.node, argv, self.at, made["Id"], stream, stdin)

    def kernel(self, *argv: str, timeout: float = 30.0, stdin: str = "") -> CommandResult:
        """See labs.channel.Channel."""
        return run_in_network(self.node, f"/proc/{self.init()}/ns/net", argv, timeout, stdin)

    def unix_socket(self, path: PurePosixPath) -> Path | None:
        """See labs.channel.Channel."""
        return Path(f"/proc/{self.init()}/root", *path.parts[1:])

    def put(self, path: PurePosixPath, text: str) -> None:
        """Write a file inside the node; see labs.channel.Channel."""
        self.run("mkdir", "-p", str(path.parent))
        result = self.run("tee", str(path), stdin=text)
        if not result.ok:
            raise CommandFailed(self.node, result.argv, result.status, result.stderr)


class ContainerProcess:
    """A command in a container. It ends with its container at the latest."""

    def __init__(
        self, node: str, argv: tuple[str, ...], at: str, identifier: str, stream: Any, stdin: bytes | None
    ) -> None:
        self.node = node
        self.argv = argv
        self._at = at
        self._id = identifier
        self._stream = stream  # the SDK's own object: when it is collected, the connection is closed
        self._socket: socket.socket = getattr(stream, "_sock", stream)
        self._socket.settimeout(None)  # a command may be silent for as long as it likes
        self._said: dict[bool, bytearray] = {False: bytearray(), True: bytearray()}
        self._ended = threading.Event()
        self._reader = threading.Thread(target=self._read, name=f"exec-{node}", daemon=True)
        self._reader.start()
        if stdin:
            with suppress(OSError):  # it ended without reading all of it
                self._socket.sendall(stdin)
                self._socket.shutdown(socket.SHUT_WR)

    def _read(self) -> None:
        """Sort what the command says into its two streams, until the engine closes them."""
        with suppress(OSError):
            for kind, chunk in self._frames():
                self._said[kind == STDERR].extend(chunk)
        self._ended.set()

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        while header := self._exactly(_HEADER.size):
            kind, length = _HEADER.unpack(header)
            yield kind, self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        """`count` bytes, or nothing when the stream has ended."""
        found = bytearray()
        while len(found) < count:
            chunk = self._socket.recv(min(65536, count - len(found)))
            if not chunk:
                return b""
            found += chunk
        return bytes(found)

    @property
    def running(self) -> bool:
        """True until it has ended."""
        return not self._ended.is_set()

    def wait(self, timeout: float) -> CommandResult:
        """Wait for its end; see traffic.engines.base.Process."""
        if not self._ended.wait(timeout):
            raise CommandFailed(self.node, self.argv, None, self._text(error=False))
        return self._result()

    def wait_ready(self, text: str, timeout: float) -> None:
        """Wait until its output holds `text`; see traffic.engines.base.Process."""
        wait_for_words(f"{self.argv[0]} on {self.node}", text, self._all, lambda: self.running, timeout)

    def stop(self) -> CommandResult:
        """End it (TERM, two seconds later KILL) and collect it; idempotent."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self.running:
                break
            pid = self._pid()
            if pid:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            gone = f"{self.argv[0]} on {self.node} gone"
            if wait_until(gone, self._is_over, bool, within=2.0).held:
                break
        return self._result()

    def _is_over(self) -> bool:
        """Whether it has ended, perhaps survived by a child that holds its output open."""
        return not self.running or self._status() is not None

    def _pid(self) -> int:
        """The command's pid as the workstation counts; 0 when there is none any more."""
        try:
            with engine.asking(self._at):
                said = engine.client(self._at).api.exec_inspect(self._id)
        except DeployFailed:  # the container was removed, and the exec with it
            return 0
        return int(said["Pid"] or 0) if said["Running"] else 0

    def _result(self) -> CommandResult:
        """The engine learns of the end a moment after the streams have closed."""
        if not self.running:
            self._reader.join()
        waited = wait_until(f"{self.argv[0]} on {self.node} ended", self._status, lambda s: s is not None, within=10.0)
        self._socket.close()
        if waited.last is None:
            raise CommandFailed(self.node, self.argv, None, self._all())
        # The engine's word for a program that is not there: its runtime's, with the shell's status for it.
        return CommandResult(self.argv, waited.last, self._text(error=False), self._text(error=True))

    def _status(self) -> int | None:
        try:
            with engine.asking(self._at):
                said = engine.client(self._at).api.exec_inspect(self._id)
        except DeployFailed:  # the container was removed, and the exec with it
            return -signal.SIGKILL
        return None if said["Running"] or said["ExitCode"] is None else int(said["ExitCode"])

    def _text(self, *, error: bool) -> str:
        return bytes(self._said[error]).decode(errors="replace")

    def _all(self) -> str:
        return self._text(error=False) + self._text(error=True)
