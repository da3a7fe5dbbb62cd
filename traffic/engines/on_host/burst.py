"""Send or receive counted UDP packets on a host; what happened comes out as one line of JSON.

    python3 - send  PACKETS_PER_SECOND CONNECTED FLOW…
    python3 - sink  SECONDS FLOW…

FLOW is ``src,sport,dst,dport,packets,payload_bytes``. `send` deals the flows' packets in turn. `sink` says ``ready``
when its sockets are bound, then counts per flow until every packet is there, the time is up, or it is sent TERM.
"""

from __future__ import annotations

import json
import select
import signal
import socket
import sys
import time
from ipaddress import ip_address
from pathlib import Path
from types import FrameType

# Packets sent between two looks at the clock: a queue of 100 packets on the way is never filled by one batch.
BATCH = 16
# SO_RCVBUFFORCE; Python does not name it. It goes past net.core.rmem_max and needs CAP_NET_ADMIN.
SO_RCVBUFFORCE = 33
BUFFER_BYTES = 16 * 1024 * 1024

Flow = tuple[str, int, str, int, int, int]


class Terminated(Exception):
    """The sink was told to end."""


def flow(text: str) -> Flow:
    """(src, sport, dst, dport, packets, payload_bytes)."""
    src, sport, dst, dport, packets, payload = text.split(",")
    return str(ip_address(src)), int(sport), str(ip_address(dst)), int(dport), int(packets), int(payload)


def udp_socket(address: str, port: int, *, shared: bool) -> socket.socket:
    """A UDP socket bound there. `shared`: flows of one source port to several destinations have one each."""
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(shared))
    made.bind((address, port))
    return made


def send(rate_pps: float, flows: list[Flow], *, connected: bool) -> None:
    """Send every flow's packets, dealt in turn, `rate_pps` packets a second all together."""
    senders = [udp_socket(src, sport, shared=True) for src, sport, *_ in flows]
    if connected:
        for sender, (_, _, dst, dport, _, _) in zip(senders, flows, strict=True):
            sender.connect((dst, dport))
    sent = [0] * len(flows)
    errors: list[str | None] = [None] * len(flows)
    rounds = range(max(packets for *_, packets, _ in flows))
    turns = (place for number in rounds for place, one in enumerate(flows) if number < one[4])
    began = time.monotonic()
    for done, place in enumerate(turns, start=1):
        _, _, dst, dport, _, payload = flows[place]
        try:
            if connected:
                senders[place].send(bytes(payload))
            else:
                senders[place].sendto(bytes(payload), (dst, dport))
            sent[place] += 1
        except OSError as error:
            errors[place] = error.strerror
        if done % BATCH == 0:
            select.select([], [], [], max(0.0, began + done / rate_pps - time.monotonic()))
    sys.stdout.write(json.dumps({"sent": sent, "errors": errors}) + "\n")


def dropped(ports: set[int]) -> int:
    """Packets that arrived but found a full receive buffer, as the kernel counts them per socket."""
    total = 0
    for family in ("", "6"):
        try:
            lines = Path(f"/proc/net/udp{family}").read_text(encoding="ascii").splitlines()[1:]
        except OSError:  # no IPv6 here
            continue
        total += sum(int(f[-1]) for f in map(str.split, lines) if int(f[1].rpartition(":")[2], 16) in ports)
    return total


def bound(flows: list[Flow]) -> list[socket.socket]:
    """One receiving socket per (dst, dport), its buffer as large as it may be."""
    receivers = []
    for address, port in sorted({(dst, dport) for _, _, dst, dport, _, _ in flows}):
        receiver = udp_socket(address, port, shared=False)
        try:
            receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        except PermissionError:
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        receiver.setblocking(False)
        receivers.append(receiver)
    return receivers


def terminate(_number: int, _frame: FrameType | None) -> None:
    """End the counting, not the program: its counts are still to be written."""
    raise Terminated


class Tally:
    """Packets counted per flow, and those of nobody's flow as strangers."""

    def __init__(self, flows: list[Flow]) -> None:
        self.counts = {(src, sport, dst, dport): 0 for src, sport, dst, dport, _, _ in flows}
        self.left = sum(packets for *_, packets, _ in flows)
        self.strangers = 0

    def add(self, src: str, sport: int, dst: str, dport: int) -> None:
        """Count one packet."""
        if (src, sport, dst, dport) in self.counts:
            self.counts[src, sport, dst, dport] += 1
            self.left -= 1
        else:
            self.strangers += 1


def count(receivers: list[socket.socket], tally: Tally, seconds: float) -> None:
    """Count what arrives, until every packet is there or the time is up."""
    known = {receiver.fileno(): (receiver, receiver.getsockname()[:2]) for receiver in receivers}
    poll = select.poll()
    for number in known:
        poll.register(number, select.POLLIN)
    deadline = time.monotonic() + seconds
    while tally.left > 0 and time.monotonic() < deadline:
        for number, _ in poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            receiver, here = known[number]
            try:
                source = receiver.recvfrom(1)[1]
            except BlockingIOError:  # its checksum was wrong
                continue
            tally.add(*source[:2], *here)


def sink(seconds: float, flows: list[Flow]) -> None:
    """Receive the flows' packets, and write what arrived."""
    tally, receivers = Tally(flows), bound(flows)
    signal.signal(signal.SIGTERM, terminate)
    try:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        count(receivers, tally, seconds)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    except Terminated:
        pass
    received = [tally.counts[src, sport, dst, dport] for src, sport, dst, dport, _, _ in flows]
    full = dropped({dport for _, _, _, dport, _, _ in flows})
    sys.stdout.write(json.dumps({"received": received, "strangers": tally.strangers, "dropped": full}) + "\n")


if __name__ == "__main__":
    if sys.argv[1] == "send":
        send(float(sys.argv[2]), [flow(text) for text in sys.argv[4:]], connected=sys.argv[3] == "connected")
    else:
        sink(float(sys.argv[2]), [flow(text) for text in sys.argv[3:]])
