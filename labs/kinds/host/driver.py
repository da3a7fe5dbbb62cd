"""How to ask a Linux end node."""

from __future__ import annotations

from labs.errors import CapabilityMissing
from labs.kinds.base import Readiness
from labs.kinds.linux_routes import learned_routes
from labs.node import LiveNode
from labs.telemetry.samples import BgpSession, RouteTable


class HostDriver:
    """See labs.kinds.base.Driver."""

    def readiness(self, node: LiveNode) -> Readiness:
        """A host is ready when its addresses are set: its boot file has set them before it counts as running."""
        return Readiness(ready=node.channel.run("true").ok)

    def routes(self, node: LiveNode) -> RouteTable:
        """The host's static routes over its ports."""
        return learned_routes(node)

    def sessions(self, node: LiveNode) -> tuple[BgpSession, ...]:
        """A host has none."""
        del node
        return ()

    def netdev(self, node: LiveNode, port: str) -> str:
        """The same as the port."""
        del node
        return port

    def daemons(self, node: LiveNode) -> tuple[str, ...]:
        """A host has none."""
        del node
        return ()

    def drain(self, node: LiveNode, *, on: bool) -> None:
        """Raises CapabilityMissing: a host forwards for nobody."""
        del on
        raise CapabilityMissing("drain", f"{node.name}: a host forwards for nobody")

    def shell(self) -> tuple[str, ...]:
        """A shell."""
        return ("bash", "--norc", "-i")


DRIVER = HostDriver()
