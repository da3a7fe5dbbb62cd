"""How one class of a switch chooses among equal-cost next hops, as frozen values.

The numbers of the enums are the soft ASIC's own (labs/dataplane/bpf/asic.h); what each mode does is in
`topologies/ecmp_model.py`, what each algorithm computes in `topologies/switch_hash.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag


class EcmpMode(IntEnum):
    """enum ecmp_mode. KERNEL: nothing is touched, Linux' own hash decides."""

    KERNEL = 0
    SWITCH_HASH = 1
    ROCE = 2
    FLOWLET = 3
    SPRAY = 4
    ADAPTIVE = 5
    RESILIENT = 6
    WEIGHTED = 7
    PINNED = 8


class EcmpBy(IntEnum):
    """enum ecmp_by: SPRAY by RANDOM or ROUND_ROBIN, ADAPTIVE by PACKET or FLOWLET, PINNED by QUEUE_PAIR or RAIL."""

    RANDOM = 0
    ROUND_ROBIN = 1
    PACKET = 2
    FLOWLET = 3
    QUEUE_PAIR = 4
    RAIL = 5


class HashAlgorithm(IntEnum):
    """enum hash_algorithm: SAI's sai_hash_algorithm_t, by SONiC's words."""

    CRC = 0
    XOR = 1
    RANDOM = 2
    CRC_32LO = 3
    CRC_32HI = 4
    CRC_CCITT = 5
    CRC_XOR = 6


class HashField(IntFlag):
    """enum hash_field, in the order in which they are hashed: SONiC's words, and DST_QP of RoCEv2's BTH."""

    IN_PORT = 1 << 0
    SRC_MAC = 1 << 1
    DST_MAC = 1 << 2
    ETHERTYPE = 1 << 3
    IP_PROTOCOL = 1 << 4
    SRC_IP = 1 << 5
    DST_IP = 1 << 6
    IPV6_FLOW_LABEL = 1 << 7
    L4_SRC_PORT = 1 << 8
    L4_DST_PORT = 1 << 9
    DST_QP = 1 << 10
    INNER_SRC_MAC = 1 << 11
    INNER_DST_MAC = 1 << 12
    INNER_ETHERTYPE = 1 << 13
    INNER_IP_PROTOCOL = 1 << 14
    INNER_SRC_IP = 1 << 15
    INNER_DST_IP = 1 << 16
    INNER_L4_SRC_PORT = 1 << 17
    INNER_L4_DST_PORT = 1 << 18


FIVE_TUPLE = HashField.IP_PROTOCOL | HashField.SRC_IP | HashField.DST_IP | HashField.L4_SRC_PORT | HashField.L4_DST_PORT
MEMBERS = 64
"""Of a group; one with more is left to the kernel."""
BUCKETS = 256
"""Of a resilient group."""
ROCE_PORT = 4791
VXLAN_PORT = 4789


@dataclass(frozen=True, slots=True)
class EcmpRule:
    """How one class of one switch chooses.

    `offset` rotates the hash right by so many bits (0..31). `quantum` is in bytes of queue depth, `gap_ns` the silence
    that ends a flowlet. `idle_ms` and `unbalanced_ms` (0: never) are when a resilient group's buckets may move.
    With `marked`, adaptive routing is for packets alone that carry the BTH's mark; others go by their hash.
    """

    mode: EcmpMode = EcmpMode.KERNEL
    algorithm: HashAlgorithm = HashAlgorithm.CRC
    fields: HashField = FIVE_TUPLE
    seed: int = 0
    offset: int = 0
    by: EcmpBy = EcmpBy.RANDOM
    quantum: int = 1
    gap_ns: int = 500_000
    idle_ms: int = 1000
    unbalanced_ms: int = 0
    marked: bool = False


@dataclass(frozen=True, slots=True)
class Inner:
    """The headers of a frame inside VXLAN; None for what it does not have. Addresses packed, MACs 6 bytes."""

    src_mac: bytes
    dst_mac: bytes
    ethertype: int
    protocol: int | None = None
    src: bytes | None = None
    dst: bytes | None = None
    sport: int | None = None
    dport: int | None = None


@dataclass(frozen=True, slots=True)
class Headers:
    """What a switch reads of a frame; None for what it does not have.

    `in_port` is the ingress port's number within its node, from 0. Addresses are packed (4 or 16 bytes), MACs 6 bytes.
    `queue_pair` is the destination queue pair of RoCEv2's BTH, `adaptive` its mark for adaptive routing.
    """

    in_port: int
    src_mac: bytes
    dst_mac: bytes
    ethertype: int
    protocol: int
    src: bytes
    dst: bytes
    sport: int | None = None
    dport: int | None = None
    flow_label: int | None = None
    queue_pair: int | None = None
    adaptive: bool = False
    inner: Inner | None = None
