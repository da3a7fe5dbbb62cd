"""README-1: the example on the first page works when pasted, as it stands, by the command beside it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"


def example() -> str:
    """The first Python block of the README."""
    found = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert found, "the README has no Python example"
    return found.group(1)


def test_the_example_works_when_pasted(tmp_path: Path) -> None:
    """In an empty folder, with nothing but the installed package."""
    (tmp_path / "test_fabric.py").write_text(example())
    said = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_fabric.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert said.returncode == 0, said.stdout + said.stderr
    assert "1 passed" in said.stdout


def test_the_example_is_short() -> None:
    """Twenty lines at most, blank ones aside: it is to be read on the first screen."""
    assert sum(bool(line.strip()) for line in example().splitlines()) <= 20
