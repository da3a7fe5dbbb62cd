"""How to ask a node that we know nothing of: not at all, but for running commands."""

from __future__ import annotations

from labs.errors import CapabilityMissing
from labs.kinds.base import Readiness
from labs.node import LiveNode
from labs.telemetry.samples import BgpSession, RouteTable


class PlainDriver:
    """See labs.kinds.base.Driver."""

    def readiness(self, node: LiveNode) -> Readiness:
        """Nothing is expected of it."""
        del node
        return Readiness(ready=True)

    def routes(self, node: LiveNode) -> RouteTable:
        """Raises CapabilityMissing: it may forward by something else than the kernel that we could ask."""
        raise CapabilityMissing(
            "routes",
            f"railbed has no driver for {node.name}, a plain node",
            remedy=f"railbed exec {node.name} -- COMMAND, or label it railbed-kind: frr or host",
        )

    def sessions(self, node: LiveNode) -> tuple[BgpSession, ...]:
        """None that we know of."""
        del node
        return ()

    def netdev(self, node: LiveNode, port: str) -> str:
        """The same as the port."""
        del node
        return port

    def daemons(self, node: LiveNode) -> tuple[str, ...]:
        """None that we know of."""
        del node
        return ()

    def drain(self, node: LiveNode, *, on: bool) -> None:
        """Raises CapabilityMissing: railbed has no driver for it."""
        del on
        raise CapabilityMissing("drain", f"{node.name}: railbed has no driver for it")

    def shell(self) -> tuple[str, ...]:
        """The one shell that nearly every image has."""
        return ("sh",)


DRIVER = PlainDriver()
