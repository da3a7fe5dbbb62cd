"""Faults of cables and ports."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from labs import kernel
from labs.errors import CapabilityMissing, NotReady, SpecError
from labs.faults import processes
from labs.faults.fault import Example, Fault, On, Param, Site, Step
from labs.faults.kept_routes import give_back, kept_routes
from labs.faults.undoing import Verb, WentWithIt, gone
from labs.index import LINK_UP
from labs.lab import Lab
from topologies.fabric import Port

LINES_BACK, FLAP_END, MTU_BACK, NETEM_OFF = "ip-lines", "flap", "mtu", "netem"
NETEM = "4e7e:"  # the handle of ours


def _link_down(site: Site) -> Sequence[Step]:
    ends = _ends_to_cut(site)
    return [*_kept_of(site, ends), *(_down(site, port) for port in ends)]


def _ends_to_cut(site: Site) -> Sequence[Port]:
    """The ends that can be set down: switches'. A host's own stays: its static routes would go with it for good."""
    cut, only = site.cable, str(site.params["end"])
    _check_end(site, only)
    ends = [port for port in cut.ends if site.lab.fabric.node(port.node).is_switch and only in {"", port.node}]
    if not ends:
        raise SpecError(f"end={only}: a host's own end stays up", allowed=cut.far(only).node)
    return ends


def _check_end(site: Site, only: str) -> None:
    nodes = [port.node for port in site.cable.ends]
    if only and only not in nodes:
        raise SpecError(f"end={only}", allowed=" | ".join(nodes))


def _kept_of(site: Site, ends: Sequence[Port]) -> Sequence[Step]:
    return [_kept(site, port) for port in ends] if site.lab.fabric.given is not None else []


def _down(site: Site, port: Port) -> Step:
    netdev = site.netdev(port)

    def make() -> None:
        try:
            with kernel.inside_netns(site.lab.deployment.netns(port.node)):
                kernel.set_link(netdev, up=False)
        except OSError as error:
            raise NotReady(f"{port} cannot be set down: {error}") from None

    return Step(LINK_UP, _as_set(site, port), make, (f"{port.node}/{port.name}/admin",))


def _as_set(site: Site, port: Port) -> Mapping[str, Any]:
    """How a port is set before a fault: one that somebody has set down stays down after it."""
    netdev, up = site.netdev(port), True
    with (
        suppress(OSError),
        kernel.inside_netns(site.lab.deployment.netns(port.node)),
    ):  # what is not there cannot be cut
        up = kernel.is_up(netdev)
    return {"node": port.node, "netdev": netdev, "up": up}


def _link_up(lab: Lab, args: Mapping[str, Any]) -> None:
    """Set an interface as it was. A node without power sets its ports up itself when it starts."""
    try:
        with kernel.inside_netns(lab.deployment.netns(args["node"])):
            kernel.set_link(args["netdev"], up=args["up"])
    except FileNotFoundError:
        raise WentWithIt(f"{args['node']} has no network namespace now") from None


def _kept(site: Site, port: Port) -> Step:
    """What a port of somebody else's lab loses for good when it is set down, to be given back once it is up again.

    Our nodes keep IPv6 addresses (keep_addr_on_down), and have no routes on switches but those of daemons, which
    come back by themselves.
    """
    netdev, node = site.netdev(port), site.lab.node(port.node)
    lines = []
    for link in json.loads(node.kernel("ip", "-j", "-6", "addr", "show", "dev", netdev).stdout):
        lines += [
            f"-6 addr replace {one['local']}/{one['prefixlen']} dev {netdev} nodad"
            for one in link.get("addr_info", ())
            if one.get("scope") == "global"
        ]
    lines += kept_routes(node, netdev)
    args = {"node": port.node, "lines": lines}
    return Step(LINES_BACK, args, _nothing, ())


def _nothing() -> None:
    """What is only written down is made by another step."""


def _lines_back(lab: Lab, args: Mapping[str, Any]) -> None:
    """Give back what was written down. Raises NotReady for what is refused."""
    refused = give_back(lab.node(args["node"]), args["lines"])
    if refused:
        raise NotReady("; ".join(refused))


def _flap(site: Site) -> Sequence[Step]:
    """A process sets the ends down and up; its end comes before the ports are set up for good."""
    lab, ends, params = site.lab, _ends_to_cut(site), site.params
    ports, token = [_as_set(site, port) for port in ends], processes.new_token(lab)
    args = {"token": token, "ports": ports}
    claims = tuple(f"{port.node}/{port.name}/admin" for port in ends)
    down_s = params["period"] * params["duty"]
    timing = [str(params["period"]), str(down_s), str(params["count"])]
    where = [f"{lab.deployment.netns(one['node'])}={one['netdev']}" for one in ports]
    argv = [sys.executable, "-m", "labs.faults.flapping", *timing, *where]
    return [*_kept_of(site, ends), Step(FLAP_END, args, partial(processes.start, lab, token, argv), claims)]


def _flap_end(lab: Lab, args: Mapping[str, Any]) -> None:
    processes.end(args["token"])
    for one in args["ports"]:
        if not gone(lab, one):
            with suppress(WentWithIt):
                _link_up(lab, one)


def _mtu_mismatch(site: Site) -> Sequence[Step]:
    """One end takes smaller frames than the other sends: larger ones vanish at it, without a word to anybody."""
    only, mtu = str(site.params["end"]), int(site.params["mtu"])
    _check_end(site, only)
    port = next(p for p in site.cable.ends if only in {"", p.node} and (only or site.lab.fabric.node(p.node).is_switch))
    node, netdev = site.lab.node(port.node), site.netdev(port)
    was = int(json.loads(node.kernel("ip", "-j", "link", "show", "dev", netdev).stdout)[0]["mtu"])
    if mtu >= was:
        raise SpecError(f"mtu={mtu}", allowed=f"less than {was}, which {port} has")

    def make() -> None:
        node.kernel("ip", "link", "set", "dev", netdev, "mtu", str(mtu))

    args = {"node": port.node, "netdev": netdev, "mtu": was}
    return [Step(MTU_BACK, args, make, (f"{port.node}/{port.name}/mtu",))]


def _mtu_back(lab: Lab, args: Mapping[str, Any]) -> None:
    lab.node(args["node"]).kernel("ip", "link", "set", "dev", args["netdev"], "mtu", str(args["mtu"]))


def _delay(site: Site) -> Sequence[Step]:
    """Netem at the sending ends, as their only queue: beside the soft ASIC's queues it would have to reorder them."""
    missing = _no_netem()
    if missing:
        raise CapabilityMissing("delay", missing, remedy="a kernel with sch_netem (modprobe sch_netem)")
    if site.lab.asic is not None:
        because = "the soft ASIC's queues are on every port, and netem would play another queue before them"
        raise CapabilityMissing("delay", because, remedy="bring the lab up without a profile (--profile none)")
    senders = [site.cable.far(port.node) for port in site.ports]
    return [_delayed(site, port) for port in senders]


def _delayed(site: Site, port: Port) -> Step:
    node, netdev = site.lab.node(port.node), site.netdev(port)
    found = json.loads(node.kernel("tc", "-j", "qdisc", "show", "dev", netdev).stdout or "[]")
    root = next((one["kind"] for one in found if one.get("root") and one["handle"] != "0:"), None)
    if root:
        raise CapabilityMissing("delay", f"{port} has queues of its own ({root}), which netem would replace")
    times = [f"{site.params[name]:g}ms" for name in ("delay", "jitter") if site.params[name]]

    def make() -> None:
        node.kernel("tc", "qdisc", "add", "dev", netdev, "root", "handle", NETEM, "netem", "delay", *times)

    return Step(NETEM_OFF, {"node": port.node, "netdev": netdev}, make, (f"{port.node}/{port.name}/queues",))


def _netem_off(lab: Lab, args: Mapping[str, Any]) -> None:
    """Ours is known by its handle; the kernel gives the port its own queue back."""
    node, netdev = lab.node(args["node"]), args["netdev"]
    found = json.loads(node.kernel("tc", "-j", "qdisc", "show", "dev", netdev).stdout or "[]")
    if any(one["kind"] == "netem" and one["handle"] == NETEM for one in found):
        node.kernel("tc", "qdisc", "del", "dev", netdev, "root")


def _no_netem() -> str | None:
    """Why this kernel cannot delay packets; tried in a namespace of its own."""
    with kernel.inside_new_netns():
        tried = subprocess.run(
            ["tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"],
            capture_output=True,
            text=True,
            check=False,
        )
    return "this kernel has no netem" if tried.returncode else None


END = Param("end", "the node whose end alone is set down", default="")
LINK_DOWN = Fault(
    name="link-down",
    on=On.LINK,
    imitates="a pulled cable or a dead transceiver; with end=NODE, a port that somebody shut, or a fibre cut as the "
    "far end sees it",
    detected_by="carrier loss at both ends, within milliseconds (BGP's fast fallover)",
    recovers="longest outage of flows; routes as designed",
    steps=_link_down,
    params=(END,),
)
FLAP = Fault(
    name="flap",
    on=On.LINK,
    imitates="a link that goes and comes: a loose connector, a transceiver that retrains. Carrier really goes, each "
    "time",
    detected_by="carrier losses in a window of time (3, 6, 10 in 10 s)",
    recovers="sessions stay up; longest outage of flows; routes as designed",
    steps=_flap,
    params=(
        Param("period", "from one carrier loss to the next", default=1.0, kind=float, least=0.02, most=3600, unit="s"),
        Param("duty", "the share of the period in which it is down", default=0.5, kind=float, least=0.01, most=0.99),
        Param("count", "how many times; 0: until it is reverted", default=0, kind=int, most=1e9),
        END,
    ),
)
MTU_MISMATCH = Fault(
    name="mtu-mismatch",
    on=On.LINK,
    imitates="a port whose MTU was set too small: what comes in larger vanishes there; what goes out larger is "
    "fragmented or answered by ICMP. A real port may take in more than its MTU says",
    detected_by="large probes fail where small ones pass",
    recovers="bytes of large packets; nothing is lost",
    steps=_mtu_mismatch,
    params=(
        Param("mtu", "of that end", default=1500, kind=int, least=1280, most=65535, unit="bytes"),
        Param("end", "the node whose end it is; empty: the first that is a switch", default=""),
    ),
)
DELAY = Fault(
    name="delay",
    on=On.LINK,
    imitates="a longer way: a detour of the optical path, a device in between that holds packets. Needs sch_netem, and "
    "ports without a soft ASIC",
    detected_by="round-trip times of probes",
    recovers="round-trip times; goodput",
    steps=_delay,
    params=(
        Param("delay", "of every packet", kind=float, least=0.001, most=10000, unit="ms"),
        Param("jitter", "by how much it varies, both ways", default=0.0, kind=float, most=10000, unit="ms"),
    ),
    one_way=True,
)

FAULTS = (LINK_DOWN, FLAP, MTU_MISMATCH, DELAY)
EXAMPLES: Mapping[str, Example] = {
    "link-down": Example("leaf1:spine1"),
    "flap": Example("leaf1:spine1", {"period": "0.4"}),
    "mtu-mismatch": Example("leaf1:spine1"),
    "delay": Example("leaf1:spine1", {"delay": "5", "jitter": "1"}, sender="leaf1"),
}
VERBS: Mapping[str, Verb] = {
    LINK_UP: _link_up,
    LINES_BACK: _lines_back,
    FLAP_END: _flap_end,
    MTU_BACK: _mtu_back,
    NETEM_OFF: _netem_off,
}
