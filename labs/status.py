"""What state a running lab is in, as plain data: the JSON of `railbed up` and `railbed status`."""

from __future__ import annotations

from collections.abc import Mapping

from labs import index, observe
from labs.backends import backend as backend_named
from labs.backends.base import NodeState
from labs.errors import LabError, SpecError
from labs.kinds import driver
from labs.lab import Lab
from labs.node import LiveNode
from labs.telemetry.samples import PortSample
from topologies import addressing
from topologies.fabric import Fabric, Link, Node

SCHEMA = 1


def status(lab: Lab, *, starting: bool = False) -> dict[str, object]:
    """Ask every node and link of a lab for its state; fields as in `railbed status --format json`.

    ``bgp`` counts session ends: a session is asked for at each of its two switches. ``state`` is ``ready`` when every
    node runs, every link is up and every session established, else ``degraded`` (``starting`` while `railbed up` has
    not ended).
    """
    states = lab.deployment.states()
    running = [node for node in lab.nodes.values() if states[node.name] is not NodeState.STOPPED]
    answers = dict(zip([n.name for n in running], observe.ask_all(_ask, running), strict=True))
    nodes = [_node(lab.fabric, node, states[node.name], answers.get(node.name)) for node in lab.nodes.values()]
    samples = {key: sample for answer in answers.values() for key, sample in answer.ports.items()}
    faulted = _faulted(lab)
    links = [_link(link, samples, faulted) for link in lab.fabric.links]
    expected = lab.fabric.session_ends
    asic = _asic(lab)
    established = sum(answer.established or 0 for answer in answers.values())
    sound = (
        established == expected
        and all(node["state"] == "running" for node in nodes)
        and all(link["state"] == "up" for link in links)
        and (asic is None or asic["alive"])
    )
    return {
        "schema": SCHEMA,
        "lab": lab.name,
        "backend": lab.backend,
        "state": "starting" if starting else "ready" if sound else "degraded",
        "seed": lab.seed,
        "run_dir": str(lab.run_dir),
        "nodes": nodes,
        "links": links,
        "soft_asic": asic,
        "bgp": {"established": established, "expected": expected},
        "timings": dict(lab.timings),
        "capabilities": capabilities(lab.backend),
    }


def capabilities(backend: str) -> dict[str, object]:
    """What labs on a backend can do here: ``{name: {"have", "because"}}``."""
    found = backend_named(backend).capabilities()
    return {item.name: {"have": item.have, "because": item.because} for item in found}


def _asic(lab: Lab) -> dict[str, object] | None:
    """The soft ASIC's own word; a dead one plays nothing, and holds nothing back."""
    if lab.asic is None:
        return None
    try:
        said = lab.asic.status()
    except LabError as error:
        return {"profile": lab.asic.profile.name, "alive": False, "because": error.message}
    return {"profile": lab.asic.profile.name, "alive": True, "hook": said["hook"], "fifo": said["fifo"] == "1"}


class _Answer:
    """What one running node said: its ports' counters and how many of its sessions are up, None for no answer."""

    __slots__ = ("established", "ports")

    def __init__(self, ports: Mapping[tuple[str, str], PortSample], established: int | None) -> None:
        self.ports = ports
        self.established = established


def _ask(node: LiveNode) -> _Answer:
    """A node that does not answer is in a state, no error of ours; its kernel may answer where its daemons do not."""
    try:
        ports = {(sample.node, sample.port): sample for sample in observe.ports_there(node).values()}
    except LabError:
        return _Answer({}, None)
    try:
        return _Answer(ports, sum(session.established for session in driver(node.kind).sessions(node)))
    except LabError:
        return _Answer(ports, None)


def _node(fabric: Fabric, live: LiveNode, state: NodeState, answer: _Answer | None) -> dict[str, object]:
    node = live.node
    unready = state is NodeState.RUNNING and (answer is None or answer.established is None)
    return {
        "name": node.name,
        "kind": live.kind,
        "tier": str(node.tier),
        "state": "unready" if unready else str(state),
        "loopback": _loopback(fabric, node),
        "asn": node.asn,
    }


def _loopback(fabric: Fabric, node: Node) -> str | None:
    """A switch's loopback address, IPv4 where it has one of both."""
    for family in addressing.FAMILIES if node.is_switch else ():
        try:
            return str(addressing.loopback(fabric, node, family))
        except SpecError:  # somebody else's lab need not have one
            continue
    return None


def _link(
    link: Link, samples: Mapping[tuple[str, str], PortSample], faulted: frozenset[tuple[str, str]]
) -> dict[str, object]:
    ends = [(port.node, port.name) for port in link.ends]
    up = all(end in samples and samples[end].up for end in ends)
    state = "faulted" if faulted & set(ends) else "up" if up else "down"
    return {"name": link.name, "a": str(link.a), "b": str(link.b), "state": state, "rate_bps": link.rate_bps}


def _faulted(lab: Lab) -> frozenset[tuple[str, str]]:
    """The ports that a fault has taken hold of, from the journal; not those of a node that it has taken as a whole."""
    taken = {
        str(claim)
        for entry in index.journal(lab.name).open_entries()
        if entry.change.undo == "fault"
        for claim in list(entry.change.args["claims"])  # type: ignore[call-overload]
    }
    ends = ((port.node, port.name) for link in lab.fabric.links for port in link.ends)
    return frozenset(end for end in ends if any(f"{claim}/".startswith(f"{end[0]}/{end[1]}/") for claim in taken))
