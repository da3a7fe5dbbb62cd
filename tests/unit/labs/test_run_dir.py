"""Run directories: never the same twice, and the user's, whoever runs railbed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from labs import run_dir


@pytest.fixture
def owned(monkeypatch: pytest.MonkeyPatch) -> dict[Path, tuple[int, int]]:
    """Who was given what: giving files away needs root, which tests do not have."""
    given: dict[Path, tuple[int, int]] = {}

    def chown(path: Path, uid: int, gid: int, *, follow_symlinks: bool) -> None:
        assert follow_symlinks is False
        given[Path(path)] = (uid, gid)

    monkeypatch.setattr(os, "chown", chown)
    return given


def behind_sudo(patch: pytest.MonkeyPatch, uid: str | None, gid: str | None, *, euid: int = 0) -> None:
    patch.setattr(os, "geteuid", lambda: euid)
    patch.setattr(os, "getegid", lambda: euid)
    for name, value in (("SUDO_UID", uid), ("SUDO_GID", gid)):
        patch.delenv(name, raising=False)
        if value is not None:
            patch.setenv(name, value)


@pytest.mark.parametrize(
    ("uid", "gid", "euid", "owner"),
    [
        ("1000", "1001", 0, (1000, 1001)),
        (None, None, 0, (0, 0)),
        ("1000", None, 0, (0, 0)),
        ("1000", "1001", 1002, (1002, 1002)),  # sudo -u somebody: not root, so nothing can be given away
    ],
)
def test_owner(
    monkeypatch: pytest.MonkeyPatch, uid: str | None, gid: str | None, euid: int, owner: tuple[int, int]
) -> None:
    behind_sudo(monkeypatch, uid, gid, euid=euid)
    assert run_dir.owner() == owner


def test_new_folders_and_files_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owned: dict[Path, tuple[int, int]]
) -> None:
    behind_sudo(monkeypatch, "1000", "1001")
    path = run_dir.choose("x", tmp_path)
    assert not path.exists()
    run_dir.create(path)
    run_dir.write_json(path, "lab.json", {"a": 1})
    log = run_dir.make_log(path, "leaf1", "frr.log")
    assert set(owned.values()) == {(1000, 1001)}
    made = {tmp_path / ".labs", *(tmp_path / ".labs").rglob("*")}
    assert set(owned) == made
    assert tmp_path not in owned  # what was there before stays whose it was
    assert (log / "frr.log").stat().st_mode & 0o777 == 0o666


def test_hand_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owned: dict[Path, tuple[int, int]]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "pcap").touch()
    (tmp_path / "run" / "link").symlink_to(tmp_path)
    behind_sudo(monkeypatch, None, None, euid=1000)
    run_dir.hand_over(tmp_path / "run")
    assert owned == {}
    behind_sudo(monkeypatch, "1000", "1001")
    run_dir.hand_over(tmp_path / "run")
    whose = (tmp_path / "run").stat()
    assert owned == dict.fromkeys((tmp_path / "run" / "pcap", tmp_path / "run" / "link"), (whose.st_uid, whose.st_gid))
    run_dir.give_away(tmp_path / "run")
    assert owned[tmp_path / "run"] == (1000, 1001)


def test_choose_never_gives_one_that_exists(tmp_path: Path) -> None:
    seen = set()
    for _ in range(5):
        path = run_dir.choose("x", tmp_path)
        assert path.parent == tmp_path / ".labs" / "x"
        path.mkdir(parents=True)
        seen.add(path)
    assert len(seen) == 5


def test_choose_below_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_dir.choose("x").parent == tmp_path / ".labs" / "x"
