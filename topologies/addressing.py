"""The address plan: every address is a function of tier, number and port, so that nothing is ever renumbered.

    loopback of a switch     10.<level>.<number, 2 bytes>/32          fd00:<level>::<number>/128
    a host's port            /31 of 10.64.0.0/10, the leaf even       fd00:64:<leaf>:<leaf's port>::/64, the leaf ::1
    a switch-to-switch link  /31 of 10.128.0.0/9, the lower end even  fd00:128:<tier, number>:<port>::/127
    a card with two ports    /32 of 10.32.0.0/11                      fd00:32:0:<host>::<nic>/128

A fabric that was read from somebody else's lab brings its own addresses (`Fabric.given`), and every function here
answers from those.

Levels: leaf 1, spine 2, core 3. `Fabric.without()` changes no address. Groups of IPv6 addresses are hexadecimal,
also 64, 128 and 32. `assembly.build()` keeps numbers and ports inside what fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from types import MappingProxyType

from topologies.errors import SpecError
from topologies.fabric import Fabric, Link, Node, Port, Tier
from topologies.given import Address, GivenDesign, Interface, Prefix

__all__ = ["Address", "Interface", "Prefix"]

FAMILIES = (4, 6)
# Everything a fabric ever uses lies in these; filters and host routes name them.
ALL_V4 = IPv4Network("10.0.0.0/8")
ALL_V6 = IPv6Network("fd00::/16")

_CARDS_V4 = int(IPv4Address("10.32.0.0"))
_HOST_PORTS_V4 = int(IPv4Address("10.64.0.0"))
_LINKS_V4 = int(IPv4Address("10.128.0.0"))
PAIRS_KEPT = 4096  # making one takes 30 us (IPv4) or 100 us (IPv6), and every view of a fabric asks for them again


@dataclass(frozen=True, slots=True)
class Nic:
    """A host's network card: its number from 1 and the ports that are cabled, by number."""

    host: str
    number: int
    ports: tuple[Port, ...]

    @property
    def shared(self) -> bool:
        """True when the card has an address of its own, reachable over each of its ports."""
        return self.ports[0].shared


def loopback(fabric: Fabric, node: Node, family: int = 4) -> Address:
    """The loopback address of a switch; its IPv4 one is also its BGP router id.

    Raises SpecError for a host, and for a switch of somebody else's lab that has none.
    """
    if not node.is_switch:
        raise SpecError(f"found host {node}", allowed="a switch: hosts have no loopback address")
    if fabric.given is not None:
        found = fabric.given.loopback(node.name, family)
        if found is None:
            raise SpecError(f"{node} has no IPv{family} loopback address", allowed="a switch that has one")
        return found
    if _is_v4(family):
        return IPv4Address(f"10.{node.tier.level}.{node.number >> 8}.{node.number & 255}")
    return IPv6Address(f"fd00:{node.tier.level}::{node.number:x}")


def loopback_prefix(fabric: Fabric, switch: Node, family: int = 4) -> Prefix:
    """The loopback as the prefix that is announced: /32 or /128. Raises SpecError as `loopback()` does."""
    return _single(loopback(fabric, switch, family))


def link_subnet(fabric: Fabric, link: Link, family: int = 4) -> Prefix:
    """The subnet of a link: /31 and /127 between switches, /31 and /64 to a host. Raises SpecError."""
    return port_interface(fabric, link.a, family).network


def port_interface(fabric: Fabric, port: Port, family: int = 4) -> Interface:
    """The address of a port with the length of its subnet. Raises SpecError for a port without a link or address."""
    link = fabric.link_at(port.node, port.name)
    if fabric.given is not None:
        found = fabric.given.interface(port.node, port.name, family)
        if found is None:
            raise SpecError(f"{port} has no IPv{family} address", allowed="a port that has one")
        return found
    a, b = _ends(fabric, link, family)
    return a if link.a.node == port.node else b


def has_address(fabric: Fabric, host: str | Node, nic: int, family: int) -> bool:
    """Whether a host's card has an address of that family: in a fabric of ours always."""
    try:
        host_address(fabric, host, nic, family)
    except SpecError:
        return False
    return True


def gateway(fabric: Fabric, port: Port, family: int = 4) -> Address:
    """The leaf's address at the other end of a host's port. Raises SpecError for a port without a link."""
    far = fabric.link_at(port.node, port.name).far(port.node)
    return port_interface(fabric, far, family).ip


def nics(fabric: Fabric, host: str | Node) -> tuple[Nic, ...]:
    """The network cards of a host that have a link, by number. Raises SpecError for an unknown node or a switch.

    In somebody else's lab a card is a port with an address.
    """
    node = fabric.node(str(host))
    if node.is_switch:
        raise SpecError(f"found switch {node}", allowed="a host: only hosts have network cards")
    cards: dict[int, list[Port]] = {}
    for port in fabric.ports(node):
        if fabric.given is not None and not fabric.given.port(node.name, port.name).addresses:
            continue
        cards.setdefault(port.nic or port.number, []).append(port)
    return tuple(Nic(node.name, number, tuple(ports)) for number, ports in sorted(cards.items()))


def host_nic(fabric: Fabric, host: str | Node, nic: int = 1) -> Nic:
    """One network card of a host. Raises SpecError when it has none of that number with a link."""
    for card in nics(fabric, host):
        if card.number == nic:
            return card
    cards = ", ".join(str(card.number) for card in nics(fabric, host))
    raise SpecError(f"no linked network card {nic} on {host}", allowed=cards or "none: no link is left")


def host_address(fabric: Fabric, host: str | Node, nic: int = 1, family: int = 4) -> Address:
    """The address under which others talk to a host's card: the card's own, or that of its only port.

    Raises SpecError when the host has no card of that number with a link.
    """
    card = host_nic(fabric, host, nic)
    if card.shared:
        return nic_address(fabric.node(card.host), nic, family)
    return port_interface(fabric, card.ports[0], family).ip


def host_prefix(fabric: Fabric, host: str | Node, nic: int = 1, family: int = 4) -> Prefix:
    """The prefix that the fabric announces for `host_address()`. Raises SpecError as that does.

    In somebody else's lab it is the longest that any switch announces; the port's own subnet when none does.
    """
    card = host_nic(fabric, host, nic)
    if fabric.given is not None:
        interface = port_interface(fabric, card.ports[0], family)
        covering = [one for one in fabric.given.announced if one.version == family and interface.ip in one]
        return max(covering, key=lambda one: one.prefixlen, default=interface.network)
    if card.shared:
        return _single(nic_address(fabric.node(card.host), nic, family))
    return port_interface(fabric, card.ports[0], family).network


def nic_address(host: Node, nic: int, family: int = 4) -> Address:
    """The address of a card with several ports, which belongs to none of them."""
    if _is_v4(family):
        return IPv4Address(_CARDS_V4 + host.number * 16 + nic)
    return IPv6Address(f"fd00:32:0:{host.number:x}::{nic:x}")


def mac(fabric: Fabric, port: Port) -> str:
    """The Ethernet address of a port: locally administered, unicast, ``02:52:`` and tier, port and number."""
    if fabric.given is not None:
        return fabric.given.port(port.node, port.name).mac
    node = fabric.node(port.node)
    octets = (
        0x02,
        0x52,
        node.tier.level << 4 | port.number >> 8,
        node.number >> 8,
        node.number & 255,
        port.number & 255,
    )
    return ":".join(f"{octet:02x}" for octet in octets)


@lru_cache(maxsize=64)
def attached(fabric: Fabric) -> Mapping[str, Mapping[Prefix, tuple[Port, ...]]]:
    """What each switch announces, and the ports behind it: none for its own loopbacks.

    These are the loopbacks, the subnets of its hosts' ports, and the addresses of cards with several ports, on
    every leaf that such a card is cabled to.
    """
    if fabric.given is not None:
        return _attached_as_given(fabric, fabric.given)
    found: dict[str, Mapping[Prefix, tuple[Port, ...]]] = {}
    for switch in fabric.switches:
        behind: dict[Prefix, tuple[Port, ...]] = {loopback_prefix(fabric, switch, family): () for family in FAMILIES}
        for link in fabric.downlinks(switch):
            host_port, port = link.far(switch.name), link.end(switch.name)
            host = fabric.node(host_port.node)
            if host.is_switch:
                continue
            for family in FAMILIES:
                behind[link_subnet(fabric, link, family)] = (port,)
                if host_port.shared:
                    card = _single(nic_address(host, host_port.nic or 1, family))
                    behind[card] = (*behind.get(card, ()), port)
        found[switch.name] = MappingProxyType(behind)
    return MappingProxyType(found)


def _attached_as_given(fabric: Fabric, given: GivenDesign) -> Mapping[str, Mapping[Prefix, tuple[Port, ...]]]:
    """What each switch was found to announce; behind a prefix are the ports whose own subnet lies in it."""
    return MappingProxyType(
        {
            switch.name: MappingProxyType(
                {
                    prefix: tuple(
                        port
                        for port in fabric.ports(switch)
                        if any(
                            one.version == prefix.version and one.ip in prefix
                            for one in given.port(switch.name, port.name).addresses
                        )
                    )
                    for prefix in given.router(switch.name).originates
                }
            )
            for switch in fabric.switches
        }
    )


def originated(fabric: Fabric) -> Mapping[str, tuple[Prefix, ...]]:
    """The prefixes each switch announces of its own, IPv4 and IPv6: the keys of `attached()`."""
    return {switch: tuple(prefixes) for switch, prefixes in attached(fabric).items()}


def _ends(fabric: Fabric, link: Link, family: int) -> tuple[Interface, Interface]:
    """The addresses of a link's ends, `a` first."""
    a, b = fabric.node(link.a.node), fabric.node(link.b.node)
    if not a.is_switch:
        if b.tier is not Tier.LEAF:
            raise SpecError(f"found link {link} from a host to a {b.tier}", allowed="hosts are cabled to leaves only")
        leaf, host = _host_link(b, link.b, family)
        return host, leaf
    if not _is_v4(family):
        prefix = f"fd00:128:{a.tier.level << 12 | a.number:x}:{link.a.number:x}"
        return _pair_v6(prefix, 0, 127)
    return _pair_v4(_LINKS_V4 + (((a.tier.level << 10 | a.number) << 10 | link.a.number) << 1))


def _host_link(leaf: Node, port: Port, family: int) -> tuple[Interface, Interface]:
    """The addresses at a leaf's port and at the host behind it."""
    if not _is_v4(family):
        return _pair_v6(f"fd00:64:{leaf.number:x}:{port.number:x}", 1, 64)
    return _pair_v4(_HOST_PORTS_V4 + (leaf.number << 11 | port.number << 1))


@lru_cache(PAIRS_KEPT)
def _pair_v4(low: int) -> tuple[Interface, Interface]:
    """Two addresses in a row, in their /31."""
    return IPv4Interface((low, 31)), IPv4Interface((low + 1, 31))


@lru_cache(PAIRS_KEPT)
def _pair_v6(prefix: str, low: int, length: int) -> tuple[Interface, Interface]:
    """Two addresses in a row under the first four groups."""
    return IPv6Interface(f"{prefix}::{low}/{length}"), IPv6Interface(f"{prefix}::{low + 1}/{length}")


def _single(address: Address) -> Prefix:
    """The prefix of one address: /32 or /128."""
    return IPv4Network(address) if isinstance(address, IPv4Address) else IPv6Network(address)


def _is_v4(family: int) -> bool:
    if family not in FAMILIES:
        raise SpecError(f"found IP family {family}", allowed="4 or 6")
    return family == 4
