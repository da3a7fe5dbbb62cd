"""Cables that were plugged into each other's port.

Two cables end at one switch, each in the other's port: as on a patch panel, nobody cuts anything. The cables are veth
pairs whose ends cannot be joined anew, so what changes hands is all that makes an end of one a port of the switch:
name, hardware address, MTU, IP addresses, queues. An end is known again by its interface number, which stays.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from labs import index
from labs.errors import CapabilityMissing, NotReady, SpecError
from labs.faults.daemons import as_it_runs, runs, start_anew
from labs.faults.fault import Example, Fault, On, Param, Site, Step, some
from labs.faults.kept_routes import give_back, kept_routes
from labs.faults.nodes import check_running
from labs.faults.undoing import Verb
from labs.kinds import driver, software
from labs.lab import Lab
from labs.node import LiveNode
from labs.telemetry.records import Note
from labs.telemetry.telling import tell
from labs.waiting import wait_until
from topologies.fabric import Fabric, Link, Port

BGP_DAEMON = "bgpd"
REMEMBERS_S = 2.0  # zebra tells bgpd of a port that came up within some 0.1 s
OUT_S = 1.0  # BFD in the catalog's labs misses a peer after 0.9 s (300 ms x 3)
AS_PLANNED, DONE_BY_THAT = "cables-as-planned", "with-the-cables"


def _swapped(site: Site) -> Sequence[Step]:
    """Pull both, plug the ends in, give the ports back what is theirs. One undo serves, however far that came."""
    lab, fabric = site.lab, site.lab.fabric
    cables = (site.cable, fabric.link(str(site.params["other"])))
    at = shared_switch(fabric, *cables)
    check_running(lab, at)
    ends = [cable.end(at) for cable in cables]
    _check_plain(site, ends)
    ports = [_port(site, port, cable) for port, cable in zip(ends, cables, strict=True)]
    args = {"node": at, "ports": ports, "out_s": site.params["out_s"], "bgp": _speaker(lab, lab.node(at))}
    return [
        Step(AS_PLANNED, args, partial(_pull, lab, args), tuple(f"{at}/{port.name}" for port in ends)),
        Step(DONE_BY_THAT, {}, partial(_move, lab, args, crossed=True), ()),
        Step(DONE_BY_THAT, {}, partial(_plug, lab, args, crossed=True), ()),
    ]


def _speaker(lab: Lab, node: LiveNode) -> Mapping[str, Any] | None:
    """The daemon that speaks BGP, as it runs: it may have to be started anew (`_remember`)."""
    if BGP_DAEMON not in driver(node.kind).daemons(node):
        return None
    try:
        return as_it_runs(lab, node, BGP_DAEMON)
    except NotReady:  # it is dead already, and forgets nothing
        return None


def shared_switch(fabric: Fabric, one: Link, other: Link) -> str:
    """The switch at which two cables can be swapped. Raises SpecError where there is none."""
    if one == other:
        raise SpecError(f"other={other}: the cable itself", allowed="another cable")
    for end in reversed(one.ends):  # the upper tier first
        if fabric.node(end.node).is_switch and end.node in {port.node for port in other.ends}:
            return end.node
    near = [link.name for end in one.ends if fabric.node(end.node).is_switch for link in fabric.links_of(end.node)]
    raise SpecError(
        f"other={other}: no switch has both cables", allowed=some(name for name in near if name != one.name)
    )


def _check_plain(site: Site, ends: Sequence[Port]) -> None:
    """Raise CapabilityMissing where more hangs on a port than is moved: it would go with the cable's end."""
    links = _asked(site.lab.node(ends[0].node), "-d", "link", "show")
    for port in ends:
        hangs = entangled(links, site.netdev(port))
        if hangs:
            because = f"{port} {hangs}, which would go with the cable"
            raise CapabilityMissing("swapped-cables", because, remedy="swap cables of ports that are nothing but ports")


def entangled(links: Sequence[Mapping[str, Any]], netdev: str) -> str | None:
    """What a port belongs to, or what is stacked on it, among links as ``ip -d -j link`` shows them; None for neither.

    The other end of a veth pair in the same namespace is shown as if one were stacked on the other.
    """
    for one in links:
        about = one.get("linkinfo") or {}
        data = about.get("info_data") or {}
        if one["ifname"] == netdev and "master" in one:
            return f"belongs to {one['master']}"
        if about.get("info_kind") != "veth" and netdev in {one.get("link"), data.get("link")}:
            return f"carries {one['ifname']}"
    return None


def _port(site: Site, port: Port, cable: Link) -> Mapping[str, Any]:
    """All that makes an end of a cable this port, and which end is in it as planned."""
    node, netdev = site.lab.node(port.node), site.netdev(port)
    found = _asked(node, "addr", "show", "dev", netdev)[0]
    far = cable.far(port.node)
    return {
        "port": port.name,
        "netdev": netdev,
        "number": found["ifindex"],
        "mac": found["address"],
        "mtu": found["mtu"],
        "up": "UP" in found["flags"],
        "addresses": [_address(one) for one in found["addr_info"] if one.get("scope") != "link"],
        "routes": kept_routes(node, netdev),
        "far": [far.node, far.name],
    }


def _asked(node: LiveNode, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(node.kernel("ip", "-j", *words).stdout or "[]")
    return [one for one in found if one]


def _address(found: Mapping[str, Any]) -> str:
    """An address in the words of ``ip addr replace``; those of a link alone follow from the hardware address."""
    words = [f"{found['local']}/{found['prefixlen']}", *(["nodad"] if found["family"] == "inet6" else [])]
    words += ["brd", found["broadcast"]] if "broadcast" in found else []
    return " ".join(words)


def _pull(lab: Lab, args: Mapping[str, Any]) -> None:
    """Both ends lose carrier, and all that makes them ports. The soft ASIC lets go of the switch meanwhile."""
    node = lab.node(args["node"])
    names = _names(node, args)
    if lab.asic is not None and lab.asic.alive:
        lab.asic.leave(node.name)
    _ip(node, [f"link set dev {name} down" for name in names.values()])
    _ip(node, [f"addr flush dev {name}" for name in names.values()])


def _move(lab: Lab, args: Mapping[str, Any], *, crossed: bool) -> None:
    """A hand takes its time: a far end whose BFD has not missed us yet would end the session that is made anew."""
    node, until = lab.node(args["node"]), time.monotonic() + float(args["out_s"])
    wait_until("the cables were out for their time", time.monotonic, lambda now: now >= until, within=3600, most=0.02)
    _ip(node, moves(_names(node, args), args["ports"], crossed=crossed))


def moves(now: Mapping[int, str], ports: Sequence[Mapping[str, Any]], *, crossed: bool) -> list[str]:
    """How two ends, by number, become the two ports, in the words of ``ip``; nothing moves that is in its place.

    A name is free before it is taken: who has one that the other gets is called otherwise first. All that makes it that
    port comes before the name: at the name FRR sets it up, and its link-local address follows from its hardware's.
    """
    numbers = [port["number"] for port in ports]
    wanted = dict(zip(reversed(numbers) if crossed else numbers, ports, strict=True))
    misnamed = [number for number, port in wanted.items() if now[number] != port["netdev"]]
    names = {port["netdev"] for port in ports}
    passing = {number: f"rbswap{number}" for number in misnamed if now[number] in names}
    between = {**now, **passing}
    return [
        *(f"link set dev {now[number]} name {name}" for number, name in passing.items()),
        *(f"link set dev {between[n]} address {port['mac']} mtu {port['mtu']}" for n, port in wanted.items()),
        *(f"link set dev {between[number]} name {wanted[number]['netdev']}" for number in misnamed),
    ]


def _plug(lab: Lab, args: Mapping[str, Any], *, crossed: bool) -> None:
    """The soft ASIC takes the ports again, told whom they are cabled to; then they get addresses, carrier, routes.

    Where it fails they get them all the same: no port stays dark for it, and the error comes afterwards.
    """
    node, ports = lab.node(args["node"]), args["ports"]
    try:
        _recable(lab, node, ports, crossed=crossed)
    finally:
        _light(node, ports, crossed=crossed)
    if args.get("bgp") is not None:
        _remember(lab, node, args["bgp"])


def _remember(lab: Lab, node: LiveNode, speaker: Mapping[str, Any]) -> None:
    """See that BGP has the next hops which the switch has.

    A port's name passes from one interface to another here, which never happens to a switch; bgpd of FRR 8.4 has been
    seen to take all next hops for lost then, seldom, other ports' too, and is not told anew.
    """
    forgetful = software(node.kind).forgetful
    looked = wait_until("BGP has every next hop", lambda: forgetful(node), lambda lost: not lost, within=REMEMBERS_S)
    if looked.held:
        return
    begun = _begun(lab, node.name)
    begun.touch()
    start_anew(lab, speaker)
    begun.unlink()
    text = f"{node.name}: {BGP_DAEMON} was started anew: it had lost {', '.join(looked.last)}, which the switch reaches"
    tell(lab.name, Note(t=time.monotonic_ns(), text=text))


def _begun(lab: Lab, node: str) -> Path:
    """Is there while a switch's BGP is started anew: who does that may be killed between its end and its start."""
    return index.lab_dir(lab.name) / f"{node}.{BGP_DAEMON}-anew"


def _recable(lab: Lab, node: LiveNode, ports: Sequence[Mapping[str, Any]], *, crossed: bool) -> None:
    if lab.asic is None or not lab.asic.alive:
        return
    fars = [port["far"] for port in (reversed(ports) if crossed else ports)]
    lab.asic.recable(((node.name, port["port"]), (far[0], far[1])) for port, far in zip(ports, fars, strict=True))
    lab.asic.refresh()


def _light(node: LiveNode, ports: Sequence[Mapping[str, Any]], *, crossed: bool) -> None:
    lines = [f"addr replace {address} dev {port['netdev']}" for port in ports for address in port["addresses"]]
    _ip(node, [*lines, *(f"link set dev {port['netdev']} up" for port in ports if port["up"])])
    refused = give_back(node, [route for port in ports for route in port["routes"]])
    if refused and not crossed:  # in the wrong port a route need not be possible
        raise NotReady("; ".join(refused))


def _names(node: LiveNode, args: Mapping[str, Any]) -> Mapping[int, str]:
    """What the two ends are called now. Raises NotReady for one that is gone."""
    found = {one["ifindex"]: one["ifname"] for one in _asked(node, "link", "show")}
    gone = [port for port in args["ports"] if port["number"] not in found]
    if gone:
        raise NotReady(
            f"{node.name} has no interface {gone[0]['number']} any more: the cable of {gone[0]['netdev']} is gone",
            remedy=f"railbed down, then railbed up: the cables of {node.name} are to be made anew",
        )
    return {port["number"]: found[port["number"]] for port in args["ports"]}


def _ip(node: LiveNode, lines: Sequence[str]) -> None:
    if lines:
        node.kernel("ip", "-batch", "-", stdin="\n".join(lines) + "\n")


def _as_planned(lab: Lab, args: Mapping[str, Any]) -> None:
    """Both ends in their own ports, from wherever they are; begun anew where that was cut short."""
    check_running(lab, args["node"])
    if args.get("bgp") is not None and (begun := _begun(lab, args["node"])).exists():
        runs(lab, args["bgp"])
        begun.unlink()
    _pull(lab, args)
    _move(lab, args, crossed=False)
    _plug(lab, args, crossed=False)


def _done_by_that(lab: Lab, args: Mapping[str, Any]) -> None:
    """What the undo of the first step takes back with it."""
    del lab, args


SWAPPED = Fault(
    name="swapped-cables",
    on=On.LINK,
    imitates="two cables in each other's port of a switch: carrier everywhere, and packets come in where others were "
    "to. Numbered sessions do not come up, as addresses do not fit; unnumbered ones may, where both far ends have one "
    "AS number, and then all looks well",
    detected_by="LLDP beside the design (railbed cabling, the verdict wired_as_planned), which names both",
    recovers="every cable where the design has it; sessions; routes as designed",
    steps=_swapped,
    params=(
        Param("other", "the other cable: a link at the same switch"),
        Param("out_s", "how long both are in no port, whenever they are moved", OUT_S, float, 0, 600, unit="s"),
    ),
)

FAULTS = (SWAPPED,)
EXAMPLES: Mapping[str, Example] = {"swapped-cables": Example("leaf1:spine1", {"other": "leaf2:spine1"})}
VERBS: Mapping[str, Verb] = {AS_PLANNED: _as_planned, DONE_BY_THAT: _done_by_that}
