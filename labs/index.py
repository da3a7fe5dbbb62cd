"""The index of labs on this workstation: one record and one lock per name, for all users and folders.

/var/lib/railbed/labs/<lab>/record.json    who runs it, where its run directory is, how far it has come
/var/lib/railbed/labs/<lab>/journal.jsonl  what has to be undone (labs/journal.py)
/var/lib/railbed/locks/<lab>               held while something changes the lab; gone when nothing does
/var/lib/railbed/lease/                    who measures or changes interfaces (labs/lease.py); gone when nobody does
/var/lib/railbed/cache/                    this boot's kernel as it was found, fonts for plots; goes with the last lab
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from labs.errors import LabNotFound, LeftoverLab, PreflightFailed
from labs.journal import JOURNAL_FILE, Journal, boot_id

CACHE = "cache"
LINK_UP = "link-up"  # the verb that undoes a step which has set an interface down


def state_dir() -> Path:
    """Where the index lives; RAILBED_STATE_DIR moves it (tests that run without root)."""
    return Path(os.environ.get("RAILBED_STATE_DIR", "/var/lib/railbed"))


class Stage(StrEnum):
    """How far a lab has come. Anything but UP without a holder of its lock is what a crash left."""

    STARTING = "starting"
    UP = "up"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class LabRecord:
    """A lab in the index. `fingerprint` identifies the rendering, `boot` the boot it was started in.

    `owner` is the process that the lab belongs to and must not outlive (a pytest run), None for a lab of a person.
    """

    name: str
    backend: str
    run_dir: str
    fingerprint: str
    seed: int
    stage: Stage
    boot: str
    started_at: str
    owner: Mapping[str, object] | None = None

    @property
    def this_boot(self) -> bool:
        """False when the workstation has been restarted since: nothing of the lab can still run."""
        return self.boot == boot_id()


def lab_dir(name: str) -> Path:
    """The folder of one lab in the index."""
    return state_dir() / "labs" / name


def names() -> tuple[str, ...]:
    """Every lab the index knows, whatever its stage, by name."""
    return _listed(state_dir() / "labs")


def _listed(folder: Path) -> tuple[str, ...]:
    """The names in a folder; none when it is not there, or goes this moment with the last of them."""
    try:
        return tuple(sorted(entry.name for entry in folder.iterdir()))
    except (FileNotFoundError, NotADirectoryError):
        return ()


def read(name: str) -> LabRecord:
    """The record of a lab. Raises LabNotFound, or LeftoverLab for one that is unreadable."""
    try:
        data = json.loads((lab_dir(name) / "record.json").read_text())
        return LabRecord(**{**data, "stage": Stage(data["stage"])})
    except (FileNotFoundError, NotADirectoryError):
        known = ", ".join(names()) or "none"
        raise LabNotFound(f"no lab {name!r} is running (running: {known})", remedy="railbed up starts one") from None
    except (ValueError, TypeError, KeyError):  # no JSON, or not that of a record
        raise LeftoverLab(f"the record of lab {name!r} is unreadable", remedy="railbed reap") from None


def write(record: LabRecord) -> None:
    """Replace a lab's record, in one step and synced."""
    folder = lab_dir(record.name)
    _make(folder)
    draft = folder / "record.json.new"
    with draft.open("w") as out:
        json.dump({**asdict(record), "stage": str(record.stage)}, out, indent=1)
        out.flush()
        os.fsync(out.fileno())
    draft.replace(folder / "record.json")


def _make(folder: Path) -> None:
    """Make a folder of the index; one above it may go this moment, with the last lab or lock."""
    while not folder.is_dir():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except PermissionError:
            raise _not_root(folder) from None
        except FileNotFoundError:
            continue
        except FileExistsError:
            if folder.is_file():
                raise


def _not_root(folder: Path) -> PreflightFailed:
    return PreflightFailed(f"{folder} cannot be written: that needs root", remedy=f"sudo {shlex.join(sys.argv)}")


def move_to(name: str, stage: Stage) -> LabRecord:
    """Record that a lab has reached `stage`."""
    record = replace(read(name), stage=stage)
    write(record)
    return record


def journal(name: str) -> Journal:
    """The lab's journal; empty when it has none yet."""
    return Journal(lab_dir(name) / JOURNAL_FILE)


def cut_ports(name: str) -> frozenset[tuple[str, str]]:
    """The interfaces that faults have set down, as (node, network device), from the journal."""
    steps = [step for e in journal(name).open_entries() if e.change.undo == "fault" for step in _steps(e.change.args)]
    return frozenset((str(s["args"]["node"]), str(s["args"]["netdev"])) for s in steps if s["undo"] == LINK_UP)


def _steps(args: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(args["steps"])


def forget(name: str) -> None:
    """Remove a lab from the index, once its journal has nothing left to undo."""
    shutil.rmtree(lab_dir(name), ignore_errors=True)
    tidy()


def sweep() -> None:
    """Remove locks that their holders were killed with, and empty folders; a lock that is held stays."""
    for name in _listed(state_dir() / "locks"):
        with suppress(LeftoverLab), locked(name):
            pass
    tidy()


def tidy() -> None:
    """Remove the index's folders when nothing is in them, and what was only kept for the labs that were."""
    for folder in ("labs", "locks", "lease"):
        with suppress(OSError):  # not empty, or not there
            (state_dir() / folder).rmdir()
    if _listed(state_dir()) == (CACHE,):
        shutil.rmtree(state_dir() / CACHE, ignore_errors=True)
    with suppress(OSError):
        state_dir().rmdir()


def is_held(name: str) -> bool:
    """True while some process is changing the lab."""
    path = state_dir() / "locks" / name
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


@contextmanager
def locked(name: str, *, wait: bool = False) -> Iterator[None]:
    """Hold the lab's lock. Raises LeftoverLab when someone else holds it and `wait` is False.

    The lock's file exists only while it is held: it is removed by its holder, so whoever gets the lock checks
    that the file it locked is still the one of that name.
    """
    path = state_dir() / "locks" / name
    try:
        fd = take(path, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LeftoverLab(
            f"lab {name!r} is being changed by another railbed command", remedy="wait for it to end"
        ) from None
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            path.unlink()
        os.close(fd)
        tidy()


def take(path: Path, how: int) -> int:
    """Open a file that is removed when nobody holds it, and flock it as `how` says. Raises BlockingIOError."""
    while True:
        _make(path.parent)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except PermissionError:
            raise _not_root(path.parent) from None
        except FileNotFoundError:  # the folder went with its last lock: make it again
            continue
        try:
            fcntl.flock(fd, how)
        except BlockingIOError:
            os.close(fd)
            raise
        with suppress(FileNotFoundError):
            if os.fstat(fd).st_ino == path.stat().st_ino:
                return fd
        os.close(fd)
