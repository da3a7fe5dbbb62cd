"""The index: records, and locks that die with their holders."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from labs import index
from labs.errors import LabNotFound, LeftoverLab
from labs.index import LabRecord, Stage

HOLDER = """
import signal
from labs import index
with index.locked("x"):
    print(flush=True)
    signal.pause()
"""
RECORD = LabRecord("x", "fake", "/nowhere", "f", 1, Stage.UP, "this-boot", "2026-01-01T00:00:00+00:00")


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAILBED_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


@contextmanager
def holder() -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds the lock of lab x."""
    child = subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def test_records(state: Path) -> None:
    assert index.names() == ()
    index.write(RECORD)
    index.write(replace(RECORD, name="a", owner={"pid": 1}))
    assert index.names() == ("a", "x")
    assert index.read("x") == RECORD
    assert index.read("a").owner == {"pid": 1}
    assert index.move_to("x", Stage.STOPPING).stage is index.read("x").stage is Stage.STOPPING
    assert sorted(path.name for path in (state / "labs" / "x").iterdir()) == ["record.json"]
    index.forget("x")
    index.forget("a")
    index.forget("a")
    assert not state.exists()


def test_unknown_and_torn_records() -> None:
    index.write(RECORD)
    with pytest.raises(LabNotFound, match=r"no lab 'y' is running \(running: x\)"):
        index.read("y")
    record = index.lab_dir("x") / "record.json"
    record.write_text(json.dumps({"name": "x"})[:-3])
    with pytest.raises(LeftoverLab, match="unreadable"):
        index.read("x")
    assert index.names() == ("x",)


@pytest.mark.parametrize("text", ["{}", "[]", '{"stage": "frozen"}', '"x"'])
def test_record_that_is_json_and_no_record(text: str) -> None:
    index.write(RECORD)
    (index.lab_dir("x") / "record.json").write_text(text)
    with pytest.raises(LeftoverLab, match="unreadable"):
        index.read("x")


def test_lock_is_gone_afterwards(state: Path) -> None:
    with index.locked("x"):
        assert (state / "locks" / "x").exists()
        assert index.is_held("x")
        with index.locked("y"):  # another lab's
            assert index.is_held("y")
        assert index.is_held("x")
    assert not index.is_held("x")
    assert not state.exists()


def test_lock_is_gone_after_an_error(state: Path) -> None:
    with pytest.raises(ZeroDivisionError), index.locked("x"):
        raise ZeroDivisionError
    assert not state.exists()


def test_lock_of_another_process() -> None:
    with holder():
        assert index.is_held("x")
        with pytest.raises(LeftoverLab, match="being changed by another railbed command"), index.locked("x"):
            pass
        assert index.is_held("x")  # the refused one has taken nothing away


def test_lock_of_a_killed_process_is_free(state: Path) -> None:
    with holder() as child:
        child.kill()
        child.wait()
        assert (state / "locks" / "x").exists()
        assert not index.is_held("x")
        with index.locked("x"):
            assert index.is_held("x")
    assert not state.exists()


def test_sweep_takes_only_what_nobody_holds(state: Path) -> None:
    with holder() as child:
        (state / "locks" / "stale").touch()
        index.sweep()
        assert [path.name for path in (state / "locks").iterdir()] == ["x"]
        child.kill()
        child.wait()
        index.sweep()
    assert not state.exists()


def test_waiting_gets_it_when_the_holder_ends(state: Path) -> None:
    with holder() as child:
        waiting = subprocess.Popen(
            [sys.executable, "-c", HOLDER.replace('"x"', '"x", wait=True')], stdout=subprocess.PIPE
        )
        assert waiting.stdout is not None
        child.kill()
        assert waiting.stdout.readline() == b"\n"
        assert index.is_held("x")
        waiting.kill()
        waiting.wait()
        waiting.stdout.close()
    assert (state / "locks" / "x").exists()


def test_lock_file_that_goes_between_open_and_lock(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last holder removes the file just after we have opened it: what we then lock is nobody's lock."""
    opened, real = [], os.open

    def open_and_lose(path: str | Path, flags: int, mode: int = 0o777) -> int:
        fd = real(path, flags, mode)
        opened.append(fd)
        if len(opened) == 1:
            Path(path).unlink()
        return fd

    monkeypatch.setattr(os, "open", open_and_lose)
    with index.locked("x"):
        assert len(opened) == 2
        assert (state / "locks" / "x").stat().st_ino == os.fstat(opened[1]).st_ino
