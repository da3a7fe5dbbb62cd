"""What one port does, as the data plane reads it: PortIntent -> `struct port_profile`. Pure; units are asic.h's.

And how a class of a switch chooses among equal-cost next hops: EcmpRule -> `struct ecmp_profile`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from labs.dataplane import abi
from labs.dataplane.abi import PROBABILITY_ONE, LimitMode, PgProfile, PortProfile, QueueProfile, WredProfile
from labs.dataplane.abi_ecmp import EcmpProfile
from labs.dataplane.intent import (
    CLASSES,
    BufferPool,
    BufferProfile,
    Direction,
    PortIntent,
    QueueIntent,
    SchedulerKind,
    Wred,
)
from topologies.ecmp import EcmpRule

UNBOUNDED = 2**32 - 1
# What a queue or priority group follows that no BUFFER_QUEUE or BUFFER_PG row names: SONiC's lossy profiles.
LOSSY_ALPHA = 3
NO_ECMP = (0,) * CLASSES


def ecmp_profile(rule: EcmpRule) -> EcmpProfile:
    """`struct ecmp_profile` of a rule."""
    return EcmpProfile(
        mode=rule.mode,
        algorithm=rule.algorithm,
        by=rule.by,
        offset=rule.offset,
        fields=rule.fields,
        seed=rule.seed,
        quantum=rule.quantum,
        gap_ns=rule.gap_ns,
        idle_ms=rule.idle_ms,
        unbalanced_ms=rule.unbalanced_ms,
        marked=rule.marked,
    )


def port_profile(
    intent: PortIntent,
    *,
    pools: Sequence[BufferPool],
    pause_quanta: int,
    rate_bps: int,
    frame: int,
    host: bool = False,
    ecmp_of_tc: Sequence[int] = NO_ECMP,
) -> PortProfile:
    """`struct port_profile` of a port.

    Args:
        intent: what it does.
        pools: its switch's, in the order of the map (`plan.switch_pools`); a host has none.
        pause_quanta: the pause time it sends.
        rate_bps: its rate, at which a SCHEDULER.pir has no effect any more.
        frame: bytes of the largest frame, Ethernet header included.
        host: a NIC: it queues in the host's memory, without limits, marks and priority groups; PFC holds it back.
        ecmp_of_tc: where each class' `struct ecmp_profile` stands, 0 for the kernel's own hash.
    """
    made = PortProfile(pfc_enable=_bits(intent.pfc_enable), quanta=pause_quanta)
    made.tc_of_dscp[:] = intent.dscp_to_tc
    made.queue_of_tc[:] = intent.tc_to_queue
    made.pg_of_tc[:] = intent.tc_to_pg
    made.queue_of_priority[:] = intent.pfc_to_queue
    made.ecmp, made.ecmp_of_tc[:] = any(ecmp_of_tc), ecmp_of_tc
    prios, turns = _prios(intent.queues), _turns(intent.queues, frame)
    for queue in intent.queues:
        entry = QueueProfile(reserved=UNBOUNDED) if host else _queue(queue, pools)
        entry.pausable = queue.index in intent.paused_queues
        entry.htb_prio = prios[queue.index]
        entry.quantum = turns[queue.index]
        entry.ceil_bps = _ceil(queue, rate_bps)
        made.queue[queue.index] = entry
    if host:
        return made
    for pg in intent.pgs:
        leading = [p for p in intent.pfc_enable if intent.pfc_to_pg[p] == pg.index]
        made.pg[pg.index] = _pg(pg.buffer, leading, pools)
    if intent.watchdog:
        made.watchdog_queues = _bits(intent.watched_queues)
        made.watchdog_action = abi.WatchdogAction[intent.watchdog.action.name]
        made.watchdog_detect_ms = intent.watchdog.detection_ms
        made.watchdog_restore_ms = intent.watchdog.restoration_ms
        made.watchdog_poll_ms = intent.watchdog.poll_ms
    return made


def _queue(queue: QueueIntent, pools: Sequence[BufferPool]) -> QueueProfile:
    made = QueueProfile(pool=_place(queue.buffer, Direction.EGRESS, pools))
    made.mode, made.limit, made.alpha = _limit(queue.buffer)
    if queue.buffer:
        made.reserved = queue.buffer.reserved
    if queue.wred:
        made.wred = _wred(queue.wred)
    return made


def _pg(limits: BufferProfile | None, priorities: Iterable[int], pools: Sequence[BufferPool]) -> PgProfile:
    """`priorities`: those that a frame names which pauses this group."""
    made = PgProfile(pool=_place(limits, Direction.INGRESS, pools))
    made.mode, made.limit, made.alpha = _limit(limits)
    if limits:
        made.reserved = limits.reserved
    if limits and limits.lossless:
        made.lossless = 1
        made.priorities = _bits(priorities)
        made.headroom, made.xon, made.xon_offset = limits.xoff, limits.xon, limits.xon_offset
    return made


def _limit(limits: BufferProfile | None) -> tuple[LimitMode, int, int]:
    """How much of the shared pool may be used: mode, bytes, alpha."""
    if limits is None:
        return LimitMode.DYNAMIC, 0, LOSSY_ALPHA
    if limits.static_th is not None:
        return LimitMode.STATIC, limits.static_th, 0
    return LimitMode.DYNAMIC, 0, limits.dynamic_th or 0


def _place(limits: BufferProfile | None, direction: Direction, pools: Sequence[BufferPool]) -> int:
    """Where the pool stands in its switch; without a row, the first of that direction."""
    for place, pool in enumerate(pools):
        if pool.name == limits.pool.name if limits else pool.direction is direction:
            return place
    raise ValueError(f"no {direction} pool among {[pool.name for pool in pools]}")


def _wred(wred: Wred) -> WredProfile:
    return WredProfile(
        min_bytes=wred.min_bytes,
        max_bytes=wred.max_bytes,
        probability=PROBABILITY_ONE * wred.probability_percent // 100,
        ecn=wred.ecn,
        drop=wred.drop,
    )


def _prios(queues: Sequence[QueueIntent]) -> dict[int, int]:
    """HTB's prio, 0 first: STRICT queues from the highest index down, then all others together."""
    strict = sorted((q.index for q in queues if q.scheduler.kind is SchedulerKind.STRICT), reverse=True)
    return {q.index: strict.index(q.index) if q.index in strict else len(strict) for q in queues}


def _turns(queues: Sequence[QueueIntent], frame: int) -> dict[int, int]:
    """Bytes a turn of DWRR, by weight; the least has room for a frame, as a turn that is shorter blurs the shares."""
    sharing = {q.index: q.scheduler.weight for q in queues if q.scheduler.kind is not SchedulerKind.STRICT}
    least = min(sharing.values(), default=1)
    return {q.index: frame * sharing.get(q.index, least) // least for q in queues}


def _ceil(queue: QueueIntent, rate_bps: int) -> int:
    pir = queue.scheduler.pir_bytes_per_s
    return pir * 8 if pir is not None and pir * 8 < rate_bps else 0


def _bits(numbers: Iterable[int]) -> int:
    return sum(1 << number for number in numbers)
