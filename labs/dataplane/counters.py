"""The soft ASIC's maps as `AsicCounters`.

`decode` is pure: the bytes of the maps, and the plan that says whose they are. `read_counters` reads a running lab's.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Mapping, Sequence
from ctypes import LittleEndianStructure, sizeof
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, TypeVar

from labs.dataplane import abi, place
from labs.dataplane.abi import PortKind, packed_bytes, packed_packets
from labs.dataplane.abi_ecmp import ECMP_MODES, EcmpCount
from labs.dataplane.maps import read_maps
from labs.dataplane.plan import LabPlan, NodePlan, PortPlan
from labs.telemetry.asic_counters import (
    AsicCounters,
    GroupCounters,
    Held,
    PoolCounters,
    PortCounters,
    QueueCounters,
)
from labs.telemetry.asicd_counters import AsicdCounters
from labs.telemetry.ecmp_counters import EcmpCounters
from topologies.ecmp import EcmpMode

__all__ = [
    "AsicCounters",
    "AsicdCounters",
    "EcmpCounters",
    "GroupCounters",
    "Held",
    "PoolCounters",
    "PortCounters",
    "QueueCounters",
    "decode",
    "read_counters",
]

ENTRIES: Mapping[str, type[LittleEndianStructure]] = MappingProxyType(
    {
        "ports": abi.PortState,
        "profiles": abi.PortProfile,
        "queues": abi.QueueState,
        "groups": abi.PgState,
        "pools": abi.PoolState,
        "impairments": abi.Impairment,
        "receivers": abi.Receiver,
        "asicd": abi.AsicdState,
    }
)
WORD = 8  # an entry of `matrix`
LOCKED = frozenset({"groups"})
COUNTS = "ecmp_counts"
ENGINE_MAPS = frozenset({COUNTS, "ecmps"})
"""Those that asicd makes when the first switch of a lab turns the hash engine on."""

Struct = TypeVar("Struct", bound=LittleEndianStructure)


def read_counters(lab_name: str, plan: LabPlan) -> AsicCounters:
    """What the soft ASIC of a running lab has counted. Raises NotReady when it is not attached."""
    folder = place.maps(lab_name)
    values = {"queues": sizeof(abi.QueueState), **{name: sizeof(kind) for name, kind in ENTRIES.items()}}
    values |= {"matrix": WORD, COUNTS: sizeof(EcmpCount)}
    maps = read_maps(folder, values, locked=LOCKED, optional=ENGINE_MAPS)
    again = read_maps(folder, {"queues": values["queues"]})
    return decode(lab_name, plan, maps, moving=again["queues"] != maps["queues"])


def decode(lab_name: str, plan: LabPlan, maps: Mapping[str, bytes], *, moving: bool = False) -> AsicCounters:
    """The maps' bytes by name, as counters. What `maps` does not hold counts as nothing."""
    reading = _Reading(plan, maps)
    return AsicCounters(
        lab_name,
        tuple(reading.ports()),
        tuple(reading.queues()),
        tuple(reading.groups()),
        tuple(reading.pools()),
        reading.asicd(),
        tuple(reading.held()),
        moving,
        tuple(reading.ecmps()),
        COUNTS in maps,
    )


@dataclass(frozen=True)
class _Reading:
    """One reading of all maps. A port's number is its place in `ports`; queues and groups stand 8 a port."""

    plan: LabPlan
    maps: Mapping[str, bytes]

    def _all(self, name: str, kind: type[Struct], least: int) -> Sequence[Struct]:
        """The entries of a map, at least so many."""
        raw = self.maps.get(name, b"").ljust(least * sizeof(kind), b"\0")
        return list((kind * (len(raw) // sizeof(kind))).from_buffer_copy(raw))

    def _of_ports(self, name: str, kind: type[Struct]) -> Sequence[Struct]:
        return self._all(name, kind, len(self.plan.ports) + 1)

    def _rows(self, name: str, kind: type[LittleEndianStructure]) -> Iterator[tuple[Any, ...]]:
        """The fields of the 8 entries of each port, in the structure's order: there are thousands."""
        one = _layout(kind)
        raw = self.maps.get(name, b"").ljust((len(self.plan.ports) + 1) * abi.QUEUES * one.size, b"\0")
        return one.iter_unpack(memoryview(raw)[abi.QUEUES * one.size :])  # no port is number 0

    def ports(self) -> Iterator[PortCounters]:
        states = self._of_ports("ports", abi.PortState)
        wires = self._of_ports("impairments", abi.Impairment)
        slow = self._of_ports("receivers", abi.Receiver)
        for port in self.plan.ports:
            yield _port(self.plan, port, states[port.number], wires[port.number], slow[port.number])

    def _limits(self, of: str) -> Iterator[tuple[PortPlan, int, str, int]]:
        """Each port and queue (or group), the pool it draws from, and its reserved bytes, in the maps' order."""
        states = self._of_ports("ports", abi.PortState)
        told = self._all("profiles", abi.PortProfile, len(self.plan.profiles))
        names = {node.name: [pool.name for pool in node.pools] for node in self.plan.nodes}
        known: dict[tuple[str, int], list[tuple[int, str, int]]] = {}
        for port in self.plan.ports:
            profile = states[port.number].profile  # `apply` may have changed that since the plan was made
            if (port.node, profile) not in known:
                pools = names[port.node]
                limits = enumerate(getattr(told[profile], of))
                known[port.node, profile] = [(at, _named(pools, one.pool), one.reserved) for at, one in limits]
            for at, pool, reserved in known[port.node, profile]:
                yield port, at, pool, reserved

    def queues(self) -> Iterator[QueueCounters]:
        states = self._rows("queues", abi.QueueState)
        for (port, q, pool, reserved), state in zip(self._limits("queue"), states, strict=True):
            depth, moved, watermark, fates, lost = state[0], state[1:5], state[5], state[6:18], state[18]
            values: tuple[Any, ...] = (
                *(port.node, port.name, q, pool, reserved, packed_packets(depth), packed_bytes(depth), watermark),
                *(*moved, *fates, packed_packets(lost), packed_bytes(lost)),
                *(bool(state[19]), state[20], state[21]),
            )
            yield QueueCounters(*values)

    def groups(self) -> Iterator[GroupCounters]:
        states = self._rows("groups", abi.PgState)
        for (port, pg, pool, reserved), state in zip(self._limits("pg"), states, strict=True):
            if port.kind is PortKind.SWITCH:
                _, xoff, used, headroom, packets, size, dropped, dropped_bytes, shared, room, xoffs = state[:11]
                yield GroupCounters(
                    *(port.node, port.name, pg, pool, reserved, bool(xoff), used, headroom, shared, room),
                    *(packets, size, dropped, dropped_bytes, xoffs),
                )

    def pools(self) -> Iterator[PoolCounters]:
        states = self._all("pools", abi.PoolState, self.plan.pool_places)
        for node in self.plan.nodes:
            for at, pool in enumerate(node.pools if node.ports else ()):
                state = states[node.ports[0].pools + at]
                yield PoolCounters(
                    *(node.name, pool.name, state.size, state.headroom_size, state.used, state.headroom),
                    *(state.watermark, state.headroom_watermark),
                )

    def held(self) -> Iterator[Held]:
        words = array("q")
        words.frombytes(self.maps.get("matrix", b"").ljust(self.plan.matrix_words * WORD, b"\0"))
        for node in self.plan.nodes:
            for port in node.ports:
                row = words[port.matrix : port.matrix + len(node.ports) * abi.QUEUES]
                if any(row):
                    yield from _row(node, port, row)

    def ecmps(self) -> Iterator[EcmpCounters]:
        """What counted something. Port 0 is where a group's members lead that are no ports of the lab."""
        for at, state in enumerate(_layout(EcmpCount).iter_unpack(self.maps.get(COUNTS, b""))):
            counts = state[:5]  # packets, bytes, flowlets, repicks, moved
            number, mode = divmod(at, ECMP_MODES)
            if any(counts) and number <= len(self.plan.ports):
                port = self.plan.ports[number - 1] if number else None
                node, name = (port.node, port.name) if port else ("", "")
                yield EcmpCounters(node, name, EcmpMode(mode), *counts)

    def asicd(self) -> AsicdCounters:
        state = self._all("asicd", abi.AsicdState, 1)[0]
        return AsicdCounters(
            *(state.pid, state.started_ns, state.alive_ns, bool(state.fifo)),
            *(state.pauses, state.refreshes, state.resumes, state.gate_errors, state.events_late),
            *(state.reaction_count, state.reaction_sum_ns, state.reaction_max_ns),
            *(state.cpu_ns, state.softnet_dropped, tuple(state.reaction)),
        )


def _named(pools: Sequence[str], at: int) -> str:
    return pools[at] if at < len(pools) else ""


def _row(node: NodePlan, egress: PortPlan, row: Sequence[int]) -> Iterator[Held]:
    for at, word in enumerate(row):
        if word:
            local, pg = divmod(at, abi.QUEUES)
            packets, size = packed_packets(word), packed_bytes(word)
            yield Held(node.name, egress.name, node.ports[local].name, pg, packets, size)


def _port(
    plan: LabPlan, port: PortPlan, state: abi.PortState, wire: abi.Impairment, slow: abi.Receiver
) -> PortCounters:
    peer = plan.ports[port.peer - 1]
    return PortCounters(
        *(port.node, port.name, f"{peer.node}:{peer.name}", port.kind is PortKind.SWITCH),
        state.rate_bps or port.rate_bps,
        *(tuple(state.pfc_rx), tuple(state.pfc_xon_rx), tuple(state.pfc_tx), tuple(state.pfc_xon_tx)),
        tuple(state.paused_ns),
        *(state.gates_closed, state.watchdog_drop, state.unstamped, state.pause_802_3x),
        *(state.lost_qdisc, state.lost_veth, state.lost_purged),
        *(wire.lost, wire.corrupted, wire.fcs_errors, wire.nth_dropped, wire.blackholed, wire.watchdog_dropped),
        *(slow.dropped, slow.watermark),
    )


@cache
def _layout(kind: type[LittleEndianStructure]) -> struct.Struct:
    """The same structure for `struct`: a letter a field, one more for each place of an array."""
    fields: Any = kind._fields_
    letters = []
    for _, type_ in fields:
        element, places = (type_._type_, type_._length_) if hasattr(type_, "_length_") else (type_, 1)
        letters.append(f"{places}{element._type_}")
    return struct.Struct("<" + "".join(letters).replace("l", "q").replace("L", "Q"))
