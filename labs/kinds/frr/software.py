"""What faults do to FRR's daemons: find them, configure them anew, reset sessions, announce and withdraw."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from pathlib import PurePosixPath
from typing import Any

from labs.errors import CapabilityMissing, NotReady
from labs.kinds.frr import vty
from labs.kinds.frr.driver import DRAINED, DRIVER
from labs.kinds.linux_routes import FRR_BGP
from labs.node import LiveNode

CURRENT, VERSION = "Current configuration:", "frr version"
WATCHFRR = "watchfrr"
PIDS = PurePosixPath("/run/frr")
# As the file that lets a node join does: a tenth of a second, and room for a workstation that does much else.
CONFIGURED_WITHIN = 60.0


class FrrSoftware:
    """See labs.kinds.base.Software."""

    def pid(self, node: LiveNode, daemon: str) -> int:
        """See Software."""
        said = node.channel.run("cat", str(PIDS / f"{daemon}.pid"))
        if not said.ok or not said.stdout.strip().isdigit():
            raise NotReady(f"{node.name}: {daemon} has recorded no pid: {(said.stderr + said.stdout).strip()[-200:]}")
        return int(said.stdout)

    def restarted_with(self, daemon: str) -> tuple[str, ...]:
        """With zebra all that speak to it, as watchfrr does: bgpd does not give a new zebra every route it has."""
        return ("staticd", "bfdd", "bgpd") if daemon == "zebra" else ()

    def clear(self, node: LiveNode, daemon: str) -> None:
        """Of zebra BGP's routes: the next one adds its own IPv6 routes beside them, and both stay."""
        if daemon == "zebra":
            for family in ("-4", "-6"):
                node.kernel("ip", family, "route", "flush", "proto", FRR_BGP)

    def configure(self, node: LiveNode, daemon: str, was: str) -> None:
        """Read the boot configuration for one daemon, as FRR's own start script does after a restart.

        Then what it had beyond that; what was taken out of it by hand stays in.
        """
        _sound(node, "vtysh", "-b", "-d", daemon)
        if set(_sectioned(was)) <= set(_sectioned(self.written(node, daemon))):
            return
        file = PIDS / f"{daemon}.railbed"
        node.put(file, was)
        try:
            _sound(node, "vtysh", "-d", daemon, "-f", str(file))
        finally:
            node.channel.run("rm", "-f", str(file))

    def written(self, node: LiveNode, daemon: str) -> str:
        """See Software. A daemon says no heading over its own socket; what is no configuration says no version."""
        said = vty.ask(node, daemon, "show running-config")
        before, heading, rest = said.partition(CURRENT)
        text = rest if heading else before
        return text.strip("\n") + "\n" if VERSION in text else ""

    def supervisor(self, node: LiveNode) -> tuple[str, int] | None:
        """See Software."""
        said = node.channel.run("cat", str(PIDS / f"{WATCHFRR}.pid"))
        return (WATCHFRR, int(said.stdout)) if said.ok and said.stdout.strip().isdigit() else None

    def configuration(self, node: LiveNode) -> tuple[str, ...]:
        """See Software; nothing of a daemon that does not answer."""
        return tuple(
            f"{daemon}: {line}" for daemon in _daemons(node) for line in _sectioned(self.written(node, daemon))
        )

    def reset(self, node: LiveNode, peer: str) -> None:
        """See Software."""
        _check_bgp(node)
        _sound(node, "vtysh", "-d", "bgpd", "-c", f"clear bgp {peer}")

    def watchers(self, node: LiveNode) -> Mapping[str, float | None]:
        """See Software."""
        said = vty.ask(node, "bfdd", "show bfd peers json")
        try:
            return {str(one["peer"]): _missed_after_s(one) for one in json.loads(said)}
        except (ValueError, KeyError, TypeError):
            raise NotReady(f"{node.name}: bfdd does not answer: {said.strip()[-200:]}") from None

    def forgetful(self, node: LiveNode) -> tuple[str, ...]:
        """See Software: what bgpd calls invalid, its own networks too, and zebra, which tells it, resolves."""
        said = [vty.ask(node, "bgpd", f"show bgp {what}") for what in ("nexthop", "import-check-table")]
        lost = {line.split()[0] for line in "\n".join(said).splitlines() if " invalid" in line}
        if not lost:
            return ()
        known = "\n".join(vty.ask(node, "zebra", f"show {family} nht") for family in ("ip", "ipv6"))
        return tuple(sorted(lost & set(_resolved(known))))

    def announce(self, node: LiveNode, prefix: str, *, on: bool) -> None:
        """See Software."""
        _check_bgp(node)
        family = "ipv4" if ip_network(prefix).version == 4 else "ipv6"
        word = f"network {prefix}"
        lines = (
            "configure terminal",
            f"router bgp {node.node.asn}",
            f"address-family {family} unicast",
            word if on else f"no {word}",
        )
        if self.announces(node, prefix) is on:
            return
        _sound(node, "vtysh", "-d", "bgpd", *(part for line in lines for part in ("-c", line)))
        if self.announces(node, prefix) is not on:
            raise NotReady(f"{node.name}: bgpd does not take {lines[-1]!r}")

    def announces(self, node: LiveNode, prefix: str) -> bool:
        """See Software."""
        return f"network {prefix}" in _configured(node)

    def drained(self, node: LiveNode) -> bool:
        """See Software."""
        return DRAINED in _configured(node)


def _resolved(said: str) -> Iterator[str]:
    """The next hops that zebra has a way to: ``10.0.0.1(Connected)``, and in the next line how it is resolved."""
    name = ""
    for line in said.splitlines():
        if line and not line[0].isspace():
            name = line.partition("(")[0].strip()
        elif name and line.strip().startswith("resolved via"):
            yield name


def _missed_after_s(session: Mapping[str, Any]) -> float | None:
    """The detection time of a BFD session (RFC 5880, 6.8.4), whose intervals FRR says in milliseconds."""
    if session["status"] != "up":
        return None
    interval_ms = max(int(session["receive-interval"]), int(session["remote-transmit-interval"]))
    return int(session["remote-detect-multiplier"]) * interval_ms / 1000


def _daemons(node: LiveNode) -> list[str]:
    """The daemons whose sockets are there; watchfrr has no configuration of its own."""
    sockets = node.channel.unix_socket(PIDS)
    try:
        found = [path.stem for path in sockets.glob("*.vty")] if sockets else list(DRIVER.daemons(node))
    except OSError:
        return []
    return sorted(set(found) - {WATCHFRR})


def _sectioned(configuration: str) -> Iterator[str]:
    """The lines of a daemon's configuration, each behind the one it belongs to."""
    sections: list[tuple[int, str]] = []
    for line in configuration.splitlines():
        text = line.strip()
        if not text or text == "!":
            continue
        depth = len(line) - len(line.lstrip())
        sections = [one for one in sections if one[0] < depth]
        yield " / ".join([*(one for _, one in sections), text])
        sections.append((depth, text))


def _configured(node: LiveNode) -> set[str]:
    """The lines that bgpd runs by."""
    return {line.strip() for line in vty.ask(node, "bgpd", "show running-config").splitlines()}


def _check_bgp(node: LiveNode) -> None:
    if node.node.asn is None:
        raise CapabilityMissing("bgp", f"{node.name} speaks no BGP")


def _sound(node: LiveNode, *argv: str) -> None:
    said = node.channel.run(*argv, timeout=CONFIGURED_WITHIN)
    if not said.ok:
        raise NotReady(f"{node.name}: {' '.join(argv)}: {(said.stderr + said.stdout).strip()[-300:]}")


SOFTWARE = FrrSoftware()
