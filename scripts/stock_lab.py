"""The lab that railbed is measured against: a containerlab file as people write one by hand, up and down again.

The file is in containerlab's documented style (its lab-examples/frr01): nodes of kind linux, `daemons` and frr.conf
bound into /etc/frr, FRR started by an `exec` line, under watchfrr, hosts that get addresses and routes by `exec` lines,
links in brief. `tuned` is the same by somebody who knows more: FRR is the image's own command, after a wait for the
node's cables, by the count that containerlab puts into CLAB_INTFS. (Without that wait zebra 10.3 now and then aborts
among interfaces that are being renamed, FRRouting/frr issue 21950, and watchfrr brings it back a minute later.)

Everything else stands at containerlab's defaults, but for what would not run here or not compare:

- the text of each frr.conf, the addresses of hosts and every node's sysctls are those that railbed renders;
- `privileged: false` with capabilities, as railbed has it: not every engine starts privileged containers;
- a management network of its own, which can be told from other people's. It costs less than containerlab's usual
  one, having no IPv6.

What is made is journaled as an owned lab of railbed's would be: `railbed down`, or `railbed reap` once the bench is
gone, takes it away, whatever ended it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import yaml

from labs import container_network, containerlab, engine, index
from labs.backends import workstation
from labs.backends.containerlab import ContainerlabBackend, ContainerlabDeployment
from labs.backends.foreign import SETTINGS
from labs.backends.workstation import container_of
from labs.containerlab import Program
from labs.errors import NotReady
from labs.journal import Change, Entry
from labs.kinds import driver
from labs.kinds.linux import SWITCH_CAPABILITIES
from labs.lab import CONVERGE_WITHIN, Lab, enter
from labs.request import Request, render_request
from labs.spec import RenderedLab
from labs.undo import identity
from labs.verdicts import Verdict
from labs.waiting import wait_until
from topologies.fabric import Node
from topologies.routing import route_tables

# As Debian's, with BGP switched on. zebra, staticd and mgmtd start by themselves.
DAEMONS = """\
bgpd=yes
bfdd={bfd}

vtysh_enable=yes
zebra_options="  -A 127.0.0.1 -s 90000000"
mgmtd_options="  -A 127.0.0.1"
bgpd_options="   -A 127.0.0.1"
staticd_options="-A 127.0.0.1"
bfdd_options="   -A 127.0.0.1"
"""
ETC_FRR = PurePosixPath("/etc/frr")
# The image's own command, after a wait that hardly costs anything.
ONCE_CABLED = (
    "sh -c 'for i in $(seq $CLAB_INTFS); do until [ -e /sys/class/net/eth$i ]; do sleep 0.2; done; done; "
    "/usr/lib/frr/frrinit.sh start; exec sleep infinity'"
)
FREED_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Up:
    """How long it took from the start of ``containerlab deploy`` until it had ended, and until all had converged."""

    deploy_s: float
    total_s: float


@dataclass(frozen=True)
class StockLab:
    """A lab that is written down and may be deployed."""

    rendered: RenderedLab
    topology: Path
    program: Program
    token: str
    processes: Entry
    containers: Entry

    def up(self) -> Up:
        """Deploy it, and wait for what `railbed up` waits for. Raises LabError, RunInvalid."""
        began = time.monotonic()
        self._call("deploy")
        deployed = time.monotonic()
        verdict = self._converged()
        ended = time.monotonic()
        if not verdict:
            raise NotReady(f"stock {self.rendered.fabric.name} has not converged: {verdict.evidence.summary}")
        index.journal(self.rendered.name).learned(self.containers, {"deployed": True})
        return Up(deployed - began, ended - began)

    def down(self) -> float:
        """Destroy it; the seconds that took."""
        began = time.monotonic()
        self._call("destroy", "--cleanup")
        return time.monotonic() - began

    def _call(self, verb: str, *more: str) -> None:
        """One call in the workstation's own network namespace, with the usual number of workers."""
        journal = index.journal(self.rendered.name)
        containerlab.call(
            self.program,
            (verb, "--topo", str(self.topology), *more),
            token=self.token,
            folder=self.topology.parent,
            started=lambda pid: journal.learned(self.processes, identity(pid)),
            apart=False,
        )

    def _converged(self) -> Verdict:
        """As for a lab of ours, but a daemon may be late to answer: `containerlab deploy` does not wait for them."""
        name, folder = self.rendered.name, self.topology.parent
        names = container_names(self.rendered)
        labels = {"containerlab": name}
        deployment = ContainerlabDeployment(self.rendered, folder, index.journal(name), self.processes, names, labels)
        lab = Lab(self.rendered, "containerlab", deployment, folder)
        deadline = time.monotonic() + CONVERGE_WITHIN
        while True:
            try:
                return lab.wait_converged(deadline - time.monotonic())
            except NotReady:
                if time.monotonic() > deadline:
                    raise


@contextmanager
def written(ref: str, name: str, folder: Path, seed: int, *, tuned: bool = False) -> Iterator[StockLab]:
    """A stock lab in files, for the length of a block that holds its lock. Raises LabError.

    All that the predicate needs is read, imported and computed here, before any clock runs.
    """
    lab = render_request(Request(ref, name=name, seed=seed))
    ContainerlabBackend().preflight(lab)
    route_tables(lab.fabric, None if lab.spec.ipv6 else 4)  # it remembers
    for kind in {lab.spec.kind_of(node) for node in lab.fabric.nodes}:
        driver(kind)
    with index.locked(name):
        enter(lab, "containerlab", folder, owned=True)
        token = f"{name}:{secrets.token_hex(8)}"
        at = engine.address()
        processes, *_, containers = index.journal(name).will(
            Change("process", {"token": token}),
            *(Change("setting", {"key": key, "was": workstation.setting(key)}) for key in SETTINGS),
            Change("foreign-network", {"engine": at, "name": name}),
            Change("containerlab", {"lab": name, "containers": list(container_names(lab).values())}),
            Change("containers", {"engine": at, "labels": {"containerlab": name}}),
        )
        yield StockLab(lab, write(lab, folder, tuned=tuned), containerlab.find(), token, processes, containers)


def free_network(name: str) -> bool:
    """Whether a stock lab's network is gone once the lab is.

    The engine frees an address a moment after its container has gone, and neither containerlab nor `railbed down`
    removes a network of containerlab's that is in use. Docker 20.10 has been seen to keep one for good.
    """

    def gone() -> bool:
        container_network.remove_foreign(name, engine.address())
        return not container_network.exists(name)

    return wait_until(f"docker network {name} gone", gone, bool, within=FREED_WITHIN_S).held


def write(lab: RenderedLab, folder: Path, *, tuned: bool) -> Path:
    """Write the topology and the files that it binds; returns the topology's path."""
    for node in lab.fabric.switches:
        for file, text in etc_frr(lab, node).items():
            path = folder / node.name / file
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    topology = folder / f"{lab.name}.clab.yml"
    topology.write_text(yaml.safe_dump(topology_of(lab, tuned=tuned), sort_keys=False, width=120))
    return topology


def topology_of(lab: RenderedLab, *, tuned: bool) -> Mapping[str, object]:
    """The topology file's content."""
    return {
        "name": lab.name,
        "mgmt": {"network": lab.name, "ipv4-subnet": "auto"},
        "topology": {
            "defaults": {"kind": "linux", "privileged": False, "cap-add": list(SWITCH_CAPABILITIES)},
            "nodes": {node.name: _node(lab, node, tuned=tuned) for node in lab.fabric.nodes},
            "links": [{"endpoints": [f"{port.node}:{port.name}" for port in link.ends]} for link in lab.fabric.links],
        },
    }


def _node(lab: RenderedLab, node: Node, *, tuned: bool) -> Mapping[str, object]:
    entry = container_of(lab, node.name)
    made = {"image": entry["image"], "sysctls": entry["sysctls"]}
    if node.is_switch:
        binds = [f"{node.name}/{file}:{ETC_FRR / file}" for file in etc_frr(lab, node)]
        starts = {"cmd": ONCE_CABLED} if tuned else {"cmd": "sleep infinity", "exec": ["/usr/lib/frr/frrinit.sh start"]}
        return {**made, **starts, "binds": binds}
    return {**made, "exec": list(_exec(lab, node))}


def _exec(lab: RenderedLab, node: Node) -> Iterator[str]:
    """A host's addresses and routes, a command each."""
    files = lab.files_of(node.name)
    for family in (4, 6) if lab.spec.ipv6 else (4,):
        for line in files[PurePosixPath(f"/run/railbed/addresses{family}")].splitlines():
            yield f"ip -{family} {line}"


def etc_frr(lab: RenderedLab, node: Node) -> Mapping[str, str]:
    """What a switch finds in /etc/frr: which daemons to start, and railbed's own rendering of the rest."""
    ours = {path.name: text for path, text in lab.files_of(node.name).items() if path.parent == ETC_FRR}
    return {"daemons": DAEMONS.format(bfd="yes" if lab.spec.bgp.bfd else "no"), **ours}


def container_names(lab: RenderedLab) -> Mapping[str, str]:
    """What containerlab calls the nodes' containers."""
    return {node.name: f"clab-{lab.name}-{node.name}" for node in lab.fabric.nodes}
