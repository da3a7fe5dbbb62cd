"""TROUBLE-1: what goes wrong with containers is said in one message, and leaves nothing once `reap` has run.

Most of it happens to a Docker engine of the test's own, whose storage is a small file system in memory: it is
stopped in the middle of a deployment, and its disk is filled, which nobody may do to the workstation's.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from labs import engine
from labs.testing import wait_until
from labs.undo import NETNS_DIR, SSH_CONFIG_DIR

RAILBED = Path(sys.executable).with_name("railbed")
IMAGES = ("railbed/frr", "railbed/host")
LAB = "incast_8"  # one switch and eight hosts: a deployment with something left to do whenever it is interrupted
WITHIN_S = 120.0
STORAGE = "900m"  # both images take some 350 MB, unpacked once


@dataclass(frozen=True)
class Desk:
    """A folder, an index and an engine with which commands are called, for a lab of one name."""

    cwd: Path
    name: str
    env: dict[str, str] = field(default_factory=dict)

    def start(self, *argv: str, **env: str) -> subprocess.Popen[str]:
        """Start a command, in a session of its own."""
        return subprocess.Popen(
            [RAILBED, *argv],
            cwd=self.cwd,
            env={**os.environ, "RAILBED_STATE_DIR": str(self.cwd / "state"), **self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )

    def run(self, *argv: str, **env: str) -> tuple[int, str]:
        """Run one to its end: (exit code, what it said)."""
        child = self.start(*argv, **env)
        said, _ = child.communicate(timeout=WITHIN_S)
        return child.returncode, said

    def up(self, lab: str = LAB, *more: str, **env: str) -> tuple[int, str]:
        """Bring the lab up, without waiting for convergence."""
        return self.run("up", lab, "--name", self.name, "--backend", "containerlab", "--no-wait", *more, **env)

    def remains(self) -> list[str]:
        """Whatever of the lab is still there."""
        at = self.env.get("DOCKER_HOST", engine.DEFAULT)
        found = [f"container {one.name}" for one in engine.containers({"railbed-lab": self.name}, at)]
        found += [f"network {one['Name']}" for one in engine.client(at).api.networks() if self.name in one["Name"]]
        found += [f"name {path}" for path in NETNS_DIR.glob(f"clab-*{self.name}-*")]
        found += [f"file {path}" for path in SSH_CONFIG_DIR.glob(f"clab-{self.name}*")]
        found += ["entries in /etc/hosts"] if f"CLAB-{self.name}-" in Path("/etc/hosts").read_text() else []
        found += [f"in the index: {path}" for path in (self.cwd / "state").rglob("*")]
        return found


def assert_one_message(said: str, *words: str) -> None:
    """One message of ours, no traceback, with all of `words`."""
    messages = [line for line in said.splitlines() if line.startswith("railbed: ")]
    assert len(messages) == 1, said
    assert "Traceback" not in said
    assert "internal error" not in said
    for word in words:
        assert word in said, said


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path, f"trouble-{secrets.token_hex(3)}")
    yield made
    made.run("down", made.name)


def test_an_image_that_is_not_here(desk: Desk) -> None:
    """Ours are built, not fetched; the message says how. Nothing is started."""
    code, said = desk.up(LAB, "--image", "host=railbed/no-such")
    assert code == 2
    assert_one_message(said, "image railbed/no-such of host1 is not here", "make images", "--image host=NAME")
    assert desk.remains() == []


def test_an_image_that_no_registry_has(desk: Desk) -> None:
    """A registry that does not answer, here on a port where nobody listens."""
    code, said = desk.up(LAB, "--image", "frr=localhost:1/no/such:1")
    assert code == 2
    assert_one_message(said, "localhost:1/no/such")
    assert desk.remains() == []


def test_a_subnet_in_use(desk: Desk) -> None:
    """The lab file asks for a management subnet that a network, then a route, already has; both are named."""
    lab = desk.cwd / "lab.yaml"
    lab.write_text(f"fabric: {LAB}\nmanagement: {{subnet: 172.30.251.0/27}}\n")
    network = f"{desk.name}-theirs"
    subprocess.run(["docker", "network", "create", "--subnet", "172.30.251.0/24", network], check=True, stdout=-3)
    try:
        code, said = desk.up(str(lab))
    finally:
        subprocess.run(["docker", "network", "rm", network], check=True, stdout=-3)
    assert code == 2
    assert_one_message(said, "management subnet 172.30.251.0/27 is in use", f"docker network {network}")
    subprocess.run(["ip", "route", "add", "172.30.251.16/30", "dev", "lo"], check=True)
    try:
        code, said = desk.up(str(lab))
    finally:
        subprocess.run(["ip", "route", "del", "172.30.251.16/30", "dev", "lo"], check=True)
    assert code == 2
    assert_one_message(said, "management subnet 172.30.251.0/27 is in use", "a route by lo has 172.30.251.16/30")
    assert desk.remains() == []
    code, said = desk.up(str(lab))
    assert code == 0, f"the same file works once nobody has the subnet: {said}"


def test_a_node_that_dies_at_start(desk: Desk) -> None:
    """A switch whose image has no FRR in it: its name, its status and its last words."""
    code, said = desk.up(LAB, "--image", "frr=railbed/host")
    assert code == 2
    assert_one_message(said, "leaf1: its container ended with status 1", "railbed/host", "/run/railbed/boot exited")
    assert desk.remains() == []


def test_a_container_of_that_name(desk: Desk) -> None:
    """Somebody else's container is called like one of ours: refused before anything is made, and it stays."""
    theirs = f"clab-{desk.name}-leaf1"
    subprocess.run(["docker", "create", "--name", theirs, "railbed/host"], check=True, stdout=-3)
    try:
        code, said = desk.up()
        assert code == 2
        assert_one_message(said, f"there is a container {theirs}", "another --name")
        assert engine.inspect(theirs) is not None
    finally:
        subprocess.run(["docker", "rm", "-f", theirs], check=True, stdout=-3)
    assert desk.remains() == []


def test_a_sidecar_in_a_nodes_network_survives(desk: Desk) -> None:
    """A container of somebody's that shares a node's network is not ended with the lab; a program of ours there is."""
    code, said = desk.up("pair")
    assert code == 0, said
    node, sidecar = f"clab-{desk.name}-host1", f"{desk.name}-sidecar"
    run = ("docker", "run", "-d", "--name", sidecar, "--network", f"container:{node}", "railbed/host", "sleep", "600")
    subprocess.run(run, check=True, stdout=-3)
    ours = subprocess.Popen(["nsenter", f"--net={NETNS_DIR / node}", "--", "sleep", "600"])
    try:
        code, said = desk.run("down", desk.name)
        assert code == 0, said
        found = engine.inspect(sidecar)
        assert found is not None
        assert found.state == "running"
        assert ours.wait(10) == -signal.SIGKILL
    finally:
        ours.kill()
        subprocess.run(["docker", "rm", "-f", sidecar], check=True, stdout=-3)
    assert desk.remains() == []


def test_an_interrupt_at_the_terminal(desk: Desk) -> None:
    """Ctrl-C goes to everything in the foreground: containerlab is ended by us, in order, and nothing is left."""
    hosts = Path("/etc/hosts").read_text()
    child = desk.start("up", LAB, "--name", desk.name, "--backend", "containerlab")
    begun = wait_until(
        "a container", lambda: len(engine.containers({"railbed-lab": desk.name})), lambda n: n >= 1, within=60.0
    )
    assert begun.held
    os.killpg(child.pid, signal.SIGINT)
    said, _ = child.communicate(timeout=WITHIN_S)
    assert child.returncode == 130, said
    assert desk.remains() == []
    assert Path("/etc/hosts").read_text() == hosts


def test_a_containerlab_that_is_too_old(desk: Desk) -> None:
    """The version found, the one needed, and the command that gets it."""
    old = desk.cwd / "containerlab"
    old.write_text("#!/bin/sh\necho '    version: 0.78.1'\n")
    old.chmod(0o755)
    code, said = desk.up(RAILBED_CONTAINERLAB=str(old))
    assert code == 2
    assert_one_message(said, f"{old} is 0.78.1, 0.79.0 or newer is needed", "make setup-containerlab")
    assert desk.remains() == []


def test_no_rights_on_the_socket(desk: Desk) -> None:
    """The engine's socket is another user's: said as it is, before anything else is looked at.

    Played by a socket of somebody else's and a root that respects permissions: not every user can read this folder.
    """
    path = desk.cwd / "theirs.sock"
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.bind(str(path))
        theirs.listen()
        os.chown(path, 65534, 65534)
        path.chmod(0o600)
        limited = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--")
        done = subprocess.run(
            [*limited, RAILBED, "up", LAB, "--name", desk.name, "--backend", "containerlab"],
            cwd=desk.cwd,
            env={**os.environ, "RAILBED_STATE_DIR": str(desk.cwd / "state"), "DOCKER_HOST": f"unix://{path}"},
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )
    assert done.returncode == 2
    assert_one_message(done.stderr, "permission denied", str(path), "sudo")
    assert desk.remains() == []


@dataclass
class OwnEngine:
    """A Docker engine of the test's own, with its storage on a file system of its own."""

    folder: Path
    child: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where it answers."""
        return f"unix://{self.folder}/docker.sock"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.child = subprocess.Popen(
            [
                # A network of its own: told to have no bridge, an engine removes the docker0 it finds.
                *(
                    "unshare",
                    "--net",
                    "--",
                    "dockerd",
                    "--host",
                    self.address,
                    "--data-root",
                    str(self.folder / "data"),
                ),
                *("--exec-root", str(self.folder / "exec"), "--pidfile", str(self.folder / "pid")),
                *("--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-masq=false"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "log").open("ab"),
            start_new_session=True,
        )
        engine.client.cache_clear()
        answers = wait_until("it answers", lambda: engine.missing(self.address), lambda why: why is None, within=60.0)
        assert answers.held, (self.folder / "log").read_text()[-2000:]

    def end(self, number: int) -> None:
        """End it by a signal, and what it has started for itself; containers it leaves are ended too."""
        assert self.child is not None
        self.child.send_signal(number)
        self.child.wait(60)

    def load(self, images: tuple[str, ...]) -> None:
        """Give it images of the workstation's engine."""
        taken = subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE)
        subprocess.run(["docker", "--host", self.address, "load", "-q"], stdin=taken.stdout, check=True, stdout=-3)
        assert taken.wait(60) == 0


@pytest.fixture(scope="module")
def own_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnEngine]:
    folder = tmp_path_factory.mktemp("engine")
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={STORAGE}", "none", folder], check=True)
    made = OwnEngine(folder)
    try:
        made.start()
        made.load(IMAGES)
        yield made
    finally:
        if made.child is not None and made.child.poll() is None:
            made.end(signal.SIGTERM)
        engine.client.cache_clear()
        subprocess.run(["umount", "-R", "-l", folder], check=True)


@pytest.fixture
def own_desk(tmp_path: Path, own_engine: OwnEngine) -> Iterator[Desk]:
    made = Desk(tmp_path, f"trouble-{secrets.token_hex(3)}", {"DOCKER_HOST": own_engine.address})
    yield made
    made.run("down", made.name)


def test_the_own_engine_will_do(own_desk: Desk) -> None:
    """The control: undisturbed, the same command succeeds there, and `remains` sees what it has made."""
    code, said = own_desk.up()
    assert code == 0, said
    seen = {what.split()[0] for what in own_desk.remains()}
    written = {"file"} if SSH_CONFIG_DIR.is_dir() else set()  # by containerlab, where there is ssh
    assert {"container", "network", "name", "entries", "in"} | written <= seen
    code, said = own_desk.run("down", own_desk.name)
    assert code == 0, said
    assert own_desk.remains() == []


def test_the_engine_stops_in_the_middle(own_engine: OwnEngine, own_desk: Desk) -> None:
    """It is stopped while containers are made: one message; once it answers again `reap` leaves nothing."""
    child = own_desk.start("up", LAB, "--name", own_desk.name, "--backend", "containerlab")
    labels = {"railbed-lab": own_desk.name}
    begun = wait_until(
        "three containers", lambda: len(engine.containers(labels, own_engine.address)), lambda n: n >= 3, within=60.0
    )
    assert begun.held
    own_engine.end(signal.SIGTERM)
    said, _ = child.communicate(timeout=WITHIN_S)
    assert child.returncode == 2, said
    assert_one_message(said, "the Docker engine", "railbed reap")
    code, said = own_desk.run("reap")
    assert code == 2, "reap cannot have undone it without an engine"
    assert_one_message(said, "answer", "start docker")
    own_engine.start()
    assert own_desk.remains() != []
    code, said = own_desk.run("reap")
    assert code == 0, said
    assert own_desk.remains() == []


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """Fill a file system to its last block for the length of a block."""
    filler = folder / "filler"
    free = shutil.disk_usage(folder).free
    subprocess.run(["fallocate", "-l", str(free), filler], check=True)
    try:
        yield
    finally:
        filler.unlink()


def test_the_engines_disk_is_full(own_engine: OwnEngine, own_desk: Desk) -> None:
    """The engine has no room for a container: said as it is, with the remedy."""
    with full(own_engine.folder):
        code, said = own_desk.up()
    assert code == 2
    assert_one_message(said, "no space left on device", "make room on the disk")
    own_desk.run("reap")
    assert own_desk.remains() == []


def test_the_run_directorys_disk_is_full(desk: Desk) -> None:
    """There is no room for the lab's own files."""
    folder = desk.cwd / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], check=True)
    try:
        small = Desk(folder, desk.name, {"RAILBED_STATE_DIR": str(desk.cwd / "state")})
        code, said = small.up()
        assert code == 2
        assert_one_message(said, "No space left on device", "make room")
        small.run("reap")
    finally:
        subprocess.run(["umount", folder], check=True)
    assert desk.remains() == []
