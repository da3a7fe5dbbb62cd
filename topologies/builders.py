"""Fabrics by shape: what a network architect would draw, as a function of a few numbers.

All of them number ports the same way: on a leaf uplinks first, in spine order, then hosts; on a spine leaves in
order; parallel links side by side. Rates are in bit/s.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import product

from topologies.assembly import (
    DEFAULT_LIMITS,
    MOST_NICS,
    MOST_PORTS,
    Cable,
    Limits,
    build,
    check_size,
    default_asn,
)
from topologies.errors import SpecError, Where
from topologies.fabric import Fabric, Node, Port, Tier
from topologies.units import GBIT

MOST_PARALLEL = 64


@dataclass(slots=True)
class _Cabling:
    """Cables in the making. Ports are given out per node, in the order in which the builder joins."""

    nodes: list[Node]
    cables: list[Cable]
    given: Counter[str]

    @classmethod
    def empty(cls) -> _Cabling:
        return cls([], [], Counter())

    def add(self, name: str, tier: Tier, number: int, pod: int | None = None) -> str:
        self.nodes.append(Node(name, tier, number, pod, default_asn(tier, number, pod)))
        return name

    def join(self, one: str, other: str, rate_bps: int, *, times: int = 1) -> None:
        """Cable two switches with as many parallel links."""
        for _ in range(times):
            self.cables.append(Cable(self._port(one), self._port(other), rate_bps))

    def mesh(self, under: list[str], over: list[str], rate_bps: int, *, times: int = 1) -> None:
        """Cable every switch of `under` to every one of `over`."""
        for one, other in product(under, over):
            self.join(one, other, rate_bps, times=times)

    def attach(self, host: str, leaf: str, rate_bps: int, *, nic: int) -> None:
        self.cables.append(Cable(self._port(host, nic), self._port(leaf), rate_bps))

    def _port(self, node: str, nic: int | None = None) -> Port:
        self.given[node] += 1
        return Port(node, f"eth{self.given[node]}", self.given[node], nic)


def leaf_spine(
    spines: int,
    leaves: int,
    hosts_per_leaf: int,
    *,
    parallel_links: int = 1,
    uplink_rate: int = GBIT,
    host_rate: int = GBIT,
    name: str | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Fabric:
    """A two-tier Clos: every leaf cabled to every spine, `parallel_links` times. Rates in bit/s.

    Port numbers on a leaf: uplinks in spine order, then hosts; on a spine: leaves in order. Raises SpecError.
    """
    _check_uplinks(spines, parallel_links, limits)
    _whole("leaves", leaves, 1, limits.switches)
    _whole("hosts_per_leaf", hosts_per_leaf, 0, limits.hosts)
    _check_port_count(spines * parallel_links + hosts_per_leaf)
    check_size(spines + leaves, leaves * hosts_per_leaf, limits, where=Where(key="leaves"))
    made = _Cabling.empty()
    over = [made.add(f"spine{n}", Tier.SPINE, n) for n in _count(spines)]
    under = [made.add(f"leaf{n}", Tier.LEAF, n) for n in _count(leaves)]
    made.mesh(under, over, uplink_rate, times=parallel_links)
    for number in _count(leaves * hosts_per_leaf):
        host = made.add(f"host{number}", Tier.HOST, number)
        made.attach(host, under[(number - 1) // hosts_per_leaf], host_rate, nic=1)
    return build(name or f"clos_{spines}x{leaves}", made.nodes, made.cables, limits=limits)


def single_leaf(
    hosts: int, *, host_rate: int = GBIT, name: str | None = None, limits: Limits = DEFAULT_LIMITS
) -> Fabric:
    """One leaf and its hosts, without a spine: for what happens inside one switch. Raises SpecError."""
    _whole("hosts", hosts, 1, min(limits.hosts, MOST_PORTS))
    made = _Cabling.empty()
    leaf = made.add("leaf1", Tier.LEAF, 1)
    for number in _count(hosts):
        made.attach(made.add(f"host{number}", Tier.HOST, number), leaf, host_rate, nic=1)
    return build(name or f"single_leaf_{hosts}", made.nodes, made.cables, limits=limits)


def fat_tree(
    k: int,
    *,
    uplink_rate: int = GBIT,
    host_rate: int = GBIT,
    name: str | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Fabric:
    """The k-ary fat tree of Al-Fares, Loukissas and Vahdat (SIGCOMM 2008), out of switches with k ports.

    k pods of k/2 leaves (their edge switches) and k/2 spines (their aggregation switches), (k/2)² cores, k/2
    hosts a leaf. Spine i of every pod is cabled to cores (i-1)·k/2+1 … i·k/2. Raises SpecError for an odd k.
    """
    _whole("k", k, 2, limits.switches)
    if k % 2:
        raise SpecError(
            f"found {k}, which is odd",
            allowed="an even number, as half of a switch's ports go up",
            where=Where(key="k"),
        )
    half = k // 2
    check_size(k * k + half * half, k * half * half, limits, where=Where(key="k"))
    made = _Cabling.empty()
    cores = [made.add(f"core{n}", Tier.CORE, n) for n in _count(half * half)]
    hosts = iter(_count(k * half * half))
    for pod in _count(k):
        before = (pod - 1) * half
        spines = [made.add(f"pod{pod}-spine{n}", Tier.SPINE, before + n, pod) for n in _count(half)]
        leaves = [made.add(f"pod{pod}-leaf{n}", Tier.LEAF, before + n, pod) for n in _count(half)]
        made.mesh(leaves, spines, uplink_rate)
        for index, spine in enumerate(spines):
            made.mesh([spine], cores[index * half : (index + 1) * half], uplink_rate)
        for leaf, number in zip((leaf for leaf in leaves for _ in range(half)), hosts, strict=False):
            made.attach(made.add(f"host{number}", Tier.HOST, number), leaf, host_rate, nic=1)
    return build(name or f"fat_tree_k{k}", made.nodes, made.cables, limits=limits)


def rails(
    rails: int,
    leaves: int,
    hosts: int,
    *,
    spines: int | None = None,
    parallel_links: int = 1,
    uplink_rate: int = GBIT,
    host_rate: int = GBIT,
    name: str | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Fabric:
    """The rail-optimised shape of a GPU cluster: a host has one network card per rail.

    Leaves stand in groups (pods) of `rails`; card r of a host (``eth{r}``) is cabled to leaf r of its group,
    so that equal cards of a group's hosts meet in one leaf. Hosts are spread evenly over groups, neighbours
    together. Every leaf is cabled to every spine; `spines` defaults to `rails`. Raises SpecError.
    """
    spines = rails if spines is None else spines
    _whole("rails", rails, 1, MOST_NICS)
    _whole("hosts", hosts, 1, limits.hosts)
    _check_uplinks(spines, parallel_links, limits)
    groups = _groups(leaves, rails, limits)
    _check_port_count(spines * parallel_links + -(-hosts // groups))
    check_size(spines + leaves, hosts, limits, where=Where(key="leaves"))
    made = _Cabling.empty()
    over = [made.add(f"spine{n}", Tier.SPINE, n) for n in _count(spines)]
    under = [
        made.add(f"pod{group}-leaf{rail}", Tier.LEAF, (group - 1) * rails + rail, group)
        for group, rail in product(_count(groups), _count(rails))
    ]
    made.mesh(under, over, uplink_rate, times=parallel_links)
    for number in _count(hosts):
        host = made.add(f"host{number}", Tier.HOST, number)
        group = _share(number, hosts, groups)
        for rail in _count(rails):
            made.attach(host, under[group * rails + rail - 1], host_rate, nic=rail)
    return build(name or f"rails_{rails}x{leaves}x{hosts}", made.nodes, made.cables, limits=limits)


def dual_plane(
    spines: int,
    leaves: int,
    hosts: int,
    *,
    parallel_links: int = 1,
    uplink_rate: int = GBIT,
    host_rate: int = GBIT,
    name: str | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Fabric:
    """Two leaf-spine planes of `spines` and `leaves` each, which meet only in the hosts.

    A host has one network card with two ports: ``eth1`` to plane 1, ``eth2`` to the leaf of the same position
    in plane 2. A switch's `pod` is its plane. Raises SpecError.
    """
    _check_uplinks(spines, parallel_links, limits)
    _whole("leaves", leaves, 1, limits.switches)
    _whole("hosts", hosts, 1, limits.hosts)
    _check_port_count(spines * parallel_links + -(-hosts // leaves))
    check_size(2 * (spines + leaves), hosts, limits, where=Where(key="leaves"))
    made = _Cabling.empty()
    planes: list[list[str]] = []
    for plane in (1, 2):
        over = [made.add(f"plane{plane}-spine{n}", Tier.SPINE, (plane - 1) * spines + n, plane) for n in _count(spines)]
        under = [made.add(f"plane{plane}-leaf{n}", Tier.LEAF, (plane - 1) * leaves + n, plane) for n in _count(leaves)]
        made.mesh(under, over, uplink_rate, times=parallel_links)
        planes.append(under)
    for number in _count(hosts):
        host = made.add(f"host{number}", Tier.HOST, number)
        for under in planes:
            made.attach(host, under[_share(number, hosts, leaves)], host_rate, nic=1)
    return build(name or f"dual_plane_{spines}x{leaves}x{hosts}", made.nodes, made.cables, limits=limits)


def _count(most: int) -> range:
    """1 … most, as people number things."""
    return range(1, most + 1)


def _share(number: int, of: int, among: int) -> int:
    """Which of `among` equal shares (from 0) the `number`th of `of` things falls in, neighbours together."""
    return (number - 1) * among // of


def _groups(leaves: int, rails: int, limits: Limits) -> int:
    _whole("leaves", leaves, rails, limits.switches)
    if leaves % rails:
        allowed = f"a multiple of rails ({rails}): one leaf per rail in every group"
        raise SpecError(f"found {leaves}", allowed=allowed, where=Where(key="leaves"))
    return leaves // rails


def _whole(key: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise SpecError(f"found {value!r}", allowed=f"an integer from {least} to {most}", where=Where(key=key))


def _check_uplinks(spines: int, parallel_links: int, limits: Limits) -> None:
    _whole("spines", spines, 1, limits.switches)
    _whole("parallel_links", parallel_links, 1, MOST_PARALLEL)


def _check_port_count(ports: int) -> None:
    if ports > MOST_PORTS:
        raise SpecError(f"found {ports} ports on a leaf", allowed=f"at most {MOST_PORTS}", where=Where(key="leaves"))
