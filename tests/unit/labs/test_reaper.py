"""Who is responsible for a lab, and what happens when nobody is."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from labs import index, reaper
from labs.errors import NotReady
from labs.index import LabRecord, Stage
from labs.journal import Change, boot_id
from labs.undo import identity


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAILBED_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


def record(name: str = "x", stage: Stage = Stage.UP) -> LabRecord:
    return LabRecord(name, "fake", "/nowhere", "f", 1, stage, boot_id(), "2026-01-01T00:00:00+00:00")


def gone() -> dict[str, object]:
    child = subprocess.Popen(["sleep", "300"])
    who = dict(identity(child.pid))
    child.kill()
    child.wait()
    return who


def test_nobody_knows_it() -> None:
    assert reaper.abandoned("x") is None
    assert reaper.leftovers() == reaper.reap() == ()


def test_up_is_somebodys() -> None:
    index.write(record())
    assert reaper.abandoned("x") is None
    index.write(replace(record(), owner=identity(os.getpid())))
    assert reaper.abandoned("x") is None
    assert reaper.reap() == ()
    assert index.names() == ("x",)


def test_every_reason() -> None:
    index.lab_dir("no-record").mkdir(parents=True)
    index.write(record("torn"))
    (index.lab_dir("torn") / "record.json").write_text("{")
    index.write(record("starting", Stage.STARTING))
    index.write(record("stopping", Stage.STOPPING))
    index.write(replace(record("old"), boot="another"))
    dead = gone()
    index.write(replace(record("orphan"), owner=dead))
    index.write(record("fine"))
    index.journal("starting").will(Change("process", {"token": "nobody:1"}), Change("process", {"token": "nobody:2"}))
    found = {leftover.name: leftover for leftover in reaper.leftovers()}
    assert {name: leftover.because for name, leftover in found.items()} == {
        "no-record": "it has no record: railbed was killed before it wrote one",
        "torn": "it has no record: railbed was killed before it wrote one",
        "starting": "railbed was killed, or could not go on, while it was starting",
        "stopping": "railbed was killed, or could not go on, while it was stopping",
        "old": "the workstation has been restarted since",
        "orphan": f"the process that used it ({dead['pid']}) is gone",
    }
    assert {name: leftover.changes for name, leftover in found.items() if leftover.changes} == {"starting": 2}
    assert {leftover.name for leftover in reaper.reap()} == set(found)
    assert index.names() == ("fine",)


def test_what_somebody_is_changing_is_theirs() -> None:
    index.write(record(stage=Stage.STARTING))
    with index.locked("x"):
        assert reaper.orphaned("x") is None
        assert reaper.abandoned("x") is not None  # so the holder of the lock itself is told
        assert reaper.leftovers() == ()
    assert reaper.orphaned("x") == "railbed was killed, or could not go on, while it was starting"


def test_brought_up_between_the_look_and_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    index.write(record(stage=Stage.STARTING))
    found = reaper.leftovers()
    index.write(record())
    monkeypatch.setattr(reaper, "leftovers", lambda: found)
    reaper.reap()
    assert index.names() == ("x",)


def test_destroy_is_idempotent(state: Path) -> None:
    index.write(record())
    index.journal("x").will(Change("process", {"token": "nobody:1"}))
    assert reaper.destroy("x") == 1
    assert reaper.destroy("x") == 0
    assert not state.exists()


def test_destroy_that_fails_keeps_the_lab_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise NotReady("processes do not end")

    index.write(record())
    monkeypatch.setattr(reaper, "undo_all", fail)
    with pytest.raises(NotReady):
        reaper.destroy("x")
    assert reaper.orphaned("x") == "railbed was killed, or could not go on, while it was stopping"


def test_one_that_cannot_be_undone_keeps_nobody_from_the_others(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        index.write(record(name, Stage.STARTING))
    away = {"engine": f"unix://{tmp_path}/docker.sock", "labels": {"railbed-lab": "b"}}
    index.journal("b").will(Change("process", {"token": "nobody:1"}), Change("containers", away))
    with pytest.raises(NotReady) as raised:
        reaper.reap()
    assert raised.value.message.startswith("lab 'b' could not be undone: no Docker engine answers")
    assert raised.value.remedy.endswith("then: railbed reap")
    assert index.names() == ("b",)
    assert [entry.change.undo for entry in index.journal("b").open_entries()] == ["containers"]
