"""What the soft ASIC has counted, as frozen records. Packets and bytes are frames as Linux counts them.

Counters only grow while asicd runs, and can be subtracted: ``later - earlier``. Levels (depths, bytes in use),
watermarks and states are those of `later`. `to_dict()` of each record speaks SAI's and SONiC's names; what these have
no word for begins with RAILBED_.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, TypeVar

from labs.errors import RunInvalid, SpecError
from labs.telemetry.asicd_counters import AsicdCounters
from labs.telemetry.counting import COUNT, less
from labs.telemetry.ecmp_counters import EcmpCounters, since
from topologies.ecmp import EcmpMode

QUEUES = 8
NONE8 = (0,) * QUEUES


@dataclass(frozen=True, slots=True)
class PortCounters:
    """One port. Tuples have one number a PFC priority; `wire_` is what the cable into this port did to frames.

    `pfc_rx` are 802.1Qbb frames that named the priority with a pause time above 0, `pfc_xon_rx` those with 0.
    `paused_ns`: how long the priority was held back, in pauses that have ended. `unstamped`: frames that came past the
    far end's queues. `lost_*`: packets lost between this port's queues and the far end, by what the kernel says.
    """

    node: str
    name: str
    peer: str
    switch: bool
    rate_bps: int
    pfc_rx: tuple[int, ...] = field(default=NONE8, metadata=COUNT)
    pfc_xon_rx: tuple[int, ...] = field(default=NONE8, metadata=COUNT)
    pfc_tx: tuple[int, ...] = field(default=NONE8, metadata=COUNT)
    pfc_xon_tx: tuple[int, ...] = field(default=NONE8, metadata=COUNT)
    paused_ns: tuple[int, ...] = field(default=NONE8, metadata=COUNT)
    gates_closed: int = 0
    watchdog_drop: int = 0
    unstamped: int = field(default=0, metadata=COUNT)
    pause_802_3x: int = field(default=0, metadata=COUNT)
    lost_qdisc: int = field(default=0, metadata=COUNT)
    lost_veth: int = field(default=0, metadata=COUNT)
    lost_purged: int = field(default=0, metadata=COUNT)
    wire_lost: int = field(default=0, metadata=COUNT)
    wire_corrupted: int = field(default=0, metadata=COUNT)
    wire_fcs_errors: int = field(default=0, metadata=COUNT)
    wire_nth_dropped: int = field(default=0, metadata=COUNT)
    wire_blackholed: int = field(default=0, metadata=COUNT)
    watchdog_rx_dropped: int = field(default=0, metadata=COUNT)
    receiver_dropped: int = field(default=0, metadata=COUNT)
    receiver_watermark: int = 0

    def __str__(self) -> str:
        return f"{self.node}:{self.name}"

    @property
    def wire_dropped(self) -> int:
        """Frames that reached the cable and not the port behind it, a bit flipped in the payload not among them."""
        return self.wire_lost + self.wire_fcs_errors + self.wire_nth_dropped + self.wire_blackholed

    def to_dict(self) -> dict[str, object]:
        """SAI_PORT_STAT_* and what goes with them."""
        per_priority: dict[str, object] = {}
        for n in range(QUEUES):
            per_priority |= {
                f"SAI_PORT_STAT_PFC_{n}_RX_PKTS": self.pfc_rx[n],
                f"SAI_PORT_STAT_PFC_{n}_TX_PKTS": self.pfc_tx[n],
                f"SAI_PORT_STAT_PFC_{n}_RX_PAUSE_DURATION_US": self.paused_ns[n] // 1000,
                f"RAILBED_PORT_STAT_PFC_{n}_XON_RX_PKTS": self.pfc_xon_rx[n],
                f"RAILBED_PORT_STAT_PFC_{n}_XON_TX_PKTS": self.pfc_xon_tx[n],
            }
        return {
            "node": self.node,
            "port": self.name,
            "peer": self.peer,
            "rate_bps": self.rate_bps,
            **per_priority,
            "SAI_PORT_STAT_PAUSE_RX_PKTS": self.pause_802_3x,
            "SAI_PORT_STAT_ETHER_STATS_CRC_ALIGN_ERRORS": self.wire_fcs_errors,
            "PFC_WD_QUEUE_STATS_RX_DROPPED_PACKETS": self.watchdog_rx_dropped,
            **{f"RAILBED_PORT_STAT_{name.upper()}": getattr(self, name) for name in _PORT_OWN},
        }


_PORT_OWN = (
    *("unstamped", "lost_qdisc", "lost_veth", "lost_purged"),
    *("wire_lost", "wire_corrupted", "wire_nth_dropped", "wire_blackholed"),
    *("receiver_dropped", "receiver_watermark", "gates_closed", "watchdog_drop"),
)


@dataclass(frozen=True, slots=True)
class QueueCounters:
    """One egress queue and the fates of what came to it.

    came = tail + wred + ingress + watchdog + queued; queued = sent + emptied + lost + depth. `own`: of those that came,
    what the node itself sent. `sent` counts at the far end. `pool` is "" on a host, which has none.
    """

    node: str
    port: str
    queue: int
    pool: str = ""
    reserved_bytes: int = 0
    depth_packets: int = 0
    depth_bytes: int = 0
    watermark_bytes: int = 0
    sent_packets: int = field(default=0, metadata=COUNT)
    sent_bytes: int = field(default=0, metadata=COUNT)
    marked_packets: int = field(default=0, metadata=COUNT)
    marked_bytes: int = field(default=0, metadata=COUNT)
    tail_packets: int = field(default=0, metadata=COUNT)
    tail_bytes: int = field(default=0, metadata=COUNT)
    wred_packets: int = field(default=0, metadata=COUNT)
    wred_bytes: int = field(default=0, metadata=COUNT)
    ingress_packets: int = field(default=0, metadata=COUNT)
    ingress_bytes: int = field(default=0, metadata=COUNT)
    watchdog_packets: int = field(default=0, metadata=COUNT)
    watchdog_bytes: int = field(default=0, metadata=COUNT)
    emptied_packets: int = field(default=0, metadata=COUNT)
    emptied_bytes: int = field(default=0, metadata=COUNT)
    own_packets: int = field(default=0, metadata=COUNT)
    own_bytes: int = field(default=0, metadata=COUNT)
    lost_packets: int = field(default=0, metadata=COUNT)
    lost_bytes: int = field(default=0, metadata=COUNT)
    stormed: bool = False
    storms_detected: int = field(default=0, metadata=COUNT)
    storms_restored: int = field(default=0, metadata=COUNT)

    def __str__(self) -> str:
        return f"{self.node}:{self.port} queue {self.queue}"

    @property
    def left_packets(self) -> int:
        """Packets that were queued and are not any more."""
        return self.sent_packets + self.emptied_packets + self.lost_packets

    @property
    def refused_packets(self) -> int:
        """Packets that were not queued and that no priority group was asked about."""
        return self.tail_packets + self.wred_packets + self.watchdog_packets

    @property
    def dropped_packets(self) -> int:
        """What SAI counts as dropped by a queue: refused, or thrown out by the watchdog."""
        return self.refused_packets + self.emptied_packets

    @property
    def dropped_bytes(self) -> int:
        """The bytes of `dropped_packets`."""
        return self.tail_bytes + self.wred_bytes + self.watchdog_bytes + self.emptied_bytes

    def to_dict(self) -> dict[str, object]:
        """SAI_QUEUE_STAT_*, the fields of SONiC's PFC watchdog, and the fates."""
        return {
            "node": self.node,
            "port": self.port,
            "queue": self.queue,
            "SAI_QUEUE_STAT_PACKETS": self.sent_packets,
            "SAI_QUEUE_STAT_BYTES": self.sent_bytes,
            "SAI_QUEUE_STAT_DROPPED_PACKETS": self.dropped_packets,
            "SAI_QUEUE_STAT_DROPPED_BYTES": self.dropped_bytes,
            "SAI_QUEUE_STAT_WRED_DROPPED_PACKETS": self.wred_packets,
            "SAI_QUEUE_STAT_WRED_DROPPED_BYTES": self.wred_bytes,
            "SAI_QUEUE_STAT_WRED_ECN_MARKED_PACKETS": self.marked_packets,
            "SAI_QUEUE_STAT_WRED_ECN_MARKED_BYTES": self.marked_bytes,
            "SAI_QUEUE_STAT_CURR_OCCUPANCY_BYTES": self.depth_bytes,
            "SAI_QUEUE_STAT_SHARED_WATERMARK_BYTES": self.watermark_bytes,
            "PFC_WD_STATUS": "stormed" if self.stormed else "operational",
            "PFC_WD_QUEUE_STATS_DEADLOCK_DETECTED": self.storms_detected,
            "PFC_WD_QUEUE_STATS_DEADLOCK_RESTORED": self.storms_restored,
            "PFC_WD_QUEUE_STATS_TX_DROPPED_PACKETS": self.watchdog_packets + self.emptied_packets,
            **{f"RAILBED_QUEUE_STAT_{name.upper()}": getattr(self, name) for name in _QUEUE_OWN},
        }


_QUEUE_OWN = (
    *("tail_packets", "tail_bytes", "ingress_packets", "ingress_bytes", "emptied_packets", "emptied_bytes"),
    *("own_packets", "own_bytes", "lost_packets", "lost_bytes", "depth_packets"),
)


@dataclass(frozen=True, slots=True)
class GroupCounters:
    """One ingress priority group (PG) of a switch's port. Admitted and dropped where egress charged or refused it."""

    node: str
    port: str
    group: int
    pool: str = ""
    reserved_bytes: int = 0
    xoff: bool = False
    used_bytes: int = 0
    headroom_bytes: int = 0
    shared_watermark_bytes: int = 0
    headroom_watermark_bytes: int = 0
    packets: int = field(default=0, metadata=COUNT)
    bytes: int = field(default=0, metadata=COUNT)
    dropped_packets: int = field(default=0, metadata=COUNT)
    dropped_bytes: int = field(default=0, metadata=COUNT)
    xoffs: int = field(default=0, metadata=COUNT)

    def __str__(self) -> str:
        return f"{self.node}:{self.port} PG {self.group}"

    def to_dict(self) -> dict[str, object]:
        """SAI_INGRESS_PRIORITY_GROUP_STAT_*."""
        sai = "SAI_INGRESS_PRIORITY_GROUP_STAT"
        return {
            "node": self.node,
            "port": self.port,
            "group": self.group,
            f"{sai}_PACKETS": self.packets,
            f"{sai}_BYTES": self.bytes,
            f"{sai}_DROPPED_PACKETS": self.dropped_packets,
            f"{sai}_CURR_OCCUPANCY_BYTES": self.used_bytes + self.headroom_bytes,
            f"{sai}_XOFF_ROOM_CURR_OCCUPANCY_BYTES": self.headroom_bytes,
            f"{sai}_SHARED_WATERMARK_BYTES": self.shared_watermark_bytes,
            f"{sai}_XOFF_ROOM_WATERMARK_BYTES": self.headroom_watermark_bytes,
            "RAILBED_PRIORITY_GROUP_STAT_DROPPED_BYTES": self.dropped_bytes,
            "RAILBED_PRIORITY_GROUP_STAT_XOFFS": self.xoffs,
            "RAILBED_PRIORITY_GROUP_STAT_XOFF": self.xoff,
        }


@dataclass(frozen=True, slots=True)
class PoolCounters:
    """One buffer pool of a switch: shared bytes in use, and those of a shared headroom pool."""

    node: str
    name: str
    size_bytes: int = 0
    headroom_size_bytes: int = 0
    used_bytes: int = 0
    headroom_bytes: int = 0
    watermark_bytes: int = 0
    headroom_watermark_bytes: int = 0

    def __str__(self) -> str:
        return f"{self.node} {self.name}"

    def to_dict(self) -> dict[str, object]:
        """SAI_BUFFER_POOL_STAT_*."""
        return {
            "node": self.node,
            "pool": self.name,
            "size": self.size_bytes,
            "xoff_size": self.headroom_size_bytes,
            "SAI_BUFFER_POOL_STAT_CURR_OCCUPANCY_BYTES": self.used_bytes,
            "SAI_BUFFER_POOL_STAT_XOFF_ROOM_CURR_OCCUPANCY_BYTES": self.headroom_bytes,
            "SAI_BUFFER_POOL_STAT_WATERMARK_BYTES": self.watermark_bytes,
            "SAI_BUFFER_POOL_STAT_XOFF_ROOM_WATERMARK_BYTES": self.headroom_watermark_bytes,
        }


@dataclass(frozen=True, slots=True)
class Held:
    """Packets that wait in the queues of port `egress` and came in by port `ingress`, PG `group`, of the same node."""

    node: str
    egress: str
    ingress: str
    group: int
    packets: int
    bytes: int

    def __str__(self) -> str:
        return f"{self.node}:{self.egress} from {self.ingress} PG {self.group}"


@dataclass(frozen=True)
class AsicCounters:
    """Everything at one moment. Hosts have no groups and no pools. `held`: those words that are not 0.

    `moving`: the queues changed while they were read, so that numbers that belong together may not agree. `ecmp`: what
    the switches' hash engine has chosen, rows that counted something; `engine`: some switch has or had it on.
    """

    lab: str
    ports: tuple[PortCounters, ...]
    queues: tuple[QueueCounters, ...]
    groups: tuple[GroupCounters, ...]
    pools: tuple[PoolCounters, ...]
    asicd: AsicdCounters
    held: tuple[Held, ...] = ()
    moving: bool = False
    ecmp: tuple[EcmpCounters, ...] = ()
    engine: bool = False

    @property
    def pauses(self) -> int:
        """PFC frames that told somebody to stop."""
        return sum(sum(port.pfc_rx) for port in self.ports)

    def port(self, node: str, port: str) -> PortCounters:
        """One port. Raises SpecError for one that the lab does not have."""
        return _one(self._ports, (node, port), f"port {node}:{port}")

    def queue(self, node: str, port: str, queue: int) -> QueueCounters:
        """One egress queue, 0..7. Raises SpecError for one that the lab does not have."""
        return _one(self._queues, (node, port, queue), f"queue {queue} of {node}:{port}")

    def group(self, node: str, port: str, group: int) -> GroupCounters:
        """One priority group, 0..7, of a switch's port. Raises SpecError for one that the lab does not have."""
        return _one(self._groups, (node, port, group), f"PG {group} of {node}:{port}")

    def pool(self, node: str, name: str) -> PoolCounters:
        """One buffer pool of a switch. Raises SpecError for one that the lab does not have."""
        return _one({(pool.node, pool.name): pool for pool in self.pools}, (node, name), f"pool {name} of {node}")

    def chosen(self, node: str, port: str, mode: EcmpMode) -> EcmpCounters:
        """How often the hash engine of a switch took a port by a mode. Raises SpecError for a port it does not have."""
        self.port(node, port)
        found = (one for one in self.ecmp if (one.node, one.port, one.mode) == (node, port, mode))
        return next(found, EcmpCounters(node, port, mode))

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes, in the fabric's order."""
        return tuple(dict.fromkeys(port.node for port in self.ports))

    @cached_property
    def _ports(self) -> Mapping[tuple[str, str], PortCounters]:
        return {(port.node, port.name): port for port in self.ports}

    @cached_property
    def _queues(self) -> Mapping[tuple[str, str, int], QueueCounters]:
        return {(queue.node, queue.port, queue.queue): queue for queue in self.queues}

    @cached_property
    def _groups(self) -> Mapping[tuple[str, str, int], GroupCounters]:
        return {(group.node, group.port, group.group): group for group in self.groups}

    def __sub__(self, earlier: AsicCounters) -> AsicCounters:
        """What was counted since `earlier`. Raises RunInvalid when asicd was started anew in between."""
        if (self.lab, self.asicd.started_ns) != (earlier.lab, earlier.asicd.started_ns):
            raise RunInvalid(f"{self.lab}: the soft ASIC was started anew between two readings of its counters")
        return AsicCounters(
            self.lab,
            less(self.ports, earlier.ports),
            less(self.queues, earlier.queues),
            less(self.groups, earlier.groups),
            self.pools,
            self.asicd - earlier.asicd,
            self.held,
            self.moving or earlier.moving,
            since(self.ecmp, earlier.ecmp),
            self.engine,
        )

    def to_dict(self) -> dict[str, object]:
        """Arrays of objects with SAI's and SONiC's names."""
        parts: dict[str, Iterable[_Record]] = {
            "ports": self.ports,
            "queues": self.queues,
            "groups": self.groups,
            "pools": self.pools,
            "ecmp": self.ecmp,
        }
        rows = {name: [record.to_dict() for record in records] for name, records in parts.items()}
        return {"lab": self.lab, **rows, "asicd": self.asicd.to_dict()}


class _Record(Protocol):
    def to_dict(self) -> dict[str, object]: ...


Key = TypeVar("Key", bound=tuple[object, ...])
Found = TypeVar("Found")


def _one(all_of: Mapping[Key, Found], key: Key, what: str) -> Found:
    if key in all_of:
        return all_of[key]
    raise SpecError(f"found no {what}", allowed="one of the lab's own: railbed inspect lists its ports")
