"""What a Linux kernel forwards by, as a RouteTable."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_network

from labs.node import LiveNode
from labs.telemetry.samples import Prefix, RouteTable

# Both families in one question: a process that starts is most of what it costs.
_SHOW = r'ip -4 -j route show "$@" && printf "\036" && ip -6 -j route show "$@"'
_APART = "\036"
_DEFAULTS = ("0.0.0.0/0", "::/0")
FRR_BGP = "186"  # the kernel's number for routes that FRR's bgpd has installed (zebra/rt_netlink.h)
CONNECTED = "kernel"


def kernel_routes(node: LiveNode, *, protocol: str) -> RouteTable:
    """The unicast routes of one protocol in the main tables, IPv4 and IPv6.

    A member whose port has no carrier is still listed by the kernel, flagged ``linkdown``; the kernel does not
    use it, so it is left out.
    """
    return _routes(node, ("proto", protocol), lambda _: True)


def learned_routes(node: LiveNode) -> RouteTable:
    """The same for everything that leads over a port of the fabric and is not simply connected."""
    ports = {port.name for port in node.ports}
    return _routes(
        node, (), lambda route: str(route.get("protocol")) != CONNECTED and not _members(route).isdisjoint(ports)
    )


def _routes(node: LiveNode, chosen: tuple[str, ...], wanted: Callable[[Mapping[str, object]], bool]) -> RouteTable:
    routes: dict[Prefix, frozenset[str]] = {}
    shown = node.kernel("sh", "-c", _SHOW, "sh", *chosen, timeout=60.0).stdout.split(_APART)
    for default, said in zip(_DEFAULTS, shown, strict=False):
        for route in filter(wanted, json.loads(said.strip() or "[]")):
            prefix = ip_network(default if route["dst"] == "default" else route["dst"])
            # IPv6 lists the members of a group as routes of their own on old kernels: add, never replace.
            routes[prefix] = routes.get(prefix, frozenset()) | _members(route)
    return RouteTable(node.name, routes)


def _members(route: Mapping[str, object]) -> frozenset[str]:
    hops = route.get("nexthops")
    listed: Iterable[Mapping[str, object]] = hops if isinstance(hops, list) else (route,)
    return frozenset(
        str(hop["dev"])
        for hop in listed
        if "dev" in hop and "linkdown" not in _flags(hop) and "dead" not in _flags(hop)
    )


def _flags(hop: Mapping[str, object]) -> list[str]:
    flags = hop.get("flags")
    return flags if isinstance(flags, list) else []
