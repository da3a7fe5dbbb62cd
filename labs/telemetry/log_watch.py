"""The logs of a lab's switches, followed as they grow, for sessions that change."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from labs.telemetry.frr_log import Offset, session_event
from labs.telemetry.inotify import CREATE, MODIFY, MOVED_TO, Inotify
from labs.telemetry.listening import ListenedNode
from labs.telemetry.records import SessionEvent


class LogWatch:
    """Follows each log from where it ends now; one that is not there yet from its beginning."""

    def __init__(self, nodes: Mapping[str, ListenedNode], inotify: Inotify) -> None:
        self._nodes = {name: node for name, node in nodes.items() if node.log}
        self._inotify = inotify
        self._read: dict[str, int] = {}
        self._rest: dict[str, bytes] = {}
        self._numbers: dict[int, str] = {}
        for name, node in self._nodes.items():
            path = Path(node.log)
            self._read[name] = path.stat().st_size if path.exists() else 0
        self.listen()

    def listen(self) -> tuple[str, ...]:
        """Hear of the folders that are not heard of yet: a Recorder may be there before they are.

        Returns the nodes whose folder has come since, and where something may stand already.
        """
        new = []
        for name in self._nodes.keys() - set(self._numbers.values()):
            number = self._inotify.add(Path(self._nodes[name].log).parent, MODIFY | CREATE | MOVED_TO)
            if number is not None:
                self._numbers[number] = name
                new.append(name)
        return tuple(sorted(new))

    @property
    def names(self) -> Iterable[str]:
        """The nodes that have a log."""
        return self._nodes.keys()

    def heard(self, number: int) -> Iterator[SessionEvent]:
        """What the log behind a number of inotify's says that is new."""
        name = self._numbers.get(number)
        if name is not None:
            yield from self.news(name)

    def news(self, name: str) -> Iterator[SessionEvent]:
        """What the log of a node says that is new."""
        node = self._nodes[name]
        now = Offset(time.time_ns(), time.monotonic_ns())
        for line in self._lines(name, Path(node.log)):
            event = session_event(line, name, node.peers, now)
            if event is not None:
                yield event

    def _lines(self, name: str, path: Path) -> list[str]:
        """Whole lines since the last time; a file that has become shorter is read from its beginning."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return []
        try:
            if os.fstat(fd).st_size < self._read[name]:
                self._read[name], self._rest[name] = 0, b""
            said = b""
            while more := os.pread(fd, 1 << 20, self._read[name] + len(said)):
                said += more
        finally:
            os.close(fd)
        self._read[name] += len(said)
        *whole, self._rest[name] = (self._rest.get(name, b"") + said).split(b"\n")
        return [line.decode(errors="replace") for line in whole]
