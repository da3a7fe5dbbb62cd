"""A lab's run directory, ``.labs/<lab>/<stamp>/`` in the folder where it was brought up.

    lab.json      what the lab is: design, spec, backend, seed, timings
    rendered/     every file its nodes got, and the containerlab topology
    logs/         what its nodes' software wrote

What a root run makes here belongs to the user behind sudo.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from labs.spec import RenderedLab

RUNS_DIR = ".labs"


def owner() -> tuple[int, int]:
    """The user and group that files in a run directory belong to: those behind sudo, else our own."""
    uid, gid = os.environ.get("SUDO_UID"), os.environ.get("SUDO_GID")
    if os.geteuid() == 0 and uid and gid:
        return int(uid), int(gid)
    return os.geteuid(), os.getegid()


def create(lab: str, base: Path | None = None) -> Path:
    """Make a new run directory for `lab` below `base` (default: the current folder); its stamp is UTC."""
    base = (base or Path.cwd()).resolve()
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    for turn in range(1000):
        path = base / RUNS_DIR / lab / (stamp if turn == 0 else f"{stamp}-{turn}")
        if path.exists():
            continue
        _make(path)
        _make(path / "logs")
        _make(path / "rendered")
        return path
    raise FileExistsError(path)


def make_log(run_dir: Path, node: str, name: str) -> Path:
    """A node's log folder with an empty log in it that any daemon, whatever its user, may append to."""
    folder = run_dir / "logs" / node
    _make(folder)
    folder.chmod(0o777)
    log = folder / name
    log.touch()
    log.chmod(0o666)
    _own(log)
    return folder


def write(run_dir: Path, name: str, text: str) -> Path:
    """Write one file of the run directory, making folders on the way."""
    path = run_dir / name
    _make(path.parent)
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


@contextmanager
def owned_by_user(path: Path) -> Iterator[Path]:
    """A place that a program writes to as root: afterwards everything below belongs to the user."""
    try:
        yield path
    finally:
        hand_over(path)


def hand_over(path: Path) -> None:
    """Give everything at and below `path` to the user behind sudo."""
    if owner() == (os.geteuid(), os.getegid()) and os.geteuid() != 0:
        return
    for folder, _, files in os.walk(path):
        _own(Path(folder))
        for name in files:
            _own(Path(folder) / name)


def _make(path: Path) -> None:
    """mkdir -p whose new folders belong to the user."""
    if path.is_dir():
        return
    _make(path.parent)
    path.mkdir(exist_ok=True)
    _own(path)


def _own(path: Path) -> None:
    os.chown(path, *owner(), follow_symlinks=False)
