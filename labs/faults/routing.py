"""Faults of routing: sessions reset, maintenance, routes that are wrong, missing or lead nowhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from labs.errors import CapabilityMissing, NotReady, SpecError
from labs.faults.fault import Example, Fault, On, Param, Site, Step, some
from labs.faults.nodes import check_running
from labs.faults.undoing import Verb
from labs.kinds import driver, software
from labs.lab import Lab
from labs.node import LiveNode
from topologies import addressing
from topologies.fabric import Port

OVER = "over"
UNDRAIN = "undrain"
ANNOUNCE = "announce"
ROUTE_GONE = "route-gone"
PROTOCOL = "static"
NO_SUCH_ROUTE = "No such process"

Prefix = IPv4Network | IPv6Network


def _reset(site: Site) -> Sequence[Step]:
    node, peer = site.node, str(site.params["peer"])
    check_running(site.lab, node.name)
    known = sorted(session.peer for session in driver(node.kind).sessions(node))
    if peer != "*" and peer not in known:
        raise SpecError(f"peer={peer}", allowed=some(["*", *known]))
    control = software(node.kind)
    return [Step(OVER, {}, lambda: control.reset(node, peer), (f"{node.name}/bgpd/sessions",))]


def _over(lab: Lab, args: Mapping[str, Any]) -> None:
    """What comes back by itself needs nothing."""
    del lab, args


def _drain(site: Site) -> Sequence[Step]:
    node = site.node
    check_running(site.lab, node.name)
    of = driver(node.kind)
    if not of.sessions(node):
        raise CapabilityMissing("drain", f"{node.name} has no BGP session: nobody could be told")
    if software(node.kind).drained(node):
        raise SpecError(f"drain: {node.name} is drained already", allowed="a switch that is not")
    return [Step(UNDRAIN, {"node": node.name}, lambda: of.drain(node, on=True), (f"{node.name}/bgpd/drain",))]


def _undrain(lab: Lab, args: Mapping[str, Any]) -> None:
    check_running(lab, args["node"])
    node = lab.node(args["node"])
    driver(node.kind).drain(node, on=False)


def _withdraw(site: Site) -> Sequence[Step]:
    node = site.node
    check_running(site.lab, node.name)
    control = software(node.kind)
    own = addressing.originated(site.lab.fabric).get(node.name, ())
    prefix = _prefix(site, own)
    if prefix not in own:
        raise SpecError(f"prefix={prefix}", allowed=some(str(one) for one in own))
    if not control.announces(node, str(prefix)):
        raise SpecError(f"prefix={prefix}: {node.name} has no `network` line for it", allowed="a prefix that has one")
    args = {"node": node.name, "prefix": str(prefix)}
    claims = (f"{node.name}/bgpd/announces/{prefix}",)
    return [Step(ANNOUNCE, args, lambda: control.announce(node, str(prefix), on=False), claims)]


def _announce(lab: Lab, args: Mapping[str, Any]) -> None:
    check_running(lab, args["node"])
    node = lab.node(args["node"])
    software(node.kind).announce(node, args["prefix"], on=True)


def _blackhole(site: Site) -> Sequence[Step]:
    prefix = _prefix(site, _of_others(site, site.target))
    return [_wrong_route(site, site.node, prefix, f"blackhole {prefix} proto {PROTOCOL}")]


def _loop(site: Site) -> Sequence[Step]:
    ends = site.cable.ends
    host = next((port.node for port in ends if not site.lab.fabric.node(port.node).is_switch), None)
    if host:
        raise SpecError(f"target {site.cable}: {host} is a host", allowed="a link between two switches")
    prefix = _prefix(site, _of_others(site, *(port.node for port in ends)))
    steps = []
    for port in ends:
        node = site.lab.node(port.node)
        way = f"via {_gateway(site, port, prefix.version)} dev {site.netdev(port)} proto {PROTOCOL}"
        steps.append(_wrong_route(site, node, prefix, f"{prefix} {way}"))
    return steps


def _wrong_route(site: Site, node: LiveNode, prefix: Prefix, route: str) -> Step:
    """One route more than routing gives, which the kernel prefers; nobody else may have one there that is like it."""
    check_running(site.lab, node.name)
    family = f"-{prefix.version}"
    said = node.kernel("ip", family, "route", "show", "exact", str(prefix), "proto", PROTOCOL).stdout.strip()
    if said:
        raise SpecError(f"prefix={prefix}: {node.name} has a static route for it ({said})", allowed="another prefix")
    args = {"node": node.name, "family": family, "route": route}

    def make() -> None:
        node.kernel("ip", family, "route", "add", *route.split())

    return Step(ROUTE_GONE, args, make, (f"{node.name}/routes/{prefix}",))


def _route_gone(lab: Lab, args: Mapping[str, Any]) -> None:
    """Delete exactly that route; what a power cut or a cut link has taken is gone already."""
    check_running(lab, args["node"])
    node = lab.node(args["node"])
    said = node.channel.kernel("ip", args["family"], "route", "del", *args["route"].split())
    if not said.ok and NO_SUCH_ROUTE not in said.stderr:
        raise NotReady(f"{node.name}: ip route del {args['route']}: {said.stderr.strip()}")


def _prefix(site: Site, candidates: Sequence[Prefix]) -> Prefix:
    """The prefix that was named, or the first of the largest IPv4 candidates: hosts' networks, not loopbacks."""
    named = str(site.params["prefix"])
    if named:
        try:
            return ip_network(named)
        except ValueError as error:
            raise SpecError(f"prefix={named}: {error}", allowed="a network, as 10.1.2.0/24") from None
    usual = [one for one in candidates if one.version == 4]
    if not usual:
        raise SpecError("no prefix: nobody announces one that would do", allowed="--param prefix=NETWORK")
    return min(usual, key=lambda one: one.prefixlen)


def _of_others(site: Site, *nodes: str) -> list[Prefix]:
    found = addressing.originated(site.lab.fabric)
    return [prefix for node, prefixes in found.items() if node not in nodes for prefix in prefixes]


def _gateway(site: Site, port: Port, version: int) -> str:
    """The far end of a port as this switch's own routes name it: an address, with its family where that differs."""
    netdev = site.netdev(port)
    said = site.lab.node(port.node).kernel("ip", f"-{version}", "-j", "route", "show").stdout
    for route in json.loads(said or "[]"):
        for hop in route.get("nexthops") or (route,):
            if hop.get("dev") != netdev:
                continue
            if "gateway" in hop:
                return str(hop["gateway"])
            if "via" in hop:
                return f"{hop['via']['family']} {hop['via']['host']}"
    raise NotReady(f"{port.node} has no route over {netdev}, so its neighbour's address is not known")


BGP_RESET = Fault(
    name="bgp-reset",
    on=On.SWITCH,
    imitates="an operator's hard reset (clear bgp), or a session that a peer has closed by a notification",
    detected_by="at once, at both ends; without graceful restart routes of the peer go with it",
    recovers="sessions established; routes as designed; longest outage of flows",
    steps=_reset,
    params=(Param("peer", "a peer as `railbed sessions` names it, * for all", "*"),),
    lasts=False,
)
DRAIN = Fault(
    name="drain",
    on=On.SWITCH,
    imitates="maintenance: the switch asks its neighbours to take other ways (graceful shutdown, RFC 8326) and goes on "
    "forwarding; taking the fault back is the undrain. SONiC's TSA changes route maps instead, to the same end",
    detected_by="nobody has to: neighbours are told",
    recovers="packets lost (none, either way); routes as designed",
    steps=_drain,
)
WITHDRAWN = Fault(
    name="route-withdrawn",
    on=On.SWITCH,
    imitates="a prefix that its switch announces no longer, by a slip in its configuration; whoever hangs behind it is "
    "there and nobody knows the way",
    detected_by="routes differ from the design",
    recovers="routes as designed; reachability of the prefix",
    steps=_withdraw,
    params=(Param("prefix", "a network that the switch announces; by default its first of hosts", ""),),
)
BLACKHOLE = Fault(
    name="blackhole-route",
    on=On.SWITCH,
    imitates="a null route left behind: this switch drops what goes to the prefix while BGP still announces it, so "
    "neighbours keep sending",
    detected_by="routes differ from the design; probes through the switch are lost, sessions stay",
    recovers="routes as designed; packets lost",
    steps=_blackhole,
    params=(Param("prefix", "a network; by default the first of hosts behind another switch", ""),),
)
LOOP = Fault(
    name="static-loop",
    on=On.LINK,
    imitates="two static routes that point a prefix at each other: each packet crosses the link until its TTL is used "
    "up, which multiplies the load on it (with PFC a deadlock from rate > 2B/TTL on)",
    detected_by="routes differ from the design; TTL exceeded; load of the link beyond what is sent",
    recovers="routes as designed; load of the link",
    steps=_loop,
    params=(Param("prefix", "a network; by default the first of hosts behind other switches", ""),),
)

FAULTS = (BGP_RESET, DRAIN, WITHDRAWN, BLACKHOLE, LOOP)
EXAMPLES: Mapping[str, Example] = {
    "bgp-reset": Example("leaf1"),
    "drain": Example("spine1"),
    "route-withdrawn": Example("leaf2"),
    "blackhole-route": Example("spine1"),
    "static-loop": Example("leaf1:spine1"),
}
VERBS: Mapping[str, Verb] = {OVER: _over, UNDRAIN: _undrain, ANNOUNCE: _announce, ROUTE_GONE: _route_gone}
