"""A lab, live. `open_lab` is the table of contents of everything this package does."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labs import attaching, index, kernel, lease, observe, reaper, recording, run_dir
from labs.backends import backend as backend_named
from labs.backends.base import Backend, Deployment, NodeState, Progress
from labs.backends.foreign import ForeignBackend
from labs.convergence import wait_converged, wait_routes
from labs.errors import CapabilityMissing, LeftoverLab, NotReady
from labs.foreign.reading import TOPOLOGY, containers_of
from labs.foreign_lab import adopted, as_found, restored, stored
from labs.index import LabRecord, Stage
from labs.journal import boot_id
from labs.load import spec_from_dict, spec_to_dict
from labs.node import LiveNode
from labs.path import Path as FlowPath
from labs.path import paths
from labs.render import clab_text, fingerprint
from labs.request import Request, choose_backend, render_request
from labs.spec import RenderedLab
from labs.telemetry.samples import BgpSession, PortSample, RouteTable
from labs.undo import identity
from labs.undone import in_words, undone_on_failure
from labs.verdicts import Verdict
from topologies import addressing
from topologies.fabric import Fabric, Node
from topologies.load import fabric_from_dict, fabric_to_dict
from traffic.flows import FiveTuple, Transport

if TYPE_CHECKING:
    from labs.dataplane.asic import SoftAsic

# FRR's own advice for CI is to allow BGP no less than 130 s: a workstation under load is slow, not broken.
CONVERGE_WITHIN = 130.0


@dataclass(frozen=True, slots=True)
class Opened:
    """A lab that is up. `lab.converged` is None when it was found running, or when nobody waited."""

    lab: Lab
    found_running: bool = False


def open_lab(
    request: Request,
    *,
    wait: bool = True,
    within: float = CONVERGE_WITHIN,
    progress: Progress = lambda _: None,
    before_commit: Callable[[Opened], None] = lambda _: None,
    timeout_scale: float = 1.0,
) -> Opened:
    """Bring a lab up, or find it running. Whatever fails, nothing is left behind.

    A lab that does not converge `within` seconds stays up for people to look at: that is a finding about the
    fabric, in `Lab.converged`. `before_commit` gets the lab just before it counts as up; from then on only
    `close()` or ``railbed down`` end it. `timeout_scale` stretches every deadline of the lab.

    Raises SpecError, PreflightFailed, LeftoverLab (the name is taken), DeployFailed, NotReady.
    """
    player, _ = choose_backend(request)
    rendered = render_request(request)
    with index.locked(rendered.name):
        running = _find_running(rendered, request)
        if running is not None:
            if wait and running.timings["converge_s"] is None:  # it was brought up by somebody who did not wait
                running.converged = running.wait_converged(within, progress)
            opened = Opened(running, found_running=True)
            before_commit(opened)
            return opened
        player.preflight(rendered)
        with lease.changing(rendered.name, "up"), undone_on_failure(rendered.name), in_words():
            run_path = _begin(rendered, player, request)
            started = time.monotonic()
            deployment = player.deploy(rendered, run_path, index.journal(rendered.name), progress)
            rendered = as_found(rendered, deployment, progress)
            deployed = time.monotonic()
            lab = Lab(rendered, player.name, deployment, run_path)
            keep(lab)
            lab.asic = attaching.attach(
                rendered,
                lab.nodes,
                deployment,
                run_dir=run_path,
                journal=index.journal(rendered.name),
                can=player.capabilities(),
                required=request.profile is not None,
                progress=progress,
            )
            if lab.asic is not None:
                recording.has_asic(lab.name, [(port.node, port.name) for port in lab.asic.plan.ports])
            attached = time.monotonic()
            lab.timeout_scale = timeout_scale
            lab.converged = lab.wait_converged(within, progress) if wait else None
            lab.timings = {
                "deploy_s": round(deployed - started, 3),
                "attach_s": round(attached - deployed, 3) if lab.asic else None,
                "converge_s": round(time.monotonic() - attached, 3) if wait else None,
                "total_s": round(time.monotonic() - started, 3),
            }
            keep(lab)
            opened = Opened(lab)
            before_commit(opened)
            index.move_to(rendered.name, Stage.UP)
            return opened


def adopt_lab(name: str) -> Lab:
    """Attach to a lab that is running. Raises LabNotFound, or LeftoverLab for what a crash left."""
    record = index.read(name)
    if record.stage is Stage.STOPPING and index.is_held(name):
        raise NotReady(f"lab {name!r} is being taken down", remedy="wait for it to end")
    because = reaper.orphaned(name)
    if because:
        raise LeftoverLab(f"lab {name!r} is a leftover: {because}", remedy="railbed reap")
    try:
        data = json.loads((Path(record.run_dir) / "lab.json").read_text())
    except FileNotFoundError:
        if record.stage is not Stage.UP:
            raise NotReady(f"lab {name!r} is {record.stage}", remedy="ask again in a moment") from None
        raise LeftoverLab(
            f"the run directory of lab {name!r} is gone ({record.run_dir})", remedy=f"railbed down {name}"
        ) from None
    if not index.journal(name).open_entries():
        raise NotReady(f"lab {name!r} is {record.stage}: none of it is there yet", remedy="ask again in a moment")
    lab = _reach(record, data)
    if record.stage is Stage.UP:
        recording.revive(name)
    return lab


def reach_lab(name: str) -> Lab:
    """The same for who undoes changes of a lab, whatever its stage. Raises LabNotFound, LeftoverLab.

    An adopted lab whose run directory is gone is read anew.
    """
    record = index.read(name)
    try:
        data = json.loads((Path(record.run_dir) / "lab.json").read_text())
    except (OSError, ValueError):
        if reaper.stays(name):
            return _read_again(record)
        raise LeftoverLab(f"the run directory of lab {name!r} is gone", remedy=f"railbed down {name}") from None
    return _reach(record, data)


def _read_again(record: LabRecord) -> Lab:
    """An adopted lab of which nothing is written down any more. Raises LabNotFound when it is gone itself."""
    boxes = containers_of(record.name)
    topology = next(iter(boxes.values())).labels.get(TOPOLOGY, "")
    rendered = adopted(record.name, boxes, topology, record.seed)
    run_path = Path(record.run_dir)
    deployment = ForeignBackend().adopt(rendered, run_path, index.journal(record.name))
    return Lab(rendered, record.backend, deployment, run_path)


def _reach(record: LabRecord, data: Mapping[str, Any]) -> Lab:
    name, run_path = record.name, Path(record.run_dir)
    rendered = restored(data, spec_from_dict(data["spec"]), fabric_from_dict(data["fabric"]), name)
    player = ForeignBackend() if rendered.foreign else backend_named(record.backend)
    deployment = player.adopt(rendered, run_path, index.journal(name))
    lab = Lab(rendered, record.backend, deployment, run_path)
    lab.timings = data.get("timings", lab.timings)
    lab.asic = attaching.attached(rendered, run_path, index.journal(name))
    return lab


def close_lab(name: str) -> int:
    """Take a lab down, whatever state it is in; returns how many changes were undone. Idempotent."""
    with index.locked(name, wait=True), lease.changing(name, "down"):
        return reaper.destroy(name)


class Lab:
    """A running lab: its design, its nodes, and what can be asked of all of them."""

    def __init__(self, rendered: RenderedLab, backend: str, deployment: Deployment, run_path: Path) -> None:
        self.rendered = rendered
        self.backend = backend
        self.deployment = deployment
        self.run_dir = run_path
        self.timeout_scale = 1.0
        self.converged: Verdict | None = None
        self.asic: SoftAsic | None = None
        self.timings: dict[str, float | None] = {"deploy_s": None, "converge_s": None, "total_s": None}
        self.nodes: Mapping[str, LiveNode] = {
            node.name: LiveNode(
                node,
                rendered.spec.kind_of(node),
                rendered.fabric.ports(node),
                deployment.channel(node.name),
            )
            for node in rendered.fabric.nodes
        }

    @property
    def name(self) -> str:
        """The running lab's name."""
        return self.rendered.name

    @property
    def fabric(self) -> Fabric:
        """The design."""
        return self.rendered.fabric

    @property
    def seed(self) -> int:
        """The one seed that everything random in this lab comes from."""
        return self.rendered.spec.seed

    def node(self, name: str | Node) -> LiveNode:
        """A node by name. Raises SpecError that lists what there is."""
        return self.nodes[self.fabric.node(str(name)).name]

    @property
    def switches(self) -> tuple[LiveNode, ...]:
        """The nodes that route for others."""
        return tuple(self.nodes[node.name] for node in self.fabric.switches)

    @property
    def hosts(self) -> tuple[LiveNode, ...]:
        """The end nodes."""
        return tuple(self.nodes[node.name] for node in self.fabric.hosts)

    def routes(self, node: str | Node) -> RouteTable:
        """What a node forwards by."""
        return observe.route_tables([self.node(node)])[0]

    def sessions(self, node: str | Node | None = None) -> tuple[BgpSession, ...]:
        """The BGP sessions of one switch, or of all."""
        return observe.sessions([self.node(node)] if node else self.switches)

    def counters(self) -> Mapping[tuple[str, str], PortSample]:
        """The counters of every port of every running node, by (node, port)."""
        return observe.all_port_samples(self.nodes.values())

    def paths(self, flows: Sequence[FiveTuple], sources: Sequence[str]) -> tuple[FlowPath, ...]:
        """The paths that the kernels of the fabric give these flows, each starting at its source host.

        Where a switch's hash engine chooses, it is asked instead.
        """
        engine = None
        if self.asic and self.asic.plays:
            from labs.dataplane.ecmp_state import live_ecmp

            engine = live_ecmp(self.name, self.asic.plan)
        return paths(self.fabric, self.nodes, flows, sources, engine)

    def path(
        self,
        src: str,
        dst: str,
        *,
        sport: int,
        dport: int,
        transport: Transport = Transport.UDP,
        family: int = 4,
        dscp: int = 0,
        queue_pair: int | None = None,
    ) -> FlowPath:
        """The path of one flow between the first cards of two hosts."""
        ends = [str(addressing.host_address(self.fabric, host, 1, family)) for host in (src, dst)]
        return self.paths([FiveTuple(ends[0], ends[1], transport, sport, dport, dscp, queue_pair)], [src])[0]

    def wait_converged(self, within: float = CONVERGE_WITHIN, progress: Progress = lambda _: None) -> Verdict:
        """Wait until every session is up, every switch forwards as the oracle says and every host reaches every other.

        Raises NotReady when a daemon does not answer.
        """
        within *= self.timeout_scale
        return wait_converged(self.fabric, self.nodes, self.rendered.spec, within=within, progress=progress)

    def wait_routes_match(
        self, fabric: Fabric | None = None, *, within: float = CONVERGE_WITHIN, grace: bool = True
    ) -> Verdict:
        """Wait until every switch forwards as the oracle says for `fabric`, by default the lab's own design.

        `grace`: where they do not in time, look on for some seconds, to say by how much it was missed.
        """
        scaled = within * self.timeout_scale
        return wait_routes(fabric or self.fabric, self.nodes, self.rendered.spec, within=scaled, grace=grace)

    def stop(self, node: str | Node) -> None:
        """Cut a node's power: its processes are gone and its neighbours lose carrier."""
        self._set_state(node, NodeState.STOPPED)

    def start(self, node: str | Node) -> None:
        """Start a stopped node, or let a paused one go on; links and configuration come back."""
        self._set_state(node, NodeState.RUNNING)

    def pause(self, node: str | Node) -> None:
        """Freeze a node's processes; its kernel goes on forwarding."""
        self._set_state(node, NodeState.PAUSED)

    def _set_state(self, node: str | Node, state: NodeState) -> None:
        with index.locked(self.name, wait=True):
            index.read(self.name)
            self.power(node, state)

    def power(self, node: str | Node, state: NodeState) -> None:
        """Change a node's state, for who holds the lab's lock; links that a fault has set down stay down."""
        live, foreign = self.node(node), self.rendered.foreign
        if state is NodeState.STOPPED and foreign is not None and foreign.adopted:
            raise CapabilityMissing("node-power", f"lab {self.name} is adopted, and to be left as it was found")
        with lease.changing(self.name, f"making {live.name} {state}"):
            if self.asic is not None and state is NodeState.STOPPED:
                self.asic.leave(live.name)
            self.deployment.set_state(live.name, state)
            if self.asic is not None and state is NodeState.RUNNING:
                self.asic.refresh()
            for at, netdev in index.cut_ports(self.name):
                if at == live.name and state is NodeState.RUNNING:
                    with kernel.inside_netns(self.deployment.netns(at)):
                        kernel.set_link(netdev, up=False)

    def close(self) -> None:
        """Take the lab down. Idempotent."""
        close_lab(self.name)

    def __repr__(self) -> str:
        return f"<lab {self.name}: {self.fabric.name} on {self.backend}, {len(self.nodes)} nodes>"


def _find_running(rendered: RenderedLab, request: Request) -> Lab | None:
    """The lab of that name, when it runs this very rendering; leftovers of a crash are undone here.

    Raises LeftoverLab when something else runs under the name.
    """
    if rendered.name not in index.names():
        return None
    if reaper.abandoned(rendered.name):
        with lease.changing(rendered.name, "clearing what a crash left"):
            reaper.destroy(rendered.name, "railbed up")
        return None
    if reaper.stale_faults(index.journal(rendered.name).open_entries()):
        with lease.changing(rendered.name, "ending faults that outlived their time"):
            reaper.end_stale_faults(rendered.name, "railbed up")
    record = index.read(rendered.name)
    wanted = request.backend if request.backend != "auto" else record.backend
    if record.fingerprint != fingerprint(rendered) or record.backend != wanted:
        raise LeftoverLab(
            f"a different lab {rendered.name!r} is running (backend {record.backend}, seed {record.seed}, "
            f"started in {record.run_dir})",
            remedy=f"railbed down {rendered.name}, or choose another --name",
        )
    return adopt_lab(rendered.name)


def _begin(rendered: RenderedLab, player: Backend, request: Request) -> Path:
    """Enter the lab into the index, then make its run directory: a crash in between leaves only what `reap` finds."""
    run_path = run_dir.choose(rendered.name, request.folder)
    enter(rendered, player.name, run_path, owned=request.owned)
    run_dir.write_rendered(run_path, rendered, clab_text(rendered))
    return run_path


def enter(rendered: RenderedLab, backend: str, run_path: Path, *, owned: bool = False) -> None:
    """Enter a lab that is to be into the index, then make its run directory."""
    record = LabRecord(
        name=rendered.name,
        backend=backend,
        run_dir=str(run_path),
        fingerprint=fingerprint(rendered),
        seed=rendered.spec.seed,
        stage=Stage.STARTING,
        boot=boot_id(),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        owner=identity(os.getpid()) if owned else None,
    )
    index.write(record)
    run_dir.create(run_path)


def keep(lab: Lab) -> None:
    """Write lab.json, from which any later command has the lab back."""
    run_dir.write_json(
        lab.run_dir,
        "lab.json",
        {
            "schema": 1,
            "lab": lab.name,
            "backend": lab.backend,
            "seed": lab.seed,
            "spec": spec_to_dict(lab.rendered.spec),
            "fabric": fabric_to_dict(lab.fabric),
            "timings": lab.timings,
            **stored(lab.rendered),
        },
    )
