"""Runs a lab in containers that containerlab starts and cables: what a user of containerlab calls a lab.

Containers are unprivileged and named ``clab-<lab>-<node>``; every one carries the lab's name and a token as labels,
by which it is found again. Each lab has a management network of its own. A node's software starts with its
container, out of files that are bound read-only.
"""

from __future__ import annotations

import secrets
import shutil
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from labs import container_network, containerlab, engine, kernel, recording, run_dir, sysctl
from labs.backends import workstation
from labs.backends.base import Capability, NodeState, Progress
from labs.backends.workstation import container_of, mapping
from labs.channels.containers import ContainerChannel
from labs.errors import DeployFailed, NotReady, PreflightFailed
from labs.journal import Change, Entry, Journal
from labs.kinds import recipe
from labs.kinds.linux import SHIPPED, UP
from labs.pid_namespaces import held, sleepers_of
from labs.run_dir import IMAGES_FILE
from labs.spec import RenderedLab, to_yaml
from labs.undo import NETNS_DIR, identity, is_process, kill_until_gone
from labs.waiting import wait_until

OUR_IMAGES = "railbed/"  # built here, from no registry
# Software starts while containerlab still makes other containers; the rest is room for a busy workstation.
UP_WITHIN = 60.0
STATES: Mapping[str, NodeState] = {
    "running": NodeState.RUNNING,
    "restarting": NodeState.RUNNING,
    "paused": NodeState.PAUSED,
}


class ContainerlabBackend:
    """See labs.backends.base.Backend."""

    name: ClassVar[str] = "containerlab"

    def preflight(self, lab: RenderedLab) -> None:
        """Root, a Docker engine, containerlab, kernel features, images; see Backend."""
        engine.check()
        workstation.check_root("attaching links to containers")
        workstation.check_programs(
            {"ip": "iproute2", "nsenter": "util-linux", "unshare": "util-linux", "fping": "fping"}
        )
        workstation.check_kernel(lab)
        containerlab.find()
        for image, node in images(lab).items():
            if image.startswith(OUR_IMAGES) and not engine.has_image(image):
                raise PreflightFailed(
                    f"image {image} of {node} is not here", remedy=f"make images, or --image {lab_kind(lab, node)}=NAME"
                )
        self._check_names(lab)

    @staticmethod
    def _check_names(lab: RenderedLab) -> None:
        found = engine.containers({"containerlab": lab.name})
        if found:
            raise PreflightFailed(
                f"containerlab runs a lab {lab.name!r} ({found[0].name}, …) that is not in our journal",
                remedy=f"railbed adopt {lab.name}, or bring this one up under another --name",
            )
        for name in container_names(lab).values():
            if (NETNS_DIR / name).is_symlink() or engine.inspect(name) is not None:
                raise PreflightFailed(
                    f"there is a container {name}, or a name of its network namespace, that is not this lab's",
                    remedy=f"remove it (docker rm -f {name}; rm {NETNS_DIR / name}), or choose another --name",
                )
        container_network.free_name(lab.name)  # raises for one that is somebody else's

    def capabilities(self) -> tuple[Capability, ...]:
        """What labs in containers can and cannot do here; see Backend."""
        return (*workstation.capabilities(), Capability("lldp", True), Capability("images", True))

    def deploy(self, lab: RenderedLab, run_path: Path, journal: Journal, progress: Progress) -> ContainerlabDeployment:
        """Images, network, then containerlab, then until every node's software runs; see Backend."""
        if ":" in str(run_path):
            raise PreflightFailed(
                f"the path of the run directory has a colon in it ({run_path}), which no bind of a container can name",
                remedy="call railbed in another folder",
            )
        program = containerlab.find()
        at, token = engine.address(), f"{lab.name}:{secrets.token_hex(8)}"
        labels = {"railbed-lab": lab.name, "railbed-token": token}
        names = container_names(lab)
        network, room = container_network.free_name(lab.name), workstation.neighbor_room(lab)
        _fetch_images(lab, progress)
        processes, *_, containers = journal.will(
            Change("process", {"token": token}),
            *(Change("sysctl", {"key": key}) for key in room),
            Change("container-network", {"engine": at, "name": network, "labels": labels}),
            Change("containerlab", {"lab": lab.name, "containers": list(names.values())}),
            Change("containers", {"engine": at, "labels": labels}),
        )
        sysctl.want(lab.name, room)
        container_network.create(lab.name, len(names), labels, lab.spec.management, name=network)
        topology = run_dir.write(run_path, f"{lab.name}.clab.yml", _topology(lab, run_path, token, network))
        run_dir.write_json(run_path, IMAGES_FILE, {image: engine.image_id(image) for image in images(lab)})
        deployment = ContainerlabDeployment(lab, run_path, journal, processes, names, labels)
        deployment.record(processes)
        deployment.call("deploy", topology, program=program, line=_Told(progress, lab))
        journal.learned(containers, {"deployed": True})
        run_dir.hand_over(run_path)
        deployment.wait_up(tuple(names), progress)
        return deployment

    def adopt(self, lab: RenderedLab, run_path: Path, journal: Journal) -> ContainerlabDeployment:
        """Attach to a running lab by its journal; see Backend."""
        workstation.check_root("entering a lab's network namespaces")
        entries = {entry.change.undo: entry for entry in journal.open_entries()}
        if not {"process", "containers"} <= entries.keys():
            raise NotReady(f"lab {lab.name!r} is coming up or going down", remedy="ask again in a moment")
        labels = {str(k): str(v) for k, v in mapping(entries["containers"].change.args["labels"]).items()}
        names = container_names(lab)
        return ContainerlabDeployment(lab, run_path, journal, entries["process"], names, labels)


class ContainerlabDeployment:
    """See labs.backends.base.Deployment. `names` are the containers', by node; `labels` tell them from all others."""

    def __init__(
        self,
        lab: RenderedLab,
        run_path: Path,
        journal: Journal,
        processes: Entry,
        names: Mapping[str, str],
        labels: Mapping[str, str],
    ) -> None:
        self._lab = lab
        self._run_dir = run_path
        self._journal = journal
        self._processes = processes
        self._names = names
        self._labels = labels
        self._at = engine.address()
        self._inits: dict[str, Mapping[str, object]] = {}

    def channel(self, node: str) -> ContainerChannel:
        """See Deployment."""
        return ContainerChannel(node, self._names[node], self._at, lambda: self._init(node))

    def netns(self, node: str) -> Path:
        """See Deployment: containerlab's name for it, which holds while the node is stopped too."""
        return NETNS_DIR / self._names[node]

    def shell_argv(self, node: str, argv: Iterable[str]) -> tuple[str, ...]:
        """See Deployment."""
        self._init(node)
        if shutil.which("docker") is None:  # an engine may be here without its command line
            return ("nsenter", "--target", str(self._init(node)), "--all", "--", *argv)
        terminal = ("-t",) if sys.stdin.isatty() and sys.stdout.isatty() else ()
        return ("docker", "--host", self._at, "exec", "-i", *terminal, self._names[node], *argv)

    def states(self) -> Mapping[str, NodeState]:
        """See Deployment. A container that is gone is a node that is stopped."""
        found = {one.name: one.state for one in engine.containers(self._labels, self._at)}
        return {node: STATES.get(found.get(name, ""), NodeState.STOPPED) for node, name in self._names.items()}

    def _init(self, node: str) -> int:
        """The pid of a node's first process, asked of the engine once in its life."""
        fact = self._inits.get(node)
        if fact is None or not is_process(fact):
            found = engine.inspect(self._names[node], self._at)
            if found is None or not found.pid:
                raise NotReady(f"{node} is stopped")
            fact = self._inits[node] = identity(found.pid)
        return int(str(fact["pid"]))

    def set_state(self, node: str, state: NodeState) -> None:
        """See Deployment. A stopped node's cables are kept by containerlab, without carrier."""
        now = self.states()[node]
        if now is state:
            return
        if (now, state) == (NodeState.STOPPED, NodeState.PAUSED):
            raise NotReady(f"{node} is stopped")
        if NodeState.PAUSED in (now, state):
            engine.pause(self._names[node], on=state is NodeState.PAUSED, at=self._at)
            if state is not NodeState.STOPPED:
                return
        if state is NodeState.STOPPED:
            self._cut_power(node)
            return
        self.call("start", self._topology(), "--node", node)
        lost = [port.name for port in self._lab.fabric.ports(node) if not self._has_port(node, port.name)]
        if lost:
            raise NotReady(
                f"{node} runs again without its cables ({', '.join(lost)}): they are gone, for its container had been "
                "stopped by the Docker engine, and neither by railbed nor by containerlab",
                remedy=f"railbed down {self._lab.name}, then railbed up",
            )
        self.wait_up((node,), lambda _: None)

    def _cut_power(self, node: str) -> None:
        """No carrier and no process from one moment to the next; then containerlab puts the cables aside."""
        init = self._init(node)
        self.unplug(node)
        with held(init) as members:
            # Its first process does not count, nor the sleep in which that waits, and which it starts anew.
            kill_until_gone(lambda: members() - {init} - sleepers_of(init))
        self.call("stop", self._topology(), "--node", node)

    def unplug(self, node: str) -> None:
        """Take the carrier off every cable of a node, at both ends."""
        with kernel.inside_netns(Path(f"/proc/{self._init(node)}/ns/net")):
            for port in self._lab.fabric.ports(node):
                with suppress(OSError):  # gone already, with the container at its other end
                    kernel.set_link(port.name, up=False)

    def _topology(self) -> Path:
        return self._run_dir / f"{self._lab.name}.clab.yml"

    def call(
        self,
        verb: str,
        topology: Path,
        *more: str,
        program: containerlab.Program | None = None,
        line: _Told | None = None,
    ) -> None:
        """One call of containerlab, its child recorded. Raises DeployFailed that names the node at fault, if one is."""
        try:
            containerlab.call(
                program or containerlab.find(),
                (verb, "--topo", str(topology), *more),
                token=str(self._processes.change.args["token"]),
                folder=self._run_dir,
                started=lambda pid: self._journal.learned(self._processes, identity(pid)),
                line=line or (lambda _: None),
            )
        except DeployFailed as failed:
            if why := engine.missing(self._at):
                raise NotReady(
                    f"the Docker engine stopped answering during containerlab {verb} ({why})",
                    remedy=f"{engine.HOW_TO_START}, then: railbed reap",
                ) from None
            self._blame(tuple(self._names))
            remedy = engine.remedy_for(failed.message)
            raise DeployFailed(failed.message, remedy=remedy or failed.remedy) from None

    def wait_up(self, nodes: tuple[str, ...], progress: Progress) -> None:
        """Wait until the software of these nodes has started. Raises DeployFailed for one that ended instead."""

        def waiting() -> tuple[str, ...]:
            self._blame(nodes)
            behind = tuple(node for node in nodes if not self._is_up(node))
            progress(f"nodes {len(nodes) - len(behind)}/{len(nodes)}")
            return behind

        waited = wait_until("every node's software runs", waiting, lambda behind: not behind, within=UP_WITHIN)
        if not waited.held:
            node = waited.last[0]
            said = engine.last_words(self._names[node], self._at)
            why = f"; it said: {said}" if said else ""
            raise DeployFailed(f"{node}: {UP} is not there after {UP_WITHIN:g} s{why}")

    def _is_up(self, node: str) -> bool:
        try:
            return Path(f"/proc/{self._init(node)}/root{UP}").exists()
        except (NotReady, OSError):
            return False

    def _has_port(self, node: str, port: str) -> bool:
        return self.channel(node).kernel("ip", "link", "show", "dev", port).ok

    def _blame(self, nodes: tuple[str, ...]) -> None:
        """Raise DeployFailed for the first of these nodes whose container has ended by itself."""
        found = {one.name: one for one in engine.containers(self._labels, self._at)}
        for node in nodes:
            one = found.get(self._names[node])
            if one is None or one.state not in {"exited", "dead"}:
                continue
            inspected = engine.inspect(one.id, self._at)
            said = engine.last_words(one.id, self._at)
            status = inspected.exit_code if inspected else "unknown"
            raise DeployFailed(
                f"{node}: its container ended with status {status} (image {one.image}): {said or 'it said nothing'}"
            )

    def record(self, processes: Entry) -> None:
        """Start the lab's Recorder, under the start token of `processes`."""
        recording.begin(
            self._lab,
            self._run_dir,
            self._journal,
            processes,
            self.netns,
            engine=self._at,
            labels=self._labels,
        )


class _Told:
    """What containerlab says, as progress."""

    def __init__(self, progress: Progress, lab: RenderedLab) -> None:
        self._progress = progress
        self._nodes, self._links = len(lab.fabric.nodes), len(lab.fabric.links)
        self._made = self._cabled = 0

    def __call__(self, line: str) -> None:
        """One line."""
        self._made += "Creating container" in line
        self._cabled += "Created link" in line
        self._progress(f"containers {self._made}/{self._nodes}, links {self._cabled}/{self._links}")


def container_names(lab: RenderedLab) -> Mapping[str, str]:
    """What containerlab calls the containers of a lab of ours, by node."""
    return {node.name: f"clab-{lab.name}-{node.name}" for node in lab.fabric.nodes}


def images(lab: RenderedLab) -> Mapping[str, str]:
    """The images a lab needs, each with a node that needs it."""
    return {str(container_of(lab, node.name)["image"]): node.name for node in reversed(lab.fabric.nodes)}


def _fetch_images(lab: RenderedLab, progress: Progress) -> None:
    """Fetch the images that are not here. Raises DeployFailed that names the image, a node of it and the reason."""
    for image, node in images(lab).items():
        if engine.has_image(image):
            continue
        progress(f"image {image}")
        try:
            engine.pull(image)
        except DeployFailed as failed:
            other = f"--image {lab_kind(lab, node)}=NAME with one that is here (docker images)"
            raise DeployFailed(
                f"image {image} of {node} is not here, and could not be fetched: {failed.message}",
                remedy=f"docker pull {image}, or {other}",
            ) from None


def lab_kind(lab: RenderedLab, node: str) -> str:
    """The kind of a node."""
    return lab.spec.kind_of(lab.fabric.node(node))


def _topology(lab: RenderedLab, run_path: Path, token: str, network: str) -> str:
    """The rendered topology with what only this run knows: files, logs, token, and its management network's name."""
    nodes = {}
    for node in lab.fabric.nodes:
        entry = container_of(lab, node.name)
        logs = recipe(lab_kind(lab, node.name)).logs().items()
        binds = [f"{run_path}/rendered/{node.name}:{SHIPPED}:ro"]
        binds += [f"{run_dir.make_log(run_path, node.name, log)}:{target}" for target, log in logs]
        labels = {**mapping(entry["labels"]), "railbed-token": token}
        nodes[node.name] = {**entry, "binds": binds, "labels": labels}
    topology = {**mapping(lab.clab["topology"]), "nodes": nodes}
    management = {**mapping(lab.clab["mgmt"]), "network": network}
    return to_yaml({**lab.clab, "mgmt": management, "topology": topology})
