"""What was read from a lab that somebody else designed: addresses and BGP as they are, not as our plan derives them.

A `Fabric` with a `GivenDesign` is addressed by it (topologies/addressing.py) and predicted from it, as far as that
can be done (topologies/routing.py). Values only; who reads them from a running lab is labs/foreign.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
Prefix = IPv4Network | IPv6Network

# FRR's own limit where a configuration states none (it is compiled in; Debian's and FRR's packages have this or more).
MOST_PATHS = 64


@dataclass(frozen=True, slots=True)
class GivenPort:
    """One port as it was found: its global addresses, the first of a family being the one others are told."""

    node: str
    port: str
    addresses: tuple[Interface, ...] = ()
    mac: str = ""


@dataclass(frozen=True, slots=True)
class GivenSession:
    """A BGP session that a switch has configured towards the far end of a link, and the families it carries (4, 6)."""

    link: str
    families: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GivenRouter:
    """A switch's part in routing.

    `originates` are the prefixes it announces of its own, `elsewhere` those it reaches by other means than BGP
    (connected, static), which its kernel prefers. `session_ends` counts every neighbour it has configured, also
    those on no link. `relaxed` is multipath-relax; `most_paths` the limit for IPv4 and IPv6.
    """

    node: str
    loopbacks: tuple[Address, ...] = ()
    originates: tuple[Prefix, ...] = ()
    elsewhere: tuple[Prefix, ...] = ()
    sessions: tuple[GivenSession, ...] = ()
    session_ends: int = 0
    relaxed: bool = False
    most_paths: tuple[int, int] = (MOST_PATHS, MOST_PATHS)


@dataclass(frozen=True, slots=True)
class Doubt:
    """A prefix that the oracle must not predict, and why."""

    prefix: Prefix
    because: str


@dataclass(frozen=True)
class GivenDesign:
    """All that was read. `unpredictable` says why the oracle does not hold for this lab at all, None where it does."""

    ports: tuple[GivenPort, ...] = ()
    routers: tuple[GivenRouter, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    unpredictable: str | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def _ports(self) -> Mapping[tuple[str, str], GivenPort]:
        return {(found.node, found.port): found for found in self.ports}

    @cached_property
    def _routers(self) -> Mapping[str, GivenRouter]:
        return {found.node: found for found in self.routers}

    def port(self, node: str, port: str) -> GivenPort:
        """What was found on a port; one without addresses when nothing was."""
        return self._ports.get((node, port)) or GivenPort(node, port)

    def router(self, node: str) -> GivenRouter:
        """What was found of a switch's routing; nothing when it was not asked or could not tell."""
        return self._routers.get(node) or GivenRouter(node)

    def interface(self, node: str, port: str, family: int) -> Interface | None:
        """The first address of a family on a port, with its subnet's length; None without one."""
        return next((one for one in self.port(node, port).addresses if one.version == family), None)

    def loopback(self, node: str, family: int) -> Address | None:
        """The first loopback address of a family; None without one."""
        return next((one for one in self.router(node).loopbacks if one.version == family), None)

    def doubt(self, prefix: Prefix) -> str | None:
        """Why a prefix must not be predicted; None when it may."""
        return next((found.because for found in self.doubts if found.prefix == prefix), None)

    @cached_property
    def session_ends(self) -> int:
        """How many BGP neighbours all switches together have configured."""
        return sum(router.session_ends for router in self.routers)

    @cached_property
    def announced(self) -> frozenset[Prefix]:
        """Every prefix that any switch announces."""
        return frozenset(prefix for router in self.routers for prefix in router.originates)
