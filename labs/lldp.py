"""LLDP frames (IEEE 802.1AB): who a port says it is, as bytes and back. Pure.

    type 7 bits | length 9 bits | value      chassis (1), port (2), time to live (3), …, end (0)

The chassis is the node's name in the design, the port its port's, whatever its network device is called. What other
speakers of LLDP say on the same cable, as lldpd, goes by their own names, and is not taken for ours.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

ETHERTYPE = 0x88CC
NEAREST_BRIDGE = bytes.fromhex("0180c200000e")  # no bridge passes it on
END, CHASSIS, PORT, TTL, SYSTEM_NAME, SYSTEM_DESCRIPTION = 0, 1, 2, 3, 5, 6
LOCALLY_ASSIGNED = 7  # of both a chassis' and a port's identifiers
MOST_BYTES = 511  # what a length of 9 bits can say
TTL_S = 1  # whoever else listens soon forgets us: we are no neighbour that stays
_HEAD = struct.Struct(">H")


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a port says of itself: its lab's, node's and own name."""

    lab: str
    node: str
    port: str


def frame(said: Announcement) -> bytes:
    """An LLDP data unit, from behind the Ethernet header. Raises ValueError for a name that is too long for one."""
    assigned = bytes([LOCALLY_ASSIGNED])
    return b"".join(
        (
            _element(CHASSIS, assigned + said.node.encode()),
            _element(PORT, assigned + said.port.encode()),
            _element(TTL, _HEAD.pack(TTL_S)),
            _element(SYSTEM_NAME, said.node.encode()),
            _element(SYSTEM_DESCRIPTION, _description(said.lab)),
            _element(END, b""),
        )
    )


def read(unit: bytes) -> Announcement | None:
    """What a data unit says; None for what is no LLDP, or none of ours."""
    try:
        found = dict(_elements(unit))
        lab = found[SYSTEM_DESCRIPTION].decode()
        node, port = (_assigned(found[kind]) for kind in (CHASSIS, PORT))
    except (KeyError, ValueError):
        return None
    ours = _description("").decode()
    return Announcement(lab.removeprefix(ours), node, port) if lab.startswith(ours) else None


def _description(lab: str) -> bytes:
    return f"railbed cabling of {lab}".encode()


def _element(kind: int, value: bytes) -> bytes:
    if len(value) > MOST_BYTES:
        raise ValueError(f"{len(value)} bytes do not fit into an element of LLDP")
    return _HEAD.pack(kind << 9 | len(value)) + value


def _elements(unit: bytes) -> Iterator[tuple[int, bytes]]:
    """Kinds and values, up to the end's. Raises ValueError for a unit that is cut off before it."""
    at = 0
    while at + _HEAD.size <= len(unit):
        (head,) = _HEAD.unpack_from(unit, at)
        kind, length = head >> 9, head & MOST_BYTES
        if kind == END:
            return
        at += _HEAD.size + length
        if at > len(unit):
            break
        yield kind, unit[at - length : at]
    raise ValueError("a data unit without an end")


def _assigned(value: bytes) -> str:
    """A name that was locally assigned. Raises ValueError for an identifier of another kind."""
    if value[:1] != bytes([LOCALLY_ASSIGNED]):
        raise ValueError("an identifier of another kind")
    return value[1:].decode()
