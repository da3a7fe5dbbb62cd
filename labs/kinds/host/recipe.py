"""What a host is rendered to: its addresses and routes, as one batch for ``ip`` per family."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from labs.kinds import linux
from labs.spec import LabSpec
from topologies import addressing
from topologies.addressing import Nic
from topologies.fabric import Fabric, Node

# Rules and tables of a host with several cards: card r answers from its own address through its own rail.
RAIL_TABLE = 100


class HostRecipe:
    """See labs.kinds.base.Recipe."""

    def container(self, node: Node, fabric: Fabric, spec: LabSpec) -> Mapping[str, object]:
        """A Linux container with traffic tools in it; see Recipe."""
        del fabric
        image = spec.images.get(node.name) or spec.images.get("host", "railbed/host")
        return linux.container(node, image, linux.sysctls(node, spec), linux.HOST_CAPABILITIES)

    def files(self, node: Node, fabric: Fabric, spec: LabSpec) -> Mapping[PurePosixPath, str]:
        """See Recipe."""
        batches = {
            PurePosixPath(f"/run/railbed/addresses{family}"): "\n".join(_batch(node, fabric, family)) + "\n"
            for family in ((4, 6) if spec.ipv6 else (4,))
        }
        boot = "".join(f"ip -{path.name[-1]} -batch {path}\n" for path in batches)
        start = linux.start(fabric.ports(node), linux.PORTS, "boot")
        return {**batches, PurePosixPath("/run/railbed/boot"): boot, PurePosixPath("/run/railbed/start"): start}

    def private(self) -> tuple[str, ...]:
        """See Recipe."""
        return ("/run",)

    def logs(self) -> Mapping[str, str]:
        """See Recipe."""
        return {}

    def programs(self) -> Mapping[str, str]:
        """See Recipe."""
        return {"iperf3": "iperf3"}


def _batch(node: Node, fabric: Fabric, family: int) -> Iterator[str]:
    """Addresses, then the default route over card 1, then what keeps each further card on its own rail.

    An IPv6 address without `nodad` is tentative for a moment, and no route may name it as its source until then.
    """
    nodad = " nodad" if family == 6 else ""
    for port in fabric.ports(node):
        yield f"addr replace {addressing.port_interface(fabric, port, family)} dev {port.name}{nodad}"
    cards = addressing.nics(fabric, node)
    for nic in cards:
        address = addressing.host_address(fabric, node, nic.number, family)
        hops = _hops(fabric, nic, family)
        if nic.shared:
            yield f"addr replace {address}/{address.max_prefixlen} dev lo{nodad}"
        if nic == cards[0]:
            yield f"route replace default src {address} {hops}"
        if len(cards) > 1:
            yield f"rule add from {address} lookup {RAIL_TABLE + nic.number}"
            yield f"route replace default table {RAIL_TABLE + nic.number} src {address} {hops}"
            for prefix in _rail(fabric, nic, family):
                yield f"route replace {prefix} src {address} {hops}"


def _hops(fabric: Fabric, nic: Nic, family: int) -> str:
    """The gateways of a card: one, or one per port as equal-cost members.

    `onlink`: a host may boot while the far end of a cable is without power, and the kernel would not take the route.
    """
    words = [f"via {addressing.gateway(fabric, port, family)} dev {port.name} onlink" for port in nic.ports]
    return words[0] if len(words) == 1 else " ".join(f"nexthop {word}" for word in words)


def _rail(fabric: Fabric, nic: Nic, family: int) -> Iterator[object]:
    """The prefixes of every other host's card of the same number: a rail's traffic leaves by that rail's card."""
    for host in fabric.hosts:
        if host.name != nic.host and nic.number in {card.number for card in addressing.nics(fabric, host)}:
            yield addressing.host_prefix(fabric, host, nic.number, family)


RECIPE = HostRecipe()
