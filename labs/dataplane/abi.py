"""asic.h in Python: the structures of the soft ASIC's maps, with the names, order and widths they have there.

A test reads asic.h and another the compiled programs' BTF; both have to agree with this.
"""

from __future__ import annotations

from collections.abc import Mapping
from ctypes import (
    LittleEndianStructure,
    c_int32,
    c_int64,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
)
from enum import IntEnum, IntFlag
from types import MappingProxyType

from labs.dataplane import abi_ecmp

QUEUES = 8
POOLS = 4
DSCPS = 64
CLASSES = 16
LOCALS = 4096
IFINDEXES = 8192
ETH_P_KICK = 0x88B5
STAMP_CHARGED = 1 << 6
MARK_INGRESS = 0x5AB00000
MARK_MASK = 0xFFF00000
PACKED_SHIFT = 40
REACTION_BUCKETS = 513
REACTION_STEP_NS = 4000

PROBABILITY_ONE = 1 << 32
"""What a probability is a fraction of."""


class LimitMode(IntEnum):
    """enum limit_mode."""

    STATIC = 0
    DYNAMIC = 1


class WatchdogAction(IntEnum):
    """enum watchdog_action."""

    DROP = 0
    FORWARD = 1
    ALERT = 2


class PortKind(IntEnum):
    """enum port_kind."""

    SWITCH = 0
    HOST = 1


class Match(IntFlag):
    """enum match."""

    SADDR = 1
    DADDR = 2
    SPORT = 4
    DPORT = 8
    PROTOCOL = 16
    ALL = 32
    BGP = 64
    BFD = 128


class EventKind(IntEnum):
    """enum event_kind."""

    XOFF = 1
    XON = 2
    PFC = 3
    SLOW = 4


class RepairKind(IntEnum):
    """enum repair_kind."""

    QUEUE = 1
    GROUP = 2


# C name -> (what its members begin with there, ours)
ENUMS: Mapping[str, tuple[str, type[IntEnum | IntFlag]]] = MappingProxyType(
    {
        "limit_mode": ("LIMIT_", LimitMode),
        "watchdog_action": ("WATCHDOG_", WatchdogAction),
        "port_kind": ("PORT_", PortKind),
        "match": ("MATCH_", Match),
        "event_kind": ("EVENT_", EventKind),
        "repair_kind": ("REPAIR_", RepairKind),
        **abi_ecmp.ENUMS,
    }
)


class WredProfile(LittleEndianStructure):
    """struct wred_profile."""

    _fields_ = (
        ("min_bytes", c_uint32),
        ("max_bytes", c_uint32),
        ("probability", c_uint64),
        ("ecn", c_uint8),
        ("drop", c_uint8),
        ("pad", c_uint8 * 6),
    )


class QueueProfile(LittleEndianStructure):
    """struct queue_profile."""

    _fields_ = (
        ("wred", WredProfile),
        ("reserved", c_uint32),
        ("limit", c_uint32),
        ("alpha", c_int32),
        ("mode", c_uint8),
        ("pool", c_uint8),
        ("pausable", c_uint8),
        ("htb_prio", c_uint8),
        ("quantum", c_uint32),
        ("pad", c_uint32),
        ("ceil_bps", c_uint64),
    )


class PgProfile(LittleEndianStructure):
    """struct pg_profile."""

    _fields_ = (
        ("reserved", c_uint32),
        ("limit", c_uint32),
        ("alpha", c_int32),
        ("mode", c_uint8),
        ("pool", c_uint8),
        ("lossless", c_uint8),
        ("priorities", c_uint8),
        ("headroom", c_uint32),
        ("xon", c_uint32),
        ("xon_offset", c_uint32),
        ("pad", c_uint32),
    )


class PortProfile(LittleEndianStructure):
    """struct port_profile."""

    _fields_ = (
        ("tc_of_dscp", c_uint8 * DSCPS),
        ("queue_of_tc", c_uint8 * CLASSES),
        ("pg_of_tc", c_uint8 * CLASSES),
        ("queue_of_priority", c_uint8 * QUEUES),
        ("pfc_enable", c_uint8),
        ("watchdog_queues", c_uint8),
        ("watchdog_action", c_uint8),
        ("ecmp", c_uint8),
        ("watchdog_detect_ms", c_uint32),
        ("watchdog_restore_ms", c_uint32),
        ("watchdog_poll_ms", c_uint32),
        ("quanta", c_uint32),
        ("pad2", c_uint32),
        ("ecmp_of_tc", c_uint8 * CLASSES),
        ("queue", QueueProfile * QUEUES),
        ("pg", PgProfile * QUEUES),
    )


class PortState(LittleEndianStructure):
    """struct port_state."""

    _fields_ = (
        ("profile", c_uint32),
        ("peer", c_uint32),
        ("first", c_uint32),
        ("local", c_uint32),
        ("matrix", c_uint32),
        ("pools", c_uint32),
        ("kind", c_uint32),
        ("watchdog_drop", c_uint32),
        ("random", c_uint64),
        ("seed", c_uint64),
        ("rate_bps", c_uint64),
        ("unstamped", c_uint64),
        ("pause_802_3x", c_uint64),
        ("pfc_rx", c_uint64 * QUEUES),
        ("pfc_xon_rx", c_uint64 * QUEUES),
        ("pfc_tx", c_uint64 * QUEUES),
        ("pfc_xon_tx", c_uint64 * QUEUES),
        ("paused_ns", c_uint64 * QUEUES),
        ("gates_closed", c_uint64),
        ("lost_qdisc", c_uint64),
        ("lost_veth", c_uint64),
        ("lost_purged", c_uint64),
        ("xoff", c_uint64),
    )


class QueueState(LittleEndianStructure):
    """struct queue_state."""

    _fields_ = (
        ("depth", c_int64),
        ("sent_packets", c_uint64),
        ("sent_bytes", c_uint64),
        ("marked_packets", c_uint64),
        ("marked_bytes", c_uint64),
        ("watermark", c_uint64),
        ("tail_dropped_packets", c_uint64),
        ("tail_dropped_bytes", c_uint64),
        ("wred_dropped_packets", c_uint64),
        ("wred_dropped_bytes", c_uint64),
        ("ingress_dropped_packets", c_uint64),
        ("ingress_dropped_bytes", c_uint64),
        ("watchdog_dropped_packets", c_uint64),
        ("watchdog_dropped_bytes", c_uint64),
        ("emptied_packets", c_uint64),
        ("emptied_bytes", c_uint64),
        ("own_packets", c_uint64),
        ("own_bytes", c_uint64),
        ("lost", c_int64),
        ("watchdog_state", c_uint64),
        ("watchdog_detected", c_uint64),
        ("watchdog_restored", c_uint64),
        ("pad", c_uint64 * 2),
    )


class PgState(LittleEndianStructure):
    """struct pg_state; the lock is the kernel's."""

    _fields_ = (
        ("lock", c_uint32),
        ("xoff", c_uint32),
        ("used", c_int64),
        ("headroom", c_int64),
        ("packets", c_uint64),
        ("bytes", c_uint64),
        ("dropped_packets", c_uint64),
        ("dropped_bytes", c_uint64),
        ("shared_watermark", c_uint64),
        ("headroom_watermark", c_uint64),
        ("xoffs", c_uint64),
        ("pad", c_uint64 * 6),
    )


class PoolState(LittleEndianStructure):
    """struct pool_state."""

    _fields_ = (
        ("used", c_int64),
        ("headroom", c_int64),
        ("size", c_uint64),
        ("headroom_size", c_uint64),
        ("watermark", c_uint64),
        ("headroom_watermark", c_uint64),
        ("pad", c_uint64 * 2),
    )


class Impairment(LittleEndianStructure):
    """struct impairment."""

    _fields_ = (
        ("lose", c_uint64),
        ("corrupt", c_uint64),
        ("bad_fcs", c_uint64),
        ("every", c_uint32),
        ("counter", c_uint32),
        ("match", c_uint32),
        ("saddr", c_uint32),
        ("daddr", c_uint32),
        ("sport", c_uint16),
        ("dport", c_uint16),
        ("protocol", c_uint32),
        ("pad", c_uint32),
        ("lost", c_uint64),
        ("corrupted", c_uint64),
        ("fcs_errors", c_uint64),
        ("nth_dropped", c_uint64),
        ("blackholed", c_uint64),
        ("watchdog_dropped", c_uint64),
    )


class Receiver(LittleEndianStructure):
    """struct receiver."""

    _fields_ = (
        ("drain_bps", c_uint64),
        ("busy_until_ns", c_uint64),
        ("xoff_bytes", c_uint64),
        ("xon_bytes", c_uint64),
        ("limit_bytes", c_uint64),
        ("xoff", c_uint64),
        ("dropped", c_uint64),
        ("watermark", c_uint64),
    )


class Event(LittleEndianStructure):
    """struct event."""

    _fields_ = (
        ("time_ns", c_uint64),
        ("port", c_uint32),
        ("kind", c_uint8),
        ("priorities", c_uint8),
        ("pg", c_uint8),
        ("pad", c_uint8),
        ("quanta", c_uint16 * QUEUES),
    )


class Repair(LittleEndianStructure):
    """struct repair."""

    _fields_ = (
        ("kind", c_uint32),
        ("port", c_uint32),
        ("queue", c_uint32),
        ("local", c_uint32),
        ("pg", c_uint32),
        ("packets", c_uint32),
        ("bytes", c_int64),
    )


class AsicdState(LittleEndianStructure):
    """struct asicd_state."""

    _fields_ = (
        ("pid", c_uint64),
        ("started_ns", c_uint64),
        ("alive_ns", c_uint64),
        ("fifo", c_uint64),
        ("pauses", c_uint64),
        ("refreshes", c_uint64),
        ("resumes", c_uint64),
        ("gate_errors", c_uint64),
        ("events_late", c_uint64),
        ("reaction_count", c_uint64),
        ("reaction_sum_ns", c_uint64),
        ("reaction_max_ns", c_uint64),
        ("cpu_ns", c_uint64),
        ("softnet_dropped", c_uint64),
        ("pad", c_uint64 * 2),
        ("reaction", c_uint64 * REACTION_BUCKETS),
    )


STRUCTS: Mapping[str, type[LittleEndianStructure]] = MappingProxyType(
    {
        "wred_profile": WredProfile,
        "queue_profile": QueueProfile,
        "pg_profile": PgProfile,
        "port_profile": PortProfile,
        "port_state": PortState,
        "queue_state": QueueState,
        "pg_state": PgState,
        "pool_state": PoolState,
        "impairment": Impairment,
        "receiver": Receiver,
        "event": Event,
        "repair": Repair,
        "asicd_state": AsicdState,
        **abi_ecmp.STRUCTS,
    }
)


def packed_bytes(word: int) -> int:
    """The bytes in a PACKED word (packets << 40, plus bytes), which may be below zero for a moment."""
    low = word & ((1 << PACKED_SHIFT) - 1)
    return low - (1 << PACKED_SHIFT) if low >> (PACKED_SHIFT - 1) else low


def packed_packets(word: int) -> int:
    """The packets in a PACKED word."""
    return (word - packed_bytes(word)) >> PACKED_SHIFT
