"""CLEAN-2: railbed is killed at every point of attaching the soft ASIC, and asicd itself is killed.

    up:   … nodes run | the backlog's setting | the grace periods' setting | asicd | its pid | attached | up
    KILL at                                 every journal line ─┘                 └ asicd itself

Procedure and checks are those of test_crash_points.py, and besides: no asicd, no BPF file system, no folder below
/run/railbed, both settings of the workstation as they were.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from labs import expedited, sysctl
from labs.dataplane import place
from labs.dataplane.asic import BACKLOG
from labs.testing import wait_until

if TYPE_CHECKING:
    from tests.fabric.crash.conftest import Ground

LINES = 4  # of the journal: two settings, asicd, its pid
ENDS_WITHIN_S = 5.0


def settings() -> dict[str, str]:
    """What the soft ASIC changes of the workstation while a lab is up, or while it attaches."""
    return {
        **{key: str(sysctl.read(key)) for key in BACKLOG},
        str(expedited.SETTING): expedited.SETTING.read_text().strip(),
    }


def remains(name: str) -> list[str]:
    """What of a soft ASIC is still there."""
    folder = place.folder(name)
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"{folder}/" in line]
    return [*([str(folder)] if folder.exists() else []), *mounts]


@pytest.mark.parametrize("line", range(1, LINES + 1))
def test_up_killed_while_it_attaches(shared_ground: Ground, line: int) -> None:
    """`up` dies right after the N-th line that attaching writes; `reap` leaves nothing."""
    ground, before = shared_ground, settings()
    first = ground.played.lines_of_up(ground.played.fabric)
    code, said = ground.run(*ground.up_argv(), "--no-wait", "--profile", "pfc_only", crash_after=first + line)
    assert code == -signal.SIGKILL, said
    ground.reap()
    ground.assert_spotless()
    assert remains(ground.name) == []
    assert settings() == before


def test_down_takes_all_of_it(shared_ground: Ground) -> None:
    """One line later `up` survives; then all of it is seen, and `down` leaves nothing."""
    ground, before = shared_ground, settings()
    last = ground.played.lines_of_up(ground.played.fabric) + LINES
    code, said = ground.run(*ground.up_argv(), "--no-wait", "--profile", "pfc_only", crash_after=last + 1)
    assert code == 0, said
    assert remains(ground.name), "a running soft ASIC is not seen: the checks above see nothing"
    assert settings() != before
    code, said = ground.run("down", ground.name)
    assert code == 0, said
    ground.assert_spotless()
    assert remains(ground.name) == []
    assert settings() == before


def test_reap_after_asicd_itself_was_killed(ground: Ground) -> None:
    """Both of its processes at once: nobody is left to tidy up, but `down` does."""
    code, said = ground.run(*ground.up_argv(), "--no-wait", "--profile", "pfc_only")
    assert code == 0, said
    for pid in asicds(ground.name):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    gone = wait_until("asicd is gone", lambda: asicds(ground.name), lambda pids: not pids, within=ENDS_WITHIN_S)
    assert gone.held
    code, said = ground.run("status", ground.name)
    assert code == 1, said
    assert "soft ASIC is dead" in said
    code, said = ground.run("down", ground.name)
    assert code == 0, said
    ground.assert_spotless()
    assert remains(ground.name) == []


@pytest.mark.parametrize("ours", [True, False], ids=["left by a killed asicd", "set by its owner"])
def test_grace_periods_setting(shared_ground: Ground, *, ours: bool) -> None:
    """On before `up`: what an asicd left that was killed as it attached goes back to what it was, else it stays."""
    with on_already(killed_at="0" if ours else ""):
        code, said = shared_ground.run(*shared_ground.up_argv(), "--no-wait", "--profile", "pfc_only")
        assert code == 0, said
        assert expedited.SETTING.read_text().strip() == ("0" if ours else "1")
        assert expedited.HELD.read_text() == "", "asicd has not put it back"
        code, said = shared_ground.run("down", shared_ground.name)
        assert code == 0, said
        assert expedited.SETTING.read_text().strip() == ("0" if ours else "1")
    shared_ground.assert_spotless()


@contextmanager
def on_already(killed_at: str) -> Iterator[None]:
    """The setting is 1; the locked file says what it was, as a killed asicd leaves it, or nothing."""
    before = expedited.SETTING.read_text()
    expedited.HELD.write_text(killed_at)
    expedited.SETTING.write_text("1")
    try:
        yield
    finally:
        expedited.SETTING.write_text(before)
        expedited.HELD.write_text("")


def asicds(name: str) -> list[int]:
    """The asicd processes of one lab, by their folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(place.folder(name)).encode() in words and words[0].endswith(b"asicd"):
            found.append(int(folder.name))
    return sorted(found)
