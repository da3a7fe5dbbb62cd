"""The examples of a collective and of crafted bursts in docs/testing.md work when pasted, as they stand."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from labs import index
from labs.cli import run
from labs.errors import LabNotFound

GIVEN_UP_S = 60.0
GUIDE = Path(__file__).resolve().parents[3] / "docs" / "testing.md"


@pytest.mark.parametrize(("heading", "tests"), [("Collectives", 1), ("Crafted bursts", 4)])
def test_the_example_works_when_pasted(tmp_path: Path, heading: str, tests: int) -> None:
    found = re.search(rf"### {heading}\n.*?```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert found, f"docs/testing.md has no example of {heading}"
    (tmp_path / "test_example.py").write_text(found.group(1))
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_example.py"]
    with ended_with_its_labs(argv, tmp_path) as inner:
        out, _ = inner.communicate(timeout=180)
    assert inner.returncode == 0, out
    assert f"{tests} passed" in out


def test_what_takes_too_long_leaves_no_lab(tmp_path: Path) -> None:
    """Control: one that never ends is ended, whether it takes its lab down itself or not, and the lab is gone."""
    text = "import pytest, signal\n@pytest.mark.lab('pair')\ndef test_it(lab):\n    print('up', flush=True)\n"
    (tmp_path / "test_endless.py").write_text(f"{text}    signal.pause()\n")
    argv = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "test_endless.py"]
    with ended_with_its_labs(argv, tmp_path) as inner:
        assert inner.stdout
        late = threading.Timer(GIVEN_UP_S, inner.send_signal, (signal.SIGINT,))
        late.start()
        assert any(line.endswith("up\n") for line in inner.stdout)
        late.cancel()
        assert labs_of(inner.pid)
    assert inner.returncode
    assert labs_of(inner.pid) == []


@contextmanager
def ended_with_its_labs(argv: list[str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A pytest of its own for the length of a block; what runs too long is interrupted, and its labs are taken down."""
    with subprocess.Popen(
        argv, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as inner:
        try:
            yield inner
        finally:
            if inner.poll() is None:
                inner.send_signal(signal.SIGINT)  # TERM would end it without its fixtures' ends
                try:
                    inner.communicate(timeout=60)
                except subprocess.TimeoutExpired:
                    inner.kill()
            for name in labs_of(inner.pid):
                run(["down", name])


def labs_of(pid: int) -> list[str]:
    """The labs that belong to a process."""
    found = []
    for name in index.names():
        try:
            owner = index.read(name).owner
        except LabNotFound:  # taken down meanwhile
            continue
        if owner and owner["pid"] == pid:
            found.append(name)
    return found
