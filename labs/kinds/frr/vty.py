"""Speaks to one FRR daemon: over its own vty socket where we can reach it, else by vtysh.

vtysh builds the command tree of all of FRR each time it starts, some 60 ms of CPU; a fabric of 64 switches is asked
by the hundred. The protocol is vtysh's own (lib/vty.c, vtysh/vtysh.c): a command ends with a zero byte, its answer
with three and a status byte.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Self

from labs.node import LiveNode

SOCKETS = PurePosixPath("/run/frr")
ANSWERS_WITHIN = 10.0
_END = b"\0\0\0"
# lib/command.h: CMD_SUCCESS, CMD_WARNING; CMD_ERR_NO_MATCH, CMD_ERR_AMBIGUOUS, CMD_ERR_INCOMPLETE
_DONE, _UNKNOWN = frozenset({0, 1}), frozenset({2, 3, 4})


def ask(node: LiveNode, daemon: str, command: str) -> str:
    """What the daemon answers, or the reason it does not: the caller knows an answer when it sees one."""
    path = node.channel.unix_socket(SOCKETS / f"{daemon}.vty")
    if path is None:
        said = node.channel.run("vtysh", "-d", daemon, "-c", command)
        return said.stdout if said.ok else said.stderr or said.stdout
    try:
        with Vty(path) as vty:
            *_, answer = vty.told(("enable", command))
            return answer.text
    except OSError as error:
        return f"{daemon}: {error}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a daemon says to a command, and FRR's number for how it went."""

    text: str
    status: int

    @property
    def ok(self) -> bool:
        """It knows it and did it, be it with a warning."""
        return self.status in _DONE

    @property
    def unknown(self) -> bool:
        """It does not know it: another daemon may."""
        return self.status in _UNKNOWN


class Vty:
    """A connection to a daemon, in whose context one command leaves the next; for `within` seconds in all.

    Every method raises OSError.
    """

    def __init__(self, path: Path, *, within: float = ANSWERS_WITHIN) -> None:
        self._path = path
        self._until = time.monotonic() + within
        self._said = bytearray()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)

    def __enter__(self) -> Self:
        try:
            self._hurry()
            self._socket.connect(str(self._path))
        except BaseException:
            self._socket.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def told(self, commands: Sequence[str]) -> list[Answer]:
        """Its answers to these commands, which are sent at once: few, and with short answers but for the last."""
        self._hurry()
        self._socket.sendall(b"".join(command.encode() + b"\0" for command in commands))
        return [self._answer() for _ in commands]

    def _answer(self) -> Answer:
        while (ends := self._said.find(_END)) < 0 or ends + len(_END) >= len(self._said):
            self._hurry()
            chunk = self._socket.recv(65536)
            if not chunk:
                raise ConnectionError("closed its socket in the middle of an answer")
            self._said += chunk
        text, status = self._said[:ends].decode(errors="replace"), self._said[ends + len(_END)]
        del self._said[: ends + len(_END) + 1]
        return Answer(text, status)

    def _hurry(self) -> None:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("it does not answer in time")
        self._socket.settimeout(left)
