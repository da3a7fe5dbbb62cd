"""The one writer of a timeline: holds records back for a moment, and writes them in the order of time."""

from __future__ import annotations

import heapq
import os
import time
from itertools import count
from pathlib import Path

import msgspec

from labs.telemetry.records import Missed, Record


class _Stamped(msgspec.Struct, frozen=True):
    """As much of a record as its time."""

    t: int


_ENCODER = msgspec.json.Encoder()
_TIMES = msgspec.json.Decoder(_Stamped)


class Writer:
    """Appends to `path`, `hold_ns` after things happened: what comes later than that is marked as late.

    A disk that is full costs the records of that time, and no more: the file never ends in the middle of a line because
    of it, and says how many are missing once there is room again.
    """

    def __init__(self, path: Path, hold_ns: int) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._hold_ns = hold_ns
        self._held: list[tuple[int, int, Record]] = []
        self._numbers = count()
        self._last_ns = 0
        self._missing = 0
        self._because = ""
        self.written = 0
        self.lost = 0
        _drop_torn_line(self._fd)
        # What happened until then is in the file, or nobody was there to write it.
        self._sure_ns = _last_time(self._fd, time.monotonic_ns())

    @property
    def full(self) -> bool:
        """Whether the last thing that was to be written could not be."""
        return self._missing > 0

    def add(self, record: Record) -> None:
        """Take a record in, whenever it happened."""
        heapq.heappush(self._held, (record.t, next(self._numbers), record))

    def write_until(self, t: int) -> None:
        """Write everything that happened until `t` less what is held back."""
        self._write(t - self._hold_ns)

    def write_all(self) -> None:
        """Write everything, and stop sorting."""
        if self._held:
            self._write(max(at for at, _, _ in self._held))

    def _write(self, until: int) -> None:
        ready: list[Record] = []
        last = self._last_ns
        while self._held and self._held[0][0] <= until:
            record = heapq.heappop(self._held)[2]
            if record.t < last:
                record = msgspec.structs.replace(record, t=last, late_ns=last - record.t)
            last = record.t
            ready.append(record)
        if not ready:
            return
        news = [self._confession(ready[0].t)] if self._missing else []
        if self._append(b"".join(_ENCODER.encode(record) + b"\n" for record in [*news, *ready])):
            self.written += len(ready) + len(news)
            self._missing, self._last_ns, self._sure_ns = 0, last, last
        else:
            self._missing += len(ready)
            self.lost += len(ready)

    def _confession(self, t: int) -> Missed:
        return Missed(t=t, since=min(self._sure_ns, t), because=self._because, count=self._missing)

    def _append(self, data: bytes) -> bool:
        """All of it or nothing; False when there is no room."""
        before = os.fstat(self._fd).st_size
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError as error:
            self._because = str(error.strerror)
            os.ftruncate(self._fd, before)
            return False
        return True


def _drop_torn_line(fd: int) -> None:
    """Take away what a killed writer has left in mid-line, so that the next line does not become part of it."""
    size = os.fstat(fd).st_size
    at = size
    while at:
        first = max(0, at - 65536)
        end = os.pread(fd, at - first, first).rfind(b"\n")
        if end >= 0:
            at = first + end + 1
            break
        at = first
    if at < size:
        os.ftruncate(fd, at)


def _last_time(fd: int, now: int) -> int:
    """When the last record was that a former writer has left; `now` where there is none, or none of this boot."""
    size = os.fstat(fd).st_size
    end = os.pread(fd, 65536, max(0, size - 65536)).rstrip(b"\n").rpartition(b"\n")[2]
    try:
        return min(_TIMES.decode(end).t, now)
    except msgspec.MsgspecError:
        return now
