"""Reads a running containerlab lab of somebody else's: its nodes, how they are cabled, addressed and routed.

Nothing is changed, and nothing of a node's image is needed but where FRR runs in it: interfaces and routes are asked
of each node's kernel by the workstation's own programs, FRR over its own sockets.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path, PurePosixPath
from typing import Any

from labs import engine
from labs.channel import Channel
from labs.errors import LabError, LabNotFound, NotReady
from labs.foreign.design import design_of
from labs.foreign.found import FRR, FoundBgp, FoundInterface, FoundNode, FoundPeer, natural
from labs.foreign.topology import ForeignNode, ForeignTopology, from_export, read_file
from labs.kinds.frr import vty
from labs.node import LiveNode
from labs.spec import LabSpec
from labs.waiting import wait_until
from topologies.fabric import Fabric, Node, Tier
from topologies.given import Address, Prefix

LAB, NODE, KIND, GROUP = "containerlab", "clab-node-name", "clab-node-kind", "clab-node-group"
TOPOLOGY, LAB_DIR = "clab-topo-file", "clab-node-lab-dir"
EXPORTED = "topology-data.json"
BGP_ROUTES = frozenset({"bgp", "186"})
# FRR's daemons start one after the other and then read their configuration: two seconds; the rest is for a busy
# workstation.
STARTS_WITHIN = 30.0
# An image with FRR in it that shows nothing of it after this long is taken for one that does not start it.
SHOWS_WITHIN = 8.0
_DAEMONS = PurePosixPath("/etc/frr/daemons")
_CONFIG = PurePosixPath("/etc/frr/frr.conf")
WATCHFRR = vty.SOCKETS / "watchfrr.vty"
_ZEBRA = PurePosixPath("/usr/lib/frr/zebra")


def containers_of(lab: str) -> Mapping[str, engine.Container]:
    """The containers of a containerlab lab by node. Raises LabNotFound that lists the labs there are."""
    found = {one.labels[NODE]: one for one in engine.containers({LAB: lab}) if one.labels.get(NODE)}
    if not found:
        every = {one.labels[LAB] for one in engine.containers({}) if one.labels.get(NODE) and one.labels.get(LAB)}
        raise LabNotFound(
            f"containerlab runs no lab {lab!r} (it runs: {', '.join(sorted(every)) or 'none'})",
            remedy="containerlab inspect --all lists them; railbed up FILE.clab.yml starts one",
        )
    return found


def topology_of(lab: str, containers: Mapping[str, engine.Container]) -> ForeignTopology:
    """How a running lab is cabled: as containerlab exported it, else as its file says. Raises NotReady, SpecError.

    What the containers' labels say of a node goes before both.
    """
    one = next(iter(containers.values()))
    exported = Path(one.labels.get(LAB_DIR, "/nowhere")).parent / EXPORTED
    file = Path(one.labels.get(TOPOLOGY, ""))
    try:
        topology = from_export(json.loads(exported.read_text()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        if not file.is_file():
            raise NotReady(
                f"nothing says how lab {lab!r} is cabled: neither {exported} nor its topology file {file} is there",
                remedy=f"put {file} back",
            ) from None
        topology, _ = read_file(file)
    ordered = sorted(containers, key=lambda name: (name not in topology.nodes, natural(name)))
    nodes = {name: _labelled(name, containers[name], topology.nodes.get(name)) for name in ordered}
    links = tuple(link for link in topology.links if all(node in nodes for node, _ in link))
    return ForeignTopology(lab, nodes, links, topology.outside, topology.network)


def _labelled(name: str, box: engine.Container, known: ForeignNode | None) -> ForeignNode:
    group = box.labels.get(GROUP) or (known.group if known else "")
    return ForeignNode(name, box.labels.get(KIND, ""), box.image, group, box.labels)


def read_design(
    topology: ForeignTopology,
    containers: Mapping[str, str],
    channel: Callable[[str], Channel],
    kinds: Iterable[str],
    seed: int,
) -> tuple[Fabric, LabSpec]:
    """The design of a running lab, once what its software starts has started and nothing of it changes any more.

    Raises NotReady for a node that is stopped or does not come to rest, SpecError for a label that makes no sense.
    """
    chosen = tuple(kinds)
    seen: list[Mapping[str, FoundNode]] = [{}]
    nodes = {name: LiveNode(Node(name, Tier.LEAF, 1), "frr", (), channel(name)) for name in topology.nodes}

    began = time.monotonic()

    def look() -> str | None:
        early = time.monotonic() - began < SHOWS_WITHIN
        with ThreadPoolExecutor(16, thread_name_prefix="read") as pool:
            late = next(filter(None, pool.map(lambda node: _late(node, early=early), nodes.values())), None)
            if late:
                return late
            found = list(pool.map(lambda name: _read(topology.nodes[name], containers[name], nodes[name]), nodes))
        before, seen[0] = seen[0], {node.name: node for node in found}
        return None if before == seen[0] else "addresses and routes are still being set"

    waited = wait_until(f"lab {topology.name} has started", look, lambda late: late is None, within=STARTS_WITHIN)
    if not waited.held:
        raise NotReady(f"{waited}", remedy="docker logs of that container says why")
    return design_of(topology, seen[0], chosen, seed)


def _late(node: LiveNode, *, early: bool) -> str | None:
    """What of a node's FRR is to run, by its own files, and does not answer yet; `early` is when it may yet start."""
    if not _inside(node, _ZEBRA).exists():
        return None
    if not _inside(node, WATCHFRR).exists():
        return f"{node.name}: FRR does not run" if early and not _daemons(node) else None
    for daemon in _due(node):
        if not vty.ask(node, daemon, "show version").startswith("FRRouting"):
            return f"{node.name}: {daemon} does not answer"
    has = _text(node, _CONFIG)
    for daemon, words in (("bgpd", "router bgp"), ("ospfd", "router ospf"), ("isisd", "router isis")):
        if daemon in _due(node) and re.search(f"^{words}", has, re.MULTILINE):
            said = vty.ask(node, daemon, "show running-config")
            if not re.search(f"^{words}", said, re.MULTILINE):
                return f"{node.name}: {daemon} has no configuration"
    return None


def _due(node: LiveNode) -> tuple[str, ...]:
    """The daemons that FRR's own start is to bring up."""
    wanted = re.findall(r"^\s*([a-z0-9]+)=yes", _text(node, _DAEMONS), re.MULTILINE)
    return tuple(daemon for daemon in dict.fromkeys(("zebra", *wanted)) if daemon in FRR)


def _read(node: ForeignNode, container: str, live: LiveNode) -> FoundNode:
    daemons = _daemons(live)
    config = "\n".join(vty.ask(live, daemon, "show running-config") for daemon in sorted(daemons))
    return FoundNode(
        node.name,
        container,
        node.kind,
        node.image,
        node.group,
        {key: value for key, value in node.labels.items() if not key.startswith("clab-")},
        _interfaces(live),
        daemons,
        _routes(live),
        _bgp(live, config) if "bgpd" in daemons else None,
        config,
    )


def _daemons(live: LiveNode) -> frozenset[str]:
    """FRR's daemons that answer on their sockets."""
    try:
        names = {path.name.removesuffix(".vty") for path in _inside(live, vty.SOCKETS).glob("*.vty")}
    except OSError:
        return frozenset()
    return frozenset(name for name in names & FRR if vty.ask(live, name, "show version").startswith("FRRouting"))


def _interfaces(live: LiveNode) -> tuple[FoundInterface, ...]:
    links = json.loads(live.kernel("ip", "-j", "addr", "show").stdout)
    return tuple(
        FoundInterface(
            link["ifname"],
            link.get("address", ""),
            tuple(
                ip_interface(f"{one['local']}/{one['prefixlen']}")
                for one in link.get("addr_info", ())
                if one.get("scope") == "global" and not one.get("temporary")
            ),
        )
        for link in links
        if link.get("ifname")
    )


def _routes(live: LiveNode) -> Mapping[Prefix, tuple[Address, ...]]:
    """What the kernel has in its main tables by other means than BGP, with the gateways."""
    found: dict[Prefix, tuple[Address, ...]] = {}
    for family, default in (("-4", "0.0.0.0/0"), ("-6", "::/0")):
        for route in json.loads(live.kernel("ip", family, "-j", "route", "show").stdout or "[]"):
            if str(route.get("protocol")) in BGP_ROUTES or route["dst"].startswith(("fe80:", "ff")):
                continue
            prefix = ip_network(default if route["dst"] == "default" else route["dst"], strict=False)
            found[prefix] = (*found.get(prefix, ()), *_gateways(route))
    return found


def _gateways(route: Mapping[str, Any]) -> Iterator[Address]:
    for hop in route.get("nexthops") or (route,):
        via = hop.get("gateway") or (hop.get("via") or {}).get("host")
        if via:
            yield ip_address(via)


def _bgp(live: LiveNode, config: str) -> FoundBgp | None:
    """The router's BGP; None where bgpd runs without an instance."""
    asn = re.search(r"^router bgp (\d+)", config, re.MULTILINE)
    if asn is None:
        return None
    peers: dict[str, FoundPeer] = {}
    for key, summary in _json(vty.ask(live, "bgpd", "show bgp summary json")).items():
        family = {"ipv4Unicast": (4,), "ipv6Unicast": (6,)}.get(key, ())
        for name, facts in (summary.get("peers") or {}).items() if isinstance(summary, Mapping) else ():
            known = peers[name].families if name in peers else ()
            off = "Admin" in str(facts.get("state", ""))
            peers[name] = FoundPeer(name, int(facts.get("remoteAs") or 0), (*known, *family), off)
    origins: dict[Prefix, tuple[str, int]] = {}
    for word in ("ipv4", "ipv6"):
        said = _json(vty.ask(live, "bgpd", f"show bgp {word} unicast json"))
        for prefix, ways in (said.get("routes") or {}).items():
            origins |= {
                ip_network(prefix): (str(way.get("origin", "")), int(way.get("metric") or 0))
                for way in ways
                if way.get("valid") and way.get("peerId") == "(unspec)"
            }
    return FoundBgp(int(asn[1]), tuple(peers.values()), origins)


def _json(said: str) -> Mapping[str, Any]:
    try:
        found = json.loads(said)
    except ValueError:
        return {}
    return found if isinstance(found, Mapping) else {}


def _inside(live: LiveNode, path: PurePosixPath) -> Path:
    """Where the workstation sees a file of the node. Raises NotReady for a node that is stopped."""
    seen = live.channel.unix_socket(path)
    if seen is None:
        raise NotReady(f"{live.name}: its files cannot be seen from here")
    return seen


def _text(live: LiveNode, path: PurePosixPath) -> str:
    try:
        return _inside(live, path).read_text(errors="replace")
    except (OSError, LabError):
        return ""
