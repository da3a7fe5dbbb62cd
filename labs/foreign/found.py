"""What was found of a running lab, node by node: values, and what follows from them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from topologies.errors import SpecError
from topologies.given import Address, Interface, Prefix

ROUTING = frozenset(
    {"bgpd", "ospfd", "ospf6d", "isisd", "ripd", "ripngd", "eigrpd", "babeld", "fabricd", "pimd", "ldpd", "nhrpd"}
)
FRR = ROUTING | {"zebra"}
KIND_LABEL, TIER_LABEL = "railbed-kind", "railbed-tier"
LINUX = "linux"


@dataclass(frozen=True, slots=True)
class FoundInterface:
    """A network interface: its global addresses in the kernel's order."""

    name: str
    mac: str
    addresses: tuple[Interface, ...] = ()


@dataclass(frozen=True, slots=True)
class FoundPeer:
    """A BGP neighbour that is configured. `families` are those of 4 and 6 it carries; `off` is one shut down."""

    peer: str
    asn: int
    families: tuple[int, ...]
    off: bool = False


@dataclass(frozen=True, slots=True)
class FoundBgp:
    """One router's BGP. `origins` maps what it announces of its own to the origin code and metric."""

    asn: int
    peers: tuple[FoundPeer, ...] = ()
    origins: Mapping[Prefix, tuple[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FoundNode:
    """A running node.

    `daemons` are those of FRR that answer, `routes` the prefixes its kernel has by other means than BGP with their
    gateways (none for a connected one), `config` FRR's running configuration.
    """

    name: str
    container: str
    kind: str
    image: str = ""
    group: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    interfaces: tuple[FoundInterface, ...] = ()
    daemons: frozenset[str] = frozenset()
    routes: Mapping[Prefix, tuple[Address, ...]] = field(default_factory=dict)
    bgp: FoundBgp | None = None
    config: str = ""

    @property
    def is_router(self) -> bool:
        """True where a routing daemon runs."""
        return bool(self.daemons & ROUTING)

    @property
    def gateways(self) -> frozenset[Address]:
        """Every address that this node sends anything to."""
        return frozenset(gateway for found in self.routes.values() for gateway in found)

    def interface(self, name: str) -> FoundInterface:
        """An interface by name; one without an address when it is not there."""
        return next((one for one in self.interfaces if one.name == name), FoundInterface(name, ""))


def kind_of(node: FoundNode, kinds: tuple[str, ...], *, routes_for_others: bool = False) -> str:
    """Which kind of ours plays a node: what its label says, else what runs in it.

    FRR's daemons make it ``frr``; a Linux container without them a ``host``, whatever it does; anything else is
    ``plain``. zebra alone routes nothing: that is a host too, unless others send through it. Raises SpecError.
    """
    said = node.labels.get(KIND_LABEL)
    if said is not None:
        if said not in kinds:
            raise SpecError(f"node {node.name} is labelled {KIND_LABEL}: {said}", allowed=", ".join(sorted(kinds)))
        return said
    if node.is_router or ("zebra" in node.daemons and routes_for_others):
        return "frr"
    return "host" if node.kind == LINUX else "plain"


def natural(name: str) -> tuple[tuple[int, str | int], ...]:
    """A key that sorts eth10 after eth9."""
    return tuple((1, int(part)) if part.isdigit() else (0, part) for part in re.split(r"([0-9]+)", name) if part)
