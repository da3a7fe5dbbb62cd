"""The soft ASIC's books: every packet has one fate, and fates sum to arrivals.

The same packet is counted in several places, by several programs: in a queue's fates, in the priority group (PG) it
came in by, in the words that tell which PG's packets wait in which queue, at the far end of the cable. So equations
between these counters can fail. With, for one queue,

    queued = sent + emptied + lost + what depth has grown by       came = tail + wred + watchdog + ingress + queued

every interval between two readings has to satisfy

    host sends       a host's queue: own packets = came (its programs count a packet before they judge it)
    own              a switch's queue: own packets <= came
    PG dropped       a switch: packets its PGs refused = packets its queues lost to "ingress"; bytes: the same
    PG admitted      a switch: queued - admitted by its PGs = own packets that were queued; bytes: never below 0
    forwarded        a switch: frames that came in by its ports - frames that came to its queues from its ports >= 0:
                     the rest is what its kernel kept, for the CPU or as routing drops. Nothing counts that
    wire             a port: the wire, the watchdog and a slow receiver lose no more than came
    marked           a queue: marked <= sent
    lost             a port: packets lost, by queue = by what the kernel says of them

and every reading

    PG holds         used + headroom of a PG = its bytes in all queues of its switch
    queue holds      depth of a port's queues - what is charged there = own packets waiting; bytes: the same
    pool, headroom   a pool's bytes = the shared bytes of its PGs and queues; its headroom = that of its PGs
    levels           nothing is below 0

Own packets that were refused are not counted apart from others, so "PG admitted" has that much room where a queue
with own packets dropped some.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from labs.telemetry.asic_counters import (
    AsicCounters,
    GroupCounters,
    PoolCounters,
    PortCounters,
    QueueCounters,
)
from labs.verdicts import Evidence, Fidelity, Verdict

MOST_ROWS = 12
CONSERVED = "every packet has one fate"
EMPTY = "nothing is left in the switches' buffers"


@dataclass(frozen=True, slots=True)
class Equation:
    """One law at one place: `left` - `right` has to be from `least` to `most` (None: any)."""

    law: str
    where: str
    left: int
    right: int
    least: int = 0
    most: int | None = 0

    @property
    def difference(self) -> int:
        """What the left side has more."""
        return self.left - self.right

    @property
    def holds(self) -> bool:
        """True when the difference is allowed."""
        return self.least <= self.difference and (self.most is None or self.difference <= self.most)

    def __str__(self) -> str:
        most = "any" if self.most is None else self.most
        allowed = "0" if self.least == self.most == 0 else f"{self.least} to {most}"
        return f"{self.law}: {self.where}: {self.left} - {self.right} = {self.difference}, allowed {allowed}"


def packets_conserved(before: AsicCounters | None, after: AsicCounters) -> Verdict:
    """Judge that every packet between two readings has exactly one fate. `before` None: since the ASIC was attached.

    Invalid when equations fail while packets were on their way as the counters were read, and when asicd was started
    anew between the readings. `ledger` gives all equations.
    """
    if before is not None and (before.lab, before.asicd.started_ns) != (after.lab, after.asicd.started_ns):
        verdict = Verdict(CONSERVED, False, Evidence("two readings of different books"), fidelity=Fidelity.EMULATED)
        return verdict.invalid("the soft ASIC was started anew between the readings")
    equations = tuple(ledger(before, after))
    wrong = [one for one in equations if not one.holds]
    counted = after if before is None else after - before
    said = f"{len(wrong)} of {len(equations)} equations fail" if wrong else f"all {len(equations)} equations hold"
    numbers = {
        "fates": _fates(counted),
        "kept_by_kernel": {one.where: one.difference for one in equations if one.law == "forwarded"},
        "lost_in_kernel": lost_in_kernel(counted),
        "equations": len(equations),
        "failed": len(wrong),
    }
    rows = (*map(str, wrong[:MOST_ROWS]), *_by_law(equations))
    verdict = Verdict(
        CONSERVED,
        not wrong,
        Evidence(said, numbers, rows),
        fidelity=Fidelity.EMULATED,
    )
    moving = after.moving or (before is not None and before.moving)
    return verdict.invalid("packets were on their way while the counters were read") if wrong and moving else verdict


def nothing_left(counters: AsicCounters) -> Verdict:
    """Judge that every depth, every byte in use, every pool and every charged word is 0, as after traffic has ended.

    Invalid when something is there while packets are still on their way.
    """
    rows = [f"{where}: {value}" for where, value in _levels(counters) if value]
    rows += [f"{held}: {held.packets} packets, {held.bytes} bytes" for held in counters.held]
    told = f"{len(rows)} places are not empty" if rows else "every queue, PG and pool is empty"
    numbers = {"not_empty": len(rows), "lost_in_kernel": lost_in_kernel(counters)}
    verdict = Verdict(EMPTY, not rows, Evidence(told, numbers, tuple(rows[:MOST_ROWS])), fidelity=Fidelity.EMULATED)
    return verdict.invalid("packets were still on their way") if rows and counters.moving else verdict


def lost_in_kernel(counters: AsicCounters) -> Mapping[str, int]:
    """Packets that no switch would have lost, by what the kernel says; `softnet` is the whole workstation's."""
    lost = {name: sum(getattr(port, f"lost_{name}") for port in counters.ports) for name in ("veth", "purged", "qdisc")}
    return {**lost, "softnet": counters.asicd.softnet_dropped}


def ledger(before: AsicCounters | None, after: AsicCounters) -> Iterator[Equation]:
    """Every equation. Both readings are of one run of asicd."""
    books = _Books(after if before is None else after - before, before, after)
    yield from books.of_queues()
    yield from books.of_ports()
    yield from books.of_nodes()
    yield from _holdings(after)
    for where, value in _levels(after):
        yield Equation("levels", where, value, 0, most=None)


class _Books:
    """What happened between two readings, added up. A depth may grow, so that packets came which have no fate yet."""

    def __init__(self, counted: AsicCounters, before: AsicCounters | None, after: AsicCounters) -> None:
        self.counted, self.before, self.after = counted, before, after
        self.queues = _by_port(counted.queues)
        self.grown: dict[tuple[str, str, int], tuple[int, int]] = {}
        started = before.queues if before else [None] * len(after.queues)
        for first, last in zip(started, after.queues, strict=True):
            packets, size = (first.depth_packets, first.depth_bytes) if first else (0, 0)
            key = last.node, last.port, last.queue
            self.grown[key] = last.depth_packets - packets, last.depth_bytes - size

    def queued(self, queue: QueueCounters) -> int:
        return queue.left_packets + self.grown[queue.node, queue.port, queue.queue][0]

    def queued_bytes(self, queue: QueueCounters) -> int:
        gone = queue.sent_bytes + queue.emptied_bytes + queue.lost_bytes
        return gone + self.grown[queue.node, queue.port, queue.queue][1]

    def came(self, queue: QueueCounters) -> int:
        return queue.refused_packets + queue.ingress_packets + self.queued(queue)

    def of_queues(self) -> Iterator[Equation]:
        for port in self.counted.ports:
            for queue in self.queues[port.node, port.name]:
                if port.switch:
                    yield Equation("own", str(queue), self.came(queue), queue.own_packets, most=None)
                else:
                    yield Equation("host sends", str(queue), queue.own_packets, self.came(queue))
                yield Equation("marked", str(queue), queue.sent_packets, queue.marked_packets, most=None)

    def of_ports(self) -> Iterator[Equation]:
        for port in self.counted.ports:
            gone = port.wire_dropped + port.watchdog_rx_dropped + port.receiver_dropped
            yield Equation("wire", str(port), self.arrived(port), gone, most=None)
            lost = sum(queue.lost_packets for queue in self.queues[port.node, port.name])
            yield Equation("lost", str(port), lost, port.lost_veth + port.lost_purged + port.lost_qdisc)

    def arrived(self, port: PortCounters) -> int:
        """Frames at the end of a port's cable: what the far end's queues sent, and what went past them."""
        node, _, name = port.peer.partition(":")
        return sum(queue.sent_packets for queue in self.queues[node, name]) + port.unstamped

    def of_nodes(self) -> Iterator[Equation]:
        for node in self.counted.nodes:
            ports = [port for port in self.counted.ports if port.node == node]
            if not all(port.switch for port in ports):
                continue
            queues = [queue for port in ports for queue in self.queues[port.node, port.name]]
            groups = [group for group in self.counted.groups if group.node == node]
            yield from self.of_groups(node, queues, groups)
            received = sum(self.arrived(port) - port.wire_dropped - port.watchdog_rx_dropped for port in ports)
            through = sum(self.came(queue) - queue.own_packets for queue in queues)
            yield Equation("forwarded", node, received, through, most=None)

    def of_groups(self, node: str, queues: list[QueueCounters], groups: list[GroupCounters]) -> Iterator[Equation]:
        refused = sum(queue.ingress_packets for queue in queues)
        yield Equation("PG dropped", node, sum(group.dropped_packets for group in groups), refused)
        refused = sum(queue.ingress_bytes for queue in queues)
        yield Equation("PG dropped bytes", node, sum(group.dropped_bytes for group in groups), refused)
        own = sum(min(queue.own_packets, self.queued(queue)) for queue in queues)
        least = sum(max(0, queue.own_packets - queue.refused_packets) for queue in queues)
        admitted = sum(group.packets for group in groups)
        yield Equation("PG admitted", node, sum(map(self.queued, queues)), admitted, least, own)
        size, admitted = sum(map(self.queued_bytes, queues)), sum(group.bytes for group in groups)
        yield Equation("PG admitted bytes", node, size, admitted, most=None if own else 0)


def _holdings(now: AsicCounters) -> Iterator[Equation]:
    """What is held at one moment, seen from both ends of the buffer and by its pools."""
    by_group: dict[tuple[str, str, int], int] = {}
    by_port: dict[tuple[str, str], tuple[int, int]] = {}
    for held in now.held:
        group, port = (held.node, held.ingress, held.group), (held.node, held.egress)
        by_group[group] = by_group.get(group, 0) + held.bytes
        packets, size = by_port.get(port, (0, 0))
        by_port[port] = packets + held.packets, size + held.bytes
    for one in now.groups:
        charged = by_group.get((one.node, one.port, one.group), 0)
        yield Equation("PG holds", str(one), one.used_bytes + one.headroom_bytes, charged)
    for (node, name), queues in _by_port(now.queues).items():
        packets, size = by_port.get((node, name), (0, 0))
        own = [queue for queue in queues if queue.own_packets]
        depth = sum(queue.depth_packets for queue in queues)
        yield Equation("queue holds", f"{node}:{name}", depth, packets, 0, sum(queue.depth_packets for queue in own))
        depth = sum(queue.depth_bytes for queue in queues)
        room = sum(queue.depth_bytes for queue in own)
        yield Equation("queue holds bytes", f"{node}:{name}", depth, size, 0, room)
    for pool in now.pools:
        yield from _pool(pool, now)


def _pool(pool: PoolCounters, now: AsicCounters) -> Iterator[Equation]:
    whose = (pool.node, pool.name)
    groups = [group for group in now.groups if (group.node, group.pool) == whose]
    queues = [queue for queue in now.queues if (queue.node, queue.pool) == whose]
    shared = sum(max(0, group.used_bytes - group.reserved_bytes) for group in groups)
    shared += sum(max(0, queue.depth_bytes - queue.reserved_bytes) for queue in queues)
    yield Equation("pool", str(pool), pool.used_bytes, shared)
    yield Equation("headroom", str(pool), pool.headroom_bytes, sum(group.headroom_bytes for group in groups))


def _levels(now: AsicCounters) -> Iterator[tuple[str, int]]:
    for queue in now.queues:
        yield f"{queue} packets", queue.depth_packets
        yield f"{queue} bytes", queue.depth_bytes
    for group in now.groups:
        yield f"{group} used", group.used_bytes
        yield f"{group} headroom", group.headroom_bytes
    for pool in now.pools:
        yield f"{pool} used", pool.used_bytes
        yield f"{pool} headroom", pool.headroom_bytes


def _by_port(queues: Iterable[QueueCounters]) -> Mapping[tuple[str, str], list[QueueCounters]]:
    found: dict[tuple[str, str], list[QueueCounters]] = {}
    for queue in queues:
        found.setdefault((queue.node, queue.port), []).append(queue)
    return found


def _by_law(equations: Iterable[Equation]) -> Iterator[str]:
    """Every law with both its sides, over all places where it was asked."""
    laws: dict[str, list[Equation]] = {}
    for one in equations:
        laws.setdefault(one.law, []).append(one)
    for law, asked in laws.items():
        failed = sum(not one.holds for one in asked)
        word = f"{failed} of {len(asked)} FAIL" if failed else f"{len(asked)} hold"
        left, right = sum(one.left for one in asked), sum(one.right for one in asked)
        yield f"{law}: {word}, {left} - {right} = {left - right}"


def _fates(counted: AsicCounters) -> Mapping[str, int]:
    names = ("sent", "tail", "wred", "ingress", "watchdog", "emptied", "lost")
    fates = {name: sum(getattr(queue, f"{name}_packets") for queue in counted.queues) for name in names}
    return {**fates, "waiting": sum(queue.depth_packets for queue in counted.queues)}
