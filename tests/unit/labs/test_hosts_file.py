from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from labs import hosts_file
from labs.errors import NotReady

BLOCK = "###### CLAB-{0}-START ######\n172.24.0.2\tclab-{0}-leaf1\n###### CLAB-{0}-END ######\n"
OTHERS = "127.0.0.1 localhost\n# CLAB-mine-START is no marker\n"


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "hosts"
    monkeypatch.setattr(hosts_file, "HOSTS", path)
    monkeypatch.setattr(hosts_file, "LOCK", tmp_path / "lock")
    return path


def test_only_the_labs_own_block_goes(hosts: Path) -> None:
    hosts.write_text(OTHERS + BLOCK.format("mine") + BLOCK.format("mine-too") + "10.0.0.1 after\n")
    inode = hosts.stat().st_ino
    hosts_file.remove("mine")
    assert hosts.read_text() == OTHERS + BLOCK.format("mine-too") + "10.0.0.1 after\n"
    assert hosts.stat().st_ino == inode, "the file was replaced: where it is a mount that fails"


def test_removing_what_is_not_there_writes_nothing(hosts: Path) -> None:
    hosts.write_text(OTHERS)
    hosts.chmod(0o444)
    before = hosts.stat().st_mtime_ns
    hosts_file.remove("mine")
    assert hosts.stat().st_mtime_ns == before


def test_no_hosts_file_at_all(hosts: Path) -> None:
    hosts_file.remove("mine")
    assert not hosts.exists()


@pytest.mark.parametrize("after", ["", "10.0.0.1 mine-after\n", BLOCK.format("other") + "10.0.0.1 after\n"])
def test_a_block_without_its_end_takes_nothing_else_along(hosts: Path, after: str) -> None:
    """What containerlab leaves when it dies in mid-write."""
    hosts.write_text(OTHERS + "###### CLAB-mine-START ######\n172.24.0.2\tclab-mine-leaf1\t# Kind: linux\n" + after)
    hosts_file.remove("mine")
    assert hosts.read_text() == OTHERS + after


def test_names_in_any_encoding(hosts: Path) -> None:
    hosts.write_bytes(b"10.0.0.1 caf\xe9\n" + BLOCK.format("mine").encode())
    hosts_file.remove("mine")
    assert hosts.read_bytes() == b"10.0.0.1 caf\xe9\n"


def test_death_in_mid_write_loses_nothing(hosts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is never shorter than what is to stay in it: before it is cut, it holds all of that."""
    hosts.write_text(OTHERS + BLOCK.format("mine") + "10.0.0.1 after\n")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        hosts_file.remove("mine")
    assert hosts.read_text().rstrip("\n") + "\n" == OTHERS + "10.0.0.1 after\n"


def test_nobody_is_ended_in_the_midst_of_an_edit(hosts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts.write_text(BLOCK.format("mine"))
    monkeypatch.setattr(hosts_file, "EDIT_WITHIN", 0.05)
    monkeypatch.setattr(hosts_file, "STUCK_AFTER", 0.05)
    with hosts_file.unedited():  # there is no lock yet, and nobody to wait for
        assert not hosts_file.LOCK.exists()
    with hosts_file.LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with hosts_file.unedited():
            pass
        with pytest.raises(NotReady, match="does not end"):
            hosts_file.remove("mine")
        assert hosts.read_text() == BLOCK.format("mine")
    with hosts_file.unedited(), hosts_file.LOCK.open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
