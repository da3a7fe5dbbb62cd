"""CONFIG-1: every golden FRR configuration is one that FRR takes, the workstation's and the image's.

``vtysh -C`` reads a file, checks every line against the commands that this FRR knows, and says which it refuses.
Two releases (8.4 and 10.3 at the time of writing) read the same files: a lab's configuration does not depend on
which backend plays it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

RENDERED = Path(__file__).parents[1] / "golden" / "rendered"
FILES = sorted(RENDERED.glob("**/frr.conf"))
INSIDE = "/golden"
IMAGE = "railbed/frr"
Check = Callable[[Path], str]


def refused(argv: tuple[str, ...]) -> str:
    """What vtysh refuses of a file, empty when nothing."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    said = done.stdout + done.stderr
    return said or f"exit {done.returncode}" if done.returncode else ""


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A container of the image that sees the golden files, and a folder of the test's own."""
    own = tmp_path_factory.mktemp("own")
    binds = ("-v", f"{RENDERED}:{INSIDE}:ro", "-v", f"{own}:/own:ro")
    argv = ("docker", "run", "-d", "--rm", *binds, "--entrypoint", "sleep", IMAGE, "600")
    identifier = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
    yield identifier, own
    subprocess.run(("docker", "rm", "-f", identifier), check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(params=["workstation", "image"])
def frr(request: pytest.FixtureRequest, container: tuple[str, Path]) -> Check:
    """Checks one file below RENDERED or the test's own folder."""
    identifier, own = container

    def by_workstation(path: Path) -> str:
        return refused(("vtysh", "-C", "-f", str(path)))

    def by_image(path: Path) -> str:
        inside = f"/own/{path.name}" if path.parent == own else f"{INSIDE}/{path.relative_to(RENDERED)}"
        return refused(("docker", "exec", identifier, "vtysh", "-C", "-f", inside))

    return by_workstation if request.param == "workstation" else by_image


def test_every_golden_file_is_accepted(frr: Check) -> None:
    """Not one line is refused."""
    assert len(FILES) >= 5
    assert {str(path): said for path in FILES if (said := frr(path))} == {}


def test_a_line_that_frr_does_not_know_is_refused(frr: Check, container: tuple[str, Path]) -> None:
    """The control: one wrong word in an otherwise golden file."""
    path = container[1] / "frr.conf"
    path.write_text(FILES[0].read_text().replace("maximum-paths", "maximum-roads"))
    path.chmod(0o644)
    assert "maximum-roads" in frr(path)
