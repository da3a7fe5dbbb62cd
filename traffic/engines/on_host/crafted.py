"""Send crafted packets and frames from a host, and count those that come; both ends of a burst run it.

    python3 -

Its plan is the first line of its input, as JSON (`traffic/engines/crafted_sending.py`). It opens its sockets and says
``ready``; on ``go`` it sends. It says ``sent`` when all has left and ``done`` when all it expects has come; at the next
line, or the end of its input, it writes what it counted as a line of JSON. Trouble is one line on standard error.

RoCEv2 is received from raw sockets, behind tc ingress as any socket: so it may arrive beside a program that has the
port. Pauses are heard as they come off the wire, before a soft ASIC takes them out.
"""

from __future__ import annotations

import ctypes
import errno
import heapq
import json
import os
import select
import socket
import struct
import sys
import time
from typing import Any

ROCE_PORT = 4791
ETH_P_ALL, ETH_P_PAUSE = 3, 0x8808
SO_RCVBUFFORCE, SO_ATTACH_FILTER, SO_MEMINFO = 33, 26, 55  # Python names none of them
SOL_PACKET, PACKET_QDISC_BYPASS = 263, 20
IP_RECVERR, IPV6_RECVERR, IPV6_FLOWINFO, IPV6_TCLASS, IPV6_RECVTCLASS = 11, 25, 11, 67, 66
BUFFER_BYTES = 64 * 1024 * 1024  # a processor that is taken away for seconds loses nothing
LATE_NS = 1_000_000  # what was held up is made up for by so much at once, no more
FULL_NS = 100_000  # until a port that takes nothing is asked again
MOST_BYTES = 9216
BATCH = 64  # packets received before it is looked whether one is to be sent


def keep(sock: socket.socket, size: int, offset: int, value: int) -> None:
    """Let nothing in but what has this number there, of one byte or two."""
    load = 0x28 if size == 2 else 0x30
    code = [(load, 0, 0, offset), (0x15, 0, 1, value), (6, 0, 0, 0xFFFF), (6, 0, 0, 0)]
    text = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in code))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", len(code), ctypes.addressof(text)))


def receiver(address: str) -> socket.socket:
    """What takes RoCEv2 that comes for an address."""
    v6 = ":" in address
    made = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
    made.bind((address, 0))
    keep(made, 2, 2 if v6 else 22, ROCE_PORT)  # from UDP on, or from an IPv4 header of 20 bytes on
    if v6:
        made.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVTCLASS, 1)
        made.setsockopt(socket.IPPROTO_IPV6, IPV6_FLOWINFO, 1)
    return made


def port_keeper(address: str) -> socket.socket | None:
    """Keeps the kernel from answering that nobody has the port; None where somebody has it."""
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)  # what it is given it need not keep
    try:
        made.bind((address, ROCE_PORT))
    except OSError as error:
        made.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise
    return made


def wire(port: str, *, listens: bool) -> socket.socket:
    """A port below its queues; with `listens`, also MAC control frames that come in there."""
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    if listens:
        keep(made, 2, 12, ETH_P_PAUSE)
    made.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
    made.bind((port, ETH_P_ALL if listens else 0))
    return made


def sender(address: str) -> socket.socket:
    """What sends whole IP packets by a card."""
    v6 = ":" in address
    made = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    made.bind((address, 0))
    # A raw socket tells of a full queue only when asked to.
    made.setsockopt(*((socket.IPPROTO_IPV6, IPV6_RECVERR) if v6 else (socket.IPPROTO_IP, IP_RECVERR)), 1)
    return made


class Counts:
    """What has come: of every packet that is expected how often, and with which byte of class and congestion."""

    def __init__(self, expects: list[tuple[str, int]]) -> None:
        self.place = {key: number for number, (key, _) in enumerate(expects)}
        self.came = [0] * len(expects)
        self.tos: list[dict[int, int]] = [{} for _ in expects]
        self.lacking = sum(count for _, count in expects)
        self.strangers = 0

    def add(self, key: str, tos: int) -> None:
        """Count one."""
        number = self.place.get(key)
        if number is None:
            self.strangers += 1
            return
        self.came[number] += 1
        self.tos[number][tos] = self.tos[number].get(tos, 0) + 1
        self.lacking -= 1


class Ears:
    """The sockets that receive."""

    def __init__(self, addresses: list[str], ports: list[str], counts: Counts) -> None:
        self.counts = counts
        self.by_number: dict[int, tuple[socket.socket, str]] = {}
        self.keepers = [port_keeper(address) for address in addresses]
        for at, made in [(one, receiver(one)) for one in addresses] + [(one, wire(one, listens=True)) for one in ports]:
            made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
            made.setblocking(False)
            self.by_number[made.fileno()] = made, at

    def drain(self, number: int, most: int = BATCH) -> None:
        """Count what has come, `most` packets at once."""
        sock, at = self.by_number[number]
        for _ in range(most):
            try:
                data, told, _, source = sock.recvmsg(MOST_BYTES, 256)
            except BlockingIOError:
                return
            if sock.family == socket.AF_PACKET:
                if source[2] != 4:  # PACKET_OUTGOING: our own
                    self.counts.add(f"{at} {(data[:6] + data[12:]).hex()}", 0)
            elif sock.family == socket.AF_INET:
                self.counts.add(data[12:].hex(), data[1])
            else:
                said = {kind: value for level, kind, value in told if level == socket.IPPROTO_IPV6}
                label = int.from_bytes(said.get(IPV6_FLOWINFO, bytes(4)), "big") & 0xFFFFF
                ends = socket.inet_pton(socket.AF_INET6, source[0]) + socket.inet_pton(socket.AF_INET6, at)
                tos = int.from_bytes(said.get(IPV6_TCLASS, bytes(4)), sys.byteorder)
                self.counts.add(label.to_bytes(3, "big").hex() + (ends + data).hex(), tos)

    def overflow(self) -> int:
        """Packets that found a socket full."""
        return sum(
            struct.unpack("9I", sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36))[8]
            for sock, _ in self.by_number.values()
        )


class Burst:
    """A burst that is sent from here: packets, the order they leave in, and the time from one to the next."""

    def __init__(self, said: dict[str, Any]) -> None:
        self.packets = [(bytes.fromhex(data), int(gap)) for data, gap in said["packets"]]
        self.order: list[int] = said["order"]
        self.to: str = said["to"]
        self.at: str = said["from"]
        self.sent = [0] * len(self.packets)
        self.error: str | None = None
        self.next = 0
        if self.to:
            self.out = sender(self.at)
        else:
            self.out = wire(self.at, listens=False)
            mac = self.out.getsockname()[4]
            self.packets = [(data[:6] + mac + data[12:], gap) for data, gap in self.packets]
        self.out.setblocking(False)

    def send(self, now: int, due: int) -> int | None:
        """Send the next one; when the one after it is due, None after the last."""
        number = self.order[self.next]
        data, gap = self.packets[number]
        try:
            if self.to:
                self.out.sendto(data, (self.to, 0))
            else:
                self.out.send(data)
            self.sent[number] += 1
        except OSError as error:
            if error.errno in {errno.ENOBUFS, errno.EAGAIN}:
                return now + FULL_NS
            self.error = f"{len(data)} bytes: {error.strerror}"
        self.next += 1
        return max(due, now - LATE_NS) + gap if self.next < len(self.order) else None


def say(word: str) -> None:
    """Tell whoever started this."""
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


def play(bursts: list[Burst], ears: Ears) -> None:
    """Send and count until somebody says something: there is but to stop."""
    began = time.monotonic_ns()
    due = [(began, place) for place in range(len(bursts))]
    said_sent = said_done = False
    listened = (0, *ears.by_number)
    while True:
        now = time.monotonic_ns()
        if due and due[0][0] <= now:
            at, place = heapq.heappop(due)
            after = bursts[place].send(now, at)
            if after is not None:
                heapq.heappush(due, (after, place))
        if not due and not said_sent:
            said_sent = True
            say("sent")
        if ears.counts.lacking <= 0 and not said_done:
            said_done = True
            say("done")
        pause = max(0.0, (due[0][0] - time.monotonic_ns()) / 1e9) if due else None
        for number in select.select(listened, (), (), pause)[0]:
            if number == 0:
                return
            ears.drain(number)


def line() -> str:
    """The next line of input. Nothing is read past it, so that a `select` says truly whether there is more."""
    read = b""
    while not read.endswith(b"\n") and (more := os.read(0, 65536)):
        read += more  # whoever writes lets us answer each line first, but for the last: to stop
    return read.decode()


def main() -> None:
    """Do what the plan says."""
    plan = json.loads(line())
    counts = Counts(plan["expects"])
    ears = Ears(plan["receives"], plan["listens"], counts)
    bursts = [Burst(one) for one in plan["sends"]]
    say("ready")
    if line() == "go\n":
        play(bursts, ears)
    for number in ears.by_number:
        ears.drain(number, sys.maxsize)
    said = {
        "sent": [one.sent for one in bursts],
        "errors": [one.error for one in bursts],
        "came": counts.came,
        "tos": counts.tos,
        "strangers": counts.strangers,
        "overflow": ears.overflow(),
    }
    say(json.dumps(said))


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(f"{error.strerror or error}")
