from __future__ import annotations

from pathlib import Path

import pytest

from labs import hosts_file

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
