"""CLEAN-1: railbed is killed at every point of `up` and `down`; `reap` then removes exactly what was left.

               up:   will (45 changes) | make them | learned (an init a node) | converged | stage "up"
    KILL at     every journal line ─┘                └─ every journal line
               down: stage "stopping" | undo a verb | done (a line a change) | … | forget
    KILL at                                           └─ every journal line
    KILL at     20 moments drawn over the whole of both, wherever the program then is

Procedure: kill; `railbed reap` (exit 0); then nothing of the lab is left: no network namespace, no process in one or
with the lab's start token, no mount, no neighbour threshold, no file in the index, no file outside `.labs`. Zombies
do not count: burying them is the workstation's init's affair. A bystander whose names begin like the lab's, and a
process in it, live on. A kill after the stage has become "up" leaves a lab, not a leftover: `reap` must not touch it.

The index is one of the test's own (RAILBED_STATE_DIR), so that "no file is left" can mean none at all. Thresholds of
the workstation are shared with whatever labs run beside the test, and so is their ledger: the points that raise them
use the real index.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from labs import index, sysctl
from labs.backends.workstation import NEIGHBOR_KEYS, NEIGHBORS_PER_LINK
from labs.kinds import KINDS
from labs.load import load_lab
from labs.undo import start_time
from topologies.fabric import Fabric

RAILBED = Path(sys.executable).with_name("railbed")
NETNS_DIR = Path("/run/netns")
LAB = "clos_frr"
LARGER = "clos_4x8"
WITHIN_S = 60.0
RANDOM_UPS, RANDOM_DOWNS = 12, 8
SEED = int(os.environ.get("RAILBED_CRASH_SEED", secrets.randbelow(2**32)))


def fabric_of(lab: str) -> Fabric:
    """The design behind a lab of the catalogs."""
    return load_lab(lab, seed=0, kinds=KINDS)[1]


def lines_of_changes(lab: str) -> int:
    """What `up` writes before it makes anything: the processes, the thresholds, a namespace a node."""
    return 1 + len(NEIGHBOR_KEYS) + len(fabric_of(lab).nodes)


def lines_of_up(lab: str) -> int:
    """And one line a node after it has booted."""
    return lines_of_changes(lab) + len(fabric_of(lab).nodes)


@dataclass
class Ground:
    """Where one crash happens: a folder, an index and a lab's name of its own."""

    cwd: Path
    name: str
    state: Path | None
    before: Surroundings
    inodes: set[int] = field(default_factory=set)

    def railbed(self, *argv: str, crash_after: int = 0) -> subprocess.Popen[str]:
        """Start a command that may be killed, at once or by itself after a journal line."""
        env = dict(os.environ)
        if self.state:
            env["RAILBED_STATE_DIR"] = str(self.state)
        if crash_after:
            env["RAILBED_CRASH_AFTER"] = str(crash_after)
        quiet = partial(subprocess.Popen, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return quiet([RAILBED, *argv], cwd=self.cwd, env=env, text=True, start_new_session=True)

    def run(self, *argv: str, crash_after: int = 0) -> tuple[int, str]:
        """The same, to its end: (exit code, what it said)."""
        child = self.railbed(*argv, crash_after=crash_after)
        said, _ = child.communicate(timeout=WITHIN_S)
        return child.returncode, said

    def up(self, *, lab: str = LAB, wait: bool = False, crash_after: int = 0) -> tuple[int, str]:
        """Bring the lab up; convergence writes no journal line, so most points do without it."""
        return self.run("up", lab, "--name", self.name, *(() if wait else ("--no-wait",)), crash_after=crash_after)

    def reap(self) -> None:
        """Note which namespaces there are, then reap."""
        self.inodes |= {path.stat().st_ino for path in NETNS_DIR.glob(f"railbed.{self.name}.*")}
        code, said = self.run("reap")
        assert code == 0, said

    def counts_as_up(self) -> bool:
        """Whether the lab has reached the stage from which on it is nobody's leftover."""
        folder = (self.state or index.state_dir()) / "labs" / self.name
        try:
            return bool(json.loads((folder / "record.json").read_text())["stage"] == "up")
        except FileNotFoundError:
            return False

    def remains(self) -> list[str]:
        """Everything of the lab that is still on the workstation, in words; empty after a proper reap."""
        mine = f"railbed.{self.name}."
        found = [f"namespace {path.name}" for path in NETNS_DIR.glob(f"{mine}*")]
        found += [f"process {pid} ({what})" for pid, what in processes_of(self.name, self.inodes).items()]
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        found += [f"mount {line}" for line in mounts if mine in line or str(self.cwd) in line]
        found += [f"interface {netdev}" for netdev in netdevs() - self.before.netdevs]
        found += [f"{key} is {value}" for key, value in self.before.unsettled().items()]
        found += [f"file {path}" for path in self.cwd.iterdir() if path.name != ".labs"]
        if self.state:
            found += [f"in the index: {path}" for path in (self.state, *self.state.rglob("*")) if path.exists()]
        else:
            found += [f"in the index: {path}" for path in index.state_dir().rglob(f"*{self.name}*")]
            found += [f"in the ledger: {key}" for key, entry in ledger().items() if self.name in entry["wants"]]
        return found

    def assert_spotless(self) -> None:
        """Nothing of the lab is left, and the bystander has not noticed."""
        assert self.remains() == []
        assert self.before.bystander.unharmed(), "the bystander was touched"


@dataclass(frozen=True)
class Bystander:
    """A namespace that is not ours, with a name that begins like ours, and a process in it with a token like ours."""

    netns: str
    process: subprocess.Popen[bytes]
    inode: int

    def unharmed(self) -> bool:
        """True while both are what they were."""
        there = Path(f"/proc/{self.process.pid}/ns/net")
        return (
            self.process.poll() is None
            and (NETNS_DIR / self.netns).stat().st_ino == self.inode
            and there.stat().st_ino == self.inode
        )


@dataclass(frozen=True)
class Surroundings:
    """The workstation before the first crash."""

    bystander: Bystander
    netdevs: frozenset[str]
    thresholds: dict[str, int]

    def unsettled(self) -> dict[str, int]:
        """Neighbour thresholds that are neither as before nor what labs beside the test need, by now."""
        wanted = ledger()
        allowed = {
            key: {before, int(wanted[key]["before"]), *wanted[key]["ours"]} if key in wanted else {before}
            for key, before in self.thresholds.items()
        }
        return {key: value for key in allowed if (value := sysctl.read(key)) not in allowed[key]}


def ledger() -> dict[str, dict]:  # type: ignore[type-arg]  # JSON
    """The workstation's ledger of raised settings."""
    return sysctl._load()


def netdevs() -> frozenset[str]:
    """The workstation's own interfaces."""
    return frozenset(path.name for path in Path("/sys/class/net").iterdir())


def processes_of(name: str, inodes: set[int]) -> dict[int, str]:
    """Living processes that carry the lab's start token or are in one of its namespaces, with what they run."""
    token = f"RAILBED_TOKEN={name}:".encode()
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            carries = any(word.startswith(token) for word in (folder / "environ").read_bytes().split(b"\0"))
            inside = (folder / "ns/net").stat().st_ino in inodes
            if (carries or inside) and start_time(int(folder.name)) is not None:
                found[int(folder.name)] = (folder / "comm").read_text().strip()
    return found


@pytest.fixture(scope="module")
def lab_name() -> str:
    return f"crash-{secrets.token_hex(3)}"


@pytest.fixture(scope="module")
def surroundings(lab_name: str) -> Iterator[Surroundings]:
    netns = f"railbed.{lab_name}x.leaf1"
    subprocess.run(["ip", "netns", "add", netns], check=True)
    process = subprocess.Popen(
        ["ip", "netns", "exec", netns, "sleep", "infinity"],
        env={"PATH": os.environ["PATH"], "RAILBED_TOKEN": f"{lab_name}x:0123456789abcdef"},
    )
    try:
        bystander = Bystander(netns, process, (NETNS_DIR / netns).stat().st_ino)
        wanted = ledger()
        before = {key: int(wanted[key]["before"]) if key in wanted else sysctl.read(key) for key in NEIGHBOR_KEYS}
        yield Surroundings(bystander, netdevs(), before)
    finally:
        process.kill()
        process.wait()
        subprocess.run(["ip", "netns", "del", netns], check=True)


@pytest.fixture
def ground(tmp_path: Path, lab_name: str, surroundings: Surroundings) -> Iterator[Ground]:
    """A crash's ground with an index of its own; whatever a failed test leaves there is taken down."""
    yield from _ground(tmp_path, lab_name, surroundings, tmp_path / "state")


@pytest.fixture
def shared_ground(tmp_path: Path, lab_name: str, surroundings: Surroundings) -> Iterator[Ground]:
    """The same with the workstation's index and ledger."""
    yield from _ground(tmp_path, lab_name, surroundings, None)


def _ground(tmp_path: Path, name: str, surroundings: Surroundings, state: Path | None) -> Iterator[Ground]:
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    made = Ground(cwd, name, state, surroundings)
    yield made
    if ((state or index.state_dir()) / "labs" / name).exists():
        made.run("down", name)


@pytest.mark.parametrize("line", range(1, lines_of_up(LAB) + 1))
def test_up_killed_after_a_line(ground: Ground, line: int) -> None:
    """`up` dies right after its N-th line; before anything is made, or with every node running."""
    code, said = ground.up(crash_after=line)
    assert code == -signal.SIGKILL, said
    made = len(list(NETNS_DIR.glob(f"railbed.{ground.name}.*")))
    assert made == (0 if line <= lines_of_changes(LAB) else len(fabric_of(LAB).nodes))
    ground.reap()
    ground.assert_spotless()


def test_up_writes_no_more_lines(ground: Ground) -> None:
    """The points above are all there are: one line later `up` survives. A running lab shows in every check."""
    code, said = ground.up(crash_after=lines_of_up(LAB) + 1)
    assert code == 0, said
    ground.reap()
    kinds = {what.split()[0] for what in ground.remains()}
    assert {"namespace", "process", "mount", "in"} <= kinds, "a running lab is not seen: the checks above see nothing"
    code, said = ground.run("down", ground.name)
    assert code == 0, said
    ground.assert_spotless()


@pytest.mark.parametrize("line", range(1, lines_of_changes(LAB) + 1))
def test_down_killed_after_a_line(ground: Ground, line: int) -> None:
    """`down` dies right after its N-th line: one line a change."""
    code, said = ground.up()
    assert code == 0, said
    code, said = ground.run("down", ground.name, crash_after=line)
    assert code == -signal.SIGKILL, said
    ground.reap()
    ground.assert_spotless()


def test_down_writes_no_more_lines(ground: Ground) -> None:
    """One line later `down` survives, and needs no reap."""
    code, said = ground.up()
    assert code == 0, said
    code, said = ground.run("down", ground.name, crash_after=lines_of_changes(LAB) + 1)
    assert code == 0, said
    ground.assert_spotless()


@dataclass(frozen=True)
class Durations:
    """How long `up` and `down` take here when nobody disturbs them."""

    up_s: float
    down_s: float


@pytest.fixture(scope="module")
def durations(tmp_path_factory: pytest.TempPathFactory, lab_name: str, surroundings: Surroundings) -> Durations:
    folder = tmp_path_factory.mktemp("undisturbed")
    undisturbed = Ground(folder, lab_name, folder / "state", surroundings)
    began = time.monotonic()
    code, said = undisturbed.up(wait=True)
    up = time.monotonic()
    assert code == 0, said
    code, said = undisturbed.run("down", lab_name)
    assert code == 0, said
    return Durations(up - began, time.monotonic() - up)


def moment(verb: str, which: int, of: int, lasts_s: float) -> float:
    """The `which`-th of `of` moments, drawn from its own share of `lasts_s`, so that all of it is covered."""
    share = (which + random.Random(f"{SEED} {verb} {which}").random()) / of
    return share * lasts_s


@pytest.mark.parametrize("which", range(RANDOM_UPS))
def test_up_killed_at_a_moment(ground: Ground, durations: Durations, which: int) -> None:
    """`up`, which waits for convergence, is killed from outside; RAILBED_CRASH_SEED repeats a run."""
    at_s = moment("up", which, RANDOM_UPS, durations.up_s)
    announce("up", at_s, durations.up_s)
    killed(ground.railbed("up", LAB, "--name", ground.name), at_s)
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
        assert len(list(NETNS_DIR.glob(f"railbed.{ground.name}.*"))) == len(fabric_of(LAB).nodes)
        code, said = ground.run("down", ground.name)
        assert code == 0, said
    ground.assert_spotless()


# Points where the thresholds' own fate may differ: journaled only; raised, nothing else known; all known.
RAISING = (2, lines_of_changes(LARGER), lines_of_changes(LARGER) + 1, lines_of_up(LARGER))
# The namespaces are undone first, then the thresholds: before them, in their midst, after them.
LOWERING = (
    lines_of_changes(LARGER) - len(NEIGHBOR_KEYS),
    lines_of_changes(LARGER) - len(NEIGHBOR_KEYS) + 1,
    lines_of_changes(LARGER),
)


@pytest.fixture
def low_thresholds(surroundings: Surroundings) -> Iterator[None]:
    """Bring the first thresholds to the kernel's own default, where the workstation's owner has raised them."""
    high = {
        key: before
        for key, before in surroundings.thresholds.items()
        if key.endswith("1") and before > 128 and key not in ledger()
    }
    for key in high:
        sysctl.path_of(key).write_text("128")
        surroundings.thresholds[key] = 128
    yield
    for key, before in high.items():
        surroundings.thresholds[key] = before
        sysctl.path_of(key).write_text(str(before))


@pytest.mark.usefixtures("low_thresholds")
@pytest.mark.parametrize("line", RAISING)
def test_thresholds_after_up_was_killed(shared_ground: Ground, line: int) -> None:
    """A lab that raises neighbour thresholds dies in `up`; they are as before after `reap`."""
    code, said = shared_ground.up(lab=LARGER, crash_after=line)
    assert code == -signal.SIGKILL, said
    assert raised_by(shared_ground.name) == (line > lines_of_changes(LARGER))
    shared_ground.reap()
    shared_ground.assert_spotless()


@pytest.mark.usefixtures("low_thresholds")
@pytest.mark.parametrize("line", LOWERING)
def test_thresholds_after_down_was_killed(shared_ground: Ground, line: int) -> None:
    """The same in `down`."""
    code, said = shared_ground.up(lab=LARGER)
    assert code == 0, said
    assert raised_by(shared_ground.name)
    code, said = shared_ground.run("down", shared_ground.name, crash_after=line)
    assert code == -signal.SIGKILL, said
    shared_ground.reap()
    shared_ground.assert_spotless()


def raised_by(name: str) -> bool:
    """Whether the first thresholds have room for the larger lab on its account."""
    need = NEIGHBORS_PER_LINK * len(fabric_of(LARGER).links)
    wanted = ledger()
    keys = [key for key in NEIGHBOR_KEYS if key.endswith("1")]
    return all(
        key in wanted and wanted[key]["wants"].get(name) == need and sysctl.read(key) >= need > 128 for key in keys
    )
