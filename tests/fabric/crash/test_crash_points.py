"""CLEAN-1: railbed is killed at every point of `up` and `down`; `reap` then removes exactly what was left.

               up:   will (the changes) | make them | learned (a process, an end) | converged | stage "up"
    KILL at     every journal line ─────┘                └─ every journal line
               down: stage "stopping" | undo a verb | done (a line a change) | … | forget
    KILL at                                           └─ every journal line
    KILL at     20 moments drawn over the whole of both, wherever the program then is

Procedure: kill; `railbed reap` (exit 0); then nothing of the lab is left: no network namespace, no process in one or
with the lab's start token, no mount, no interface, no firewall rule, no changed setting, no file in the index, no file
outside `.labs` and none in it that is not the user's; in containers also no container, no network, no host name and no
ssh setting. Zombies do not count: burying them is the workstation's init's affair. Bystanders whose names begin like
the lab's live on (conftest.py says who). A kill after the stage has become "up" leaves a lab, not a leftover: `reap`
must not touch it.

The index is one of the test's own (RAILBED_STATE_DIR), so that "no file is left" can mean none at all. Thresholds of
the workstation are shared with whatever labs run beside the test, and so is their ledger: the points that raise them
use the real index.
"""

from __future__ import annotations

import os
import random
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from labs import sysctl
from labs.backends.workstation import NEIGHBOR_KEYS, NEIGHBORS_PER_LINK

if TYPE_CHECKING:
    from tests.fabric.crash.conftest import Ground, Surroundings

RANDOM_UPS, RANDOM_DOWNS = 12, 8
SEED = int(os.environ.get("RAILBED_CRASH_SEED", secrets.randbelow(2**32)))


def test_up_killed_after_a_line(ground: Ground, up_line: int) -> None:
    """`up` dies right after its N-th line; before anything is made, or with every node running."""
    code, said = ground.up(crash_after=up_line)
    assert code == -signal.SIGKILL, said
    assert len(ground.played.namespaces(ground.name)) in ground.played.made_after(ground.played.fabric, up_line)
    ground.reap()
    ground.assert_spotless()


def test_up_writes_no_more_lines(ground: Ground) -> None:
    """The points above are all there are: one line later `up` survives. A running lab shows in every check."""
    code, said = ground.up(crash_after=ground.played.lines_of_up(ground.played.fabric) + 1)
    assert code == 0, said
    ground.reap()
    kinds = {what.split()[0] for what in ground.remains()}
    assert ground.played.seen <= kinds, "a running lab is not seen: the checks above see nothing"
    code, said = ground.run("down", ground.name)
    assert code == 0, said
    ground.assert_spotless()


def test_down_killed_after_a_line(ground: Ground, down_line: int) -> None:
    """`down` dies right after its N-th line: one line a change."""
    code, said = ground.up()
    assert code == 0, said
    code, said = ground.run("down", ground.name, crash_after=down_line)
    assert code == -signal.SIGKILL, said
    ground.reap()
    ground.assert_spotless()


def test_down_writes_no_more_lines(ground: Ground) -> None:
    """One line later `down` survives, and needs no reap."""
    code, said = ground.up()
    assert code == 0, said
    lines = ground.played.lines_of_changes(ground.played.fabric)
    code, said = ground.run("down", ground.name, crash_after=lines + 1)
    assert code == 0, said
    ground.assert_spotless()


@dataclass(frozen=True)
class Durations:
    """How long `up` and `down` take here when nobody disturbs them."""

    up_s: float
    down_s: float


@pytest.fixture
def durations(request: pytest.FixtureRequest, ground: Ground) -> Durations:
    """Measured once, by whichever test asks first."""
    measured: Durations | None = getattr(request.module, "_durations", None)
    if measured is None:
        began = time.monotonic()
        code, said = ground.up(wait=True)
        up = time.monotonic()
        assert code == 0, said
        code, said = ground.run("down", ground.name)
        assert code == 0, said
        measured = Durations(up - began, time.monotonic() - up)
        request.module._durations = measured
    return measured


def moment(verb: str, which: int, of: int, lasts_s: float) -> float:
    """The `which`-th of `of` moments, drawn from its own share of `lasts_s`, so that all of it is covered."""
    share = (which + random.Random(f"{SEED} {verb} {which}").random()) / of
    return share * lasts_s


@pytest.mark.parametrize("which", range(RANDOM_UPS))
def test_up_killed_at_a_moment(ground: Ground, durations: Durations, which: int) -> None:
    """`up`, which waits for convergence, is killed from outside; RAILBED_CRASH_SEED repeats a run."""
    at_s = moment("up", which, RANDOM_UPS, durations.up_s)
    announce("up", at_s, durations.up_s)
    killed(ground.railbed(*ground.up_argv()), at_s)
    legitimate_or_spotless(ground)


@pytest.mark.parametrize("which", range(RANDOM_DOWNS))
def test_down_killed_at_a_moment(ground: Ground, durations: Durations, which: int) -> None:
    """`down` is killed from outside."""
    at_s = moment("down", which, RANDOM_DOWNS, durations.down_s)
    announce("down", at_s, durations.down_s)
    code, said = ground.up()
    assert code == 0, said
    killed(ground.railbed("down", ground.name), at_s)
    legitimate_or_spotless(ground)


def announce(verb: str, at_s: float, lasts_s: float) -> None:
    """What pytest shows of a test that failed."""
    print(f"RAILBED_CRASH_SEED={SEED}: {verb} is killed after {at_s:.3f} of {lasts_s:.3f} s")  # noqa: T201


def killed(child: subprocess.Popen[str], at_s: float) -> None:
    """KILL a command after a time, unless it has ended by then."""
    try:
        child.communicate(timeout=at_s)
        assert child.returncode == 0
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()


def legitimate_or_spotless(ground: Ground) -> None:
    """A lab that counts as up outlives `reap` and can be taken down; anything less is gone after it."""
    was_up = ground.counts_as_up()
    ground.reap()
    if was_up:
        code, said = ground.run("list", "--format", "json")
        assert code == 0
        assert ground.name in said
        assert len(ground.played.namespaces(ground.name)) == len(ground.played.fabric.nodes)
        code, said = ground.run("down", ground.name)
        assert code == 0, said
    ground.assert_spotless()


@pytest.fixture
def low_thresholds(surroundings: Surroundings) -> Iterator[None]:
    """Bring the first thresholds to the kernel's own default, where the workstation's owner has raised them."""
    high = {
        key: before
        for key, before in surroundings.thresholds.items()
        if key.endswith("1") and before > 128 and key not in sysctl._load()
    }
    for key in high:
        sysctl.path_of(key).write_text("128")
        surroundings.thresholds[key] = 128
    yield
    for key, before in high.items():
        surroundings.thresholds[key] = before
        sysctl.path_of(key).write_text(str(before))


@pytest.mark.usefixtures("low_thresholds")
def test_thresholds_after_up_was_killed(shared_ground: Ground, larger: str, raising_line: int) -> None:
    """A lab that raises neighbour thresholds dies in `up`; they are as before after `reap`."""
    code, said = shared_ground.up(lab=larger, crash_after=raising_line)
    assert code == -signal.SIGKILL, said
    assert raised_by(shared_ground) == (
        raising_line > shared_ground.played.lines_of_changes(shared_ground.played.larger)
    )
    shared_ground.reap()
    shared_ground.assert_spotless()


@pytest.mark.usefixtures("low_thresholds")
def test_thresholds_after_down_was_killed(shared_ground: Ground, larger: str, lowering_line: int) -> None:
    """The same in `down`."""
    code, said = shared_ground.up(lab=larger)
    assert code == 0, said
    assert raised_by(shared_ground)
    code, said = shared_ground.run("down", shared_ground.name, crash_after=lowering_line)
    assert code == -signal.SIGKILL, said
    shared_ground.reap()
    shared_ground.assert_spotless()


def raised_by(ground: Ground) -> bool:
    """Whether the first thresholds have room for the larger lab on its account."""
    need = NEIGHBORS_PER_LINK * len(ground.played.larger.links)
    wanted = sysctl._load()
    keys = [key for key in NEIGHBOR_KEYS if key.endswith("1")]
    return all(
        key in wanted and wanted[key]["wants"].get(ground.name) == need and sysctl.read(key) >= need > 128
        for key in keys
    )
