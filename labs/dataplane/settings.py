"""What a lab's soft ASIC is told to do, port by port, as lines of text: two labs that are told the same say the same.

Counters and levels are left out; so are the places where profiles stand, which change as profiles come and go.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from ctypes import LittleEndianStructure, sizeof

from labs.dataplane import abi, place
from labs.dataplane.maps import read_maps
from labs.dataplane.plan import LabPlan
from labs.dataplane.wires import WIRE_WORDS

RECEIVER = ("drain_bps", "xoff_bytes", "xon_bytes", "limit_bytes")


def settings(lab: str, plan: LabPlan) -> Iterator[str]:
    """One line a port: rate, far end, profile (its hash), faults of its wire. Raises NotReady when not attached."""
    kinds: dict[str, type[LittleEndianStructure]] = {
        "ports": abi.PortState,
        "profiles": abi.PortProfile,
        "impairments": abi.Impairment,
        "receivers": abi.Receiver,
    }
    maps = read_maps(place.maps(lab), {name: sizeof(kind) for name, kind in kinds.items()})

    def entry(name: str, at: int) -> LittleEndianStructure:
        return kinds[name].from_buffer_copy(maps[name], at * sizeof(kinds[name]))

    for port in plan.ports:
        state, wire, slow = (entry(name, port.number) for name in ("ports", "impairments", "receivers"))
        profile = entry("profiles", int(state.profile))
        said = hashlib.sha256(bytes(profile)).hexdigest()[:16]
        wrong = " ".join(f"{name}={getattr(wire, name)}" for name in WIRE_WORDS)
        # What a receiver holds back is of no account while it does not.
        drains = " ".join(f"{name}={getattr(slow, name)}" for name in RECEIVER) if slow.drain_bps else "none"
        rate, peer = int(state.rate_bps), int(state.peer)
        yield f"{port.node}:{port.name} rate={rate} peer={peer} profile={said} wire: {wrong} receiver: {drains}"
