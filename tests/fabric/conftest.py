"""What the fabric tests of one run share: the backend they run on, and how its labs show on this workstation.

Every test of a run is played by one backend: the one that --lab-backend (RAILBED_LAB_BACKEND) names, by default what
railbed itself would pick. What differs between backends is said here, once.

`make test` plays a sixth of them on each backend, others every day (tests/conftest.py). `make test-netns`,
`make test-containerlab`, pytest itself and the nightly run play all on each.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from labs import engine, lease
from labs.backends.workstation import NEIGHBOR_KEYS
from labs.dataplane.asic import SoftAsic
from labs.dataplane.load import load_profile
from labs.dataplane.profile import Profile
from labs.errors import CapabilityMissing
from labs.kinds import KINDS
from labs.lab import Lab
from labs.load import load_lab
from labs.request import Request, choose_backend
from labs.testing import wait_until
from topologies.builders import leaf_spine
from topologies.fabric import Fabric

NETNS_DIR = Path("/run/netns")
HOSTS = Path("/etc/hosts")
SSH_CONFIG_DIR = Path("/etc/ssh/ssh_config.d")
WITHIN_S = 60.0

Play = Callable[..., Profile]


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

    @property
    def larger(self) -> Fabric:
        """A fabric that needs more neighbours than the kernel's own first threshold, 128, of as few nodes as can be."""
        return leaf_spine(1, 1, 1, parallel_links=24)

    @property
    def larger_file(self) -> str:
        """The same as a fabric file."""
        return "shape: leaf_spine\nspines: 1\nleaves: 1\nhosts_per_leaf: 1\nparallel_links: 24\n"

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
            self.lines_of_changes(self.larger),
            len(NEIGHBOR_KEYS),
        )
        return {
            "up_line": tuple(range(1, self.lines_of_up(self.fabric) + 1)),
            "down_line": tuple(range(1, changes + 1)),
            # Where the thresholds' own fate may differ: journaled only; raised, nothing else known; all known.
            "raising_line": (2, larger, larger + 1, self.lines_of_up(self.larger)),
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
    for folder in (settings.parent.parent, settings.parent):  # a workstation without ssh has neither
        if not folder.exists():
            folder.mkdir()
            stack.callback(folder.rmdir)
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


# Three nodes are enough. In namespaces one more is one more line of a kind that is there three times; in containers
# they are made at the same time. Convergence, for which more switches were needed, changes nothing on the workstation.
PLAYED = {
    "netns": Played(
        backend="netns",
        lab="pair",
        netns="railbed.{}.*",
        # The processes, the thresholds, a namespace a node; then the Recorder, and one line a node that has booted.
        lines_of_changes=lambda fabric: 1 + len(NEIGHBOR_KEYS) + len(fabric.nodes),
        lines_of_up=lambda fabric: 2 + len(NEIGHBOR_KEYS) + 2 * len(fabric.nodes),
        made_after=lambda fabric, line: (
            range(1) if line <= 2 + len(NEIGHBOR_KEYS) + len(fabric.nodes) else _exactly(len(fabric.nodes))
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
        # Then the Recorder, containerlab's call, and that it has come to its end.
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


@pytest.fixture
def play(lab: Lab, asic: SoftAsic, tmp_path: Path) -> Iterator[Play]:
    """``play(TEXT, rates={…})``: the lab plays the profile of this YAML for the length of the test.

    Links have the rates of the design, but for those in `rates`.
    """
    before, designed = asic.profile, {link.name: link.rate_bps for link in lab.fabric.links}

    def turn(text: str, rates: Mapping[str, int] | None = None) -> Profile:
        path = tmp_path / "variant.yaml"
        path.write_text(text)
        profile = load_profile(str(path))
        with lease.changing(lab.name, "another profile"):
            asic.apply(profile, rates={**designed, **(rates or {})})
        return profile

    yield turn
    with lease.changing(lab.name, "its own profile"):
        asic.apply(before, rates=designed)


@pytest.fixture
def note(rundir: Path) -> Callable[[object], None]:
    """Keep what was measured, in the test's folder and its output: the run directory is what can be compared later."""

    def write(what: object) -> None:
        sys.stdout.write(f"{what}\n")
        with (rundir / "measured.txt").open("a") as out:
            out.write(f"{what}\n")

    return write
