"""A fabric as frozen values: what is cabled to what, and the views derived from it.

A `Fabric` is the design. It never changes; `without()` gives a new one. Nothing here knows which software
will play a node, or whether anything runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from topologies.errors import SpecError
from topologies.given import GivenDesign
from topologies.units import GBIT


class Tier(StrEnum):
    """Where a node stands. Links join any two tiers; `level` orders them from the hosts upwards."""

    HOST = "host"
    LEAF = "leaf"
    SPINE = "spine"
    CORE = "core"

    @property
    def level(self) -> int:
        """0 for a host, 3 for a core switch."""
        return _LEVELS[self]


_LEVELS = {Tier.HOST: 0, Tier.LEAF: 1, Tier.SPINE: 2, Tier.CORE: 3}


@dataclass(frozen=True, slots=True)
class Node:
    """A switch or a host of the design.

    `number` counts from 1 and is unique within the tier: addresses derive from (tier, number), so that taking
    a link or a node out never renumbers what remains. `asn` is None for a host.
    """

    name: str
    tier: Tier
    number: int
    pod: int | None = None
    asn: int | None = None

    @property
    def is_switch(self) -> bool:
        """True for anything that routes for others."""
        return self.tier is not Tier.HOST

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Port:
    """One end of a link: `number` counts from 1 on its node, `name` is the interface name there (``eth1``).

    `nic` (hosts only, from 1) says which network card the port belongs to; a card with two ports has one
    address that is reachable over both. `shared` is True for a port of such a card: it stays True when the
    card's other link is taken out, so that the card's address stays too.
    """

    node: str
    name: str
    number: int
    nic: int | None = None
    shared: bool = False

    def __str__(self) -> str:
        return f"{self.node}:{self.name}"


@dataclass(frozen=True, slots=True)
class Link:
    """A cable. `a` is the end of the lower tier (a host before a leaf before a spine), or the end named first.

    `name` is ``leaf1:spine1``, or ``leaf1:spine1#2`` for the second of several between the same two nodes.
    """

    name: str
    a: Port
    b: Port
    rate_bps: int = GBIT

    @property
    def ends(self) -> tuple[Port, Port]:
        """Both ports, `a` first."""
        return (self.a, self.b)

    def end(self, node: str) -> Port:
        """The port at `node`. Raises KeyError when the link does not touch it."""
        for port in self.ends:
            if port.node == node:
                return port
        raise KeyError(f"{self.name} does not end at {node}")

    def far(self, node: str) -> Port:
        """The port at the other end, seen from `node`. Raises KeyError when the link does not touch it."""
        near = self.end(node)
        return self.b if near == self.a else self.a

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Fabric:
    """A design: named nodes and the links between them.

    Values from `topologies.builders` and `topologies.load` are already checked (unique names, ports used
    once, endpoints that exist). `given` is what was read from a lab that somebody else designed; None for ours,
    whose addresses and routing follow from the rest.
    """

    name: str
    nodes: tuple[Node, ...]
    links: tuple[Link, ...]
    given: GivenDesign | None = None

    @cached_property
    def _nodes_by_name(self) -> Mapping[str, Node]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def _links_by_name(self) -> Mapping[str, Link]:
        return {link.name: link for link in self.links}

    @cached_property
    def _links_by_node(self) -> Mapping[str, tuple[Link, ...]]:
        found: dict[str, list[Link]] = {node.name: [] for node in self.nodes}
        for link in self.links:
            for port in link.ends:
                found[port.node].append(link)
        return {name: _by_port(name, links) for name, links in found.items()}

    @cached_property
    def _links_by_port(self) -> Mapping[tuple[str, str], Link]:
        return {(port.node, port.name): link for link in self.links for port in link.ends}

    @cached_property
    def hosts(self) -> tuple[Node, ...]:
        """The end nodes, in the design's order."""
        return tuple(node for node in self.nodes if not node.is_switch)

    @cached_property
    def switches(self) -> tuple[Node, ...]:
        """Every node that routes for others, in the design's order."""
        return tuple(node for node in self.nodes if node.is_switch)

    def tier(self, tier: Tier) -> tuple[Node, ...]:
        """The nodes of one tier, in the design's order."""
        return tuple(node for node in self.nodes if node.tier is tier)

    def node(self, name: str) -> Node:
        """The node of that name. Raises SpecError that lists what there is."""
        try:
            return self._nodes_by_name[name]
        except KeyError:
            raise SpecError(f"no node {name!r} in fabric {self.name}", allowed=_some(self._nodes_by_name)) from None

    def link(self, name: str) -> Link:
        """The link of that name; either order of its ends is understood. Raises SpecError that lists what there is."""
        found = self._links_by_name.get(name) or self._links_by_name.get(_turned(name))
        if found is None:
            raise SpecError(f"no link {name!r} in fabric {self.name}", allowed=_some(self._links_by_name))
        return found

    def links_of(self, node: str | Node) -> tuple[Link, ...]:
        """The links that end at `node`, by port number."""
        return self._links_by_node[self.node(str(node)).name]

    def link_at(self, node: str | Node, port: str) -> Link:
        """The link in port `port` (``eth1``) of `node`. Raises SpecError that lists the ports."""
        found = self._links_by_port.get((str(node), port))
        if found is not None:
            return found
        ports = [link.end(str(node)).name for link in self.links_of(node)]
        raise SpecError(f"no port {port!r} on {node}", allowed=", ".join(ports) or "none: the node has no links")

    def ports(self, node: str | Node) -> tuple[Port, ...]:
        """The ports of `node`, by number."""
        return tuple(link.end(str(node)) for link in self.links_of(node))

    def neighbors(self, node: str | Node) -> tuple[Node, ...]:
        """The nodes one link away, each once, by port number."""
        return tuple(dict.fromkeys(self.node(link.far(str(node)).node) for link in self.links_of(node)))

    def uplinks(self, node: str | Node) -> tuple[Link, ...]:
        """The links of `node` to a higher tier."""
        level = self.node(str(node)).tier.level
        return tuple(k for k in self.links_of(node) if self.node(k.far(str(node)).node).tier.level > level)

    def downlinks(self, node: str | Node) -> tuple[Link, ...]:
        """The links of `node` to a lower tier."""
        level = self.node(str(node)).tier.level
        return tuple(k for k in self.links_of(node) if self.node(k.far(str(node)).node).tier.level < level)

    @cached_property
    def fabric_links(self) -> tuple[Link, ...]:
        """The links between two switches."""
        return tuple(link for link in self.links if all(self.node(p.node).is_switch for p in link.ends))

    @property
    def session_ends(self) -> int:
        """How many ends of BGP sessions there are to be, two for each session."""
        return 2 * len(self.fabric_links) if self.given is None else self.given.session_ends

    def between(self, one: str | Node, other: str | Node) -> tuple[Link, ...]:
        """The links that join two nodes directly."""
        return tuple(link for link in self.links_of(one) if link.far(str(one)).node == str(other))

    def without(self, *gone: Link | Node | str) -> Fabric:
        """The same design with links or nodes (and the links at them) taken out; addresses stay as they are.

        A string names a node or a link. Raises SpecError when nothing has that name.
        """
        names = {str(item) for item in gone}
        nodes = names & self._nodes_by_name.keys()
        links = {self.link(name).name for name in names - nodes}
        return Fabric(
            name=self.name,
            nodes=tuple(node for node in self.nodes if node.name not in nodes),
            links=tuple(
                k for k in self.links if k.name not in links and k.a.node not in nodes and k.b.node not in nodes
            ),
            given=self.given,
        )

    def __str__(self) -> str:
        return self.name


def _by_port(node: str, links: list[Link]) -> tuple[Link, ...]:
    return tuple(sorted(links, key=lambda link: link.end(node).number))


def _turned(name: str) -> str:
    """``spine1:leaf1#2`` for ``leaf1:spine1#2``; the name itself when it has no two ends."""
    ends, mark, which = name.partition("#")
    one, colon, other = ends.partition(":")
    return f"{other}:{one}{mark}{which}" if colon else name


def _some(names: Mapping[str, object], most: int = 12) -> str:
    listed = list(names)
    more = f" … ({len(listed)} in all)" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more if listed else "none: there are none"
