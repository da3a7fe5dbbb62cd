"""Who is at the other end of every cable of a running lab: asked by LLDP, on the cables themselves.

Every port of every node says who it is, and hears who else does. The frames are sent and taken inside the nodes'
network namespaces, so no node needs a daemon for it, hosts and nodes of somebody else's lab included; a cable that
loses frames loses these, too.
"""

from __future__ import annotations

import errno
import socket
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from labs.errors import LabError
from labs.kernel import inside_netns
from labs.kinds import driver
from labs.lab import Lab
from labs.lldp import ETHERTYPE, NEAREST_BRIDGE, Announcement, frame, read
from labs.node import LiveNode
from labs.verdicts.cabling import Neighbor
from labs.waiting import wait_until

# A frame crosses a cable in microseconds, and a full queue of a port in milliseconds: the rest is room for a
# workstation that does much else. Who is silent then makes the verdict invalid, not false.
WITHIN_S = 1.0
LARGEST = 1600
GONE = (errno.ENOENT, errno.EINVAL)  # the namespace's name, or what it was the name of
ETHERNET = 1  # ARPHRD_ETHER


@dataclass(frozen=True, slots=True)
class _Speaker:
    """A node with its socket, and its ports by the names of their network devices."""

    node: str
    socket: socket.socket
    ports: Mapping[str, str]


def neighbors(lab: Lab, within: float = WITHIN_S) -> tuple[Neighbor, ...]:
    """What every port of a lab hears, by (node, port); a port that hears nobody is missing.

    Takes milliseconds where all hear somebody, else `within` seconds. A node that is stopped says nothing.
    """
    found: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
    with ExitStack() as undo:
        speakers = [one for one in (_opened(lab, node, undo) for node in lab.nodes.values()) if one is not None]
        ports = sum(len(node.ports) for node in lab.nodes.values())

        def silent() -> int:
            for one in speakers:
                _speak(lab.name, one)
            for one in speakers:
                for port, said in _heard(lab.name, one):
                    found[one.node, port].add((said.node, said.port))
            return ports - len(found)

        wait_until("every port hears somebody", silent, lambda left: left == 0, within=within * lab.timeout_scale)
    return tuple(Neighbor(*where, *who) for where, all_heard in sorted(found.items()) for who in sorted(all_heard))


def _opened(lab: Lab, node: LiveNode, undo: ExitStack) -> _Speaker | None:
    """A node's socket; None where its namespace is gone, or it does not say what its ports are."""
    try:
        ports = {driver(node.kind).netdev(node, port.name): port.name for port in node.ports}
        with inside_netns(lab.deployment.netns(node.name)):
            kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            made = undo.enter_context(socket.socket(socket.AF_PACKET, kind, socket.htons(ETHERTYPE)))
    except LabError:
        return None
    except OSError as error:
        if error.errno not in GONE:
            raise
        return None
    return _Speaker(node.name, made, ports)


def _speak(lab: str, one: _Speaker) -> None:
    """Say at every port who it is; one that is down, or not there, says nothing."""
    for netdev, port in one.ports.items():
        to = (netdev, ETHERTYPE, 0, ETHERNET, NEAREST_BRIDGE)
        with suppress(OSError):
            one.socket.sendto(frame(Announcement(lab, one.node, port)), to)


def _heard(lab: str, one: _Speaker) -> Iterable[tuple[str, Announcement]]:
    """(port, what was said) of every announcement of this lab that has come since the last time."""
    for _ in range(1000 * (1 + len(one.ports))):
        try:
            unit, (netdev, *_) = one.socket.recvfrom(LARGEST)
        except BlockingIOError:
            return
        except OSError:  # a port went down meanwhile: said once, and what came before is still there
            continue
        said, port = read(unit), one.ports.get(netdev)
        if said is not None and said.lab == lab and port is not None:
            yield port, said
