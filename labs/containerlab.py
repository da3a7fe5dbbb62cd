"""The containerlab program of this workstation: where it is, whether it will do, and one call of it.

It runs in a network namespace of its own: cables that a killed call had in its hands vanish with that, and the
settings it makes for the whole host (reverse path filters off, firewall rules) stay in there. Its calls carry the
lab's start token, so that one which outlives us is found and ended.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from labs import hosts_file
from labs.errors import DeployFailed, PreflightFailed
from labs.undo import TOKEN_VARIABLE

LEAST = (0, 79, 0)
# scripts/build_containerlab puts one here where the workstation's own is missing or too old.
OURS = Path("/usr/local/lib/railbed/containerlab")
# A node takes it some half a second on two cores; a lab of the largest size stays far below.
CALL_WITHIN = 1800.0
VERSION_WITHIN = 20.0
MARK = "railbed-without-modules"  # how scripts/build_containerlab marks the build that such a kernel needs
HOW_TO_GET = "make setup-containerlab"
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_LEVEL = re.compile(r"^\S+ (?:ERRO|ERROR|FATA|FATAL) ")


@dataclass(frozen=True, slots=True)
class Program:
    """A containerlab and its version."""

    path: Path
    version: tuple[int, ...]

    def __str__(self) -> str:
        return f"containerlab {'.'.join(map(str, self.version))} ({self.path})"


def find() -> Program:
    """The containerlab to use: RAILBED_CONTAINERLAB, else the one on PATH, else ours; the first that will do.

    Raises PreflightFailed that says what is wrong with those there are.
    """
    wrong = []
    for path in _candidates():
        version, marked = _version(path, _changed(path))
        if version is None:
            wrong.append(f"{path} does not say its version")
        elif version < LEAST:
            wrong.append(f"{path} is {'.'.join(map(str, version))}, {'.'.join(map(str, LEAST))} or newer is needed")
        elif not marked and not Path("/proc/modules").exists() and "RAILBED_CONTAINERLAB" not in os.environ:
            wrong.append(f"{path} does not run on a kernel without loadable modules, as this one")
        else:
            return Program(path, version)
    raise PreflightFailed("; ".join(wrong) or "containerlab is not installed", remedy=HOW_TO_GET)


def _candidates() -> list[Path]:
    asked = os.environ.get("RAILBED_CONTAINERLAB")
    if asked:
        return [Path(asked)]
    on_path = shutil.which("containerlab")
    return [*([Path(on_path)] if on_path else []), *([OURS] if OURS.exists() else [])]


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


@cache
def _version(path: Path, changed: int) -> tuple[tuple[int, ...] | None, bool]:
    """A program's version, and whether it carries the mark of one that runs without loadable modules."""
    del changed  # another program since it was last asked
    try:
        said = subprocess.run(
            [path, "version"],
            capture_output=True,
            text=True,
            timeout=VERSION_WITHIN,
            check=False,
            env={**os.environ, "CLAB_VERSION_CHECK": "disable"},
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None, False
    found = re.search(r"version:\s*v?(\d+)\.(\d+)\.(\d+)", said)
    return tuple(map(int, found.groups())) if found else None, MARK in said


def call(
    program: Program,
    arguments: Sequence[str],
    *,
    token: str,
    folder: Path,
    started: Callable[[int], None] = lambda _: None,
    line: Callable[[str], None] = lambda _: None,
    apart: bool = True,
    scratch: Path | None = None,
) -> None:
    """Run containerlab to its end; `folder` is where its own folder for the lab goes.

    Args:
        token: the lab's start token, which the child carries.
        apart: in a network namespace of its own; not where it is to make the management network, or to cable
            something of the workstation's.
        scratch: where it keeps a copy of every topology it has read; by default `folder`.
        started: gets the child's pid as soon as there is one.
        line: gets each line it says.

    Raises DeployFailed with what it called an error, or its last line.
    """
    child = _start(program, arguments, folder=folder, apart=apart, env=environment(token, folder, scratch))
    said: list[str] = []
    late = threading.Timer(CALL_WITHIN, _end, (child,))
    try:
        late.start()
        started(child.pid)
        for raw in child.stderr or ():
            said.append(_ANSI.sub("", raw.rstrip()))
            line(said[-1])
        status = child.wait()
    finally:
        late.cancel()
        _end(child)
        child.wait()
    if late.finished.is_set() and status == -signal.SIGKILL:
        raise DeployFailed(f"containerlab {arguments[0]} was at it for {CALL_WITHIN:g} s, and has been ended")
    if status != 0:
        raise DeployFailed(f"containerlab {arguments[0]}: {_reason(said, status)}")


def _start(
    program: Program, arguments: Sequence[str], *, folder: Path, apart: bool, env: Mapping[str, str]
) -> subprocess.Popen[str]:
    """Start containerlab, in a session of its own: an interrupt at the terminal is for us, and we end it in order."""
    return subprocess.Popen(
        [*(("unshare", "--net", "--") if apart else ()), str(program.path), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        cwd=folder,
        env=env,
        start_new_session=True,
    )


def _end(child: subprocess.Popen[str]) -> None:
    """Kill a containerlab, but not while it writes the workstation's host names."""
    if child.poll() is None:
        with hosts_file.unedited():
            child.kill()


def environment(token: str, folder: Path, scratch: Path | None = None) -> dict[str, str]:
    """What a child of ours gets of the environment: the engine's address, and how to call home is left out."""
    kept = {key: os.environ[key] for key in ("DOCKER_HOST", "HOME", "LANG") if key in os.environ}
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    folders = {"CLAB_LABDIR_BASE": str(folder), "TMPDIR": str(scratch or folder)}
    return {**kept, **folders, "PATH": path, TOKEN_VARIABLE: token, "CLAB_VERSION_CHECK": "disable"}


def _reason(said: Sequence[str], status: int) -> str:
    """What containerlab called an error: the summary that it ends with, over several lines, else what it logged."""
    at = next((i for i, text in enumerate(said) if text.strip() == "ERROR"), None)
    told = said[at + 1 :] if at is not None else [_LEVEL.sub("", text) for text in said if _LEVEL.match(text)]
    words = " ".join(text.strip() for text in told or said[-3:] if text.strip())
    return words[:1200] or f"exited {status}"
