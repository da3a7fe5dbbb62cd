"""From intent to what the data plane's maps hold: every port's number, place and `struct port_profile`. Pure.

Numbers follow asic.h: a lab's ports count from 1, node by node in the fabric's order. Each switch has room for POOLS
pools, whether it uses them or not; the rows of the ingress matrix stand one behind the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from hashlib import blake2b

from labs.dataplane import abi
from labs.dataplane.abi import PortKind
from labs.dataplane.abi_ecmp import ECMP_PROFILES
from labs.dataplane.config_db import GLOBAL
from labs.dataplane.ecmp_rules import check_switches
from labs.dataplane.encoding import NO_ECMP, ecmp_profile, port_profile
from labs.dataplane.intent import BufferPool, Direction, PortIntent
from labs.dataplane.profile import BY_PORT, Profile
from labs.dataplane.scaling import ETHERNET_HEADER, MTU, quanta, rate, watchdog_trap
from labs.dataplane.selectors import EVERY, selector
from labs.spec import derived_seed
from topologies.ecmp import EcmpMode, EcmpRule
from topologies.errors import SpecError, Where
from topologies.fabric import Fabric, Link, Node
from topologies.units import MIB
from topologies.validation import meant

MOST_PORTS = 2**16 - 1  # asic.h: port_of_ifindex
OWN_POOL_BYTES = 12 * MIB
# A switch has a route, IPv4 and IPv6, for the addresses of every node, and few of the others have several ways.
LEAST_GROUPS, MOST_GROUPS = 64, 8192


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """One of a switch's pools: `size` is what is left to share once everything reserved is taken off."""

    name: str
    direction: Direction
    size: int
    headroom: int


@dataclass(frozen=True, slots=True)
class PortPlan:
    """One port: the fields of `struct port_state` that are set, and where it is.

    `profile` is its place in `LabPlan.profiles`. `first` is its node's first port, `local` its number there, from 0.
    `matrix` is where its row begins, in words. `pools` is where its node's pools begin, 0 for a host: it has none, and
    touches none, as everything its queues hold is reserved.
    """

    node: str
    name: str
    link: str
    number: int
    peer: int
    first: int
    local: int
    profile: int
    pools: int
    matrix: int
    kind: PortKind
    rate_bps: int
    seed: int


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One node: its ports in the fabric's order, its pools (none for a host), its classes' rules (none for a host)."""

    name: str
    ports: tuple[PortPlan, ...]
    pools: tuple[PoolPlan, ...]
    ecmp: tuple[EcmpRule, ...] = ()


@dataclass(frozen=True)
class LabPlan:
    """What the maps hold, and how many entries: `profiles` are `struct port_profile`, each once.

    `ecmps` are `struct ecmp_profile`, each once, that with number n at n - 1. `groups`: how many resilient groups there
    is room for.
    """

    nodes: tuple[NodePlan, ...]
    profiles: tuple[bytes, ...]
    matrix_words: int
    ecmps: tuple[bytes, ...] = ()
    groups: int = LEAST_GROUPS

    @cached_property
    def ports(self) -> tuple[PortPlan, ...]:
        """All ports; that with number n stands at n - 1."""
        return tuple(port for node in self.nodes for port in node.ports)

    @property
    def pools(self) -> Mapping[int, PoolPlan]:
        """All pools of all switches, by their place in the map; places between stay empty."""
        switches = [node for node in self.nodes if node.pools]
        return {node.ports[0].pools + at: pool for node in switches if node.ports for at, pool in enumerate(node.pools)}

    @property
    def pool_places(self) -> int:
        """The size of the map of pools."""
        return abi.POOLS * max(1, sum(1 for node in self.nodes if node.pools))


def plan(
    profile: Profile, fabric: Fabric, *, rates: Mapping[str, int] | None = None, mtu: int = MTU, seed: int = 0
) -> LabPlan:
    """What the soft ASIC of a fabric is to be told.

    Args:
        profile: what ports do.
        fabric: whose ports.
        rates: bit/s of links by name, where they are not the fabric's own.
        mtu: bytes of IP packet, which a turn of DWRR must have room for.
        seed: the lab's: every port's pseudo-random sequence derives from it, and every tier's hash seed.

    Raises SpecError for a port or switch that the fabric does not have, for more reserved than a switch's pools hold,
    for a pause that the watchdog would take for a storm, and for more ways of hashing than the data plane holds.
    """
    try:
        return _planned(profile, fabric, rates or {}, mtu, seed)
    except SpecError as error:
        raise profile.placed(error) from None


def _planned(profile: Profile, fabric: Fabric, given: Mapping[str, int], mtu: int, seed: int) -> LabPlan:
    speeds = {link.name: given.get(link.name, link.rate_bps) for link in fabric.links}
    _check_names(profile, fabric)
    check_switches(profile, fabric)
    _check_watchdog(profile, speeds)
    making = _Making(profile, mtu + ETHERNET_HEADER, seed, speeds, _numbers(fabric))
    nodes = tuple(making.node(node, fabric.links_of(node)) for node in fabric.nodes)
    groups = 2 * len(nodes) * sum(1 for node in fabric.nodes if node.is_switch)
    groups = min(max(groups, LEAST_GROUPS), MOST_GROUPS)
    return LabPlan(nodes, tuple(making.profiles), making.matrix_words, tuple(making.ecmps), groups)


def switch_pools(profile: Profile) -> tuple[BufferPool, ...]:
    """The pools of every switch: those of the profile in its order, and one of ours for a direction that has none."""
    stated = tuple(profile.pools.values())
    missing = [one for one in Direction if one not in {pool.direction for pool in stated}]
    return (*stated, *(BufferPool(f"{one} (default)", one, "dynamic", OWN_POOL_BYTES) for one in missing))


@dataclass
class _Making:
    """A plan in the making: what is counted from node to node."""

    profile: Profile
    frame: int
    seed: int
    rates: Mapping[str, int]
    numbers: Mapping[str, int]
    profiles: dict[bytes, int] = field(default_factory=dict)
    known: dict[tuple[PortIntent, int, bool, tuple[int, ...]], int] = field(default_factory=dict)
    ecmps: dict[bytes, int] = field(default_factory=dict)
    pools: int = 0
    matrix_words: int = 0

    def node(self, node: Node, links: Sequence[Link]) -> NodePlan:
        shared = switch_pools(self.profile) if node.is_switch else ()
        intents = [self.profile.port(node.name, link.end(node.name).name) for link in links]
        rules = self.profile.ecmp(node.name, node.tier, self.seed) if node.is_switch else ()
        told = partial(self.told, shared, tuple(self.chosen(rule) for rule in rules), host=not node.is_switch)
        ports = tuple(self.port(node, links, local, intent, told) for local, intent in enumerate(intents))
        self.pools += abi.POOLS if shared else 0
        return NodePlan(node.name, ports, tuple(_left(pool, intents, node.name) for pool in shared), rules)

    def chosen(self, rule: EcmpRule) -> int:
        """The number of a rule's `struct ecmp_profile`, 0 for what is left to the kernel."""
        if rule.mode is EcmpMode.KERNEL:
            return 0
        number = self.ecmps.setdefault(bytes(ecmp_profile(rule)), len(self.ecmps) + 1)
        if number >= ECMP_PROFILES:
            found = f"found more than {ECMP_PROFILES - 1} ways of hashing on the switches of the lab"
            raise SpecError(found, allowed="fewer: rows and seeds for tiers", where=Where(key="RAILBED_ECMP"))
        return number

    def port(
        self, node: Node, links: Sequence[Link], local: int, intent: PortIntent, told: Callable[[PortIntent, int], int]
    ) -> PortPlan:
        link = links[local]
        here, speed = link.end(node.name), self.rates[link.name]
        matrix = self.matrix_words
        self.matrix_words += abi.QUEUES * len(links)
        return PortPlan(
            node=node.name,
            name=here.name,
            link=link.name,
            number=self.numbers[str(here)],
            peer=self.numbers[str(link.far(node.name))],
            first=self.numbers[str(links[0].end(node.name))],
            local=local,
            profile=told(intent, speed),
            pools=self.pools if node.is_switch else 0,
            matrix=matrix,
            kind=PortKind.SWITCH if node.is_switch else PortKind.HOST,
            rate_bps=speed,
            seed=_seed(derived_seed(self.seed, "soft-asic"), str(here)),
        )

    def told(
        self, pools: Sequence[BufferPool], ecmp: tuple[int, ...], intent: PortIntent, speed: int, *, host: bool
    ) -> int:
        """Where the port's profile stands among all; equal ones stand there once."""
        key = (intent, speed, host, ecmp)
        if key not in self.known:
            pause = quanta(self.profile, speed)
            made = port_profile(
                intent,
                pools=pools,
                pause_quanta=pause,
                rate_bps=speed,
                frame=self.frame,
                host=host,
                ecmp_of_tc=ecmp or NO_ECMP,
            )
            self.known[key] = self.profiles.setdefault(bytes(made), len(self.profiles))
        return self.known[key]


def _numbers(fabric: Fabric) -> dict[str, int]:
    ports = [str(port) for node in fabric.nodes for port in fabric.ports(node)]
    if len(ports) > MOST_PORTS:
        raise SpecError(f"found {len(ports)} ports", allowed=f"at most {MOST_PORTS}", where=Where(key="fabric"))
    return {port: number for number, port in enumerate(ports, 1)}


def _left(pool: BufferPool, intents: Sequence[PortIntent], node: str) -> PoolPlan:
    """A pool, less what its switch's queues and priority groups have reserved: pools count shared bytes alone."""
    taken = 0
    for intent in intents:
        for limits in intent.buffers:
            if limits.pool.name == pool.name:
                taken += limits.reserved + limits.headroom_of_its_own
    if taken > pool.size:
        raise SpecError(
            f"found {pool.size} bytes, but the {len(intents)} ports of {node} have {taken} reserved",
            allowed=f"at least {taken}, smaller profiles, or xoff in the pool: headroom that is shared",
            where=Where(key=f"BUFFER_POOL.{pool.name}.size"),
        )
    return PoolPlan(pool.name, pool.direction, pool.size - taken, pool.xoff)


def _seed(seed: int, port: str) -> int:
    """A port's own 64 bits: its chances do not depend on which other ports there are."""
    return int.from_bytes(blake2b(f"{seed} {port}".encode(), digest_size=8).digest(), "little")


def _check_names(profile: Profile, fabric: Fabric) -> None:
    """A row for a port that does not exist would be silently without effect."""
    ports = {node.name: {port.name for port in fabric.ports(node)} for node in fabric.nodes}
    every = set().union(*ports.values())
    for table in BY_PORT:
        for key in getattr(profile.rows, table):
            one = selector(key)
            if key == GLOBAL:
                continue
            where = Where(key=f"{table}.{key}")
            if one.node != EVERY and one.node not in ports:
                found = f"found no node called {one.node}{meant(one.node, ports)}"
                raise SpecError(found, allowed=f"a node of fabric {fabric}", where=where)
            here = every if one.node == EVERY else ports[one.node]
            if one.port not in {EVERY, *here}:
                whose = "any node" if one.node == EVERY else one.node
                found = f"found no port {one.port} of {whose}{meant(one.port, here)}"
                raise SpecError(found, allowed=f"a cabled port of fabric {fabric}", where=where)


def _check_watchdog(profile: Profile, speeds: Mapping[str, int]) -> None:
    if not speeds:
        return
    slowest = min(speeds.values())
    if trap := watchdog_trap(profile, slowest):
        where = Where(key=f"RAILBED_PFC.{GLOBAL}.quanta")
        allowed = (
            f"fewer quanta, none stated (then they follow the rate), or a longer detection_time for {rate(slowest)}"
        )
        raise SpecError(f"found a pause that looks like a storm: {trap}", allowed=allowed, where=where)
