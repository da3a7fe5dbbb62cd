"""What a node kind is: a pure half that renders it, and a live half that knows how to ask it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

from labs.channel import Channel
from labs.node import LiveNode
from labs.spec import LabSpec
from labs.telemetry.samples import BgpSession, RouteTable
from topologies.fabric import Fabric, Node


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a node's software answers; `missing` names what does not."""

    ready: bool
    missing: tuple[str, ...] = ()


class Recipe(Protocol):
    """The pure half of a kind: what to render. Node, fabric and spec are already checked."""

    def container(self, node: Node, fabric: Fabric, spec: LabSpec) -> Mapping[str, object]:
        """The node's entry in a containerlab topology: kind, image, sysctls, capabilities, labels."""
        ...

    def files(self, node: Node, fabric: Fabric, spec: LabSpec) -> Mapping[PurePosixPath, str]:
        """The node's files by absolute path; three of them are run, and must exit 0.

        ``/run/railbed/boot`` starts the node's software. ``/run/railbed/join`` (optional) lets it speak to its
        neighbours, once every node has booted: sessions that come up one by one would make every switch compute
        and send its routes again while the others still start. ``/run/railbed/after`` (optional) starts what the node
        does not forward by, once every node has joined. In containers each node goes by itself, step by step.
        """
        ...

    def private(self) -> tuple[str, ...]:
        """Folders that a node without a container of its own must not share with the workstation."""
        ...

    def logs(self) -> Mapping[str, str]:
        """Folders whose content is kept in the run directory: path in the node to the log file's name."""
        ...

    def programs(self) -> Mapping[str, str]:
        """Programs a node without an image needs on the workstation, each with the Debian package it is in."""
        ...


class Joining(Protocol):
    """A quicker way of doing what a node's ``/run/railbed/join`` does, for kinds that have one."""

    def join(self, channel: Channel, files: Mapping[PurePosixPath, str]) -> bool:
        """Let a node that has booted speak to its neighbours, by its rendered `files`.

        False where that cannot be done here, and nothing has been done: then the file is to be run. Raises NotReady for
        what the node's software refuses.
        """
        ...


class Driver(Protocol):
    """The live half of a kind: how to ask it."""

    def readiness(self, node: LiveNode) -> Readiness:
        """Whether the node's daemons answer."""
        ...

    def routes(self, node: LiveNode) -> RouteTable:
        """What the node forwards by, from its kernel. Raises NotReady when it does not answer."""
        ...

    def sessions(self, node: LiveNode) -> tuple[BgpSession, ...]:
        """Its BGP sessions; empty for a kind without a control plane. Raises NotReady when it does not answer."""
        ...

    def netdev(self, node: LiveNode, port: str) -> str:
        """The network device behind a port's name."""
        ...

    def daemons(self, node: LiveNode) -> tuple[str, ...]:
        """The daemons that run the node."""
        ...

    def drain(self, node: LiveNode, *, on: bool) -> None:
        """Take the node out of its neighbours' ways while it goes on forwarding, or put it back; idempotent.

        Neighbours take their time to move. Raises CapabilityMissing for a kind that cannot, NotReady when it does not
        answer.
        """
        ...

    def shell(self) -> tuple[str, ...]:
        """The command that a person wants on this node."""
        ...


class Software(Protocol):
    """What faults do to the routing software of a node, for kinds that have any. Each raises NotReady when it fails."""

    def pid(self, node: LiveNode, daemon: str) -> int:
        """The pid that the daemon has recorded, as the node counts; it may be that of one that is gone."""
        ...

    def restarted_with(self, daemon: str) -> tuple[str, ...]:
        """The daemons that the software's own supervisor starts anew after this one, in that order."""
        ...

    def clear(self, node: LiveNode, daemon: str) -> None:
        """Remove what a daemon that was killed has left in the kernel, before the next one is started."""
        ...

    def configure(self, node: LiveNode, daemon: str, was: str) -> None:
        """Give a daemon that has just been started its part of the node's configuration; idempotent.

        What it ran by before (`was`, as `written` said) and never saved it is given, too.
        """
        ...

    def written(self, node: LiveNode, daemon: str) -> str:
        """What a daemon runs by now, as it would write it into a file; empty for one that does not answer."""
        ...

    def supervisor(self, node: LiveNode) -> tuple[str, int] | None:
        """The program that starts daemons anew by itself, and its pid as the node counts; None where none runs."""
        ...

    def configuration(self, node: LiveNode) -> tuple[str, ...]:
        """What the daemons run by now, daemon by daemon: each line with the section that it stands in."""
        ...

    def reset(self, node: LiveNode, peer: str) -> None:
        """Tear down the BGP session with a peer, as sessions name it, or all (``*``); they come back by themselves."""
        ...

    def watchers(self, node: LiveNode) -> Mapping[str, float | None]:
        """The node's BFD sessions by peer: for how many seconds each has to be silent until it is missed.

        As negotiated by now, which for a session that has just come up is slower than configured. None while it is not
        up: then it sees no peer fall silent.
        """
        ...

    def forgetful(self, node: LiveNode) -> tuple[str, ...]:
        """Next hops that the daemon which speaks BGP takes for lost, and keeps so, though the node reaches them."""
        ...

    def drained(self, node: LiveNode) -> bool:
        """Whether the node is taken out of its neighbours' ways (`Driver.drain`)."""
        ...

    def announces(self, node: LiveNode, prefix: str) -> bool:
        """Whether the node originates a prefix by what `announce` would take away."""
        ...

    def announce(self, node: LiveNode, prefix: str, *, on: bool) -> None:
        """Originate a prefix in BGP, or no longer; idempotent. Raises SpecError for one that the node cannot."""
        ...
