"""What a lab's state is made of: facts about each node, as lines of text that are the same whenever the node is."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labs.errors import CapabilityMissing, LabError, NotReady
from labs.kinds import driver, software
from labs.kinds.base import Software
from labs.lab import Lab
from labs.node import LiveNode

SYSCTLS = (
    "net.ipv4.ip_forward",
    "net.ipv6.conf.all.forwarding",
    "net.ipv4.fib_multipath_hash_policy",
    "net.ipv4.fib_multipath_hash_fields",
    "net.ipv4.fib_multipath_hash_seed",
    "net.ipv6.fib_multipath_hash_policy",
    "net.ipv6.fib_multipath_hash_fields",
)
# Who makes routes that stay as they are: the kernel itself, start scripts, people.
OURS = frozenset({"kernel", "boot", "static"})
# A neighbour or a path that the kernel learns by itself comes and goes.
VOLATILE = frozenset({"expires", "age", "cache", "nhid", "pref", "metrics"})
KEPT_OF_FILTERS = frozenset({"handle", "bpf_name", "bytecode", "direct-action", "actions"})
# What a daemon starts for a moment has ended by then; a daemon of a lab that can be faulted has run for longer.
LASTING_S = 2.0
STARTED = 17  # a process's start among the words of its stat, behind its state and parent


def of_node(node: LiveNode) -> Mapping[str, Sequence[str]]:
    """What a running node's kernel and software say. Raises NotReady, CommandFailed when it does not answer."""
    ours, queues = _netdevs(node), _json(node, "tc", "-j", "qdisc", "show")
    routing = _software(node)
    return {
        "links": sorted(_links(_json(node, "ip", "-j", "addr", "show"), ours)),
        "queues": sorted(_queues(queues)),
        "filters": sorted(_filters(node, queues)),
        "routes": sorted(
            f"{family} {line}"
            for family in ("-4", "-6")
            for line in _routes(_json(node, "ip", family, "-j", "route", "show", "table", "all"), ours)
        ),
        "sysctls": sorted(node.kernel("sysctl", "-e", *SYSCTLS).stdout.splitlines()),
        "sessions": sorted(f"{one.peer} {one.state}" for one in driver(node.kind).sessions(node)),
        "bfd": sorted(_watched(node, routing)) if routing else [],
        "configuration": sorted(routing.configuration(node)) if routing else [],
    }


def _software(node: LiveNode) -> Software | None:
    try:
        return software(node.kind)
    except CapabilityMissing:
        return None


def _watched(node: LiveNode, routing: Software) -> list[str]:
    """The peers that BFD watches: its sessions that are up. None where no bfdd answers."""
    try:
        return [f"{peer} up" for peer, missed_s in routing.watchers(node).items() if missed_s is not None]
    except NotReady:
        return []


def _json(node: LiveNode, *argv: str) -> list[dict[str, Any]]:
    said = node.kernel(*argv).stdout.strip()
    found: list[dict[str, Any]] = json.loads(said) if said else []
    return found


def _netdevs(node: LiveNode) -> frozenset[str]:
    return frozenset({"lo", *(driver(node.kind).netdev(node, port.name) for port in node.ports)})


def _links(found: Iterable[Mapping[str, Any]], ours: frozenset[str]) -> Iterator[str]:
    """The ports in full; of others, as the engine's own for management, that they are there."""
    for one in found:
        if one["ifname"] not in ours:
            yield one["ifname"]
            continue
        flags = one["flags"]
        addresses = sorted(f"{a['local']}/{a['prefixlen']}" for a in one.get("addr_info", ()) if "local" in a)
        up, carrier = "UP" in flags, "LOWER_UP" in flags
        about = f"mtu {one['mtu']} {one.get('address', '')}"
        yield f"{one['ifname']} up={up} carrier={carrier} {about} {' '.join(addresses)}"


def _queues(found: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for one in found:
        options = one.get("options") or {}
        if one["kind"] == "tbf":  # a gate of the soft ASIC opens and closes by itself
            options = {}
        told = json.dumps({key: options[key] for key in sorted(options) if key != "direct_packets_stat"})
        yield f"{one['dev']} {one['kind']} {one.get('handle')} {one.get('parent', 'root')} {told}"


def _filters(node: LiveNode, queues: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The filters at the hooks of ports that have any; numbers that the kernel gives anew each time are left out."""
    for netdev in sorted({one["dev"] for one in queues if one["kind"] in {"clsact", "ingress"}}):
        for way in ("ingress", "egress"):
            for one in _json(node, "tc", "-j", "filter", "show", "dev", netdev, way):
                options = {key: value for key, value in (one.get("options") or {}).items() if key in KEPT_OF_FILTERS}
                yield f"{netdev} {way} {one.get('pref')} {one.get('protocol')} {one.get('kind')} {json.dumps(options)}"


def _routes(found: Iterable[Mapping[str, Any]], ours: frozenset[str]) -> Iterator[str]:
    """All but multicast, and those to link-local addresses beside the ports: an engine's own may still be checked."""
    for one in found:
        dst = str(one.get("dst", ""))
        if one.get("type") == "multicast" or dst.startswith("ff00"):
            continue
        if dst.startswith("fe80") and one.get("dev") not in ours:
            continue
        hops = one.get("nexthops") or [one]
        ways = sorted(_way(hop, learned=one.get("protocol") not in OURS) for hop in hops)
        kept_facts = {
            key: one[key] for key in sorted(one) if key not in {*VOLATILE, "nexthops", "gateway", "dev", "via"}
        }
        kept_facts["flags"] = sorted({flag for hop in (one, *hops) for flag in hop.get("flags", ())})
        yield f"{json.dumps(kept_facts)} {' '.join(ways)}"


def _way(hop: Mapping[str, Any], *, learned: bool) -> str:
    """A next hop; of a route that a daemon has learned its port alone: one neighbour has several addresses to go by."""
    gateway = "" if learned else hop.get("gateway") or hop.get("via", {}).get("host", "")
    return f"{gateway}%{hop.get('dev', '')}"


@dataclass(slots=True)
class Processes:
    """What runs in a node: its daemons, and what is stopped."""

    daemons: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)

    @property
    def facts(self) -> Mapping[str, Sequence[str]]:
        """By aspect."""
        return {"daemons": sorted(self.daemons), "stopped": sorted(self.stopped)}


def processes(lab: Lab, *, lasting: bool) -> Mapping[str, Processes]:
    """The daemons of each node, and whatever in it is stopped (STOP), traffic as well.

    Daemons are its init and what that has for children: what is started from outside comes and goes. So does what
    they start themselves (vtysh, ip): with `lasting`, one that is younger than LASTING_S is none.
    """
    inodes, found = {}, {node: Processes() for node in lab.nodes}
    for node in lab.nodes:
        with suppress(OSError, LabError):
            inodes[lab.deployment.netns(node).stat().st_ino] = found[node]
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with suppress(OSError, IndexError):
            at = inodes.get(Path(entry.path, "ns/net").stat().st_ino)
            if at is None:
                continue
            name, _, rest = Path(entry.path, "stat").read_text().partition("(")[2].rpartition(")")
            state, parent, *more = rest.split()
            if state == "T":
                at.stopped.append(name)
            if (_is_init(entry.name) or _is_init(parent)) and not (lasting and _is_new(int(more[STARTED]))):
                at.daemons.append(name)
    return found


def _is_new(started: int) -> bool:
    """Whether a process has started, by the clock ticks since boot, less than LASTING_S ago."""
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")
    return age_s < LASTING_S


def _is_init(pid: str) -> bool:
    """Whether a process is the first of a process namespace that is not the workstation's own."""
    status = Path(f"/proc/{pid}/status").read_text()
    numbers = status.partition("NSpid:")[2].partition("\n")[0].split()
    return len(numbers) > 1 and numbers[-1] == "1"
