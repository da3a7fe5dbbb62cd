"""Telling a Recorder: what it gets, and what comes of it when nobody listens."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from labs import index
from labs.telemetry import telling
from labs.telemetry.records import AnyRecord, Note
from labs.telemetry.telling import Written, answers, flush, tell


@pytest.fixture
def listening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A socket where a lab's Recorder would have its own, below a folder whose name alone is too long for one."""
    monkeypatch.setenv("RAILBED_STATE_DIR", str(tmp_path / ("deep" * 25)))
    index.lab_dir("x").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        with telling.named_through("x") as name:
            server.bind(name)
        server.listen()
        yield server


def test_records_come_as_lines(listening: socket.socket) -> None:
    told = (Note(t=1, text="a"), Note(t=2, text="b"))
    assert tell("x", *told)
    connection, _ = listening.accept()
    with connection, connection.makefile("rb") as lines:
        assert tuple(msgspec.json.decode(line, type=AnyRecord) for line in lines) == told


def test_an_answer_is_waited_for(listening: socket.socket) -> None:
    def answer() -> None:
        connection, _ = listening.accept()
        with connection, connection.makefile("rb") as lines:
            assert msgspec.json.decode(lines.readline()) == {"ask": "flush"}
            connection.sendall(msgspec.json.encode(Written(written=3)) + b"\n")

    thread = threading.Thread(target=answer)
    thread.start()
    assert flush("x") == Written(written=3)
    thread.join()


def test_nobody_listens(listening: socket.socket) -> None:
    listening.close()
    assert not tell("x", Note(t=1, text="a"))
    assert not tell("no-such-lab", Note(t=1, text="a"))
    assert answers("x") is None


def test_one_that_hangs_does_not_hold_up_others(listening: socket.socket) -> None:
    assert listening.getsockname()
    assert answers("x", within=0.05) is None
