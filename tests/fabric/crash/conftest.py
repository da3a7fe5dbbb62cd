"""Where a crash happens, and what is looked at afterwards."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from labs import engine, index, sysctl
from labs.backends.workstation import NEIGHBOR_KEYS
from labs.testing import wait_until
from labs.undo import start_time

if TYPE_CHECKING:
    from tests.fabric.conftest import Played

RAILBED = Path(sys.executable).with_name("railbed")
NETNS_DIR = Path("/run/netns")
REVERSE_PATH_KEYS = ("net.ipv4.conf.all.rp_filter", "net.ipv4.conf.default.rp_filter")  # containerlab sets them to 0
WITHIN_S = 60.0
# What others on this workstation are making this moment has found its place by then.
PLACED_S = 5.0
# The user whom a run directory belongs to, when root runs railbed for one.
USER_ID = 54321


@dataclass
class Ground:
    """Where one crash happens: a folder, an index and a lab's name of its own."""

    played: Played
    cwd: Path
    name: str
    state: Path | None
    before: Surroundings
    inodes: set[int] = field(default_factory=set)

    def railbed(self, *argv: str, crash_after: int = 0, **more: str) -> subprocess.Popen[str]:
        """Start a command, with `more` in its environment, that may be killed, or by itself after a journal line."""
        env = {**os.environ, "SUDO_UID": str(USER_ID), "SUDO_GID": str(USER_ID), **more}
        if self.state:
            env["RAILBED_STATE_DIR"] = str(self.state)
        if crash_after:
            env["RAILBED_CRASH_AFTER"] = str(crash_after)
        quiet = partial(subprocess.Popen, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return quiet([RAILBED, *argv], cwd=self.cwd, env=env, text=True, start_new_session=True)

    def run(self, *argv: str, crash_after: int = 0, **more: str) -> tuple[int, str]:
        """The same, to its end: (exit code, what it said)."""
        child = self.railbed(*argv, crash_after=crash_after, **more)
        said, _ = child.communicate(timeout=WITHIN_S)
        return child.returncode, said

    def up_argv(self, lab: str = "") -> tuple[str, ...]:
        """The command that brings the lab up, without a soft ASIC: test_crash_soft_asic.py has its points."""
        what = ("up", lab or self.played.lab, "--name", self.name, "--backend", self.played.backend)
        return (*what, "--profile", "none")

    def up(self, *, lab: str = "", wait: bool = False, crash_after: int = 0, **more: str) -> tuple[int, str]:
        """Bring the lab up; convergence writes no journal line, so most points do without it."""
        return self.run(*self.up_argv(lab), *(() if wait else ("--no-wait",)), crash_after=crash_after, **more)

    def reap(self) -> None:
        """Note which namespaces there are, then reap."""
        self.inodes |= set(self.played.namespaces(self.name).values())
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
        found = [f"namespace {path.name}" for path in NETNS_DIR.glob(self.played.netns.format(self.name))]
        found += self.played.traces(self.name)
        found += [f"process {pid} ({what})" for pid, what in processes_of(self.name, self.inodes).items()]
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        found += [f"mount {line}" for line in mounts if f".{self.name}." in line or str(self.cwd) in line]
        found += self.before.lasting()
        found += [f"{key} is {value}" for key, value in self.before.unsettled().items()]
        found += [f"file {path}" for path in self.cwd.iterdir() if path.name != ".labs"]
        found += [f"not the user's: {path}" for path in self.cwd.rglob("*") if path.lstat().st_uid != USER_ID]
        if self.state:
            found += [f"in the index: {path}" for path in (self.state, *self.state.rglob("*")) if path.exists()]
        else:
            found += [f"in the index: {path}" for path in index.state_dir().rglob(f"*{self.name}*")]
            found += [f"in the ledger: {key}" for key, entry in ledger().items() if self.name in entry["wants"]]
        return found

    def assert_spotless(self) -> None:
        """Nothing of the lab is left, and the bystanders have not noticed."""
        assert self.remains() == []
        assert self.before.bystanders() == self.before.as_they_were, "a bystander was touched"


@dataclass(frozen=True)
class Surroundings:
    """The workstation before the first crash."""

    bystanders: Callable[[], object]
    as_they_were: object
    netdevs: frozenset[str]
    rules: frozenset[str]
    reverse_path: dict[str, int]
    thresholds: dict[str, int]

    def lasting(self) -> list[str]:
        """Interfaces and firewall rules that came since, are of no network that somebody else has, and stay.

        Somebody else's may be anywhere while it is being made; ours would stay for good.
        """
        first = self._unplaced()
        look = wait_until(
            "others' are placed", lambda: first & self._unplaced(), lambda left: not left, within=PLACED_S
        )
        return sorted(look.last)

    def _unplaced(self) -> set[str]:
        folder = Path("/sys/class/net")
        bridges = {path.parent.name for path in folder.glob("*/bridge")} - bridges_of_ours()
        placed = bridges | {path.name for bridge in bridges for path in (folder / bridge / "brif").glob("*")}
        if containerlab_of_others():
            placed |= {path.name for path in folder.glob("clab-*")}  # cables in its hands
        found = {f"interface {netdev}" for netdev in netdevs() - self.netdevs - placed}
        return found | {f"rule {line}" for line in rules() - self.rules if not bridges & set(line.split())}

    def unsettled(self) -> dict[str, int]:
        """Settings that are neither as before nor what labs beside the test need, by now."""
        wanted = ledger()
        allowed = {key: {before} for key, before in self.reverse_path.items()}
        for key, before in self.thresholds.items():
            entry = wanted.get(key)
            allowed[key] = {before, int(entry["before"]), *entry["ours"]} if entry else {before}
        return {key: value for key in allowed if (value := sysctl.read(key)) not in allowed[key]}


_ours: set[str] = set()  # labs of these tests


def bridges_of_ours() -> set[str]:
    """The bridges of the networks of our labs."""
    if engine.missing():
        return set()
    found = engine.client(engine.address()).api.networks()
    return {f"br-{one['Id'][:12]}" for one in found if one["Name"].removeprefix("railbed-") in _ours}


def containerlab_of_others() -> bool:
    """Whether a containerlab works in the workstation's own network, as ours never does."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (folder / "comm").read_text() == "containerlab\n" and (folder / "ns/net").samefile("/proc/self/ns/net"):
                return True
    return False


def ledger() -> dict[str, dict]:  # type: ignore[type-arg]  # JSON
    """The workstation's ledger of raised settings."""
    return sysctl._load()


def netdevs() -> frozenset[str]:
    """The workstation's own interfaces."""
    return frozenset(path.name for path in Path("/sys/class/net").iterdir())


def rules() -> frozenset[str]:
    """The workstation's firewall rules."""
    found = set()
    for save in ("iptables-save", "ip6tables-save"):
        with suppress(FileNotFoundError):  # not installed
            said = subprocess.run([save], capture_output=True, text=True, check=True).stdout
            found |= {f"{save} {line}" for line in said.splitlines() if line.startswith("-A")}
    return frozenset(found)


def processes_of(name: str, inodes: set[int]) -> dict[int, str]:
    """Living processes that carry the lab's start token or are in one of its namespaces, with what they run."""
    token = f"RAILBED_TOKEN={name}:".encode()
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            carries = any(word.startswith(token) for word in (folder / "environ").read_bytes().split(b"\0"))
            inside = (folder / "ns/net").stat().st_ino in inodes
            if (carries or inside) and start_time(int(folder.name)) is not None:
                found[int(folder.name)] = (folder / "comm").read_text().strip()
    return found


@pytest.fixture(scope="module")
def lab_name() -> str:
    return f"crash-{secrets.token_hex(3)}"


@pytest.fixture(scope="module")
def surroundings(played: Played, lab_name: str) -> Iterator[Surroundings]:
    _ours.add(lab_name)
    with ExitStack() as stack:
        bystanders = played.bystanders(lab_name, stack)
        wanted = ledger()
        thresholds = {key: int(wanted[key]["before"]) if key in wanted else sysctl.read(key) for key in NEIGHBOR_KEYS}
        reverse_path = {key: sysctl.read(key) for key in REVERSE_PATH_KEYS}
        yield Surroundings(bystanders, bystanders(), netdevs(), rules(), reverse_path, thresholds)


@pytest.fixture
def larger(tmp_path: Path, played: Played) -> str:
    """The file of `Played.larger`."""
    path = tmp_path / "larger.yaml"
    path.write_text(played.larger_file)
    return str(path)


@pytest.fixture
def ground(tmp_path: Path, played: Played, lab_name: str, surroundings: Surroundings) -> Iterator[Ground]:
    """A crash's ground with an index of its own; whatever a failed test leaves there is taken down."""
    with _ground(Ground(played, tmp_path / "cwd", lab_name, tmp_path / "state", surroundings)) as made:
        yield made


@pytest.fixture
def shared_ground(tmp_path: Path, played: Played, lab_name: str, surroundings: Surroundings) -> Iterator[Ground]:
    """The same with the workstation's index and ledger."""
    with _ground(Ground(played, tmp_path / "cwd", lab_name, None, surroundings)) as made:
        yield made


@contextmanager
def _ground(made: Ground) -> Iterator[Ground]:
    made.cwd.mkdir()
    os.chown(made.cwd, USER_ID, USER_ID)
    yield made
    if ((made.state or index.state_dir()) / "labs" / made.name).exists():
        made.run("down", made.name)
