"""JSON alone on stdout, also with a person's terminal on stderr, where progress is a live line."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

RAILBED = Path(sys.executable).with_name("railbed")


def up(tmp_path: Path, name: str, stdout: int) -> subprocess.CompletedProcess[bytes]:
    """`railbed up` on the fake backend with a terminal on stderr."""
    master, slave = pty.openpty()
    try:
        return subprocess.run(
            [RAILBED, "up", "clos_frr", "--backend", "fake", "--name", name, "--format", "json"],
            stdout=stdout,
            stderr=slave,
            cwd=tmp_path,
            env={**os.environ, "RAILBED_STATE_DIR": str(tmp_path / "state")},
            timeout=60,
            check=False,
        )
    finally:
        os.close(slave)
        os.close(master)


def test_json_is_on_stdout(tmp_path: Path) -> None:
    """All of it, and nothing else."""
    said = up(tmp_path, "spoken", subprocess.PIPE)
    assert said.returncode == 0
    assert json.loads(said.stdout)["state"] == "ready"


def test_a_reader_that_is_gone_does_not_take_the_lab_along(tmp_path: Path) -> None:
    """Whoever read our output may leave; the lab is up all the same."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        said = up(tmp_path, "unheard", writer)
    finally:
        os.close(writer)
    assert said.returncode == 0
    record = json.loads((tmp_path / "state" / "labs" / "unheard" / "record.json").read_text())
    assert record["stage"] == "up"
