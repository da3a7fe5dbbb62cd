"""The grace periods' setting: what a killed asicd left on goes back; what its owner, or a living asicd, set stays."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from labs import expedited
from labs.journal import Change, Journal
from labs.undo import undo_all


@pytest.fixture
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A setting that is on, and a locked file beside it; both are files."""
    monkeypatch.setattr(expedited, "SETTING", tmp_path / "rcu_expedited")
    monkeypatch.setattr(expedited, "HELD", tmp_path / "held")
    expedited.SETTING.write_text("1\n")
    return expedited.SETTING


def undone(tmp_path: Path) -> None:
    """A lab goes down."""
    journal = Journal(tmp_path / "journal.jsonl")
    journal.will(Change("expedited", {}))
    assert undo_all("lab", journal) == 1


def test_what_a_killed_asicd_left_on_goes_back(setting: Path, tmp_path: Path) -> None:
    """What it was stands in the locked file, once."""
    expedited.HELD.write_text("0")
    undone(tmp_path)
    assert (setting.read_text(), expedited.HELD.read_text()) == ("0", "")


@pytest.mark.parametrize("held", ["", None])
def test_what_its_owner_set_stays(setting: Path, tmp_path: Path, held: str | None) -> None:
    """No asicd was killed at it, or none ever ran."""
    if held is not None:
        expedited.HELD.write_text(held)
    undone(tmp_path)
    assert setting.read_text() == "1\n"


def test_an_asicd_that_is_at_it_puts_it_back_itself(setting: Path, tmp_path: Path) -> None:
    """It has the lock: other labs' going down must not slow it, nor wait for it."""
    expedited.HELD.write_text("0")
    with expedited.HELD.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        undone(tmp_path)
    assert (setting.read_text(), expedited.HELD.read_text()) == ("1\n", "0")
