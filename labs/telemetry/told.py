"""What others tell the Recorder: its end of the socket that `labs.telemetry.telling` connects to."""

from __future__ import annotations

import os
import selectors
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec

from labs.telemetry.records import AnyRecord, Note, Record
from labs.telemetry.telling import named_through

BACKLOG = 128
LONGEST_LINE = 1 << 20


class Ask(msgspec.Struct, frozen=True):
    """A question instead of a record."""

    ask: str


_RECORDS = msgspec.json.Decoder(AnyRecord)
_ASKS = msgspec.json.Decoder(Ask)


@dataclass(eq=False)
class Teller:
    """One connection, until it has told everything and got its answer."""

    socket: socket.socket
    rest: bytes = b""
    asked: list[str] = field(default_factory=list)

    def answer(self, said: msgspec.Struct) -> None:
        """Answer, if somebody is still there to hear it."""
        with suppress(OSError):
            self.socket.sendall(msgspec.json.encode(said) + b"\n")


class ToldSocket:
    """Listens in the lab's folder of the index; a socket of that name that nobody listens at is a dead Recorder's."""

    def __init__(self, lab_name: str, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        with named_through(lab_name) as name:
            with suppress(FileNotFoundError):
                os.unlink(name)  # noqa: PTH108 - a name by way of a descriptor, not a path to keep
            self.socket.bind(name)
        self.socket.listen(BACKLOG)

    def accept(self) -> Iterator[tuple[Teller, Record | Ask]]:
        """Take in whoever is waiting, in order; yields what each has said so far.

        Raises OSError where nobody can be taken in, as there is no descriptor left.
        """
        while True:
            try:
                connection, _ = self.socket.accept()
            except BlockingIOError:
                return
            connection.setblocking(False)
            teller = Teller(connection)
            self._selector.register(connection, selectors.EVENT_READ, teller)
            yield from self.hear(teller)

    def hear(self, teller: Teller, now: int = 0) -> Iterator[tuple[Teller, Record | Ask]]:
        """What a teller has said since the last time."""
        while True:
            try:
                said = teller.socket.recv(1 << 18)
            except BlockingIOError:
                return
            except OSError:
                said = b""
            if not said or len(teller.rest) > LONGEST_LINE:
                self._leave(teller)
                return
            *lines, teller.rest = (teller.rest + said).split(b"\n")
            for line in lines:
                yield teller, _understood(line, now)

    def _leave(self, teller: Teller) -> None:
        with suppress(KeyError, ValueError):
            self._selector.unregister(teller.socket)
        teller.socket.close()


def _understood(line: bytes, now: int) -> Record | Ask:
    """A record, a question, or a note that it was neither."""
    try:
        return _ASKS.decode(line) if line.startswith(b'{"ask"') else _RECORDS.decode(line)
    except msgspec.MsgspecError as error:
        return Note(t=now, text=f"a line that was told is no record: {error}: {line[:120].decode(errors='replace')}")
