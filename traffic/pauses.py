"""802.1Qbb frames, byte by byte, and what their quanta are. Pure."""

from __future__ import annotations

import struct
from collections.abc import Mapping

PAUSE_GROUP = bytes.fromhex("0180c2000001")
"""MAC control: for the port at the other end, and nobody else."""
ETH_P_PAUSE = 0x8808
PFC_OPCODE = 0x0101
SHORTEST_FRAME = 60
QUANTUM_BITS = 512
MOST_QUANTA = 65_535
PRIORITIES = 8


def pfc_frame(src: bytes, quanta: Mapping[int, int], *, enabled: int | None = None) -> bytes:
    """An 802.1Qbb frame: pause each of these priorities for so many quanta of 512 bit times, 0 to go on.

    `enabled` is the class-enable vector where it is not just these priorities.
    """
    vector = sum(1 << priority for priority in quanta) if enabled is None else enabled
    times = struct.pack(">8H", *(quanta.get(priority, 0) for priority in range(PRIORITIES)))
    frame = PAUSE_GROUP + src + struct.pack(">HHH", ETH_P_PAUSE, PFC_OPCODE, vector) + times
    return frame.ljust(SHORTEST_FRAME, b"\0")


def quanta_of(seconds: float, rate_bps: int) -> int:
    """How many quanta last so long at a rate."""
    return round(seconds * rate_bps / QUANTUM_BITS)
