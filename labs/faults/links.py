"""Faults of cables and ports."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from labs import kernel
from labs.errors import NotReady, SpecError
from labs.faults.fault import Example, Fault, On, Param, Site, Step
from labs.faults.undoing import Verb
from labs.index import LINK_UP
from labs.lab import Lab
from topologies.fabric import Port

LINES_BACK = "ip-lines"


def _link_down(site: Site) -> Sequence[Step]:
    """Set switches' ends of a cable down. A host's own end stays: its static routes would go with it for good."""
    lab, cut, only = site.lab, site.cable, str(site.params["end"])
    if only and only not in {port.node for port in cut.ends}:
        raise SpecError(f"end={only}", allowed=" | ".join(port.node for port in cut.ends))
    ends = [port for port in cut.ends if lab.fabric.node(port.node).is_switch and only in {"", port.node}]
    if not ends:
        raise SpecError(f"end={only}: a host's own end stays up", allowed=cut.far(only).node)
    kept = [_kept(site, port) for port in ends] if lab.fabric.given is not None else []
    return [*kept, *(_down(site, port) for port in ends)]


def _down(site: Site, port: Port) -> Step:
    netdev = site.netdev(port)

    def make() -> None:
        try:
            with kernel.inside_netns(site.lab.deployment.netns(port.node)):
                kernel.set_link(netdev, up=False)
        except OSError as error:
            raise NotReady(f"{port} cannot be set down: {error}") from None

    return Step(LINK_UP, {"node": port.node, "netdev": netdev}, make, (f"{port.node}/{port.name}/admin",))


def _link_up(lab: Lab, args: Mapping[str, Any]) -> None:
    """Set an interface up again; a namespace that is gone needs nothing."""
    with suppress(OSError), kernel.inside_netns(lab.deployment.netns(args["node"])):
        kernel.set_link(args["netdev"], up=True)


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
    for family in ("-4", "-6"):
        for protocol in ("boot", "static"):
            said = node.kernel("ip", family, "route", "show", "proto", protocol, "dev", netdev).stdout
            lines += [
                f"{family} route replace {line.replace(' linkdown', '').strip()} dev {netdev} proto {protocol}"
                for line in said.splitlines()
            ]
    args = {"node": port.node, "lines": lines}
    return Step(LINES_BACK, args, _nothing, ())


def _nothing() -> None:
    """What is only written down is made by another step."""


def _lines_back(lab: Lab, args: Mapping[str, Any]) -> None:
    """Give back what was written down, by the arguments of ``ip``; what is there again needs nothing."""
    node = lab.node(args["node"])
    for line in args["lines"]:
        node.channel.kernel("ip", *line.split())


LINK_DOWN = Fault(
    name="link-down",
    on=On.LINK,
    imitates="a pulled cable or a dead transceiver; with end=NODE, a port that somebody shut, or a fibre cut as the "
    "far end sees it",
    detected_by="carrier loss at both ends, within milliseconds (BGP's fast fallover)",
    recovers="longest outage of flows; routes as designed",
    steps=_link_down,
    params=(Param("end", "the node whose end alone is set down", default=""),),
)

FAULTS = (LINK_DOWN,)
EXAMPLES: Mapping[str, Example] = {"link-down": Example("leaf1:spine1")}
VERBS: Mapping[str, Verb] = {LINK_UP: _link_up, LINES_BACK: _lines_back}
