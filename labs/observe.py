"""Asking many nodes at once: routes, sessions, counters, reachability, as frozen records."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from labs.errors import NotReady
from labs.kinds import driver
from labs.node import LiveNode
from labs.telemetry.samples import BgpSession, PingSample, PortSample, RouteTable
from topologies import addressing
from topologies.fabric import Fabric

T = TypeVar("T")
# A question is a process that starts and ends: more at once than this only makes each slower.
ASKED_AT_ONCE = 2 * (os.cpu_count() or 1)
# Pinging is mostly waiting between packets: as many at once as keep the CPUs busy.
PINGED_AT_ONCE = 8 * (os.cpu_count() or 1)
# A ping to a host that is there takes less than a millisecond; the rest is room for a busy workstation.
PING_TIMEOUT_MS = 500


def ask_all(question: Callable[[LiveNode], T], nodes: Iterable[LiveNode]) -> tuple[T, ...]:
    """Ask every node the same, several at once; answers in the nodes' order. The first error is raised."""
    with ThreadPoolExecutor(ASKED_AT_ONCE, thread_name_prefix="ask") as pool:
        return tuple(pool.map(question, nodes))


def route_tables(nodes: Iterable[LiveNode]) -> tuple[RouteTable, ...]:
    """What each node's kernel forwards by."""
    return ask_all(lambda node: driver(node.kind).routes(node), nodes)


def sessions(nodes: Iterable[LiveNode]) -> tuple[BgpSession, ...]:
    """Every BGP session of every node, seen from each of its ends."""
    return tuple(s for found in ask_all(lambda node: driver(node.kind).sessions(node), nodes) for s in found)


def port_samples(node: LiveNode) -> Mapping[str, PortSample]:
    """The counters of a node's ports, by port name. Raises NotReady when it does not answer, or has lost a port."""
    found = ports_there(node)
    missing = next((port.name for port in node.ports if port.name not in found), None)
    if missing:
        raise NotReady(f"{node.name} has no interface {missing}")
    return found


def ports_there(node: LiveNode) -> Mapping[str, PortSample]:
    """The same of those ports that the node has: a cable is gone with the container at either of its ends."""
    said = node.kernel("ip", "-j", "-s", "link", "show").stdout
    at = time.monotonic()
    netdevs = {driver(node.kind).netdev(node, port.name): port.name for port in node.ports}
    found = {}
    for link in json.loads(said):
        name = netdevs.get(link["ifname"])
        if name is None:
            continue
        rx, tx = link["stats64"]["rx"], link["stats64"]["tx"]
        found[name] = PortSample(
            node=node.name,
            port=name,
            at_s=at,
            up=link["operstate"] == "UP",
            tx_packets=tx["packets"],
            tx_bytes=tx["bytes"],
            rx_packets=rx["packets"],
            rx_bytes=rx["bytes"],
            tx_dropped=tx["dropped"],
            rx_dropped=rx["dropped"],
        )
    return found


def all_port_samples(nodes: Iterable[LiveNode]) -> Mapping[tuple[str, str], PortSample]:
    """The counters of every port of every node, by (node, port)."""
    return {(s.node, s.port): s for found in ask_all(port_samples, nodes) for s in found.values()}


def pings(fabric: Fabric, hosts: Iterable[LiveNode], *, ipv6: bool) -> tuple[PingSample, ...]:
    """One echo request from each card of every host to the same card of every other host, in both families."""
    sources = list(hosts)
    asked = [(node, nic.number) for node in sources for nic in addressing.nics(fabric, node.node)]
    families = (4, 6) if ipv6 else (4,)
    with ThreadPoolExecutor(PINGED_AT_ONCE, thread_name_prefix="ping") as pool:
        answers = pool.map(lambda what: _pings_from(fabric, sources, what[0], what[1], families), asked)
        return tuple(sample for found in answers for sample in found)


def _pings_from(
    fabric: Fabric, hosts: list[LiveNode], node: LiveNode, nic: int, families: tuple[int, ...]
) -> tuple[PingSample, ...]:
    """From one card in one question, family after family: at the same time, their lines would come mixed."""
    targets: dict[str, tuple[str, int]] = {}
    lines = []
    for family in families:
        if not addressing.has_address(fabric, node.node, nic, family):
            continue
        found = {
            str(addressing.host_address(fabric, host.node, nic, family)): (host.name, family)
            for host in hosts
            if host.name != node.name and addressing.has_address(fabric, host.node, nic, family)
        }
        if found:
            source = str(addressing.host_address(fabric, node.node, nic, family))
            lines.append(" ".join((source, *found)))
            targets |= found
    if not targets:
        return ()
    ping = ("fping", "-q", "-c", "1", "-i", "1", "-t", str(PING_TIMEOUT_MS), "-S")
    said = node.channel.kernel("xargs", "-L", "1", *ping, stdin="\n".join(lines) + "\n", timeout=120.0)
    answered = {
        line.split()[0] for line in said.stderr.splitlines() if "xmt/rcv/%loss" in line and "min/avg/max" in line
    }
    return tuple(
        PingSample(node.name, name, family, sent=1, lost=0 if address in answered else 1)
        for address, (name, family) in targets.items()
    )
