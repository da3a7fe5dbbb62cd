"""The example of a collective in docs/testing.md works when pasted, as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "testing.md"


def test_the_example_of_a_collective_works_when_pasted(tmp_path: Path) -> None:
    found = re.search(r"### Collectives\n.*?```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert found, "docs/testing.md has no example of a collective"
    (tmp_path / "test_collective.py").write_text(found.group(1))
    said = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_collective.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert said.returncode == 0, said.stdout + said.stderr
    assert "1 passed" in said.stdout
