"""Watches for interfaces and network namespaces that come or go on the workstation while something is measured.

Whoever makes or removes one holds the kernel's networking lock, and a change of a queue waits for it meanwhile. No lock
of ours keeps others (a container engine, a VPN, a person with `ip`) from it, so what they did is counted:

device_events    the kernel numbers its device events for all namespaces together (/sys/kernel/uevent_seqnum), and an
                 interface that comes has at least three: its own and those of its two queues. One number, read twice.
                 A namespace that is made has them too, for its loopback. Disks and USB sticks count as well.
namespaces_gone  those that were there at the start and are not at the end: one that goes with its interfaces in it
                 sends no device events.
links            what came (+) or went (-) in the namespace of the watch, by name, so that people see who it was.

What it does not see: a namespace held open by a file descriptor alone that goes; addresses, routes, queues of others.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

UEVENTS = Path("/sys/kernel/uevent_seqnum")

_RTMGRP_LINK = 1
_RTM_NEWLINK, _RTM_DELLINK = 16, 17
_IFLA_IFNAME = 3
_NEW = 0xFFFFFFFF  # "everything has changed": what the kernel says of an interface that is new
_HEADER, _INTERFACE, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=BxHiII"), struct.Struct("=HH")


@dataclass(frozen=True, slots=True)
class NetChanges:
    """What came and went while a watch ran. `device_events` is None on a kernel that does not number them."""

    device_events: int | None
    namespaces_gone: int
    links: tuple[str, ...] = ()

    @property
    def none(self) -> bool:
        """True when nothing was seen."""
        return not (self.device_events or self.namespaces_gone or self.links)

    def as_dict(self) -> dict[str, object]:
        """Plain data for evidence."""
        return {
            "device_events": self.device_events,
            "namespaces_gone": self.namespaces_gone,
            "links": list(self.links),
        }


class NetWatch:
    """Watch for the length of a `with` block; needs no root, and nothing runs in between."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._events: int | None = None
        self._namespaces: frozenset[int] = frozenset()
        self._links: list[str] = []
        self._final: NetChanges | None = None

    def __enter__(self) -> Self:
        self._namespaces = namespaces()
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        self._socket.bind((0, _RTMGRP_LINK))
        self._events = _device_events()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._final = self.changes()
        if self._socket is not None:
            self._socket.close()

    def changes(self) -> NetChanges:
        """What has come or gone since the block was entered; after it, in all of it."""
        if self._final is not None:
            return self._final
        now = _device_events()
        events = None if now is None or self._events is None else now - self._events
        gone = len(self._namespaces - namespaces())
        if self._socket is not None:
            self._links.extend(_heard(self._socket))
        return NetChanges(events, gone, tuple(self._links))


def _device_events() -> int | None:
    try:
        return int(UEVENTS.read_text())
    except (OSError, ValueError):
        return None


def namespaces() -> frozenset[int]:
    """The network namespaces that a process is in or that are mounted somewhere, by inode."""
    found = set()
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError):  # it has ended, or is somebody else's
                found.add(Path(entry.path, "ns/net").stat().st_ino)
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        _, mark, inode = line.split()[3].partition("net:[")
        if mark:
            found.add(int(inode.rstrip("]")))
    return frozenset(found)


def _heard(events: socket.socket) -> Iterator[str]:
    """What the kernel has told of interfaces since the last time."""
    while True:
        try:
            yield from link_changes(events.recv(1 << 16))
        except BlockingIOError:
            return
        except OSError:  # ENOBUFS: more than the socket holds
            yield "more than could be heard"


def link_changes(messages: bytes) -> Iterator[str]:
    """The interfaces that came (``+veth1``) or went (``-veth1``), out of the kernel's messages."""
    while len(messages) >= _HEADER.size + _INTERFACE.size:
        length, kind, _, _, _ = _HEADER.unpack_from(messages)
        family, _, _, _, change = _INTERFACE.unpack_from(messages, _HEADER.size)
        one, messages = messages[:length], messages[max(_HEADER.size, length + 3 & ~3) :]
        # A bridge tells of its ports in a family of its own; that is no interface that came or went.
        if family == socket.AF_UNSPEC and (kind == _RTM_DELLINK or (kind == _RTM_NEWLINK and change == _NEW)):
            yield ("+" if kind == _RTM_NEWLINK else "-") + _name(one[_HEADER.size + _INTERFACE.size :])


def _name(attributes: bytes) -> str:
    while len(attributes) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(attributes)
        if kind == _IFLA_IFNAME:
            return attributes[_ATTRIBUTE.size : length].rstrip(b"\0").decode(errors="replace")
        attributes = attributes[max(_ATTRIBUTE.size, length + 3 & ~3) :]
    return "?"
