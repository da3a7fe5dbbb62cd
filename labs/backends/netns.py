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
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path, PurePosixPath
from typing import IO, ClassVar, cast

from labs import kernel, recording, run_dir, sysctl
from labs.backends import workstation
from labs.backends.base import Capability, NodeState, Progress
from labs.backends.workstation import container_of, mapping
from labs.channels.namespaces import NamespaceChannel
from labs.errors import DeployFailed, NotReady, PreflightFailed
from labs.journal import Change, Entry, Journal
from labs.kinds import joining, recipe
from labs.pid_namespaces import frozen_by_namespace, held
from labs.spec import RenderedLab
from labs.undo import NETNS_DIR, TOKEN_VARIABLE, carriers, identity, is_process, kill_until_gone
from labs.waiting import wait_until
from topologies import addressing

# Booting is bound by the CPU (daemons starting); twice as many as cores keeps them busy while one waits.
BOOTS_PER_CORE = 2
INIT = "/usr/bin/catatonit"
JOIN = PurePosixPath("/run/railbed/join")
AFTER = PurePosixPath("/run/railbed/after")
# Either takes a tenth of a second; the rest is room for a workstation that does much else.
STEP_WITHIN = 60.0
HEEDED_WITHIN = 10.0
FIRST_IFINDEX = 16  # above what a namespace is born with (lo, and tunnels where the kernel has them built in)


class NetnsBackend:
    """See labs.backends.base.Backend."""

    name: ClassVar[str] = "netns"

    def preflight(self, lab: RenderedLab) -> None:
        """Root, programs and kernel features that this lab needs; see Backend."""
        workstation.check_root("making network namespaces")
        needs = {"ip": "iproute2", "nsenter": "util-linux", INIT: "catatonit", "fping": "fping"}
        for kind in sorted({lab.spec.kind_of(node) for node in lab.fabric.nodes}):
            needs.update(recipe(kind).programs())
        workstation.check_programs(needs)
        workstation.check_kernel(lab)
        taken = [name for name in map(_netns_namer(lab.name), lab.fabric.nodes) if (NETNS_DIR / name).exists()]
        if taken:
            raise PreflightFailed(
                f"network namespace {taken[0]} exists and is not in our journal",
                remedy=f"ip netns del {taken[0]}, or bring the lab up under another --name",
            )

    def capabilities(self) -> tuple[Capability, ...]:
        """What labs on namespaces can and cannot do here; see Backend."""
        lldp = shutil.which("lldpd") is not None
        return (
            *workstation.capabilities(),
            Capability("lldp", lldp, None if lldp else "lldpd is not installed"),
            Capability("images", False, "namespaces run the workstation's own FRR"),
        )

    def deploy(self, lab: RenderedLab, run_path: Path, journal: Journal, progress: Progress) -> NetnsDeployment:
        """Namespaces, then links, then boot every node, then sessions; see Backend."""
        token = f"{lab.name}:{secrets.token_hex(8)}"
        name = _netns_namer(lab.name)
        room = workstation.neighbor_room(lab)
        processes, *_ = journal.will(
            Change("process", {"token": token}),
            *(Change("sysctl", {"key": key}) for key in room),
            *(Change("netns", {"name": name(node)}) for node in lab.fabric.nodes),
        )
        sysctl.want(lab.name, room)
        deployment = NetnsDeployment(lab, run_path, journal, processes)
        recording.begin(lab, run_path, journal, processes, deployment.netns)
        with _launcher(token) as launcher:
            progress("namespaces")
            launcher.ask({"do": "create", "nodes": [_birth(lab, node.name) for node in lab.fabric.nodes]}, 1)
            progress("links")
            _make_links(lab)
            deployment.start_up(launcher, [node.name for node in lab.fabric.nodes], progress)
        return deployment

    def adopt(self, lab: RenderedLab, run_path: Path, journal: Journal) -> NetnsDeployment:
        """Attach to a running lab by its journal; see Backend."""
        workstation.check_root("entering a lab's namespaces")
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
        self._inits.update({str(fact["node"]): fact for fact in facts if "node" in fact})

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
        frozen = frozen_by_namespace(INIT)
        return {node.name: self._state(node.name, frozen) for node in self._lab.fabric.nodes}

    def _state(self, node: str, frozen: Mapping[int, bool] | None = None) -> NodeState:
        try:
            init = self._init(node)
            namespace = Path(f"/proc/{init}/ns/pid").stat().st_ino
        except (NotReady, OSError):
            return NodeState.STOPPED
        found = frozen_by_namespace(INIT) if frozen is None else frozen
        return NodeState.PAUSED if found.get(namespace) else NodeState.RUNNING

    def _init(self, node: str) -> int:
        fact = self._inits.get(node)
        if fact is None or not is_process(fact):
            self._learn(*self._recorded())  # another process may have started it since
            fact = self._inits.get(node)
        if fact is None or not is_process(fact):
            raise NotReady(f"{node} is stopped")
        return int(str(fact["pid"]))

    def _recorded(self) -> tuple[Mapping[str, object], ...]:
        entries = Journal(self._journal.path).open_entries()
        return next((entry.facts for entry in entries if entry.n == self._processes.n), ())

    def set_state(self, node: str, state: NodeState) -> None:
        """See Deployment. A stopped node keeps its namespace and cables, but no process, address or carrier."""
        now = self._state(node)
        if now is state:
            return
        if NodeState.PAUSED in (now, state):
            wanted = signal.SIGSTOP if state is NodeState.PAUSED else signal.SIGCONT
            init = self._init(node)
            with held(init) as members:
                found = members() - {init}
                for pid in found:
                    with suppress(ProcessLookupError):
                        os.kill(pid, wanted)
            if found:
                self._heeded(node, frozen=state is NodeState.PAUSED)
            if state is not NodeState.STOPPED:
                return
        if state is NodeState.STOPPED:
            self._cut_power(node)
            return
        token = str(self._processes.change.args["token"])
        self._bury(node, token)
        with _launcher(token) as launcher:
            self.start_up(launcher, [node], lambda _: None)

    def _heeded(self, node: str, *, frozen: bool) -> None:
        """Wait until every process has heeded the signal: one in the midst of a system call does so after it.

        Who asked for the state before would find the one of before, and have nothing to do. Raises NotReady.
        """
        seen = wait_until(
            f"{node} is {'paused' if frozen else 'going on'}",
            lambda: self._state(node) is NodeState.PAUSED,
            lambda paused: paused is frozen,
            within=HEEDED_WITHIN,
        )
        if not seen.held:
            raise NotReady(f"{node} does not {'pause' if frozen else 'go on'}: a process heeds no signal")

    def _bury(self, node: str, token: str) -> None:
        """End what a start that was killed half-way has left: two sets of daemons would share the node's kernel."""
        inside, mark = self.netns(node).stat().st_ino, f"{TOKEN_VARIABLE}={token}".encode()

        def left() -> set[int]:
            found = set()
            for pid in carriers({mark}):
                with suppress(OSError):
                    if Path(f"/proc/{pid}/ns/net").stat().st_ino == inside:
                        found.add(pid)
            return found

        kill_until_gone(left)

    def _cut_power(self, node: str) -> None:
        init = self._init(node)
        with kernel.inside_netns(self.netns(node)):
            for port in self._lab.fabric.ports(node):
                kernel.set_link(port.name, up=False)
        with held(init) as members:
            kill_until_gone(members)
        for family, tables in (("-4", ("main", "default")), ("-6", ("main",))):
            rules = [f"rule add pref {32766 + i} lookup {table}" for i, table in enumerate(tables)]
            lines = ["addr flush scope global", "rule flush", *rules]
            _ip("-n", self.netns(node).name, family, "-batch", "-", stdin="\n".join(lines) + "\n")

    def start_up(self, launcher: Launcher, nodes: list[str], progress: Progress) -> None:
        """Boot nodes, then let them join the fabric, then what comes after. Raises DeployFailed.

        FRR lets a second go by before it first connects: what comes after on all nodes fits into that of the last.
        """
        self._boot(launcher, nodes, progress)
        self._step(JOIN, nodes, lambda done: progress(f"sessions {done}"))
        self._step(AFTER, nodes, lambda _: None)

    def _step(self, file: PurePosixPath, nodes: list[str], progress: Progress) -> None:
        """Run one of the rendered files on all nodes that have it. Raises DeployFailed for the first that fails."""
        having = [node for node in nodes if file in self._lab.files_of(node)]

        def run(node: str) -> str | None:
            if file == JOIN and self._joined(node):
                return None
            said = self.channel(node).run("sh", "-e", str(file), timeout=STEP_WITHIN)
            if said.ok:
                return None
            return f"{node}: {file} exited {said.status}: {(said.stderr + said.stdout).strip()[-2000:]}"

        with ThreadPoolExecutor(_parallel(), thread_name_prefix=file.name) as pool:
            for i, failure in enumerate(pool.map(run, having)):
                progress(f"{i + 1}/{len(having)}")
                if failure:
                    raise DeployFailed(failure)

    def _joined(self, node: str) -> bool:
        """Whether the node's kind has a way to let it join that does without a program in the node, and took it."""
        way = joining(self._lab.spec.kind_of(self._lab.fabric.node(node)))
        try:
            return way is not None and way.join(self.channel(node), self._lab.files_of(node))
        except NotReady as refused:
            raise DeployFailed(f"{node}: {refused}") from None

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
    container = container_of(lab, node)
    settings = {str(k): str(v) for k, v in mapping(container.get("sysctls")).items()}
    return {"name": node, "netns": _netns_namer(lab.name)(node), "sysctls": settings}


def _boot_plan(lab: RenderedLab, run_path: Path, node: str) -> dict[str, object]:
    made = recipe(lab.spec.kind_of(lab.fabric.node(node)))
    return {
        "name": node,
        "netns": _netns_namer(lab.name)(node),
        "private": list(made.private()),
        "binds": {target: str(run_dir.make_log(run_path, node, log)) for target, log in made.logs().items()},
        "files": {str(path): text for path, text in lab.files_of(node).items()},
    }


def _make_links(lab: RenderedLab) -> None:
    """Every veth pair of the lab in one batch, each end born in its node's namespace.

    No two ends of a lab have the same interface number: one copy of the soft ASIC's programs then serves all of it.
    """
    name = _netns_namer(lab.name)
    numbers = count(FIRST_IFINDEX)
    lines = []
    for link in lab.fabric.links:
        near, far = (
            f"name {port.name} index {number} address {mac} mtu {lab.spec.mtu} netns {name(port.node)}"
            for port, number in zip(link.ends, numbers, strict=False)
            for mac in [addressing.mac(lab.fabric, port)]
        )
        lines.append(f"link add {near} type veth peer {far}")
    _ip("-batch", "-", stdin="\n".join(lines) + "\n")


def _ip(*arguments: str, stdin: str) -> None:
    done = subprocess.run(["ip", *arguments], input=stdin, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DeployFailed(f"ip {' '.join(arguments)}: {done.stderr.strip()[-400:]}")


@dataclass(frozen=True, slots=True)
class _Namer:
    lab: str

    def __call__(self, node: object) -> str:
        return f"railbed.{self.lab}.{node}"


def _netns_namer(lab: str) -> _Namer:
    """Names of network namespaces: a dot is in no lab's or node's name, so two labs never meet."""
    return _Namer(lab)


def _parallel() -> int:
    return BOOTS_PER_CORE * (os.cpu_count() or 1)
