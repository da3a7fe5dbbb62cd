"""What the fabric tests of one run share: the backend they run on, and how its labs show on this workstation.

Every test of a run is played by one backend: the one that --lab-backend (RAILBED_LAB_BACKEND) names, by default what
railbed itself would pick. What differs between backends is said here, once.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import pytest

from labs import engine, index, sysctl
from labs.backends.workstation import NEIGHBOR_KEYS
from labs.errors import CapabilityMissing
from labs.kinds import KINDS
from labs.lab import Request, choose_backend
from labs.load import load_lab
from labs.testing import wait_until
from labs.undo import start_time
from topologies.builders import leaf_spine
from topologies.fabric import Fabric

RAILBED = Path(sys.executable).with_name("railbed")
NETNS_DIR = Path("/run/netns")
HOSTS = Path("/etc/hosts")
SSH_CONFIG_DIR = Path("/etc/ssh/ssh_config.d")
REVERSE_PATH_KEYS = ("net.ipv4.conf.all.rp_filter", "net.ipv4.conf.default.rp_filter")  # containerlab sets them to 0
WITHIN_S = 60.0
# What others on this workstation are making this moment has found its place by then.
PLACED_S = 5.0
# A lab that needs more neighbours than the kernel's own first threshold, 128, with as few nodes as can be.
LARGER = leaf_spine(1, 1, 1, parallel_links=24)
# The user whom a run directory belongs to, when root runs railbed for one.
USER_ID = 54321


@dataclass(frozen=True)
class Played:
    """How the labs of one backend show on this workstation.

    `lab` is the smallest of the catalog that shows everything there is to see; `lines_of_changes` is how many lines
    `up` writes before it makes anything, and `down` in all; `lines_of_up` how many `up` writes in all; `made_after`
    how many nodes there may be once line `n` of `up` is written; `seen` the checks in which a running lab shows.
    """

    backend: str
    lab: str
    netns: str  # a glob, for a lab's name
    lines_of_changes: Callable[[Fabric], int]
    lines_of_up: Callable[[Fabric], int]
    made_after: Callable[[Fabric, int], range]
    traces: Callable[[str], list[str]]
    bystanders: Callable[[str, ExitStack], Callable[[], object]]
    seen: frozenset[str]

    @property
    def fabric(self) -> Fabric:
        """The design behind `lab`."""
        return load_lab(self.lab, seed=0, kinds=KINDS)[1]

    def namespaces(self, name: str) -> dict[str, int]:
        """The network namespaces of a lab's nodes, with what identifies each."""
        found = {}
        for path in NETNS_DIR.glob(self.netns.format(name)):
            with suppress(FileNotFoundError):  # of a process that is gone
                found[path.name] = path.stat().st_ino
        return found

    def points(self) -> Mapping[str, tuple[int, ...]]:
        """The lines after which `up` and `down` are killed, by the name of the argument that takes one."""
        changes, larger, thresholds = (
            self.lines_of_changes(self.fabric),
            self.lines_of_changes(LARGER),
            len(NEIGHBOR_KEYS),
        )
        return {
            "up_line": tuple(range(1, self.lines_of_up(self.fabric) + 1)),
            "down_line": tuple(range(1, changes + 1)),
            # Where the thresholds' own fate may differ: journaled only; raised, nothing else known; all known.
            "raising_line": (2, larger, larger + 1, self.lines_of_up(LARGER)),
            # They are undone last: before them, in their midst, after them.
            "lowering_line": (larger - thresholds, larger - thresholds + 1, larger),
        }


def _netns_bystanders(name: str, stack: ExitStack) -> Callable[[], object]:
    return _process_in(f"railbed.{name}x.leaf1", name, stack)


def _process_in(netns: str, name: str, stack: ExitStack) -> Callable[[], object]:
    """A namespace that is not ours, with a name that begins like ours, and a process in it with a token like ours."""
    subprocess.run(["ip", "netns", "add", netns], check=True)
    stack.callback(subprocess.run, ["ip", "netns", "del", netns], check=True)
    process = subprocess.Popen(
        ["ip", "netns", "exec", netns, "sleep", "infinity"],
        env={"PATH": os.environ["PATH"], "RAILBED_TOKEN": f"{name}x:0123456789abcdef"},
    )
    stack.callback(process.wait)
    stack.callback(process.kill)
    inside = Path(f"/proc/{process.pid}/ns/net")
    there = (NETNS_DIR / netns).stat().st_ino
    wait_until("the bystander is in its namespace", lambda: inside.stat().st_ino == there, bool, within=WITHIN_S)
    return lambda: (process.poll(), (NETNS_DIR / netns).stat().st_ino, inside.stat().st_ino == there)


def _container_bystanders(name: str, stack: ExitStack) -> Callable[[], object]:
    """What others have on a workstation with containers, all of it named like ours: each must stay as it is.

    A container and a network with our lab's label and another token, an image, a namespace, host names, ssh settings.
    """
    other, labels = f"{name}x", ["--label", f"railbed-lab={name}", "--label", f"railbed-token={name}:0123456789abcdef"]
    settings = SSH_CONFIG_DIR / f"clab-{other}.conf"
    docker("network", "create", *labels, f"railbed-{other}")
    stack.callback(docker, "network", "rm", f"railbed-{other}")
    docker("tag", "railbed/host", f"railbed/{other}")
    stack.callback(docker, "rmi", f"railbed/{other}")
    run = ("run", "--detach", "--network", f"railbed-{other}", "--name", f"clab-{other}-leaf1", *labels)
    docker(*run, f"railbed/{other}", "sleep", "infinity")
    stack.callback(docker, "rm", "--force", f"clab-{other}-leaf1")
    with HOSTS.open("a") as out:
        out.write(f"###### CLAB-{other}-START ######\n172.24.0.9\tclab-{other}-leaf1\t# Kind: linux\n")
        out.write(f"###### CLAB-{other}-END ######\n")
    stack.callback(_take_out_of_hosts, other)
    settings.parent.mkdir(exist_ok=True)
    settings.write_text(f"Host clab-{other}-leaf1\n  User admin\n")
    stack.callback(settings.unlink)
    process = _process_in(f"clab-{other}-leaf2", name, stack)

    def seen() -> object:
        facts = ("{{.Id}} {{.State.Pid}} {{.State.StartedAt}} {{.RestartCount}}", f"clab-{other}-leaf1")
        return (
            docker("inspect", "--format", *facts),
            docker("network", "inspect", "--format", "{{.Id}} {{len .Containers}}", f"railbed-{other}"),
            docker("image", "inspect", "--format", "{{.Id}} {{.RepoTags}}", f"railbed/{other}"),
            hosts_block(other),
            [line for line in HOSTS.read_text().splitlines() if "clab-" not in line and "CLAB-" not in line],
            settings.read_text(),
            process(),
        )

    return seen


def docker(*argv: str) -> str:
    """What the docker command says."""
    return subprocess.run(["docker", *argv], check=True, capture_output=True, text=True).stdout


def hosts_block(name: str) -> str:
    """A lab's block in /etc/hosts, with its marks."""
    begin, end = f"###### CLAB-{name}-START ######\n", f"###### CLAB-{name}-END ######\n"
    _, begins, rest = HOSTS.read_text().partition(begin)
    inside, ends, _ = rest.partition(end)
    return f"{begins}{inside}{ends}" if begins else ""


def _take_out_of_hosts(name: str) -> None:
    HOSTS.write_text(HOSTS.read_text().replace(hosts_block(name), ""))


def _container_traces(name: str) -> list[str]:
    """What containerlab and the engine have of a lab, in words."""
    api = engine.client(engine.address()).api
    ours = {
        (one["Id"][:12], one["Names"][0], one["State"])
        for wanted in ({"label": f"railbed-lab={name}"}, {"name": f"^/clab-{name}-"})
        for one in api.containers(all=True, filters=wanted)
        if one["Names"][0] != f"/clab-{name}x-leaf1"
    }
    found = [f"container {' '.join(one)}" for one in sorted(ours)]
    found += [f"network {one['Id'][:12]}" for one in api.networks() if one["Name"] == f"railbed-{name}"]
    # Links, which dangle once their process is gone, and the namespaces of stopped nodes.
    found += [
        f"namespace {path.name}" for path in NETNS_DIR.iterdir() if path.name.startswith(f"clab-park-clab-{name}-")
    ]
    found += [f"host names {line}" for line in HOSTS.read_text().splitlines() if f"-{name}-" in line]
    found += [f"ssh {path}" for path in SSH_CONFIG_DIR.glob(f"*clab-{name}.*")]
    return found + [
        f"temporary file {path}" for path in Path("/tmp/.clab").rglob(f"*{name}*") if f"{name}x" not in path.name
    ]


# FRR on six switches starts in a second in namespaces. In containers three nodes are enough: containerlab makes them
# at the same time, and convergence, for which more switches would be needed, changes nothing on the workstation.
PLAYED = {
    "netns": Played(
        backend="netns",
        lab="clos_frr",
        netns="railbed.{}.*",
        # The processes, the thresholds, a namespace a node; then one line a node after it has booted.
        lines_of_changes=lambda fabric: 1 + len(NEIGHBOR_KEYS) + len(fabric.nodes),
        lines_of_up=lambda fabric: 1 + len(NEIGHBOR_KEYS) + 2 * len(fabric.nodes),
        made_after=lambda fabric, line: (
            range(1) if line <= 1 + len(NEIGHBOR_KEYS) + len(fabric.nodes) else _exactly(len(fabric.nodes))
        ),
        traces=lambda _: [],
        bystanders=_netns_bystanders,
        seen=frozenset({"namespace", "process", "mount", "in"}),
    ),
    "containerlab": Played(
        backend="containerlab",
        lab="pair",
        netns="clab-{}-*",
        # The processes, the thresholds, the network, containerlab's traces, the containers.
        lines_of_changes=lambda _: 1 + len(NEIGHBOR_KEYS) + 3,
        # Then the recorder, containerlab's call, and that it has come to its end.
        lines_of_up=lambda _: 1 + len(NEIGHBOR_KEYS) + 6,
        made_after=lambda fabric, line: (
            range(1)
            if line <= 1 + len(NEIGHBOR_KEYS) + 4
            else range(len(fabric.nodes) + 1)  # the call has begun, and goes on by itself
            if line <= 1 + len(NEIGHBOR_KEYS) + 5
            else _exactly(len(fabric.nodes))
        ),
        traces=_container_traces,
        bystanders=_container_bystanders,
        seen=frozenset({"namespace", "process", "container", "network", "host", "ssh", "interface", "rule", "in"}),
    ),
}


def _exactly(count: int) -> range:
    return range(count, count + 1)


@cache
def _played(asked: str) -> Played:
    return PLAYED[choose_backend(Request("clos_frr", backend=asked))[0].name]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give tests of crash points the lines of this run's backend."""
    wanted = {"up_line", "down_line", "raising_line", "lowering_line"} & set(metafunc.fixturenames)
    for name in wanted:
        metafunc.parametrize(name, _played(metafunc.config.getoption("--lab-backend")).points()[name])


@pytest.fixture(scope="session")
def played(request: pytest.FixtureRequest) -> Played:
    """The backend of this run."""
    return _played(request.config.getoption("--lab-backend"))


@pytest.fixture(scope="session")
def in_containers(played: Played) -> None:
    """For a test of what only containers have."""
    if played.backend != "containerlab":
        raise CapabilityMissing("containers", f"backend {played.backend} has none")


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
        """The command that brings the lab up."""
        return ("up", lab or self.played.lab, "--name", self.name, "--backend", self.played.backend)

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
