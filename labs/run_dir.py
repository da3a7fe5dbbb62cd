"""A lab's run directory, ``.labs/<lab>/<stamp>/`` in the folder where it was brought up.

    lab.json      what the lab is: design, spec, backend, seed, timings
    images.json   the images its containers were made of: what each name stood for
    rendered/     every file its nodes got, and the containerlab topology
    logs/         what its nodes' software wrote

What a root run makes here belongs to the user behind sudo.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from labs.spec import RenderedLab

RUNS_DIR = ".labs"
IMAGES_FILE = "images.json"


def owner() -> tuple[int, int]:
    """The user and group that files in a run directory belong to: those behind sudo, else our own."""
    uid, gid = os.environ.get("SUDO_UID"), os.environ.get("SUDO_GID")
    if os.geteuid() == 0 and uid and gid:
        return int(uid), int(gid)
    return os.geteuid(), os.getegid()


def choose(lab: str, folder: Path | None = None) -> Path:
    """A run directory for `lab` that does not exist yet, below `folder` (default: the current one); not made yet."""
    base = (folder or Path.cwd()).resolve() / RUNS_DIR / lab
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    return next(path for n in count() if not (path := base / (f"{stamp}-{n}" if n else stamp)).exists())


def create(path: Path) -> None:
    """Make a run directory and the folders in it."""
    for part in (path, path / "logs", path / "rendered"):
        create_folder(part)


def make_log(run_dir: Path, node: str, name: str) -> Path:
    """A node's log folder with an empty log in it that any daemon, whatever its user, may append to."""
    folder = run_dir / "logs" / node
    create_folder(folder)
    folder.chmod(0o777)
    log = folder / name
    log.touch()
    log.chmod(0o666)
    _own(log)
    return folder


def log_of(run_dir: Path, name: str) -> Path:
    """A log of our own, made when it is not there yet. Raises OSError."""
    folder = run_dir / "logs"
    create_folder(folder)
    log = folder / name
    if not log.exists():
        log.touch()
        _own(log)
    return log


def write(run_dir: Path, name: str, text: str) -> Path:
    """Write one file of the run directory, making folders on the way."""
    path = run_dir / name
    create_folder(path.parent)
    path.write_text(text)
    _own(path)
    return path


def write_json(run_dir: Path, name: str, data: Mapping[str, object]) -> Path:
    """Write one JSON file of the run directory."""
    return write(run_dir, name, json.dumps(data, indent=1) + "\n")


def write_rendered(run_dir: Path, lab: RenderedLab, clab_text: str) -> None:
    """Keep every rendered file, and the containerlab topology, for people to read."""
    write(run_dir, f"rendered/{lab.name}.clab.yml", clab_text)
    for path, text in lab.files.items():
        write(run_dir, f"rendered/{path}", text)


def hand_over(path: Path) -> None:
    """Give everything below `path` to the owner of `path`, whoever runs us now."""
    if os.geteuid() != 0 or not path.is_dir():
        return
    uid, gid = path.stat().st_uid, path.stat().st_gid
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            os.chown(Path(folder) / name, uid, gid, follow_symlinks=False)


def give_away(path: Path) -> None:
    """Give `path` and everything below it to the user behind sudo."""
    _own(path)
    hand_over(path)


def create_folder(path: Path) -> None:
    """As mkdir -p, whose new folders belong to the user."""
    if path.is_dir():
        return
    create_folder(path.parent)
    path.mkdir(exist_ok=True)
    _own(path)


def _own(path: Path) -> None:
    os.chown(path, *owner(), follow_symlinks=False)
