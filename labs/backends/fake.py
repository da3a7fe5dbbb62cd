"""A backend that runs nothing: its nodes answer as a sound fabric would, but for what a script breaks.

The harness (plugin, command line, waiting, verdicts) is tested on it, in milliseconds and without root.
RAILBED_FAKE names a JSON file of what is broken:

    links_down    ["leaf1:spine1"]      cables that are cut
    silent        ["leaf2"]             nodes whose daemons do not answer; their kernel does, and has no routes
    unreachable   ["10.1.2.0", "all"]   addresses that answer no ping
    boot_fails    "leaf1"               the node that does not boot
    missing       {"soft-asic": "why"}  capabilities that are absent
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import ClassVar

from labs.backends.base import Capability, NodeState, Progress
from labs.channel import CommandResult
from labs.channels.scripted import ScriptedChannel
from labs.errors import DeployFailed
from labs.journal import Change, Journal
from labs.spec import RenderedLab
from topologies import addressing
from topologies.addressing import originated
from topologies.fabric import Fabric
from topologies.routing import next_hops, route_tables


def broken() -> Mapping[str, object]:
    """What the script breaks, read anew each time: a test may break and mend as it goes."""
    path = os.environ.get("RAILBED_FAKE")
    found: Mapping[str, object] = json.loads(Path(path).read_text()) if path else {}
    return found


def _listed(key: str) -> list[str]:
    value = broken().get(key, [])
    return [str(item) for item in value] if isinstance(value, list) else []


class FakeBackend:
    """See labs.backends.base.Backend."""

    name: ClassVar[str] = "fake"

    def preflight(self, lab: RenderedLab) -> None:
        """Nothing is needed."""

    def capabilities(self) -> tuple[Capability, ...]:
        """None of what a real backend has."""
        missing = broken().get("missing", {})
        return tuple(Capability(name, False, str(why)) for name, why in dict(missing).items())  # type: ignore[call-overload]

    def deploy(self, lab: RenderedLab, run_dir: Path, journal: Journal, progress: Progress) -> FakeDeployment:
        """Pretends; the journal gets an entry as it would for processes."""
        del run_dir
        journal.will(Change("process", {"token": f"{lab.name}:fake"}))
        progress("nodes")
        if failing := broken().get("boot_fails"):
            raise DeployFailed(f"{failing}: /run/railbed/boot exited 1: it is broken")
        return FakeDeployment(lab)

    def adopt(self, lab: RenderedLab, run_dir: Path, journal: Journal) -> FakeDeployment:
        """The same."""
        del run_dir, journal
        return FakeDeployment(lab)


class FakeDeployment:
    """See labs.backends.base.Deployment."""

    def __init__(self, lab: RenderedLab) -> None:
        self._lab = lab
        self._states = {node.name: NodeState.RUNNING for node in lab.fabric.nodes}

    def channel(self, node: str) -> ScriptedChannel:
        """A channel that answers by script."""
        return ScriptedChannel(node, lambda argv, stdin: self._answer(node, argv, stdin))

    def netns(self, node: str) -> Path:
        """A path that is not there."""
        return Path("/run/netns", f"fake.{self._lab.name}.{node}")

    def shell_argv(self, node: str, argv: Iterable[str]) -> tuple[str, ...]:
        """Shows what would run."""
        return ("echo", f"{node}:", *argv)

    def states(self) -> Mapping[str, NodeState]:
        """As they were set."""
        return self._states

    def set_state(self, node: str, state: NodeState) -> None:
        """Remembers it."""
        self._states[node] = state

    def _answer(self, node: str, argv: tuple[str, ...], stdin: str) -> CommandResult:
        fabric = self._lab.fabric.without(*_listed("links_down"))
        words, silent, said = " ".join(argv), node in _listed("silent"), ""
        if argv[0] == "vtysh":
            if silent:
                return CommandResult(argv, 1, "", "no answer")
            version = "show version" in words
            said = "FRRouting 0 (fake)" if version else _sessions(fabric, self._lab.fabric, node)
        elif argv[0] == "xargs" and "fping" in argv:
            return CommandResult(argv, 0, "", "\n".join(_fping(line.split()[1:]) for line in stdin.splitlines()))
        elif "-batch" in argv or "route get" in words:
            asked = stdin.splitlines() if "-batch" in argv else [words]
            return _way(fabric, node, argv, [line.split() for line in asked])
        elif "route show match" in words:
            said = "[]"  # asked for only where nothing leads there
        elif "route show" in words and not silent:
            said = "\036".join(_routes(fabric, node, family) for family in (4, 6))
        elif "link show" in words:
            said = _links(fabric, self._lab.fabric, node)
        return CommandResult(argv, 0, said, "")


def _routes(fabric: Fabric, node: str, family: int) -> str:
    table = route_tables(fabric, family).get(node, {})
    return json.dumps(
        [{"dst": str(prefix), "nexthops": [{"dev": port} for port in ports]} for prefix, ports in table.items()]
    )


def _way(fabric: Fabric, node: str, argv: tuple[str, ...], asked: list[list[str]]) -> CommandResult:
    """``ip route get``: the member of a group that the source port says, as good a hash as any."""
    said = []
    for words in asked:
        dst, sport = ip_address(words[words.index("get") + 1]), int(words[words.index("sport") + 1])
        if dst in _own(fabric, node, dst.version):
            said.append([{"type": "local"}])
            continue
        src = words[words.index("from") + 1]
        ports = _ports(fabric, node, src, dst)
        if not ports:
            return CommandResult(argv, 2, "", "RTNETLINK answers: Network is unreachable")
        said.append([{"dev": ports[sport % len(ports)]}])
    return CommandResult(argv, 0, "\n".join(map(json.dumps, said)), "")


def _ports(fabric: Fabric, node: str, src: str, dst: IPv4Address | IPv6Address) -> list[str]:
    """The group a switch has for a destination; a host's default route is its card's, whatever lies behind it."""
    if not fabric.node(node).is_switch:
        cards = addressing.nics(fabric, node)
        own = [nic for nic in cards if str(addressing.host_address(fabric, node, nic.number, dst.version)) == src]
        return sorted(port.name for nic in own for port in nic.ports)
    announced = [prefix for prefixes in originated(fabric).values() for prefix in prefixes if dst in prefix]
    prefix = max(announced, key=lambda p: p.prefixlen, default=None)
    return sorted(next_hops(fabric, node, prefix)) if prefix else []


def _own(fabric: Fabric, node: str, family: int) -> set[object]:
    if fabric.node(node).is_switch:
        return {addressing.loopback(fabric, fabric.node(node), family)}
    return {addressing.host_address(fabric, node, nic.number, family) for nic in addressing.nics(fabric, node)}


def _sessions(fabric: Fabric, design: Fabric, node: str) -> str:
    alive = {link.name for link in fabric.fabric_links}
    peers = {
        str(addressing.port_interface(design, link.far(node), 4).ip): {
            "remoteAs": design.node(link.far(node).node).asn,
            "state": "Established" if link.name in alive else "Active",
            "peerUptimeMsec": 1000,
            "pfxRcd": 1,
        }
        for link in design.links_of(node)
        if link in design.fabric_links
    }
    return json.dumps({"ipv4Unicast": {"peers": peers}})


def _fping(targets: list[str]) -> str:
    lost = _listed("unreachable")
    return "\n".join(
        f"{t} : xmt/rcv/%loss = 1/1/0%, min/avg/max = 0.1/0.1/0.1"
        for t in targets
        if t not in lost and "all" not in lost
    )


def _links(fabric: Fabric, design: Fabric, node: str) -> str:
    alive = {link.name for link in fabric.links}
    zero = {"packets": 0, "bytes": 0, "dropped": 0}
    return json.dumps(
        [
            {
                "ifname": link.end(node).name,
                "operstate": "UP" if link.name in alive else "DOWN",
                "stats64": {"rx": zero, "tx": zero},
            }
            for link in design.links_of(node)
        ]
    )
