"""Runs a lab in network namespaces of this workstation: no image, no container engine.

Each node has network, mount, process and host-name namespaces of its own, as a container has, below an init that
ends them all; `ip netns` sees it as ``railbed.<lab>.<node>``. Links are veth pairs born inside the nodes'
namespaces, where the workstation's udev and NetworkManager do not see them.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, ClassVar, cast

from labs import kernel, run_dir, sysctl
from labs.backends.base import Capability, NodeState, Progress
from labs.channels.namespaces import NamespaceChannel
from labs.errors import DeployFailed, NotReady, PreflightFailed
from labs.journal import Change, Entry, Journal
from labs.kinds import recipe
from labs.spec import RenderedLab
from labs.undo import NETNS_DIR, TOKEN_VARIABLE, identity, is_process, kill_until_gone
from topologies import addressing

# Settings of each node's network namespace from its birth, so that interfaces inherit them.
# Addresses here are unique by construction: duplicate address detection would only add a second.
BORN_WITH: Mapping[str, str] = {
    "net.ipv6.conf.all.accept_dad": "0",
    "net.ipv6.conf.default.accept_dad": "0",
    "net.ipv6.conf.default.dad_transmits": "0",
    "net.ipv6.conf.default.router_solicitations": "0",
}
# The neighbour table is one for the whole workstation. A link costs up to six entries (an IPv4, a global and a
# link-local IPv6 neighbour at each end), and the kernel needs room to keep entries it is still resolving.
NEIGHBORS_PER_LINK = 6
NEIGHBOR_KEYS = tuple(f"net.{family}.neigh.default.gc_thresh{n}" for family in ("ipv4", "ipv6") for n in (1, 2, 3))
# Booting is bound by the CPU (daemons starting); twice as many as cores keeps them busy while one waits.
BOOTS_PER_CORE = 2
INIT = "/usr/bin/catatonit"
JOIN = PurePosixPath("/run/railbed/join")
# Configuring takes a tenth of a second; the rest is room for a workstation that does much else.
JOIN_WITHIN = 60.0


class NetnsBackend:
    """See labs.backends.base.Backend."""

    name: ClassVar[str] = "netns"

    def preflight(self, lab: RenderedLab) -> None:
        """Root, programs and kernel features that this lab needs; see Backend."""
        if os.geteuid() != 0:
            raise PreflightFailed("network namespaces need root", remedy=f"sudo {_command_line()}")
        needs = {"ip": "iproute2", "nsenter": "util-linux", INIT: "catatonit", "fping": "fping"}
        for kind in sorted({lab.spec.kinds[node.tier] for node in lab.fabric.nodes}):
            needs.update(recipe(kind).programs())
        missing = {program: package for program, package in needs.items() if shutil.which(program) is None}
        if missing:
            raise PreflightFailed(
                f"not installed: {', '.join(sorted(missing))}",
                remedy=f"apt-get install {' '.join(sorted(set(missing.values())))}   (or: make setup)",
            )
        self._check_kernel(lab)
        taken = [name for name in map(_netns_namer(lab.name), lab.fabric.nodes) if (NETNS_DIR / name).exists()]
        if taken:
            raise PreflightFailed(
                f"network namespace {taken[0]} exists and is not in our journal",
                remedy=f"ip netns del {taken[0]}, or bring the lab up under another --name",
            )

    @staticmethod
    def _check_kernel(lab: RenderedLab) -> None:
        for key in _hash_keys(lab):
            if not sysctl.path_of(key).exists():
                needs = "6.11" if key.endswith("_seed") else "5.13"
                raise PreflightFailed(
                    f"this kernel ({os.uname().release}) has no {key}",
                    remedy=f"a kernel from {needs} on; on Ubuntu 24.04: apt-get install linux-generic-hwe-24.04",
                )

    def capabilities(self) -> tuple[Capability, ...]:
        """What labs on namespaces can and cannot do here; see Backend."""
        seed = sysctl.path_of("net.ipv4.fib_multipath_hash_seed").exists()
        lldp = shutil.which("lldpd") is not None
        return (
            Capability("hash-seed", seed, None if seed else "fib_multipath_hash_seed came with kernel 6.11"),
            Capability("lldp", lldp, None if lldp else "lldpd is not installed"),
            Capability("images", False, "namespaces run the workstation's own FRR"),
            Capability("soft-asic", False, "this release has no queues, ECN or PFC yet"),
        )

    def deploy(self, lab: RenderedLab, run_path: Path, journal: Journal, progress: Progress) -> NetnsDeployment:
        """Namespaces, then links, then boot every node, then sessions; see Backend."""
        token = f"{lab.name}:{secrets.token_hex(8)}"
        name = _netns_namer(lab.name)
        room = _neighbor_room(lab)
        processes, *_ = journal.will(
            Change("process", {"token": token}),
            *(Change("sysctl", {"key": key}) for key in room),
            *(Change("netns", {"name": name(node)}) for node in lab.fabric.nodes),
        )
        sysctl.want(lab.name, room)
        deployment = NetnsDeployment(lab, run_path, journal, processes)
        with _launcher(token) as launcher:
            progress("namespaces")
            launcher.ask({"do": "create", "nodes": [_birth(lab, node.name) for node in lab.fabric.nodes]}, 1)
            progress("links")
            _make_links(lab)
            deployment.start_up(launcher, [node.name for node in lab.fabric.nodes], progress)
        return deployment

    def adopt(self, lab: RenderedLab, run_path: Path, journal: Journal) -> NetnsDeployment:
        """Attach to a running lab by its journal; see Backend."""
        if os.geteuid() != 0:
            raise PreflightFailed("entering a lab's namespaces needs root", remedy=f"sudo {_command_line()}")
        processes = next((entry for entry in journal.open_entries() if entry.change.undo == "process"), None)
        if processes is None:
            raise NotReady(f"lab {lab.name!r} is coming up or going down", remedy="ask again in a moment")
        return NetnsDeployment(lab, run_path, journal, processes)


class NetnsDeployment:
    """See labs.backends.base.Deployment. `processes` is the journal's entry that knows every node's init."""

    def __init__(self, lab: RenderedLab, run_path: Path, journal: Journal, processes: Entry) -> None:
        self._lab = lab
        self._run_dir = run_path
        self._journal = journal
        self._processes = processes
        self._inits: dict[str, Mapping[str, object]] = {}
        self._learn(*processes.facts)

    def _learn(self, *facts: Mapping[str, object]) -> None:
        self._inits.update({str(fact["node"]): fact for fact in facts})

    def channel(self, node: str) -> NamespaceChannel:
        """See Deployment."""
        return NamespaceChannel(node, lambda: self._init(node))

    def netns(self, node: str) -> Path:
        """See Deployment."""
        return NETNS_DIR / _netns_namer(self._lab.name)(node)

    def shell_argv(self, node: str, argv: Iterable[str]) -> tuple[str, ...]:
        """See Deployment."""
        return self.channel(node).enter(*argv)

    def states(self) -> Mapping[str, NodeState]:
        """See Deployment."""
        frozen = _frozen_by_namespace()
        return {node.name: self._state(node.name, frozen) for node in self._lab.fabric.nodes}

    def _state(self, node: str, frozen: Mapping[int, bool] | None = None) -> NodeState:
        try:
            init = self._init(node)
            namespace = Path(f"/proc/{init}/ns/pid").stat().st_ino
        except (NotReady, OSError):
            return NodeState.STOPPED
        found = _frozen_by_namespace() if frozen is None else frozen
        return NodeState.PAUSED if found.get(namespace) else NodeState.RUNNING

    def _init(self, node: str) -> int:
        fact = self._inits.get(node)
        if fact is None or not is_process(fact):
            raise NotReady(f"{node} is stopped")
        return int(str(fact["pid"]))

    def set_state(self, node: str, state: NodeState) -> None:
        """See Deployment. A stopped node keeps its namespace and cables, but no process, address or carrier."""
        now = self._state(node)
        if now is state:
            return
        if NodeState.PAUSED in (now, state):
            wanted = signal.SIGSTOP if state is NodeState.PAUSED else signal.SIGCONT
            init = self._init(node)
            with _held(init) as members:
                for pid in members() - {init}:
                    with suppress(ProcessLookupError):
                        os.kill(pid, wanted)
            if state is not NodeState.STOPPED:
                return
        if state is NodeState.STOPPED:
            self._cut_power(node)
            return
        with _launcher(str(self._processes.change.args["token"])) as launcher:
            self.start_up(launcher, [node], lambda _: None)

    def _cut_power(self, node: str) -> None:
        init = self._init(node)
        with kernel.inside_netns(self.netns(node)):
            for port in self._lab.fabric.ports(node):
                kernel.set_link(port.name, up=False)
        with _held(init) as members:
            kill_until_gone(members)
        for family, tables in (("-4", ("main", "default")), ("-6", ("main",))):
            rules = [f"rule add pref {32766 + i} lookup {table}" for i, table in enumerate(tables)]
            lines = ["addr flush scope global", "rule flush", *rules]
            _ip("-n", self.netns(node).name, family, "-batch", "-", stdin="\n".join(lines) + "\n")

    def start_up(self, launcher: Launcher, nodes: list[str], progress: Progress) -> None:
        """Boot nodes, then let them join the fabric. Raises DeployFailed."""
        self._boot(launcher, nodes, progress)
        joining = [node for node in nodes if JOIN in self._lab.files_of(node)]
        with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="join") as pool:
            for i, failure in enumerate(pool.map(self._join, joining)):
                progress(f"sessions {i + 1}/{len(joining)}")
                if failure:
                    raise DeployFailed(failure)

    def _join(self, node: str) -> str | None:
        """None, or why the node did not take its configuration."""
        said = self.channel(node).run("sh", "-e", str(JOIN), timeout=JOIN_WITHIN)
        if said.ok:
            return None
        return f"{node}: {JOIN} exited {said.status}: {(said.stderr + said.stdout).strip()[-2000:]}"

    def _boot(self, launcher: Launcher, nodes: list[str], progress: Progress) -> None:
        """Boot nodes and record their inits. Raises DeployFailed that names the first node that did not come up."""
        plans = [_boot_plan(self._lab, self._run_dir, node) for node in nodes]
        failed = []
        facts = []
        for i, answer in enumerate(
            launcher.answers({"do": "boot", "parallel": _parallel(), "nodes": plans}, len(plans))
        ):
            progress(f"nodes {i + 1}/{len(plans)}")
            if "error" in answer:
                failed.append(f"{answer['name']}: {answer['error']}")
                continue
            facts.append({"node": answer["name"], **identity(int(answer["pid"]))})
            self._learn(facts[-1])
        self._journal.learned(self._processes, *facts)
        if failed:
            more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
            raise DeployFailed(f"{failed[0]}{more}")


@dataclass
class Launcher:
    """The running launch program (labs/backends/netns_launch.py)."""

    child: subprocess.Popen[str]

    def answers(self, request: Mapping[str, object], count: int) -> Iterator[dict[str, str]]:
        """Send one request and yield its `count` answers as they come. Raises DeployFailed when it ends early."""
        to, back = cast(IO[str], self.child.stdin), cast(IO[str], self.child.stdout)  # pipes: see _launcher
        try:
            to.write(json.dumps(request) + "\n")
            to.flush()
        except BrokenPipeError:
            raise DeployFailed(self._last_words()) from None
        for _ in range(count):
            line = back.readline()
            if not line:
                raise DeployFailed(self._last_words())
            yield json.loads(line)

    def ask(self, request: Mapping[str, object], count: int) -> list[dict[str, str]]:
        """The same, all at once."""
        return list(self.answers(request, count))

    def _last_words(self) -> str:
        lines = cast(IO[str], self.child.stderr).read().strip().splitlines()
        return f"namespaces could not be made: {lines[-1] if lines else 'the launch program was killed'}"


@contextmanager
def _launcher(token: str) -> Iterator[Launcher]:
    """Run the launch program for the length of a block. It carries the start token, and so does all it starts."""
    program = Path(__file__).with_name("netns_launch.py")
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-B", str(program), str(program.parents[2])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", TOKEN_VARIABLE: token},
    )
    try:
        yield Launcher(child)
    finally:
        child.kill()
        child.communicate()


def _birth(lab: RenderedLab, node: str) -> dict[str, object]:
    container = _container(lab, node)
    settings = {**BORN_WITH, **{str(k): str(v) for k, v in _mapping(container.get("sysctls")).items()}}
    return {"name": node, "netns": _netns_namer(lab.name)(node), "sysctls": settings}


def _boot_plan(lab: RenderedLab, run_path: Path, node: str) -> dict[str, object]:
    made = recipe(lab.spec.kinds[lab.fabric.node(node).tier])
    return {
        "name": node,
        "netns": _netns_namer(lab.name)(node),
        "private": list(made.private()),
        "binds": {target: str(run_dir.make_log(run_path, node, log)) for target, log in made.logs().items()},
        "files": {str(path): text for path, text in lab.files_of(node).items()},
    }


def _make_links(lab: RenderedLab) -> None:
    """Every veth pair of the lab in one batch, each end born in its node's namespace."""
    name = _netns_namer(lab.name)
    lines = []
    for link in lab.fabric.links:
        near, far = (
            f"name {port.name} address {mac} mtu {lab.spec.mtu} netns {name(port.node)}"
            for port in link.ends
            for mac in [addressing.mac(lab.fabric.node(port.node), port)]
        )
        lines.append(f"link add {near} type veth peer {far}")
    _ip("-batch", "-", stdin="\n".join(lines) + "\n")


def _ip(*arguments: str, stdin: str) -> None:
    done = subprocess.run(["ip", *arguments], input=stdin, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DeployFailed(f"ip {' '.join(arguments)}: {done.stderr.strip()[-400:]}")


def _neighbor_room(lab: RenderedLab) -> Mapping[str, int]:
    """What this lab's links take of the workstation's neighbour tables.

    The kernel collects entries beyond the first threshold, hurries beyond the second, refuses beyond the third.
    """
    return {key: NEIGHBORS_PER_LINK * len(lab.fabric.links) * int(key[-1]) for key in NEIGHBOR_KEYS}


def _hash_keys(lab: RenderedLab) -> Iterator[str]:
    for node in lab.fabric.nodes:
        for key in _mapping(_container(lab, node.name).get("sysctls")):
            if "fib_multipath_hash" in str(key):
                yield str(key)


def _container(lab: RenderedLab, node: str) -> Mapping[object, object]:
    return _mapping(_mapping(_mapping(lab.clab["topology"])["nodes"])[node])


def _mapping(value: object) -> Mapping[object, object]:
    return value if isinstance(value, Mapping) else {}


@dataclass(frozen=True, slots=True)
class _Namer:
    lab: str

    def __call__(self, node: object) -> str:
        return f"railbed.{self.lab}.{node}"


def _netns_namer(lab: str) -> _Namer:
    """Names of network namespaces: a dot is in no lab's or node's name, so two labs never meet."""
    return _Namer(lab)


@contextmanager
def _held(init: int) -> Iterator[Callable[[], set[int]]]:
    """For the length of a block, a question: the pids of everything in the process namespace of `init`.

    The namespace is held open, for neither its number nor the init's pid says which one it is once it has ended:
    the kernel gives both away again, the pid perhaps to a process of the workstation's own.
    """
    try:
        fd = os.open(f"/proc/{init}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield set
        return
    try:
        inode = os.fstat(fd).st_ino
        ours = Path("/proc/self/ns/pid").stat().st_ino
        yield lambda: set() if inode == ours else _in_namespace(inode)
    finally:
        os.close(fd)


def _in_namespace(inode: int) -> set[int]:
    found = set()
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError):
                if Path(entry.path, "ns/pid").stat().st_ino == inode:
                    found.add(int(entry.name))
    return found


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def _frozen_by_namespace() -> Mapping[int, bool]:
    """For each process namespace, by inode: whether everything in it is frozen, its init aside. One look at /proc."""
    found: dict[int, bool] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError):
                pid = int(entry.name)
                namespace = Path(f"/proc/{pid}/ns/pid").stat().st_ino
                if str(Path(f"/proc/{pid}/exe").readlink()) != INIT:
                    found[namespace] = found.get(namespace, True) and _is_frozen(pid)
    return found


def _is_frozen(pid: int) -> bool:
    return _status(pid) in "TtZ"


def _parallel() -> int:
    return BOOTS_PER_CORE * (os.cpu_count() or 1)


def _command_line() -> str:
    return " ".join(map(_quoted, sys.argv)) or "railbed up"


def _quoted(word: str) -> str:
    return word if word.isascii() and " " not in word else f"'{word}'"
