"""What the soft ASIC is to do, as frozen values: SONiC's QoS terms with every reference followed.

Bytes are bytes of frames as Linux counts them (Ethernet header included). Queues, priority groups (PG) and PFC
priorities are 0..7, traffic classes (TC) 0..15.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

DSCPS = 64
CLASSES = 16
QUEUES = 8


class Direction(StrEnum):
    """Which end of the switch a buffer pool belongs to."""

    INGRESS = "ingress"
    EGRESS = "egress"


class SchedulerKind(StrEnum):
    """How a queue takes its turn. STRICT queues go first, the highest index before all others."""

    STRICT = "STRICT"
    DWRR = "DWRR"
    WRR = "WRR"


class WatchdogAction(StrEnum):
    """What the PFC watchdog does to a queue in a storm."""

    DROP = "drop"
    FORWARD = "forward"
    ALERT = "alert"


@dataclass(frozen=True, slots=True)
class Wred:
    """WRED_PROFILE, green (nothing here colours packets otherwise): p(q) on the instantaneous depth.

    0 below `min_bytes`, rising to `probability_percent` at `max_bytes`, 1 above. `ecn` marks packets that can be
    marked, `drop` (wred_green_enable) drops the others by the same curve, and all of them where `ecn` is False.
    """

    min_bytes: int
    max_bytes: int
    probability_percent: int
    drop: bool
    ecn: bool


@dataclass(frozen=True, slots=True)
class Scheduler:
    """SCHEDULER. `pir_bytes_per_s` None: the port's rate."""

    kind: SchedulerKind = SchedulerKind.WRR
    weight: int = 1
    pir_bytes_per_s: int | None = None


@dataclass(frozen=True, slots=True)
class BufferPool:
    """BUFFER_POOL. `xoff` is a shared headroom pool, beside `size`; 0: each PG has its own headroom, within `size`."""

    name: str
    direction: Direction
    mode: str
    size: int
    xoff: int = 0


@dataclass(frozen=True, slots=True)
class BufferProfile:
    """BUFFER_PROFILE. Exactly one of `dynamic_th` (a limit of 2^n times what is free) and `static_th` is not None.

    With `xoff` above 0 it is lossless: that many bytes may come after XOFF. XON is at or below
    max(`xon`, limit − `xon_offset`).
    """

    name: str
    pool: BufferPool
    size: int
    dynamic_th: int | None
    static_th: int | None
    xon: int = 0
    xoff: int = 0
    xon_offset: int = 0

    @property
    def lossless(self) -> bool:
        """True where a PG of this profile sends PFC."""
        return self.xoff > 0

    @property
    def reserved(self) -> int:
        """Bytes guaranteed before the shared pool is used.

        SONiC's `size` of a lossless profile contains the headroom (size = xon + xoff), unless that is shared.
        """
        return self.size if self.pool.xoff else max(0, self.size - self.xoff)

    @property
    def headroom_of_its_own(self) -> int:
        """Bytes of headroom that nobody else can use; 0 where it is drawn from a shared headroom pool."""
        return 0 if self.pool.xoff else self.xoff

    @property
    def most_bytes(self) -> int:
        """The most a single PG or queue can take before its limit, the rest of the pool being free."""
        if self.static_th is not None:
            return self.reserved + min(self.static_th, self.pool.size)
        # It settles where used = 2^n · (size − used).
        up, down = (1 << max(0, self.dynamic_th or 0)), (1 << max(0, -(self.dynamic_th or 0)))
        return self.reserved + self.pool.size * up // (up + down)


@dataclass(frozen=True, slots=True)
class Watchdog:
    """PFC_WD: a queue that stays paused and still for `detection_ms` is in a storm; looked at every `poll_ms`."""

    action: WatchdogAction
    detection_ms: int
    restoration_ms: int
    poll_ms: int


@dataclass(frozen=True, slots=True)
class QueueIntent:
    """One egress queue. `buffer` None: SONiC's lossy limits, in the first egress pool."""

    index: int
    scheduler: Scheduler = Scheduler()
    wred: Wred | None = None
    buffer: BufferProfile | None = None


@dataclass(frozen=True, slots=True)
class PgIntent:
    """One ingress priority group. `buffer` None: SONiC's lossy limits, in the first ingress pool."""

    index: int
    buffer: BufferProfile | None = None

    @property
    def lossless(self) -> bool:
        """True where it has headroom and sends PFC."""
        return self.buffer is not None and self.buffer.lossless


@dataclass(frozen=True, slots=True)
class PortIntent:
    """What one port does. What a map does not list is TC 0, queue 0, PG 0; PFC priorities map to themselves."""

    dscp_to_tc: tuple[int, ...]
    tc_to_queue: tuple[int, ...]
    tc_to_pg: tuple[int, ...]
    pfc_to_pg: tuple[int, ...]
    pfc_to_queue: tuple[int, ...]
    pfc_enable: frozenset[int]
    watchdog: Watchdog | None
    watchdog_priorities: frozenset[int]
    queues: tuple[QueueIntent, ...]
    pgs: tuple[PgIntent, ...]

    @property
    def buffers(self) -> tuple[BufferProfile, ...]:
        """The buffer profile of each queue and priority group that has one."""
        found = [pg.buffer for pg in self.pgs] + [queue.buffer for queue in self.queues]
        return tuple(buffer for buffer in found if buffer)

    @property
    def paused_queues(self) -> frozenset[int]:
        """The queues that PFC can stop."""
        return frozenset(self.pfc_to_queue[priority] for priority in self.pfc_enable)

    @property
    def watched_queues(self) -> frozenset[int]:
        """The queues that the PFC watchdog minds."""
        if self.watchdog is None:
            return frozenset()
        return frozenset(self.pfc_to_queue[priority] for priority in self.watchdog_priorities)

    def queue_of_dscp(self, dscp: int) -> int:
        """The egress queue of packets with this DSCP."""
        return self.tc_to_queue[self.dscp_to_tc[dscp]]
