"""One rank of a graph, its packets crafted by scapy: run as a program in a host's network namespace.

    python3 -m traffic.engines.crafted_rank

Reads its plan, a line of JSON (`crafted_plan`), crafts every packet, opens its sockets and says ``ready``. ``go NS`` is
when to begin (CLOCK_MONOTONIC); after the last iteration it says ``done``, on ``stop`` or the end of its input it
writes what happened as a line of JSON. Whatever fails is one line on standard error, and status 1.
"""

from __future__ import annotations

import errno
import io
import json
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROCE_PORT = 4791
BTH_BYTES = 12
SO_RCVBUFFORCE = 33  # past net.core.rmem_max; Python does not name it
BUFFER_BYTES = 64 * 1024 * 1024  # a processor that is taken away for seconds loses nothing
IP_RECVERR = 11  # a raw socket tells of a full queue only when asked to
IP_HEADER, ETHERNET_BYTES = 20, 38  # with FCS, preamble and gap
BATCH = 32  # packets received before it is looked whether one is to be sent
CE = 3
LONGEST_S = 3600.0  # nobody who started it is heard of for longer


@dataclass
class Message:
    """A message expected: how often each of its packets has come, and how many lack at every count."""

    number: int
    psn: int
    came: list[int]
    lacking: list[int]
    done_ns: int = 0

    def took(self, psn: int) -> bool:
        """Count a packet; True when it was the last one that its iteration lacked."""
        index = psn - self.psn
        level = self.came[index]
        self.came[index] += 1
        if level >= len(self.lacking):  # more often than it was sent
            return False
        self.lacking[level] -= 1
        return self.lacking[level] == 0


@dataclass
class Rank:
    """What this rank has to do, and how far it is."""

    plan: Mapping[str, Any]
    packets: Mapping[int, Sequence[bytes]]
    out: socket.socket
    into: socket.socket
    messages: dict[int, list[Message | None]] = field(default_factory=dict)
    arrived: dict[int, int] = field(default_factory=dict)  # message to how many iterations of it have come
    iteration: int = 0
    due_ns: int = 0
    active: deque[tuple[int, int]] = field(default_factory=deque)  # (number, next packet)
    computing: list[tuple[int, int]] = field(default_factory=list)  # (until ns, number)
    waiting: dict[int, set[int]] = field(default_factory=dict)
    left: set[int] = field(default_factory=set)
    begun_ns: dict[int, int] = field(default_factory=dict)
    sent_ns: dict[int, int] = field(default_factory=dict)
    began_ns: list[int] = field(default_factory=list)
    ended_ns: list[int] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("ce", "strangers"), 0))

    def __post_init__(self) -> None:
        iterations = self.plan["iterations"]
        for one in self.plan["expects"]:
            slots = self.messages.setdefault(one["queue_pair"], [])
            slots += [None] * (one["psn"] + one["packets"] - len(slots))
            message = Message(one["number"], one["psn"], [0] * one["packets"], [one["packets"]] * iterations)
            slots[one["psn"] : one["psn"] + one["packets"]] = [message] * one["packets"]
            self.arrived[one["number"]] = 0
        self.tasks = {one["number"]: one for one in self.plan["sends"]}
        self.sent = dict.fromkeys(self.tasks, 0)

    @property
    def done(self) -> bool:
        """True after the last iteration."""
        return self.iteration >= int(self.plan["iterations"])

    def begin(self, now: int) -> None:
        """Begin an iteration."""
        self.began_ns.append(now)
        self.left = {*self.tasks, *self.arrived}
        self.waiting = {number: set(one["after"]) for number, one in self.tasks.items()}
        for number in [number for number, count in self.arrived.items() if count > self.iteration]:
            self.finished(number, now)  # it came while others of the iteration before were under way
        for number in [number for number, waits in self.waiting.items() if not waits]:
            self.released(number, now)

    def released(self, number: int, now: int) -> None:
        """Nothing keeps this send any more but its computing."""
        self.waiting.pop(number, None)
        self.computing.append((now + round(self.tasks[number]["compute_s"] * 1e9), number))
        self.computing.sort()

    def finished(self, number: int, now: int) -> None:
        """A send has left or a message has come: what waited for it may go."""
        self.left.discard(number)
        for waiting in [one for one, waits in self.waiting.items() if number in waits]:
            self.waiting[waiting].discard(number)
            if not self.waiting[waiting]:
                self.released(waiting, now)

    def step(self, now: int) -> None:
        """Begin what has computed, and whole iterations."""
        while self.computing and self.computing[0][0] <= now:
            _, number = self.computing.pop(0)
            self.begun_ns[number] = now
            if self.packets[number]:
                self.active.append((number, 0))
            else:
                self.finished(number, now)
        if not self.left and not self.done:
            self.ended_ns.append(now)
            self.iteration += 1
            if not self.done:
                self.begin(now)

    def send(self, now: int) -> bool:
        """Send one packet of the next message in turn; False where the port takes none now."""
        number, index = self.active[0]
        packet = self.packets[number][index]
        try:
            self.out.sendto(packet, (self.tasks[number]["dst"], 0))
        except OSError as error:
            if error.errno in {errno.ENOBUFS, errno.EAGAIN}:
                return False
            raise
        self.sent[number] += 1
        self.active.popleft()
        if rate := self.plan["rate_bps"]:
            self.due_ns = max(self.due_ns, now) + round((len(packet) + ETHERNET_BYTES) * 8e9 / rate)
        if index + 1 < len(self.packets[number]):
            self.active.append((number, index + 1))
        else:
            self.sent_ns[number] = now
            self.finished(number, now)
        return True

    def receive(self) -> None:
        """Count what has come."""
        for _ in range(BATCH):
            try:
                data, told, _, _ = self.into.recvmsg(BTH_BYTES, 64)
            except BlockingIOError:
                return
            self.count(data, told[0][2][0] if told else 0)

    def count(self, data: bytes, tos: int) -> None:
        """Count one packet by queue pair and sequence number."""
        slots = self.messages.get(int.from_bytes(data[5:8], "big"), [])
        psn = int.from_bytes(data[9:12], "big")
        message = slots[psn] if len(data) == BTH_BYTES and psn < len(slots) else None
        if message is None:
            self.counts["strangers"] += 1
            return
        self.counts["ce"] += tos & CE == CE
        if message.took(psn):
            message.done_ns = time.monotonic_ns()
            self.arrived[message.number] += 1
            if self.arrived[message.number] == self.iteration + 1 and self.began_ns:
                self.finished(message.number, message.done_ns)

    def report(self) -> str:
        """All of it."""
        whole = {slot.number: slot for slots in self.messages.values() for slot in slots if slot is not None}
        times = self.plan["iterations"]
        expects = [
            {
                "number": one.number,
                "came": sum(one.came),
                "missing": sum(times - count for count in one.came),
                "done_ns": one.done_ns if one.lacking[-1] == 0 else 0,
            }
            for one in whole.values()
        ]
        sends = [
            {
                "number": number,
                "sent": self.sent[number],
                "begun_ns": self.begun_ns.get(number, 0),
                "done_ns": self.sent_ns.get(number, 0),
            }
            for number in self.tasks
        ]
        said = {"rank": self.plan["rank"], "began_ns": self.began_ns, "ended_ns": self.ended_ns,
                "sends": sends, "expects": expects, "overflow": overflow(), **self.counts}  # fmt: skip
        return json.dumps(said)


def overflow() -> int:
    """Packets that found the socket full."""
    lines = Path("/proc/self/net/udp").read_text(encoding="ascii").splitlines()[1:]
    return sum(int(f[-1]) for f in map(str.split, lines) if int(f[1].rpartition(":")[2], 16) == ROCE_PORT)


def sockets(address: str) -> tuple[socket.socket, socket.socket]:
    """(what sends whole IP packets, what receives RoCEv2)."""
    into = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        into.bind((address, ROCE_PORT))
    except OSError as error:
        raise OSError(error.errno, f"{address} port {ROCE_PORT}: {error.strerror}") from None
    into.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    into.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
    into.setblocking(False)
    out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    out.bind((address, 0))  # it leaves by this card
    out.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    out.setblocking(False)
    return out, into


def crafted(plan: Mapping[str, Any]) -> dict[int, list[bytes]]:
    """Every packet of every send."""
    from traffic.engines.crafted_packets import write_packets

    keys = ("sport", "queue_pair", "psn", "size")
    return {
        one["number"]: list(
            write_packets(
                plan["address"], one["dst"], **{key: one[key] for key in keys}, mtu=plan["mtu"], tos=plan["tos"]
            )
        )
        if one["packets"]
        else []
        for one in plan["sends"]
    }


def played(rank: Rank, go_ns: int, orders: io.FileIO) -> None:
    """Play until the last iteration is done, or somebody says something: there is but ``stop`` to say."""
    since = go_ns
    while (now := time.monotonic_ns()) < go_ns:
        if told_within(orders, (go_ns - now) / 1e9):
            return
    rank.begin(since)
    told = False
    while not told:
        now = time.monotonic_ns()
        rank.step(now)
        if rank.done:
            return
        if rank.active and now >= rank.due_ns:
            if not rank.send(now):
                rank.due_ns = now + 100_000  # the port is full: it is asked again when it has sent some
            rank.receive()
            continue
        nexts = [rank.due_ns] if rank.active else []
        nexts += [rank.computing[0][0]] if rank.computing else []
        pause = max(0, min(nexts) - now) / 1e9 if nexts else None
        ready, _, _ = select.select([rank.into.fileno(), orders.fileno()], [], [], pause)
        told = orders.fileno() in ready
        rank.receive()


def told_within(orders: io.FileIO, seconds: float) -> bool:
    """True when somebody said something, or can say nothing more."""
    return bool(select.select([orders], [], [], seconds)[0])


def main() -> None:
    """Do what the plan says."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it ends it, in order
    orders = io.FileIO(0, closefd=False)  # unbuffered: what select says holds
    plan = json.loads(orders.readline())
    out, into = sockets(plan["address"])
    rank = Rank(plan, crafted(plan), out, into)
    sys.stdout.write("ready to go\n")
    sys.stdout.flush()
    words = orders.readline().split()
    if words[:1] == [b"go"]:
        played(rank, int(words[1]), orders)
        if rank.done:
            sys.stdout.write("done\n")
            sys.stdout.flush()
            told_within(orders, LONGEST_S)
    rank.receive()
    sys.stdout.write(rank.report() + "\n")


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(str(error))
