"""The ledger of the workstation's settings: what labs want adds up, and what was before comes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from labs import sysctl

KEY = "net.ipv4.neigh.default.gc_thresh1"
BEFORE = 128


class Killed(Exception):
    """Stands for the moment at which a process is killed."""


@pytest.fixture
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A setting that is a file, and a ledger beside it."""
    file = tmp_path / "proc" / KEY
    file.parent.mkdir()
    file.write_text(str(BEFORE))
    monkeypatch.setenv("RAILBED_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(sysctl, "path_of", lambda key: tmp_path / "proc" / key)
    return file


def kill_at_save(monkeypatch: pytest.MonkeyPatch, which: int, *, after: bool) -> None:
    """Die at the `which`-th save of the ledger, before or after it."""
    real, saves = sysctl._save, [0]

    def save(ledger: dict[str, dict]) -> None:  # type: ignore[type-arg]  # JSON
        saves[0] += 1
        if saves[0] == which and not after:
            raise Killed
        real(ledger)
        if saves[0] == which:
            raise Killed

    monkeypatch.setattr(sysctl, "_save", save)


def test_a_small_lab_changes_nothing(setting: Path) -> None:
    sysctl.want("a", {KEY: 96})
    assert sysctl.read(KEY) == BEFORE
    sysctl.release("a", [KEY])
    assert setting.read_text() == str(BEFORE)


def test_wants_add_up(setting: Path, tmp_path: Path) -> None:
    """Two labs that each fit do not fit together."""
    del setting
    sysctl.want("a", {KEY: 96})
    sysctl.want("b", {KEY: 96})
    assert sysctl.read(KEY) == 192
    sysctl.release("a", [KEY])
    assert sysctl.read(KEY) == BEFORE
    sysctl.release("b", [KEY])
    assert sysctl.read(KEY) == BEFORE
    assert not (tmp_path / "state").exists()


def test_the_smaller_lab_keeps_its_room(setting: Path) -> None:
    del setting
    sysctl.want("large", {KEY: 4896})
    sysctl.want("small", {KEY: 240})
    sysctl.release("large", [KEY])
    assert sysctl.read(KEY) == 240
    sysctl.release("small", [KEY])
    assert sysctl.read(KEY) == BEFORE


def test_a_value_of_someone_else_stays(setting: Path) -> None:
    sysctl.want("a", {KEY: 240})
    setting.write_text("9999")
    sysctl.want("b", {KEY: 240})
    assert sysctl.read(KEY) == 9999
    sysctl.release("a", [KEY])
    sysctl.release("b", [KEY])
    assert sysctl.read(KEY) == 9999


def test_release_of_what_nobody_wanted(setting: Path, tmp_path: Path) -> None:
    """A draft that a kill left beside the ledger goes too."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state/sysctl.new").write_text('{"boot": ')
    sysctl.release("a", [KEY])
    assert setting.read_text() == str(BEFORE)
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("save", [1, 2])
@pytest.mark.parametrize("verb", ["want", "release"])
def test_killed_at_any_save(
    setting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, save: int, *, after: bool
) -> None:
    """Whichever write was the last, giving up again brings both labs' shares and the first value back."""
    del setting
    sysctl.want("stays", {KEY: 240})
    if verb == "release":
        sysctl.want("dies", {KEY: 1000})
    with monkeypatch.context() as patch:
        kill_at_save(patch, save, after=after)
        with pytest.raises(Killed):
            sysctl.want("dies", {KEY: 1000}) if verb == "want" else sysctl.release("dies", [KEY])
    sysctl.release("dies", [KEY])
    assert sysctl.read(KEY) == 240
    sysctl.release("stays", [KEY])
    assert sysctl.read(KEY) == BEFORE
    assert not (tmp_path / "state").exists()
