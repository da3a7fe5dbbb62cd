"""How to ask FRR: its JSON for sessions, the kernel for what is really forwarded by."""

from __future__ import annotations

import json
from collections.abc import Mapping

from labs.errors import CapabilityMissing, NotReady
from labs.kinds.base import Readiness
from labs.kinds.frr import vty
from labs.kinds.linux_routes import FRR_BGP, kernel_routes, learned_routes
from labs.node import LiveNode
from labs.telemetry.samples import BgpSession, RouteTable

DRAINED = "bgp graceful-shutdown"


class FrrDriver:
    """See labs.kinds.base.Driver."""

    def readiness(self, node: LiveNode) -> Readiness:
        """Whether each daemon answers on its own socket."""
        due = ("zebra", "bgpd") if _speaks_bgp(node) else ("zebra",)
        missing = tuple(daemon for daemon in due if not vty.ask(node, daemon, "show version").startswith("FRRouting"))
        return Readiness(ready=not missing, missing=missing)

    def routes(self, node: LiveNode) -> RouteTable:
        """The routes that BGP has put into the kernel; of a switch without BGP, what it has by any other protocol."""
        if _speaks_bgp(node):
            return kernel_routes(node, protocol=FRR_BGP)
        return learned_routes(node)

    def sessions(self, node: LiveNode) -> tuple[BgpSession, ...]:
        """Every configured neighbour, established or not. One that carries two families is one session."""
        if not _speaks_bgp(node):
            return ()
        said = vty.ask(node, "bgpd", "show bgp summary json")
        try:
            families = json.loads(said)
        except json.JSONDecodeError:
            raise NotReady(f"{node.name}: bgpd does not answer: {said.strip()[-300:]}") from None
        found: dict[str, BgpSession] = {}
        for summary in families.values():
            for peer, facts in _mapping(summary.get("peers")).items():
                known = found.get(peer)
                found[peer] = _session(node, peer, facts, known.prefixes_received if known else 0)
        return tuple(found.values())

    def netdev(self, node: LiveNode, port: str) -> str:
        """The same as the port."""
        del node
        return port

    def daemons(self, node: LiveNode) -> tuple[str, ...]:
        """The daemons whose sockets are there."""
        said = node.run("ls", "/run/frr").stdout
        return tuple(sorted(name.removesuffix(".vty") for name in said.split() if name.endswith(".vty")))

    def drain(self, node: LiveNode, *, on: bool) -> None:
        """Graceful shutdown (RFC 8326): every route it announces carries the community that neighbours like least.

        They take another way where they have one, and keep this where they have none; its sessions stay up and it
        keeps its own routes, so nothing is lost on the way out or back. Taking routes away instead would leave those
        without another way with none.
        """
        if not _speaks_bgp(node):
            raise CapabilityMissing("drain", f"{node.name} speaks no BGP: nobody takes a way through it for it")
        word = DRAINED if on else f"no {DRAINED}"
        lines = ("configure terminal", f"router bgp {node.node.asn}", word)
        said = node.channel.run("vtysh", "-d", "bgpd", *(part for line in lines for part in ("-c", line)))
        if not said.ok or (DRAINED in vty.ask(node, "bgpd", "show running-config")) is not on:
            raise NotReady(f"{node.name}: bgpd does not take {word!r}: {(said.stderr + said.stdout).strip()[-300:]}")

    def shell(self) -> tuple[str, ...]:
        """FRR's own shell."""
        return ("vtysh",)


def _speaks_bgp(node: LiveNode) -> bool:
    """All of ours do; in somebody else's lab those that an AS number was found for."""
    return node.node.asn is not None


def _session(node: LiveNode, peer: str, facts: Mapping[str, object], more: int) -> BgpSession:
    return BgpSession(
        node=node.name,
        peer=peer,
        port=peer if peer in {port.name for port in node.ports} else "",
        remote_asn=int(str(facts.get("remoteAs", 0))),
        state=str(facts.get("state", "Unknown")),
        uptime_s=float(str(facts.get("peerUptimeMsec", 0))) / 1000,
        prefixes_received=int(str(facts.get("pfxRcd", 0))) + more,
    )


def _mapping(value: object) -> Mapping[str, Mapping[str, object]]:
    return value if isinstance(value, Mapping) else {}


DRIVER = FrrDriver()
