"""asic.h in Python, the hash engine's part: see abi.py."""

from __future__ import annotations

from collections.abc import Mapping
from ctypes import LittleEndianStructure, c_uint8, c_uint16, c_uint32, c_uint64
from enum import IntEnum, IntFlag
from types import MappingProxyType

from topologies.ecmp import BUCKETS as ECMP_BUCKETS
from topologies.ecmp import MEMBERS as ECMP_MEMBERS
from topologies.ecmp import EcmpBy, EcmpMode, HashAlgorithm, HashField

ECMP_PROFILES = 256
ECMP_MODES = len(EcmpMode)
ECMP_ENGINE = 0
FLOWLETS = 65536
BTH_ADAPTIVE = 0x40

ENUMS: Mapping[str, tuple[str, type[IntEnum | IntFlag]]] = MappingProxyType(
    {
        "ecmp_mode": ("ECMP_", EcmpMode),
        "ecmp_by": ("BY_", EcmpBy),
        "hash_algorithm": ("HASH_", HashAlgorithm),
        "hash_field": ("FIELD_", HashField),
    }
)


class EcmpProfile(LittleEndianStructure):
    """struct ecmp_profile."""

    _fields_ = (
        ("mode", c_uint8),
        ("algorithm", c_uint8),
        ("by", c_uint8),
        ("offset", c_uint8),
        ("fields", c_uint32),
        ("seed", c_uint32),
        ("quantum", c_uint32),
        ("gap_ns", c_uint64),
        ("idle_ms", c_uint32),
        ("unbalanced_ms", c_uint32),
        ("marked", c_uint8),
        ("pad", c_uint8 * 7),
    )


class EcmpMember(LittleEndianStructure):
    """struct ecmp_member."""

    _fields_ = (("hash", c_uint32), ("share", c_uint32), ("port", c_uint32))


class EcmpGroup(LittleEndianStructure):
    """struct ecmp_group."""

    _fields_ = (
        ("id", c_uint32),
        ("count", c_uint32),
        ("member", EcmpMember * ECMP_MEMBERS),
        ("bucket", c_uint8 * ECMP_BUCKETS),
    )


class RouteKey(LittleEndianStructure):
    """struct route_key."""

    _fields_ = (("prefixlen", c_uint32), ("address", c_uint8 * 16))


class Flowlet(LittleEndianStructure):
    """struct flowlet."""

    _fields_ = (("seen_ns", c_uint64), ("tag", c_uint32), ("port", c_uint16), ("member", c_uint16))


class EcmpCount(LittleEndianStructure):
    """struct ecmp_count."""

    _fields_ = (
        ("packets", c_uint64),
        ("bytes", c_uint64),
        ("flowlets", c_uint64),
        ("repicks", c_uint64),
        ("moved", c_uint64),
        ("pad", c_uint64 * 3),
    )


STRUCTS: Mapping[str, type[LittleEndianStructure]] = MappingProxyType(
    {
        "ecmp_profile": EcmpProfile,
        "ecmp_member": EcmpMember,
        "ecmp_group": EcmpGroup,
        "route_key": RouteKey,
        "flowlet": Flowlet,
        "ecmp_count": EcmpCount,
    }
)
