"""What labs are rendered to, file by file; and FRR's own parser accepts every configuration that is kept here.

RAILBED_UPDATE_GOLDEN=1 writes the files anew: read the difference before you commit it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path, PurePosixPath

import pytest

from labs.load import load_lab
from labs.render import clab_text, render

GOLDEN = Path(__file__).parent / "rendered"
# One switch of each tier and one host of each lab: the others differ by numbers only.
SHOWN = {
    "clos_frr": ("leaf1", "spine1", "host1"),
    "clos_frr_unnumbered": ("leaf1", "spine1"),
    "rails_frr": ("pod1-leaf1", "host1"),
    "fat_tree_frr": ("pod1-leaf1", "pod1-spine1", "core1"),
    "dual_plane_frr": ("plane1-leaf1", "host1"),
    "incast_8": ("leaf1", "host1"),
}
UPDATE = bool(os.environ.get("RAILBED_UPDATE_GOLDEN"))


def rendered() -> dict[str, str]:
    """Every file that is kept, by its path below `rendered/`; seed 1."""
    files = {}
    for name, nodes in SHOWN.items():
        lab = render(*load_lab(name, seed=1))
        files[f"{name}/{lab.name}.clab.yml"] = clab_text(lab)
        files |= {f"{name}/{path}": text for path, text in lab.files.items() if path.parts[0] in nodes}
    return files


RENDERED = rendered()


@pytest.mark.parametrize("name", sorted(RENDERED))
def test_a_file_is_rendered_as_kept(name: str) -> None:
    """Byte for byte."""
    kept = GOLDEN / name
    if UPDATE:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(RENDERED[name])
    assert kept.read_text() == RENDERED[name]


def test_nothing_is_kept_that_is_not_rendered() -> None:
    """A file of a lab that is no longer rendered must go."""
    kept = {str(path.relative_to(GOLDEN)) for path in GOLDEN.rglob("*") if path.is_file()}
    assert kept == set(RENDERED)


@pytest.mark.parametrize("name", sorted(n for n in RENDERED if PurePosixPath(n).name == "frr.conf"))
def test_frr_accepts_the_configuration(name: str) -> None:
    """vtysh -C reads every line with the grammar of the installed FRR."""
    assert check_with_vtysh(GOLDEN / name) == ""


def test_frr_refuses_a_wrong_line(tmp_path: Path) -> None:
    """Control: one word that FRR does not know, and vtysh says so."""
    kept = min(name for name in RENDERED if name.endswith("leaf1/etc/frr/frr.conf"))
    wrong = tmp_path / "frr.conf"
    wrong.write_text(RENDERED[kept].replace("bgp router-id", "bgp rooter-id"))
    assert "rooter-id" in check_with_vtysh(wrong)


def check_with_vtysh(config: Path) -> str:
    """What FRR's parser complains about; empty when it accepts the file."""
    vtysh = shutil.which("vtysh")
    assert vtysh, "vtysh is not installed: make setup"
    said = subprocess.run([vtysh, "-C", "-f", str(config)], capture_output=True, text=True, check=False)
    noise = ("vtysh.conf",)  # a user may not read the workstation's own: it has nothing to do with the file
    lines = [line for line in (said.stdout + said.stderr).splitlines() if not any(word in line for word in noise)]
    return "\n".join(lines) or ("" if said.returncode == 0 else f"exit {said.returncode}")
