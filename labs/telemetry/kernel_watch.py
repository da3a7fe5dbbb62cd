"""One node's kernel, listened to: a netlink socket opened inside its network namespace, and its counters.

The counters come from ``/proc/net/dev``: unlike a netlink dump that takes none of the kernel's locks for changes, so
that sampling keeps nobody from changing a queue.

A socket keeps its namespace alive, and with it the cables that go with a container which ends by itself. So the first
process of a container is watched too, and everything is closed once it is gone.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from labs import kernel
from labs.telemetry import rtnetlink
from labs.telemetry.known import KnownKernel
from labs.telemetry.listening import ListenedNode
from labs.telemetry.records import AnyRecord, Missed, PortRecord, RouteEvent
from labs.telemetry.rtnetlink import DumpDone

RECEIVE_BYTES = 4 << 20  # some 10 000 routes that change at once
_SO_RCVBUFFORCE = 33
# What is read goes here first: a new quarter of a megabyte for each datagram of 200 bytes takes 20 µs.
_READ = memoryview(bytearray(1 << 18))
_OF_PROCESS = re.compile(r"^/proc/(\d+)/ns/net$")


class KernelWatch:
    """Listens to a node while it is there. `end_fd` becomes readable when its first process is gone; None without."""

    def __init__(self, name: str, node: ListenedNode) -> None:
        self._name = name
        self._node = node
        self._known = KnownKernel(name, node.ports)
        self._was: tuple[int, int] | None = None
        self._counters = -1
        self._sequence = 0
        self._read_ns = 0  # when it was last read, and said all that had happened by then
        self.socket: socket.socket | None = None
        self.end_fd: int | None = None

    @property
    def is_stale(self) -> bool:
        """Whether the namespace behind the node's name is another one than is listened to, or none."""
        return self._now() != self._was

    def _now(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._node.netns)  # noqa: PTH116 - each beat, of every node
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def open(self) -> bool:
        """Begin to listen, if the namespace is there."""
        path = Path(self._node.netns)
        try:
            self.end_fd = _process_behind(path)
            was = self._now()
            self._read_ns = time.monotonic_ns()
            with kernel.inside_netns(path):
                self._counters = os.open("/proc/thread-self/net/dev", os.O_RDONLY | os.O_CLOEXEC)
                self.socket = _listen()
        except OSError:
            self._let_go()
            return False
        self._was = was
        self._ask(1)
        return True

    def close(self, t: int) -> Iterator[AnyRecord]:
        """Let go of a namespace that is not the node's any more; yields what is lost with it."""
        self._let_go()
        yield from self._known.lost(t)

    def _let_go(self) -> None:
        if self.socket is not None:
            self.socket.close()
        for fd in (self._counters, self.end_fd):
            if fd is not None and fd >= 0:
                os.close(fd)
        self.socket, self.end_fd, self._counters, self._was = None, None, -1, None

    def _ask(self, sequence: int) -> None:
        """Ask how things stand: links, then routes; the kernel answers one such question of a socket at a time."""
        self._sequence = sequence
        asked = {
            1: rtnetlink.dump_links(1),
            2: rtnetlink.dump_routes(2, socket.AF_INET),
            3: rtnetlink.dump_routes(3, socket.AF_INET6),
        }
        if self.socket is not None and sequence in asked:
            self.socket.send(asked[sequence])

    def events(self) -> Iterator[AnyRecord]:
        """What was heard since the last time, stamped now: the kernel gives no time.

        An IPv6 route is replaced by taking it away first: of both events, microseconds apart, only the second is one.
        """
        gone: dict[str, RouteEvent] = {}
        for event in self._heard():
            if isinstance(event, RouteEvent):
                if not event.ports:
                    gone[event.prefix] = event
                    continue
                gone.pop(event.prefix, None)
            yield event
        yield from gone.values()

    def _heard(self) -> Iterator[AnyRecord]:
        """An overflow is said before what still was in the queue: until the last read none can have been."""
        while self.socket is not None:
            now = time.monotonic_ns()
            try:
                datagram = bytes(_READ[: self.socket.recv_into(_READ)])
            except BlockingIOError:
                self._read_ns = now
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    return
                because = "its kernel's events overflowed"
                yield Missed(t=time.monotonic_ns(), since=self._read_ns, because=because, node=self._name)
                self._ask(1)
                continue
            self._read_ns = now
            t = time.monotonic_ns()
            for dumped, seen in rtnetlink.heard(datagram):
                yield from self._known.learn(t, dumped, seen)
                if isinstance(seen, DumpDone) and seen.sequence == self._sequence:
                    self._ask(self._sequence + 1)

    def ports(self) -> Iterator[PortRecord]:
        """The counters of the node's ports now."""
        if self._counters < 0:
            return
        t = time.monotonic_ns()
        for line in os.pread(self._counters, 1 << 17, 0).decode().splitlines()[2:]:
            name, _, numbers = line.partition(":")
            port = self._node.ports.get(name.strip())
            if port is None:
                continue
            n = numbers.split()
            up, _ = self._known.links.get(name.strip(), (False, False))
            yield PortRecord(
                t=t, node=self._name, port=port, up=up, rx_bytes=int(n[0]), rx_packets=int(n[1]),
                rx_dropped=int(n[3]), tx_bytes=int(n[8]), tx_packets=int(n[9]), tx_dropped=int(n[11]),
            )  # fmt: skip


def _listen() -> socket.socket:
    """A netlink socket of the current network namespace."""
    made = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    )
    try:
        made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BYTES)
        made.bind((0, rtnetlink.GROUPS))
    except BaseException:
        made.close()
        raise
    return made


def _process_behind(path: Path) -> int | None:
    """A pidfd of the process whose namespace is meant, where the name links to it. Raises OSError when it is gone."""
    if not path.is_symlink():
        return None
    found = _OF_PROCESS.match(str(path.readlink()))
    return os.pidfd_open(int(found[1])) if found else None
