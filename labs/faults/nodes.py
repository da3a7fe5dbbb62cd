"""Faults of whole nodes: power and standstill."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

from labs import index, kernel
from labs.backends.base import NodeState
from labs.errors import CapabilityMissing, NotReady
from labs.faults.fault import Example, Fault, On, Param, Site, Step
from labs.faults.undoing import Verb
from labs.kinds import driver
from labs.lab import Lab
from labs.node import LiveNode
from labs.waiting import wait_until

NODE_RUNS = "node-runs"
# A node that is only about to be whole (its container's own start goes on) is so soon; else it is started anew.
WHOLE_WITHIN_S = 10.0


def _crash(site: Site) -> Sequence[Step]:
    args = _running(site)
    return [Step(NODE_RUNS, args, lambda: site.lab.power(site.target, NodeState.STOPPED), (site.target,))]


def _restart(site: Site) -> Sequence[Step]:
    args = _running(site)

    def make() -> None:
        site.lab.power(site.target, NodeState.STOPPED)
        until = time.monotonic() + float(site.params["off_s"])
        wait_until("the power was off for its time", time.monotonic, lambda now: now >= until, within=3600, most=0.02)
        runs(site.lab, args)

    return [Step(NODE_RUNS, args, make, (site.target,))]


def _pause(site: Site) -> Sequence[Step]:
    args = _running(site, power=False)
    return [Step(NODE_RUNS, args, lambda: site.lab.power(site.target, NodeState.PAUSED), (site.target,))]


def _running(site: Site, *, power: bool = True) -> Mapping[str, Any]:
    """What a whole node has, to be had again. Raises NotReady for one that does not run, CapabilityMissing."""
    foreign = site.lab.rendered.foreign
    if power and foreign is not None and foreign.adopted:
        raise CapabilityMissing("node-power", f"lab {site.lab.name} is adopted, and to be left as it was found")
    check_running(site.lab, site.target)
    ours = {driver(site.node.kind).netdev(site.node, port.name) for port in site.node.ports}
    up = _set_up(site.node)
    return {
        "node": site.target,
        "power": power,
        "up": sorted(ours & up),
        "down": sorted(ours - up),
        "peers": _peers(site.node),
    }


def check_running(lab: Lab, node: str) -> None:
    """Raise NotReady for a node that is stopped or paused: nothing can be done in it."""
    state = lab.deployment.states()[node]
    if state is not NodeState.RUNNING:
        raise NotReady(f"{node} is {state}", remedy="let it run first")


def _peers(node: LiveNode) -> list[str]:
    return sorted(session.peer for session in driver(node.kind).sessions(node))


def runs(lab: Lab, args: Mapping[str, Any]) -> None:
    """Let a node run, whole: the ports up that were, the others down, every session configured.

    One whose power was half cut, or that was half started, by somebody who was killed meanwhile, is started anew. What
    was configured by hand and never saved is lost then, as after any power cut: the comparison of states says so.
    """
    node = lab.node(args["node"])
    if not args["power"] and lab.deployment.states()[node.name] is NodeState.RUNNING:
        lab.power(node.node, NodeState.PAUSED)  # one that was half frozen by who was killed is let go as a whole
    lab.power(node.node, NodeState.RUNNING)
    if _whole(lab, node, args, within=WHOLE_WITHIN_S):
        _leave_down(lab, args)
        return
    if not args["power"]:
        raise NotReady(f"{node.name} goes on, and does not answer as before: ports or sessions are missing")
    lab.power(node.node, NodeState.STOPPED)
    lab.power(node.node, NodeState.RUNNING)
    if not _whole(lab, node, {**args, "peers": None}, within=WHOLE_WITHIN_S):
        raise NotReady(f"{node.name} runs, and not as before: ports are missing")
    _leave_down(lab, args)


def _leave_down(lab: Lab, args: Mapping[str, Any]) -> None:
    """A port that somebody had set down does not come up for a power cut; nor does one that somebody has removed."""
    with kernel.inside_netns(lab.deployment.netns(args["node"])):
        there = {name for _, name in socket.if_nameindex()}
        for netdev in there.intersection(args["down"]):
            kernel.set_link(netdev, up=False)


def _whole(lab: Lab, node: LiveNode, args: Mapping[str, Any], *, within: float) -> bool:
    cut = {netdev for at, netdev in index.cut_ports(lab.name) if at == node.name}
    due, peers = set(args["up"]) - cut, set(args["peers"] or ())

    def seen() -> bool:
        try:
            return due <= _set_up(node) and (not peers or peers <= set(_peers(node)))
        except NotReady:
            return False

    return wait_until(f"{node.name} is whole", seen, bool, within=within).held


def _set_up(node: LiveNode) -> set[str]:
    """The interfaces that are set up, whatever their far end is."""
    said = node.kernel("ip", "-o", "link", "show", "up").stdout
    return {line.split()[1].rstrip(":").partition("@")[0] for line in said.splitlines()}


CRASH = Fault(
    name="node-crash",
    on=On.NODE,
    imitates="a power cut: processes gone at once, nothing said to neighbours, dark cables; it stays off until the "
    "fault is taken back, then boots with its own configuration",
    detected_by="carrier loss at every neighbour (BGP's fast fallover)",
    recovers="longest outage of flows through it; routes as designed without it, then with it",
    steps=_crash,
)
RESTART = Fault(
    name="node-restart",
    on=On.NODE,
    imitates="a power cycle or a crash with reboot: off for off_s, then up; the command ends when the node has booted. "
    "A real switch takes minutes to boot, ours about a second: set off_s to what yours takes",
    detected_by="carrier loss at every neighbour, then sessions anew",
    recovers="time to routes as designed; outage of flows through it, going and coming",
    steps=_restart,
    params=(Param("off_s", "how long it has no power", 1.0, float, 0, 600, unit="s"),),
    lasts=False,
)
PAUSE = Fault(
    name="node-pause",
    on=On.NODE,
    imitates="a control plane that hangs: every process frozen, carrier up, the kernel goes on forwarding by the "
    "routes it has. What is started later in the namespace of a node is not frozen",
    detected_by="BFD, else BGP's hold time, at its neighbours; no carrier goes",
    recovers="sessions established; routes as designed",
    steps=_pause,
)

FAULTS = (CRASH, RESTART, PAUSE)
EXAMPLES: Mapping[str, Example] = {
    "node-crash": Example("spine1"),
    "node-restart": Example("spine1", {"off_s": "0.5"}),
    "node-pause": Example("leaf1"),
}
VERBS: Mapping[str, Verb] = {NODE_RUNS: runs}
