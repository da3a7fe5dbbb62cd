"""A lab's state before the first fault and after the last: equal, or what differs is named.

What is compared, node by node: whether it runs; its interfaces (up, carrier, MTU, hardware and IP addresses), queues,
routes of all tables, hash and forwarding sysctls, daemons and whether they are stopped, sessions; of the soft ASIC
the profile, the rates and what is wrong with each wire. Counters, and what a session or a gate changes by itself, are
not compared.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labs import index, observe
from labs.dataplane.settings import settings
from labs.errors import LabError
from labs.kinds import driver
from labs.lab import Lab
from labs.node import LiveNode
from labs.verdicts import Evidence, Verdict
from labs.waiting import wait_until

STATE_FILE = "before-faults.json"
MOST_ROWS = 20
# A session waits for a connect timer of 10 s at either end, then routes settle: three times that.
SETTLES_S = 60.0
SYSCTLS = (
    "net.ipv4.ip_forward",
    "net.ipv6.conf.all.forwarding",
    "net.ipv4.fib_multipath_hash_policy",
    "net.ipv4.fib_multipath_hash_fields",
    "net.ipv4.fib_multipath_hash_seed",
    "net.ipv6.fib_multipath_hash_policy",
    "net.ipv6.fib_multipath_hash_fields",
)
# A neighbour or a path that the kernel learns by itself comes and goes.
# Who makes routes that stay as they are: the kernel itself, start scripts, people.
OURS = frozenset({"kernel", "boot", "static"})
VOLATILE = frozenset({"expires", "age", "cache", "nhid", "pref", "metrics"})

# What a test may well set otherwise itself, after its faults, and what it may not.
SETTINGS = frozenset({"queues", "sysctls", "soft ASIC"})
ASPECTS = frozenset({"power", "links", "routes", "daemons", "sessions"}) | SETTINGS

State = Mapping[str, Mapping[str, Sequence[str]]]
"""Node (or "lab") to aspect to facts, each a line of text, sorted."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A fact that is there only before (``-``) or only after (``+``)."""

    node: str
    aspect: str
    sign: str
    fact: str

    def __str__(self) -> str:
        return f"{self.node}: {self.aspect}: {self.sign} {self.fact}"


def keep(lab: Lab) -> None:
    """Write the state down, beside the journal: what all faults that are made now will be compared with.

    Nothing is written while the lab may still be settling after a fault that ended SETTLES_S ago or less: what it has
    now is half of that fault's doing. What was written before it holds on.
    """
    path = index.lab_dir(lab.name) / STATE_FILE
    with suppress(FileNotFoundError):
        if time.time() - path.stat().st_mtime < SETTLES_S:
            return
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(capture(lab)))
    draft.replace(path)


def ended(lab: str) -> None:
    """A fault has ended: from now on the lab settles."""
    with suppress(FileNotFoundError):
        os.utime(index.lab_dir(lab) / STATE_FILE)


def kept(lab: str) -> State | None:
    """The state before the first of the faults that were made last; None when there were none."""
    try:
        found: State = json.loads((index.lab_dir(lab) / STATE_FILE).read_text())
    except (FileNotFoundError, ValueError):
        return None
    return found


def restored(lab: Lab, *, within: float, aspects: frozenset[str] = ASPECTS) -> Verdict:
    """Wait until the state is what it was before the faults, in these aspects. Invalid when no fault was made."""
    before = kept(lab.name)
    if before is None:
        verdict = Verdict("the state is as before the faults", False, Evidence("no fault was made"))
        return verdict.invalid("no fault was made, so nothing was written down")
    waited = wait_until(
        "the state is as before the faults",
        lambda: tuple(one for one in differences(before, capture(lab)) if one.aspect in aspects),
        lambda found: not found,
        within=within,
    )
    if not waited.last:
        (index.lab_dir(lab.name) / STATE_FILE).unlink(missing_ok=True)  # all that was made since is judged
    return judged(waited.last, sum(len(facts) for of in before.values() for facts in of.values()))


def judged(found: Sequence[Difference], facts: int) -> Verdict:
    """The verdict on these differences of so many facts."""
    aspects = ", ".join(sorted({f"{one.node} {one.aspect}" for one in found})[:6])
    return Verdict(
        "the state is as before the faults",
        not found,
        Evidence(
            f"{len(found)} of {facts} facts differ: {aspects}" if found else f"all {facts} facts are as before",
            {"facts": facts, "differences": len(found)},
            tuple(str(one) for one in found[:MOST_ROWS]),
        ),
    )


def differences(before: State, after: State) -> tuple[Difference, ...]:
    """What is in one state and not in the other."""
    found = []
    for node in sorted({*before, *after}):
        was, now = before.get(node, {}), after.get(node, {})
        for aspect in sorted({*was, *now}):
            one, other = Counter(was.get(aspect, ())), Counter(now.get(aspect, ()))
            found += [Difference(node, aspect, "-", fact) for fact in sorted((one - other).elements())]
            if aspect != "daemons":  # a daemon more was started by somebody; none of a fault's goes by that name
                found += [Difference(node, aspect, "+", fact) for fact in sorted((other - one).elements())]
    return tuple(found)


def capture(lab: Lab) -> State:
    """The lab's state as it is now."""
    states = lab.deployment.states()
    inodes = _processes(lab)

    def of(node: LiveNode) -> Mapping[str, Sequence[str]]:
        state = str(states[node.name])
        if state != "running":
            return {"power": [state]}
        try:
            return {"power": [state], **_of(node, inodes.get(node.name, ()))}
        except LabError as error:
            return {"power": [f"{state}, and does not answer: {error.message}"]}

    found = dict(zip(lab.nodes, observe.ask_all(of, lab.nodes.values()), strict=True))
    return {**found, "lab": _asic(lab)}


def _of(node: LiveNode, processes: Sequence[str]) -> Mapping[str, Sequence[str]]:
    return {
        "links": sorted(_links(_json(node, "ip", "-j", "addr", "show"), _netdevs(node))),
        "queues": sorted(_queues(_json(node, "tc", "-j", "qdisc", "show"))),
        "routes": sorted(
            f"{family} {line}"
            for family in ("-4", "-6")
            for line in _routes(_json(node, "ip", family, "-j", "route", "show", "table", "all"))
        ),
        "sysctls": sorted(node.kernel("sysctl", "-e", *SYSCTLS).stdout.splitlines()),
        "daemons": sorted(processes),
        "sessions": sorted(f"{one.peer} {one.state}" for one in driver(node.kind).sessions(node)),
    }


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


def _routes(found: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for one in found:
        if one.get("type") == "multicast" or str(one.get("dst", "")).startswith("ff00"):
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


def _processes(lab: Lab) -> Mapping[str, list[str]]:
    """The daemons of each node: name, and whether it is stopped.

    Those are its init and what that has for children: what is started from outside, traffic above all, comes and goes.
    """
    nodes = {}
    for node in lab.nodes:
        with suppress(OSError, LabError):
            nodes[lab.deployment.netns(node).stat().st_ino] = node
    found: dict[str, list[str]] = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with suppress(OSError, IndexError):
            at = nodes.get(Path(entry.path, "ns/net").stat().st_ino)
            if at is None:
                continue
            name, _, rest = Path(entry.path, "stat").read_text().partition("(")[2].rpartition(")")
            state, parent = rest.split()[:2]
            if _is_init(entry.name) or _is_init(parent):
                found.setdefault(at, []).append(f"{name}{' stopped' if state in 'Tt' else ''}")
    return found


def _is_init(pid: str) -> bool:
    """Whether a process is the first of a process namespace that is not the workstation's own."""
    status = Path(f"/proc/{pid}/status").read_text()
    numbers = status.partition("NSpid:")[2].partition("\n")[0].split()
    return len(numbers) > 1 and numbers[-1] == "1"


def _asic(lab: Lab) -> Mapping[str, Sequence[str]]:
    if lab.asic is None:
        return {}
    try:
        return {"soft ASIC": sorted(settings(lab.name, lab.asic.plan))}
    except LabError as error:
        return {"soft ASIC": [f"does not answer: {error.message}"]}
