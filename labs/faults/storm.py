"""A card that pauses its ports without end: 802.1Qbb frames, one every so often, until somebody ends this process.

    python -m labs.faults.storm PRIORITY QUANTA EVERY_S DEV [DEV …]      in the host's network namespace

It says ``ready`` once the first frames are out. They go past all queues, as a MAC's own frames do.
"""

from __future__ import annotations

import errno
import socket
import sys
import threading
from collections.abc import Mapping, Sequence

from traffic.pauses import pfc_frame

PACKET_QDISC_BYPASS, SOL_PACKET = 20, 263  # linux/if_packet.h
# A port that is down sends nothing, and storms again once it is up; one without room has sent enough.
PASSING = frozenset({errno.ENETDOWN, errno.ENOBUFS, errno.EAGAIN})


def pause(netdevs: Sequence[str], quanta: Mapping[int, int]) -> None:
    """Ask the far ends of these ports once to pause priorities, or with 0 quanta to go on. Raises OSError."""
    for port in opened(netdevs):
        with port:
            port.send(pfc_frame(port.getsockname()[4], quanta))


def opened(netdevs: Sequence[str]) -> list[socket.socket]:
    """A socket at each port's wire. Raises OSError."""
    ports = []
    for netdev in netdevs:
        port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        port.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
        port.bind((netdev, 0))
        ports.append(port)
    return ports


def storm(ports: Sequence[socket.socket], quanta: Mapping[int, int]) -> None:
    """One frame out of every port. Raises OSError for a port that is gone."""
    for port in ports:
        try:
            port.send(pfc_frame(port.getsockname()[4], quanta))
        except OSError as error:
            if error.errno not in PASSING:
                raise


def main(priority: str, quanta: str, every_s: str, *netdevs: str) -> None:
    """Storm until killed."""
    ports, never = opened(netdevs), threading.Event()
    storm(ports, {int(priority): int(quanta)})
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while not never.wait(float(every_s)):
        storm(ports, {int(priority): int(quanta)})


if __name__ == "__main__":
    main(*sys.argv[1:])
