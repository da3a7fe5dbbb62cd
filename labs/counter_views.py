"""The soft ASIC's counters as SONiC shows them: the tables of pfcstat, queuestat, wredstat and watermarkstat.

`port` is ours: the fates of all packets, and whether they sum to what came. So is `ecmp`: what the hash engine chose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, TypeVar

from labs.cleared import cleared
from labs.errors import RunInvalid
from labs.output import emit_json, emit_line, emit_table, say
from labs.status import SCHEMA
from labs.telemetry.asic_counters import QUEUES, AsicCounters, GroupCounters, PoolCounters, PortCounters, QueueCounters
from labs.telemetry.ecmp_counters import EcmpCounters
from labs.verdicts.ledger import lost_in_kernel, packets_conserved

PRIORITIES = tuple(range(QUEUES))
Record = TypeVar("Record", QueueCounters, GroupCounters)


class Counts(Protocol):
    """A soft ASIC, as far as this module knows it."""

    def counters(self) -> AsicCounters:
        """All counters, as they are now."""
        ...


@dataclass(frozen=True, slots=True)
class Shown:
    """What is to be shown: counters since `at` (None: since the ASIC was attached), of the nodes asked for.

    `now` are the same counters in full, `before` where they stood at `at`.
    """

    counted: AsicCounters
    now: AsicCounters
    before: AsicCounters | None = None
    at: str | None = None
    node: str | None = None
    nonzero: bool = False

    @property
    def ports(self) -> tuple[PortCounters, ...]:
        """The ports asked for."""
        return tuple(one for one in self.counted.ports if self.node in {None, one.node})

    @property
    def queues(self) -> tuple[QueueCounters, ...]:
        """Their queues."""
        return tuple(one for one in self.counted.queues if self.node in {None, one.node})

    @property
    def groups(self) -> tuple[GroupCounters, ...]:
        """Their priority groups."""
        return tuple(one for one in self.counted.groups if self.node in {None, one.node})

    @property
    def ecmp(self) -> tuple[EcmpCounters, ...]:
        """What their hash engines have chosen; nothing where no switch ever had one on."""
        return tuple(one for one in self.counted.ecmp if self.node in {None, one.node})

    @property
    def pools(self) -> tuple[PoolCounters, ...]:
        """The pools of their switches."""
        return tuple(one for one in self.counted.pools if self.node in {None, one.node})


def read(asic: Counts, run_path: Path, what: str, *, node: str | None, raw: bool, nonzero: bool) -> Shown:
    """What `railbed counters what` shows: since the last ``--clear``, or `raw` since the ASIC was attached."""
    now = asic.counters()
    start = None if raw else cleared(run_path, what)
    if start is None:
        return Shown(now, now, node=node, nonzero=nonzero)
    try:
        counted = now - start.counters
    except RunInvalid:
        say(f"the soft ASIC was started anew since the counters were cleared ({start.at}): they count from its start")
        return Shown(now, now, node=node, nonzero=nonzero)
    say(f"Last cached time was {start.at}")
    return Shown(counted, now, start.counters, start.at, node, nonzero)


def show_counters(shown: Shown, what: str, form: str) -> int:
    """The tables of `what`, or the same as JSON. 1 when packets are not conserved, 3 when that cannot be told."""
    return VIEWS[what](shown, form)


def _show_pfc(shown: Shown, form: str) -> int:
    if form == "json":
        return _json(shown, ports=[_only(port.to_dict(), "_PFC_", "node", "port") for port in shown.ports])
    for title, name in (("Rx", "pfc_rx"), ("Tx", "pfc_tx"), ("Rx XON", "pfc_xon_rx"), ("Tx XON", "pfc_xon_tx")):
        columns = (f"Port {title}", *(f"PFC{n}" for n in PRIORITIES))
        _table(shown, columns, [(str(port), *getattr(port, name)) for port in shown.ports])
    paused = [(str(port), *(ns // 1000 for ns in port.paused_ns)) for port in shown.ports]
    _table(shown, ("Port Paused/us", *(f"PFC{n}" for n in PRIORITIES)), paused)
    return 0


def _show_queue(shown: Shown, form: str) -> int:
    if form == "json":
        return _json(shown, queues=[queue.to_dict() for queue in shown.queues])
    _table(
        shown,
        ("Port", "TxQ", "Counter/pkts", "Counter/bytes", "Drop/pkts", "Drop/bytes"),
        [
            (*_txq(queue), queue.sent_packets, queue.sent_bytes, queue.dropped_packets, queue.dropped_bytes)
            for queue in shown.queues
        ],
    )
    return 0


def _show_ecn(shown: Shown, form: str) -> int:
    if form == "json":
        return _json(
            shown, queues=[_only(queue.to_dict(), "_WRED_", "node", "port", "queue") for queue in shown.queues]
        )
    _table(
        shown,
        ("Port", "TxQ", "WredDrp/pkts", "WredDrp/bytes", "EcnMarked/pkts", "EcnMarked/bytes"),
        [
            (*_txq(queue), queue.wred_packets, queue.wred_bytes, queue.marked_packets, queue.marked_bytes)
            for queue in shown.queues
        ],
    )
    return 0


def _show_watermark(shown: Shown, form: str) -> int:
    """Peaks since the ASIC was attached: they cannot be taken off."""
    if form == "json":
        return _json(
            shown,
            queues=[_only(queue.to_dict(), "WATERMARK", "node", "port", "queue") for queue in shown.queues],
            groups=[_only(group.to_dict(), "WATERMARK", "DROPPED", "node", "port", "group") for group in shown.groups],
            pools=[_only(pool.to_dict(), "WATERMARK", "node", "pool") for pool in shown.pools],
        )
    queues = ("Port", *(f"UC{n}" for n in PRIORITIES))
    groups = ("Port", *(f"PG{n}" for n in PRIORITIES))
    of_queues = _by_port(shown.queues, lambda queue: queue.watermark_bytes)
    _table(shown, queues, of_queues, "Egress shared pool occupancy per unicast queue:", plain=True)
    for title, value in (
        ("Ingress shared pool occupancy per PG:", lambda group: group.shared_watermark_bytes),
        ("Ingress headroom per PG:", lambda group: group.headroom_watermark_bytes),
        ("Ingress PG dropped packets:", lambda group: group.dropped_packets),
    ):
        _table(shown, groups, _by_port(shown.groups, value), title, plain=True)
    pools = [(str(pool), pool.watermark_bytes) for pool in shown.pools]
    _table(shown, ("Pool", "Bytes"), pools, "Shared pool maximum occupancy:", plain=True)
    headroom = [(str(pool), pool.headroom_watermark_bytes) for pool in shown.pools if pool.headroom_size_bytes]
    _table(shown, ("Pool", "Bytes"), headroom, "Headroom pool maximum occupancy:", plain=True)
    return 0


def _show_port(shown: Shown, form: str) -> int:
    verdict = packets_conserved(shown.before, shown.now)
    fates = [_fates(shown, port) for port in shown.ports]
    arrivals = [_arrivals(shown.counted, port) for port in shown.ports]
    if form == "json":
        _json(
            shown,
            ports=[
                {**port.to_dict(), "tx": tx, "rx": rx}
                for port, tx, rx in zip(shown.ports, fates, arrivals, strict=True)
            ],
            asicd=shown.counted.asicd.to_dict(),
            lost_in_kernel=lost_in_kernel(shown.counted),
            conservation=verdict.as_dict(),
        )
    else:
        _table(shown, ("Port Tx", *fates[0]), _rows(shown.ports, fates))
        _table(shown, ("Port Rx", *arrivals[0]), _rows(shown.ports, arrivals))
        emit_table(("asicd", ""), list(shown.counted.asicd.to_dict().items()))
        say(str(verdict))
    return RunInvalid.exit_code if not verdict.valid else 0 if verdict.held else 1


def _show_ecmp(shown: Shown, form: str) -> int:
    """Ports that no packet was sent to by a mode have no row."""
    if not shown.counted.engine:
        say("no switch of this lab has the hash engine on")
    if form == "json":
        return _json(shown, ecmp=[one.to_dict() for one in shown.ecmp])
    columns = ("Switch", "Port", "Mode", "Packets", "Bytes", "Flowlets", "Repicks", "Moved")
    rows = [(one.node or "-", one.port or "-", one.mode.name.lower(), *one.counts.values()) for one in shown.ecmp]
    _table(shown, columns, rows)
    return 0


def _fates(shown: Shown, port: PortCounters) -> dict[str, int]:
    """What became of the packets that came to a port's queues; those that waited when counting began are not new."""
    queues = _queues_of(shown.counted, port)
    waited = sum(queue.depth_packets for queue in _queues_of(shown.before, port)) if shown.before else 0
    names = ("sent", "tail", "wred", "ingress", "watchdog", "emptied", "lost")
    fates = {name: sum(getattr(queue, f"{name}_packets") for queue in queues) for name in names}
    waiting = sum(queue.depth_packets for queue in queues)
    return {"came": sum(fates.values()) + waiting - waited, **fates, "waiting": waiting}


def _arrivals(counted: AsicCounters, port: PortCounters) -> dict[str, int]:
    """What came by a port's cable, and what of it went no further."""
    far = counted.port(*port.peer.split(":", 1))
    return {
        "arrived": sum(queue.sent_packets for queue in _queues_of(counted, far)) + port.unstamped,
        "unstamped": port.unstamped,
        "wire": port.wire_lost + port.wire_nth_dropped + port.wire_blackholed,
        "bad_fcs": port.wire_fcs_errors,
        "corrupted": port.wire_corrupted,
        "watchdog": port.watchdog_rx_dropped,
        "receiver": port.receiver_dropped,
        "pause_802_3x": port.pause_802_3x,
    }


def _queues_of(counters: AsicCounters, port: PortCounters) -> list[QueueCounters]:
    return [counters.queue(port.node, port.name, queue) for queue in range(QUEUES)]


def _rows(ports: Iterable[PortCounters], numbers: Iterable[Mapping[str, int]]) -> list[tuple[object, ...]]:
    return [(str(port), *one.values()) for port, one in zip(ports, numbers, strict=True)]


def _by_port(records: Iterable[Record], value: Callable[[Record], int]) -> list[list[object]]:
    """A row a port, with one number a queue or group."""
    rows: dict[str, list[object]] = {}
    for record in records:
        port = f"{record.node}:{record.port}"
        rows.setdefault(port, [port]).append(value(record))
    return list(rows.values())


def _table(
    shown: Shown,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    title: str | None = None,
    *,
    plain: bool = False,
) -> None:
    """As SONiC has it: thousands apart in counters, not in watermarks (`plain`); an empty line between tables."""
    kept = [row for row in rows if not shown.nonzero or any(isinstance(cell, int) and cell for cell in row)]
    if shown.nonzero and not kept:
        return
    form = str if plain else "{:,}".format
    if title:
        emit_line(title)
    emit_table(columns, [[form(cell) if isinstance(cell, int) else cell for cell in row] for row in kept])
    emit_line()


def _json(shown: Shown, **parts: object) -> int:
    emit_json({"schema": SCHEMA, "lab": shown.counted.lab, "since": shown.at, **parts})
    return 0


def _only(record: Mapping[str, object], *words: str) -> dict[str, object]:
    """The fields that are one of the words, or whose name holds one in capitals."""
    held = [word for word in words if word.isupper()]
    return {key: value for key, value in record.items() if key in words or any(word in key for word in held)}


def _txq(queue: QueueCounters) -> tuple[str, str]:
    return f"{queue.node}:{queue.port}", f"UC{queue.queue}"


VIEWS: Mapping[str, Callable[[Shown, str], int]] = MappingProxyType(
    {
        "pfc": _show_pfc,
        "queue": _show_queue,
        "ecn": _show_ecn,
        "watermark": _show_watermark,
        "port": _show_port,
        "ecmp": _show_ecmp,
    }
)
