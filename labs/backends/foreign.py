"""Runs a containerlab file of somebody else's as it is, and attaches to labs that containerlab runs already.

Their file and its folder stay theirs: containerlab's folder for the lab goes into the run directory, unless they have
one of that name already, which is then used and kept. All that containerlab makes is found again by its own labels.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from labs import container_network, containerlab, engine, index, run_dir
from labs.backends import workstation
from labs.backends.base import Capability, NodeState, Progress
from labs.backends.containerlab import ContainerlabBackend, ContainerlabDeployment
from labs.channels.containers import ContainerChannel
from labs.errors import CapabilityMissing, DeployFailed, NotReady, PreflightFailed, SpecError
from labs.journal import Change, Entry, Journal
from labs.spec import ForeignSource, RenderedLab
from labs.undo import identity, undo

NODE_LABEL = "clab-node-name"
# What containerlab writes for the whole workstation, when it makes a network.
SETTINGS = ("net.ipv4.conf.all.rp_filter", "net.ipv4.conf.default.rp_filter")
SETTINGS_LOCK = "host.settings"  # not a lab's name: those of ours have no dot, and nobody calls theirs so
LEAVES_BEHIND = "vxlan-stitch"
NOT_CONTAINERLABS = "k8s-kind"  # a cluster of kind's, which carries no label of containerlab's
UNPRIVILEGED = (
    "the engine starts no privileged containers here: in the file, under topology.defaults, say "
    "privileged: false and cap-add: [NET_ADMIN, NET_RAW, SYS_ADMIN]"
)


class ForeignBackend:
    """See labs.backends.base.Backend. `lab.foreign` says where the lab comes from."""

    name: ClassVar[str] = "containerlab"

    def preflight(self, lab: RenderedLab) -> None:
        """Root, a Docker engine, containerlab, a free name; see Backend."""
        engine.check()
        workstation.check_root("attaching links to containers")
        workstation.check_programs({"ip": "iproute2", "nsenter": "util-linux", "fping": "fping"})
        containerlab.find()
        found = engine.containers({"containerlab": lab.name})
        if found:
            raise PreflightFailed(
                f"containerlab runs a lab {lab.name!r} already ({found[0].name}, …)",
                remedy=f"railbed adopt {lab.name}, or bring this one up under another --name",
            )
        stitched = next((one for one in _notes(lab) if LEAVES_BEHIND in one), None)
        if stitched:
            raise SpecError(
                f"{_source(lab).topology}: found a {LEAVES_BEHIND} link ({stitched})",
                allowed="links that end with their containers; start this lab with containerlab, then railbed adopt",
            )
        nodes = workstation.mapping(workstation.mapping(lab.clab.get("topology")).get("nodes"))
        clusters = [name for name, one in nodes.items() if workstation.mapping(one).get("kind") == NOT_CONTAINERLABS]
        if clusters:
            raise SpecError(
                f"{_source(lab).topology}: found node {clusters[0]} of kind {NOT_CONTAINERLABS}",
                allowed="nodes that are containers of containerlab's; start it with containerlab, then railbed adopt",
            )

    def capabilities(self) -> tuple[Capability, ...]:
        """As labs of ours on containerlab; see Backend."""
        return ContainerlabBackend().capabilities()

    def deploy(self, lab: RenderedLab, run_path: Path, journal: Journal, progress: Progress) -> ForeignDeployment:
        """One call of containerlab with their file; see Backend."""
        # One at a time on a workstation: what containerlab sets for all of it is put back before the next one looks.
        with index.locked(SETTINGS_LOCK, wait=True):
            return self._deploy(lab, run_path, journal, progress)

    @staticmethod
    def _deploy(lab: RenderedLab, run_path: Path, journal: Journal, progress: Progress) -> ForeignDeployment:
        source, program = _source(lab), containerlab.find()
        at, token = engine.address(), f"{lab.name}:{secrets.token_hex(8)}"
        labels = {"containerlab": lab.name, "clab-topo-file": source.topology}
        names = [_container_name(lab, node.name) for node in lab.fabric.nodes]
        network = Change("foreign-network", {"engine": at, "name": source.network})
        processes, *_, containers = journal.will(
            Change("process", {"token": token}),
            *(Change("setting", {"key": key, "was": workstation.setting(key)}) for key in SETTINGS),
            *([network] if _is_ours(source.network) else []),
            Change("containerlab", {"lab": lab.name, "containers": names}),
            Change("containers", {"engine": at, "labels": labels}),
        )
        planned = dict(zip((node.name for node in lab.fabric.nodes), names, strict=True))
        ForeignDeployment(lab, run_path, journal, processes, planned).record(processes)
        made = 0

        def told(line: str) -> None:
            nonlocal made
            made += "Creating container" in line
            progress(f"containers {made}/{len(names)}")

        try:
            containerlab.call(
                program,
                ("deploy", "--topo", source.topology, "--name", lab.name),
                token=token,
                folder=lab_base(lab, run_path),
                scratch=run_path,
                started=lambda pid: journal.learned(processes, identity(pid)),
                line=told,
                apart=False,
            )
        except DeployFailed as failed:
            refused = "unable to apply caps" in failed.message or "privileged" in failed.message.lower()
            raise DeployFailed(
                failed.message, remedy=UNPRIVILEGED if refused else engine.remedy_for(failed.message) or failed.remedy
            ) from None
        finally:
            undo(lab.name, journal, tuple(one for one in journal.open_entries() if one.change.undo == "setting"))
        journal.learned(containers, {"deployed": True})
        run_dir.hand_over(run_path)
        return ForeignDeployment(lab, run_path, journal, processes)

    def adopt(self, lab: RenderedLab, run_path: Path, journal: Journal) -> ForeignDeployment:
        """Attach to a running lab; see Backend."""
        workstation.check_root("entering a lab's network namespaces")
        entries = {entry.change.undo: entry for entry in journal.open_entries()}
        mark = entries.get("adopted" if _source(lab).adopted else "process")
        if mark is None:
            raise NotReady(f"lab {lab.name!r} is coming up or going down", remedy="ask again in a moment")
        return ForeignDeployment(lab, run_path, journal, mark)


class ForeignDeployment:
    """See labs.backends.base.Deployment. Containers are found by containerlab's labels, whatever their prefix.

    `planned` are the names of those that are not there yet, by node.
    """

    def __init__(
        self,
        lab: RenderedLab,
        run_path: Path,
        journal: Journal,
        processes: Entry,
        planned: Mapping[str, str] | None = None,
    ) -> None:
        self._lab = lab
        self._run_dir = run_path
        self._processes = processes
        labels = {"containerlab": lab.name}
        boxes = engine.containers(labels)
        found = {one.labels[NODE_LABEL]: one.name for one in boxes if one.labels.get(NODE_LABEL)}
        #: The containers' names by node.
        self.names: Mapping[str, str] = {**_source(lab).containers, **(planned or {}), **found}
        self._inner = ContainerlabDeployment(lab, run_path, journal, processes, self.names, labels)

    def channel(self, node: str) -> ContainerChannel:
        """See Deployment."""
        return self._inner.channel(node)

    def netns(self, node: str) -> Path:
        """See Deployment: containerlab's name for it."""
        return self._inner.netns(node)

    def shell_argv(self, node: str, argv: Iterable[str]) -> tuple[str, ...]:
        """See Deployment."""
        return self._inner.shell_argv(node, argv)

    def states(self) -> Mapping[str, NodeState]:
        """See Deployment."""
        return self._inner.states()

    def set_state(self, node: str, state: NodeState) -> None:
        """See Deployment. Raises CapabilityMissing for a power cut in an adopted lab, which could not be undone."""
        now = self.states()[node]
        if now is state:
            return
        if NodeState.STOPPED in (now, state) and _source(self._lab).adopted:
            raise CapabilityMissing("node-power", f"lab {self._lab.name} is adopted, and to be left as it was found")
        if NodeState.PAUSED in (now, state):
            self._freeze(node, on=state is NodeState.PAUSED)
            if state is not NodeState.STOPPED:
                return
        if state is NodeState.STOPPED:
            self._inner.unplug(node)  # so that nothing it says while it ends is heard
        verb = "stop" if state is NodeState.STOPPED else "start"
        containerlab.call(
            containerlab.find(),
            (verb, "--topo", _source(self._lab).topology, "--name", self._lab.name, "--node", node),
            token=str(self._processes.change.args["token"]),
            folder=lab_base(self._lab, self._run_dir),
            scratch=self._run_dir,
            apart=False,
        )

    def record(self, processes: Entry) -> None:
        """See ContainerlabDeployment."""
        self._inner.record(processes)

    def _freeze(self, node: str, *, on: bool) -> None:
        """Pause or let go on, journaled: an adopted lab must not stay paused."""
        journal = index.journal(self._lab.name)
        container = self.names[node]
        frozen = [
            entry
            for entry in journal.open_entries()
            if entry.change.undo == "paused" and entry.change.args["container"] == container
        ]
        if on and not frozen:
            journal.will(Change("paused", {"engine": engine.address(), "container": container}))
        engine.pause(container, on=on)
        if not on:
            journal.done(frozen)


def lab_base(lab: RenderedLab, run_path: Path) -> Path:
    """The folder in which containerlab's own for the lab is: beside their file where they have one, else ours."""
    theirs = Path(_source(lab).topology).parent
    return theirs if (theirs / f"clab-{lab.name}").is_dir() else run_path


def channel_to(node: str, container: str, at: str) -> ContainerChannel:
    """The channel to a container, before there is a lab. Raises NotReady when used on one that is stopped."""

    def init() -> int:
        found = engine.inspect(container, at)
        if found is None or not found.pid:
            raise NotReady(f"{node} is stopped", remedy="start it, then railbed adopt")
        return found.pid

    return ContainerChannel(node, container, at, init)


def located(lab: RenderedLab, deployment: ForeignDeployment) -> RenderedLab:
    """The lab with the names of its containers."""
    return replace(lab, foreign=replace(_source(lab), containers=dict(deployment.names)))


def _source(lab: RenderedLab) -> ForeignSource:
    if lab.foreign is None:
        raise SpecError(f"lab {lab.name} is one of ours", allowed="a lab of somebody else's")
    return lab.foreign


def _notes(lab: RenderedLab) -> tuple[str, ...]:
    return lab.fabric.given.notes if lab.fabric.given else ()


def _container_name(lab: RenderedLab, node: str) -> str:
    """What containerlab will call a node's container, by the file's prefix."""
    prefix = lab.clab.get("prefix", "clab")
    words = {"": (node,), "__lab-name": (lab.name, node)}.get(str(prefix or ""), (str(prefix), lab.name, node))
    return "-".join(words)


def _is_ours(network: str) -> bool:
    """Whether a management network goes with our labs: it is not there, or another of them has brought it."""
    if not container_network.exists(network):
        return True
    return any(
        entry.change.undo == "foreign-network" and entry.change.args["name"] == network
        for lab in index.names()
        for entry in index.journal(lab).open_entries()
    )


def user_file(ref: str) -> str:
    """A file's path as containerlab writes it into its labels."""
    return os.path.abspath(ref)  # noqa: PTH100 - Path.resolve would follow links, which containerlab does not
