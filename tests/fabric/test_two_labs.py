"""ISOLATION-1: two labs of one fabric, with the same addresses, live side by side and never meet.

      lab a:  spine1 spine2            lab b:  spine1 spine2         same design, same addresses, same AS numbers;
              leaf1 … leaf4                    leaf1 … leaf4         other names, seeds, namespaces, run directories
              host1 … host8                    host1 … host8     in containers also management networks

Both labs of this module stand in one index of the test's own, so that labs beside the test cannot take part.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from labs import engine
from labs.testing import wait_until

if TYPE_CHECKING:
    from tests.fabric.conftest import Played

RAILBED = Path(sys.executable).with_name("railbed")
LAB = "clos_frr"
NODES = 14
# A lab of this size is up in three seconds, in containers in ten; the rest is room for a workstation that does much
# else.
WITHIN_S = 120.0
# What `up` asks of a lab that is already up takes a second; building it anew takes longer under any load.
QUICK_S = 10.0


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def facts(self) -> Mapping[str, Any]:
        """Its JSON."""
        assert self.out, self.err
        return dict(json.loads(self.out))


@dataclass(frozen=True)
class Desk:
    """A folder and an index in which commands are called, for labs of one backend."""

    cwd: Path
    state: Path
    played: Played

    def start(self, *argv: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        """Start a command."""
        return subprocess.Popen(
            [RAILBED, *argv],
            cwd=self.cwd,
            env={**os.environ, "RAILBED_STATE_DIR": str(self.state)},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def all(self, *commands: tuple[str, ...]) -> list[Said]:
        """Run commands at once, to the end of the last."""
        children = [self.start(*argv) for argv in commands]
        said = [child.communicate(timeout=WITHIN_S) for child in children]
        return [Said(child.returncode, *texts) for child, texts in zip(children, said, strict=True)]

    def run(self, *argv: str) -> Said:
        """Run one command."""
        return self.all(argv)[0]

    def runs_of(self, name: str) -> list[Path]:
        """The run directories of a lab: one each time it was built."""
        return list((self.cwd / ".labs" / name).iterdir())

    def up(self, name: str, *more: str, lab: str = LAB) -> tuple[str, ...]:
        """The command that brings a lab up under a name."""
        return ("up", lab, "--name", name, "--backend", self.played.backend, "--format", "json", *more)

    def namespaces(self, name: str) -> dict[str, int]:
        """The network namespaces of a lab, with what identifies each."""
        return self.played.namespaces(name)

    def address(self, host: str, name: str) -> str:
        """A host's address in the fabric of a lab."""
        said = self.run("exec", host, "--lab", name, "--", "ip", "-4", "-o", "addr", "show", "dev", "eth1")
        return said.out.split()[3].partition("/")[0]


def status(name: str) -> tuple[str, ...]:
    """The command that asks for its state."""
    return ("status", name, "--format", "json")


@pytest.fixture(scope="module")
def names() -> tuple[str, str]:
    mark = secrets.token_hex(3)
    return f"two-{mark}-a", f"two-{mark}-b"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, played: Played) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("two")
    made = Desk(folder, folder / "state", played)
    yield made
    made.run("down", "--all")


@pytest.fixture
def both(desk: Desk, names: tuple[str, str]) -> tuple[Said, Said]:
    """Both labs up, brought up at once; one that is up is only reported."""
    first, second = desk.all(*(desk.up(name) for name in names))
    assert first.code == 0, first.err
    assert second.code == 0, second.err
    return first, second


def test_both_converge_with_the_same_addresses(desk: Desk, names: tuple[str, str], both: tuple[Said, Said]) -> None:
    """Two `up` at once: both ready, one design, two of everything else; and they stay ready."""
    first, second = (said.facts for said in both)
    assert (first["state"], second["state"]) == ("ready", "ready")
    assert (first["lab"], second["lab"]) == names
    addresses = [[(n["name"], n["loopback"], n["asn"]) for n in facts["nodes"]] for facts in (first, second)]
    assert addresses[0] == addresses[1]
    assert first["run_dir"] != second["run_dir"]
    assert first["seed"] != second["seed"], "each lab draws its own seed"
    spaces = [desk.namespaces(name) for name in names]
    assert [len(found) for found in spaces] == [NODES, NODES]
    assert not set(spaces[0].values()) & set(spaces[1].values())
    for said in desk.all(*(status(name) for name in names)):
        assert said.code == 0, said.out
        assert said.facts["bgp"] == {"established": 16, "expected": 16}


@pytest.mark.usefixtures("both")
def test_a_route_of_one_lab_is_none_of_the_other(desk: Desk, names: tuple[str, str]) -> None:
    """A host of one lab loses its leaf; the host of the same name and address in the other lab does not notice."""
    ping = ("--", "fping", "-q", "-c", "1", "-t", "500", desk.address("host1", names[0]))
    assert [said.code for said in desk.all(*(("exec", "host8", "--lab", name, *ping) for name in names))] == [0, 0]
    assert desk.run("exec", "leaf1", "--lab", names[0], "--", "ip", "link", "set", "eth3", "down").code == 0
    lost, kept = desk.all(*(("exec", "host8", "--lab", name, *ping) for name in names))
    assert lost.code == 1, "the cut must be felt in its own lab: fping says 1 for a host that does not answer"
    assert kept.code == 0, kept.err
    degraded, ready = desk.all(*(status(name) for name in names))
    assert (degraded.code, degraded.facts["state"]) == (1, "degraded")
    assert (ready.code, ready.facts["state"]) == (0, "ready")
    assert desk.run("exec", "leaf1", "--lab", names[0], "--", "ip", "link", "set", "eth3", "up").code == 0
    back = wait_until("ready again", lambda: desk.run(*status(names[0])), lambda said: said.code == 0, within=WITHIN_S)
    assert back.held, back


@pytest.mark.usefixtures("both")
def test_the_same_request_is_reported_at_once(desk: Desk, names: tuple[str, str]) -> None:
    """`up` of what is up: 0, the lab as it is, and nothing built."""
    before = desk.namespaces(names[0])
    began = time.monotonic()
    said = desk.run(*desk.up(names[0]))
    took_s = time.monotonic() - began
    assert said.code == 0, said.err
    assert said.facts["state"] == "ready"
    assert took_s < QUICK_S
    assert desk.namespaces(names[0]) == before
    assert len(desk.runs_of(names[0])) == 1


@pytest.mark.usefixtures("both")
@pytest.mark.parametrize("differs", ["seed", "fabric", "file"])
def test_a_different_request_is_refused(desk: Desk, names: tuple[str, str], differs: str) -> None:
    """`up` of a running name with another seed, fabric or file: 2, one message with what to do, the lab untouched."""
    seed = json.loads(desk.run(*status(names[0])).out)["seed"]
    other = desk.cwd / "other.yaml"
    other.write_text("fabric: clos_2x4\nmtu: 1500\n")
    request = {
        "seed": desk.up(names[0], "--seed", str((seed + 1) % 2**32)),
        "fabric": desk.up(names[0], lab="pair"),
        "file": desk.up(names[0], lab=str(other)),
    }[differs]
    before = desk.namespaces(names[0])
    said = desk.run(*request)
    assert said.code == 2
    assert said.out == ""
    assert f"a different lab {names[0]!r} is running" in said.err
    assert f"railbed down {names[0]}" in said.err
    assert "Traceback" not in said.err
    assert desk.namespaces(names[0]) == before
    assert desk.run(*status(names[0])).code == 0


@pytest.mark.usefixtures("both", "in_containers")
def test_each_has_a_management_network_of_its_own(names: tuple[str, str]) -> None:
    """Two networks, two subnets that do not overlap, every node in its own lab's, and names that tell them apart."""
    api = engine.client(engine.address()).api
    networks = [api.inspect_network(f"railbed-{name}") for name in names]
    subnets = [IPv4Network(network["IPAM"]["Config"][0]["Subnet"]) for network in networks]
    assert not subnets[0].overlaps(subnets[1])
    hosts = Path("/etc/hosts").read_text()
    for name, network in zip(names, networks, strict=True):
        inside = {one["Name"] for one in network["Containers"].values()}
        assert len(inside) == NODES
        assert all(one.startswith(f"clab-{name}-") for one in inside)
        assert hosts.count(f"###### CLAB-{name}-START ######") == 1


@pytest.mark.usefixtures("both")
def test_taking_one_down_leaves_the_other(desk: Desk, names: tuple[str, str]) -> None:
    """`down a` while b is under traffic: nothing of a is left; b has lost no packet, is as it was, and is ready."""
    before = desk.namespaces(names[1])
    address = desk.address("host1", names[1])
    # Until its standard input ends; then it says what it has seen.
    ping = f"fping -q -c 1000000 -p 10 -t 500 {address} & echo on; read -r _; kill -INT $!; wait"
    traffic = desk.start("exec", "host8", "--lab", names[1], "--", "sh", "-c", ping, stdin=subprocess.PIPE)
    assert traffic.stdout
    assert traffic.stdout.readline() == "on\n"
    said = desk.run("down", names[0])
    assert said.code == 0, said.err
    words = "".join(traffic.communicate(timeout=WITHIN_S))
    sent, received = (int(word) for word in re.findall(r"xmt/rcv/%loss = (\d+)/(\d+)/", words)[-1])
    assert sent >= 10  # one every 10 ms, and a command in Python takes a tenth of a second to start
    assert sent - received <= 1, words  # one was on its way
    assert desk.namespaces(names[0]) == {}
    assert desk.namespaces(names[1]) == before
    left = desk.run(*status(names[1]))
    assert (left.code, left.facts["state"]) == (0, "ready")
    gone = desk.run(*status(names[0]))
    assert gone.code == 2
    assert f"no lab {names[0]!r} is running" in gone.err


def test_two_at_once_of_one_name_build_it_once(desk: Desk, names: tuple[str, str]) -> None:
    """One of the two builds; the other finds the lab being changed (2), or, when it came late, up (0)."""
    name = f"{names[0]}once"
    said = sorted(desk.all(desk.up(name), desk.up(name)), key=lambda each: each.code)
    assert said[0].code == 0, said[0].err
    assert said[0].facts["state"] == "ready"
    if said[1].code == 0:
        assert said[1].facts["run_dir"] == said[0].facts["run_dir"]
    else:
        assert said[1].code == 2
        assert "is being changed by another railbed command" in said[1].err
        assert "Traceback" not in said[1].err
    assert len(desk.runs_of(name)) == 1
    assert len(desk.namespaces(name)) == NODES
    ends = desk.all(("down", name), ("down", name))
    assert [end.code for end in ends] == [0, 0], [end.err for end in ends]
    assert desk.namespaces(name) == {}
