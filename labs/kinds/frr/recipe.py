"""What an FRR switch is rendered to: frr.conf, and the files that start its daemons and give them that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

import jinja2

from labs.kinds import linux
from labs.spec import LabSpec, SessionAddressing
from topologies import addressing
from topologies.fabric import Fabric, Node, Port, Tier

# vtysh reads frr.conf as one file for all daemons only when told so, in the file it reads before that one.
VTYSH_CONF = "service integrated-vtysh-config\n"
# How long a switch gathers sessions that come up before it tells them its routes. FRR's own second is most of what
# a small fabric waits for; too little, and a switch with many peers computes its routes anew for each of them.
COALESCE_LEAST_MS = 100
COALESCE_MS_PER_PEER = 10
_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("labs.kinds.frr", "."),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,  # noqa: S701 - router configuration, not HTML; names are checked before they come here
)


class FrrRecipe:
    """See labs.kinds.base.Recipe."""

    def container(self, node: Node, fabric: Fabric, spec: LabSpec) -> Mapping[str, object]:
        """A Linux container of an image with FRR in it; see Recipe."""
        del fabric
        image = spec.images.get(node.name) or spec.images.get("frr", "railbed/frr")
        return linux.container(node, image, linux.sysctls(node, spec), linux.SWITCH_CAPABILITIES)

    def files(self, node: Node, fabric: Fabric, spec: LabSpec) -> Mapping[PurePosixPath, str]:
        """See Recipe."""
        context = _context(node, fabric, spec)
        after = ("after",) if spec.lldp else ()
        return {
            PurePosixPath("/etc/frr/frr.conf"): _TEMPLATES.get_template("frr.conf.j2").render(context),
            PurePosixPath("/etc/frr/vtysh.conf"): VTYSH_CONF,
            # Cables first: FRR 10.3's zebra aborts at an interface that is renamed while it starts (FRR issue 21950).
            PurePosixPath("/run/railbed/start"): linux.start(fabric.ports(node), linux.PORTS, "boot", "join", *after),
            **{
                PurePosixPath(f"/run/railbed/{step}"): _TEMPLATES.get_template(f"{step}.j2").render(context)
                for step in ("boot", "join", *after)
            },
        }

    def private(self) -> tuple[str, ...]:
        """See Recipe."""
        return ("/run", "/etc/frr", "/var/tmp", "/var/log/frr")  # noqa: S108 - in the node, in memory

    def logs(self) -> Mapping[str, str]:
        """See Recipe."""
        return {"/var/log/frr": "frr.log"}

    def programs(self) -> Mapping[str, str]:
        """See Recipe."""
        return {"/usr/lib/frr/bgpd": "frr", "vtysh": "frr"}


def _context(node: Node, fabric: Fabric, spec: LabSpec) -> dict[str, object]:
    """Everything the templates may name."""
    announced = addressing.originated(fabric)[node.name]
    routes = list(_nic_routes(node, fabric, spec))
    peers = [_peer(fabric, port, spec) for port in fabric.ports(node) if _is_fabric_port(fabric, port)]
    return {
        "node": node,
        "bgp": spec.bgp,
        "ipv6": spec.ipv6,
        "loopback": {4: addressing.loopback(fabric, node, 4), 6: addressing.loopback(fabric, node, 6)},
        "ports": [_port(fabric, port, spec) for port in fabric.ports(node)],
        "peers": peers,
        "coalesce_ms": max(COALESCE_LEAST_MS, COALESCE_MS_PER_PEER * len(peers)),
        "networks": {version: [p for p in announced if p.version == version] for version in (4, 6)},
        "routes": routes,
        "daemons": [
            *(["staticd"] if routes else []),
            "bgpd",
            *(["bfdd"] if spec.bgp.bfd else []),
        ],
    }


def _port(fabric: Fabric, port: Port, spec: LabSpec) -> dict[str, object]:
    """An interface: unnumbered fabric ports have no address of ours and advertise themselves instead."""
    unnumbered = _is_fabric_port(fabric, port) and spec.bgp.addressing is SessionAddressing.UNNUMBERED
    return {
        "name": port.name,
        "far": fabric.link_at(port.node, port.name).far(port.node),
        "v4": [] if unnumbered else [addressing.port_interface(fabric, port, 4)],
        "v6": [] if unnumbered or not spec.ipv6 else [addressing.port_interface(fabric, port, 6)],
        "advertises": unnumbered,
    }


def _peer(fabric: Fabric, port: Port, spec: LabSpec) -> dict[str, object]:
    far = fabric.link_at(port.node, port.name).far(port.node)
    unnumbered = spec.bgp.addressing is SessionAddressing.UNNUMBERED
    return {
        "interface": unnumbered,
        "id": port.name if unnumbered else addressing.port_interface(fabric, far, 4).ip,
        # BFD begins before BGP does. Not told its source, FRR makes its session anew once BGP knows the address,
        # and takes the end of the old one for a failure: every BGP session would go down once.
        "source": addressing.port_interface(fabric, port, 4).ip,
        "asn": fabric.node(far.node).asn,
        "name": far.node,
    }


def _nic_routes(node: Node, fabric: Fabric, spec: LabSpec) -> Iterator[dict[str, object]]:
    """A route to each card that hangs on this leaf by one of its several ports: its address is on no subnet."""
    for port in fabric.ports(node):
        far = fabric.link_at(node, port.name).far(node.name)
        if not far.shared:
            continue
        for family, word in ((4, "ip"), (6, "ipv6")):
            if family == 6 and not spec.ipv6:
                continue
            card = addressing.host_prefix(fabric, far.node, far.nic or 1, family)
            yield {"word": word, "prefix": card, "via": addressing.port_interface(fabric, far, family).ip}


def _is_fabric_port(fabric: Fabric, port: Port) -> bool:
    return fabric.node(fabric.link_at(port.node, port.name).far(port.node).node).tier is not Tier.HOST


RECIPE = FrrRecipe()
