"""The one writer: order, lateness, a disk that is full, and what a killed writer has left."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from labs.telemetry.records import Missed, Note
from labs.telemetry.timeline import read_timeline
from labs.telemetry.writing import Writer


def note(t: int) -> Note:
    return Note(t=t, text=str(t))


def texts(path: Path) -> list[str]:
    return [record.text for record in read_timeline(path).of(Note)]


def test_what_comes_out_of_order_is_written_in_order(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "t", hold_ns=10)
    for t in (5, 3, 4):
        writer.add(note(t))
    writer.write_until(13)
    assert texts(tmp_path / "t") == ["3"]
    writer.write_until(15)
    assert (texts(tmp_path / "t"), writer.written) == (["3", "4", "5"], 3)


def test_what_comes_too_late_says_so(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "t", hold_ns=0)
    writer.add(note(10))
    writer.write_until(10)
    writer.add(note(4))
    writer.write_until(20)
    assert '"t":10,"late_ns":6' in (tmp_path / "t").read_text()
    assert texts(tmp_path / "t") == ["4", "10"]


def test_a_full_disk_is_said_once_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer(tmp_path / "t", hold_ns=0)
    real = os.write

    def full(fd: int, data: bytes) -> int:
        if len(data) > 10:
            return real(fd, data[:10])  # a part still goes in
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    writer.add(note(1))
    writer.write_until(1)
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        writer.add(note(2))
        writer.add(note(3))
        writer.write_until(3)
    assert (writer.full, writer.lost) == (True, 2)
    assert texts(tmp_path / "t") == ["1"]
    writer.add(note(4))
    writer.write_until(4)
    assert not writer.full
    assert texts(tmp_path / "t") == ["1", "4"]
    (missed,) = read_timeline(tmp_path / "t").of(Missed)
    assert (missed.since, missed.count, missed.because) == (1, 2, "No space left on device")
    assert read_timeline(tmp_path / "t").torn == 0


@pytest.mark.parametrize("left", [None, b'{"kind":"note","t":7,"text":"of one that was killed"}\n', b"no record\n"])
def test_a_disk_that_is_full_from_the_start_is_said_from_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: bytes | None
) -> None:
    """Nothing before it is missing; what a former writer could not write is, from its last record on."""
    (tmp_path / "t").write_bytes(left or b"")
    before = time.monotonic_ns()
    writer = Writer(tmp_path / "t", hold_ns=0)
    now = time.monotonic_ns()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        writer.add(note(now))
        writer.write_until(now)
    writer.add(note(now + 5))
    writer.write_until(now + 5)
    (missed,) = read_timeline(tmp_path / "t").of(Missed)
    assert (missed.t, missed.count) == (now + 5, 1)
    assert missed.since == 7 if left and left.startswith(b"{") else before <= missed.since <= now


@pytest.mark.parametrize("left", [b"", b'{"kind":"note","t":1,"te', b'{"kind":"note"' + b"x" * 70_000])
def test_a_torn_line_does_not_spoil_the_next(tmp_path: Path, left: bytes) -> None:
    path = tmp_path / "t"
    path.write_bytes(b'{"kind":"note","t":0,"text":"before"}\n' + left)
    writer = Writer(path, hold_ns=0)
    writer.add(note(2))
    writer.write_all()
    assert texts(path) == ["before", "2"]
    assert read_timeline(path).unread == 0
