from __future__ import annotations

import errno
import re
from collections.abc import Callable
from ctypes import Array, LittleEndianStructure, sizeof
from pathlib import Path
from typing import Any

import pytest

from labs import bpf_syscall
from labs.dataplane import abi, counters
from labs.dataplane.abi_ecmp import ECMP_MODES, EcmpCount
from labs.dataplane.counters import ENTRIES, AsicCounters, EcmpCounters, Held, decode, read_counters
from labs.dataplane.load import load_profile
from labs.dataplane.plan import LabPlan, plan
from labs.errors import NotReady, RunInvalid, SpecError
from topologies.builders import leaf_spine
from topologies.ecmp import EcmpMode

PLAN = plan(load_profile("roce_default"), leaf_spine(spines=2, leaves=2, hosts_per_leaf=2))
PACKED = 1 << abi.PACKED_SHIFT


class Maps:
    """The maps of a lab, to be written as the programs write them."""

    def __init__(self, planned: LabPlan = PLAN) -> None:
        ports = len(planned.ports) + 1
        each = {"profiles": len(planned.profiles), "pools": planned.pool_places, "asicd": 1}
        each |= {"queues": ports * 8, "groups": ports * 8}
        self.of: dict[str, Array[Any]] = {name: (kind * each.get(name, ports))() for name, kind in ENTRIES.items()}
        for at, told in enumerate(planned.profiles):
            self.of["profiles"][at] = abi.PortProfile.from_buffer_copy(told)
        for port in planned.ports:
            self.of["ports"][port.number].profile = port.profile
        self.matrix = [0] * planned.matrix_words

    def raw(self) -> dict[str, bytes]:
        words = b"".join((word % (1 << 64)).to_bytes(8, "little") for word in self.matrix)
        return {**{name: bytes(entries) for name, entries in self.of.items()}, "matrix": words}

    def read(self) -> AsicCounters:
        return decode("a-lab", PLAN, self.raw())


def number(name: str) -> int:
    return next(port.number for port in PLAN.ports if f"{port.node}:{port.name}" == name)


def filled(kind: type[LittleEndianStructure]) -> tuple[LittleEndianStructure, dict[str, int]]:
    """A structure in which every field has a number of its own."""
    made, values = kind(), {}
    fields: Any = kind._fields_
    for value, (name, of) in enumerate(fields, 100):
        if not hasattr(of, "_length_"):
            setattr(made, name, value)
            values[name] = value
    return made, values


def test_every_field_of_a_queue_lands_where_it_belongs() -> None:
    maps = Maps()
    at = number("leaf1:eth1") * 8 + 3
    state, wrote = filled(abi.QueueState)
    state.depth, state.lost = 2 * PACKED + 3000, 5 * PACKED + 7000
    maps.of["queues"][at] = state
    queue = maps.read().queue("leaf1", "eth1", 3)
    same = {
        **{name: name for name in ("sent_packets", "sent_bytes", "marked_packets", "marked_bytes")},
        **{name: name for name in ("emptied_packets", "emptied_bytes", "own_packets", "own_bytes")},
        **{
            f"{cause}_{unit}": f"{cause}_dropped_{unit}"
            for cause in ("tail", "wred", "ingress", "watchdog")
            for unit in ("packets", "bytes")
        },
        "watermark_bytes": "watermark",
        "storms_detected": "watchdog_detected",
        "storms_restored": "watchdog_restored",
    }
    assert {ours: getattr(queue, ours) for ours in same} == {ours: wrote[theirs] for ours, theirs in same.items()}
    assert (queue.depth_packets, queue.depth_bytes) == (2, 3000)
    assert (queue.lost_packets, queue.lost_bytes) == (5, 7000)
    assert queue.stormed
    assert queue.dropped_packets == queue.refused_packets + queue.emptied_packets
    others = [one for one in maps.read().queues if one is not queue and one.sent_packets]
    assert [str(one) for one in others] == ["leaf1:eth1 queue 3"]


def test_every_field_of_a_group_lands_where_it_belongs() -> None:
    maps = Maps()
    state, wrote = filled(abi.PgState)
    maps.of["groups"][number("leaf2:eth3") * 8 + 4] = state
    group = maps.read().group("leaf2", "eth3", 4)
    same = ("packets", "bytes", "dropped_packets", "dropped_bytes", "xoffs")
    assert {name: getattr(group, name) for name in same} == {name: wrote[name] for name in same}
    assert (group.used_bytes, group.headroom_bytes) == (wrote["used"], wrote["headroom"])
    assert group.shared_watermark_bytes == wrote["shared_watermark"]
    assert group.headroom_watermark_bytes == wrote["headroom_watermark"]
    assert group.xoff


def test_a_port_has_the_counts_of_its_wire_and_its_receiver() -> None:
    maps = Maps()
    at = number("host1:eth1")
    port, wire, slow = maps.of["ports"][at], maps.of["impairments"][at], maps.of["receivers"][at]
    port.pfc_rx[3], port.pfc_xon_rx[3], port.pfc_tx[4], port.paused_ns[3] = 7, 6, 5, 2_500_000
    port.unstamped, port.lost_veth, port.lost_purged = 1, 2, 3
    wire.lost, wire.nth_dropped, wire.blackholed, wire.fcs_errors, wire.corrupted = 1, 20, 300, 4000, 50000
    slow.dropped = 9
    found = maps.read().port("host1", "eth1")
    assert found.wire_dropped == 4321
    assert (found.switch, found.peer, found.receiver_dropped) == (False, "leaf1:eth3", 9)
    said = found.to_dict()
    assert said["SAI_PORT_STAT_PFC_3_RX_PKTS"] == 7
    assert said["RAILBED_PORT_STAT_PFC_3_XON_RX_PKTS"] == 6
    assert said["SAI_PORT_STAT_PFC_4_TX_PKTS"] == 5
    assert said["SAI_PORT_STAT_PFC_3_RX_PAUSE_DURATION_US"] == 2500
    assert said["RAILBED_PORT_STAT_LOST_PURGED"] == 3


def test_pools_and_what_draws_from_them() -> None:
    maps = Maps()
    leaf = next(port for port in PLAN.ports if port.node == "leaf2")
    maps.of["pools"][leaf.pools].watermark = 4242
    read = maps.read()
    assert read.pool("leaf2", "ingress_pool").watermark_bytes == 4242
    assert read.group("leaf2", "eth1", 3).pool == "ingress_pool"
    assert read.group("leaf2", "eth1", 3).reserved_bytes > 0
    assert {queue.pool for queue in read.queues if queue.node == "host1"} == {""}
    assert not [group for group in read.groups if group.node.startswith("host")]


def test_a_profile_that_was_applied_later_counts() -> None:
    maps = Maps()
    state = maps.of["ports"][number("leaf1:eth1")]
    state.profile = (state.profile + 1) % len(PLAN.profiles)
    told = abi.PortProfile.from_buffer_copy(PLAN.profiles[state.profile])
    assert maps.read().queue("leaf1", "eth1", 3).reserved_bytes == told.queue[3].reserved


def test_matrix_words_say_whose_packets_wait_where() -> None:
    maps = Maps()
    egress, ingress = PLAN.ports[number("leaf1:eth1") - 1], PLAN.ports[number("leaf1:eth4") - 1]
    maps.matrix[egress.matrix + ingress.local * 8 + 3] = 2 * PACKED + 18000
    maps.matrix[egress.matrix + 1] = -64  # below zero for a moment
    assert maps.read().held == (
        Held("leaf1", "eth1", "eth1", 1, 0, -64),
        Held("leaf1", "eth1", "eth4", 3, 2, 18000),
    )


def with_engine(counts: dict[tuple[str, EcmpMode], tuple[int, ...]]) -> AsicCounters:
    """The maps of a lab whose hash engine has counted; a port that is "" is none of the lab's."""
    entries = (EcmpCount * ((len(PLAN.ports) + 1) * ECMP_MODES))()
    for (port, mode), values in counts.items():
        entries[(number(port) if port else 0) * ECMP_MODES + mode] = EcmpCount(*values)
    return decode("a-lab", PLAN, {**Maps().raw(), "ecmp_counts": bytes(entries)})


def test_every_field_of_what_the_hash_engine_chose_lands_where_it_belongs() -> None:
    read = with_engine(
        {
            ("leaf2:eth1", EcmpMode.FLOWLET): (1, 2, 3, 4, 5),
            ("leaf2:eth1", EcmpMode.PINNED): (6,),
            ("", EcmpMode.SPRAY): (7, 70),
        }
    )
    assert read.ecmp == (
        EcmpCounters("", "", EcmpMode.SPRAY, 7, 70),
        EcmpCounters("leaf2", "eth1", EcmpMode.FLOWLET, 1, 2, 3, 4, 5),
        EcmpCounters("leaf2", "eth1", EcmpMode.PINNED, 6),
    )
    assert read.chosen("leaf2", "eth1", EcmpMode.PINNED).packets == 6
    assert read.chosen("leaf2", "eth1", EcmpMode.SPRAY) == EcmpCounters("leaf2", "eth1", EcmpMode.SPRAY)
    assert [str(one) for one in read.ecmp] == ["-", "leaf2:eth1", "leaf2:eth1"]
    said: Any = read.to_dict()
    assert said["ecmp"][2] == {
        "node": "leaf2",
        "port": "eth1",
        "mode": "pinned",
        "RAILBED_ECMP_STAT_PACKETS": 6,
    }
    with pytest.raises(SpecError, match="found no port leaf2:eth9"):
        read.chosen("leaf2", "eth9", EcmpMode.SPRAY)


def test_a_lab_whose_engine_was_never_on_has_counted_nothing() -> None:
    read = Maps().read()
    assert (read.ecmp, read.engine) == ((), False)
    assert with_engine({}).engine
    assert read.chosen("leaf1", "eth1", EcmpMode.ROCE).packets == 0
    assert not (read - read).engine


def test_differences_of_what_the_hash_engine_chose() -> None:
    before = with_engine({("leaf1:eth1", EcmpMode.ROCE): (5, 50), ("leaf1:eth2", EcmpMode.ROCE): (5, 50)})
    after = with_engine(
        {
            ("leaf1:eth1", EcmpMode.ROCE): (7, 90, 0, 0, 1),
            ("leaf1:eth2", EcmpMode.ROCE): (5, 50),
            ("leaf1:eth2", EcmpMode.SPRAY): (1, 9),
        }
    )
    since = after - before
    assert since.ecmp == (
        EcmpCounters("leaf1", "eth1", EcmpMode.ROCE, 2, 40, 0, 0, 1),
        EcmpCounters("leaf1", "eth2", EcmpMode.SPRAY, 1, 9),
    )
    assert since.chosen("leaf1", "eth2", EcmpMode.ROCE).packets == 0
    turned_on = after - Maps().read()
    assert (turned_on.ecmp, turned_on.engine) == (after.ecmp, True)


def test_reaction_times_as_percentiles() -> None:
    maps = Maps()
    state = maps.of["asicd"][0]
    state.reaction[2], state.reaction[10], state.reaction[512] = 990, 9, 1
    state.reaction_max_ns = 3_000_000
    said = maps.read().asicd.to_dict()
    assert [said[f"reaction_{name}_us"] for name in ("p50", "p99", "p999", "max")] == [12.0, 12.0, 44.0, 3000.0]
    assert Maps().read().asicd.to_dict()["reaction_p50_us"] is None


def test_a_percentile_is_no_longer_than_the_longest() -> None:
    maps = Maps()
    maps.of["asicd"][0].reaction[2], maps.of["asicd"][0].reaction_max_ns = 1, 9_000
    assert maps.read().asicd.reaction_us(0.5) == 9.0


def test_differences_are_of_counters_alone() -> None:
    maps = Maps()
    at = number("leaf1:eth1")
    queue, group = maps.of["queues"][at * 8 + 3], maps.of["groups"][at * 8 + 3]
    queue.sent_packets, queue.depth, queue.watermark = 10, 2 * PACKED + 100, 900
    maps.of["ports"][at].pfc_rx[3], group.packets, group.used = 4, 5, 100
    before = maps.read()
    queue.sent_packets, queue.depth, queue.watermark = 17, PACKED + 60, 900
    maps.of["ports"][at].pfc_rx[3], group.packets, group.used = 6, 9, 60
    maps.of["asicd"][0].pauses = 3
    since = maps.read() - before
    assert since.queue("leaf1", "eth1", 3).sent_packets == 7
    assert (since.queue("leaf1", "eth1", 3).depth_bytes, since.queue("leaf1", "eth1", 3).watermark_bytes) == (60, 900)
    assert since.port("leaf1", "eth1").pfc_rx == (0, 0, 0, 2, 0, 0, 0, 0)
    assert (since.group("leaf1", "eth1", 3).packets, since.group("leaf1", "eth1", 3).used_bytes) == (4, 60)
    assert since.asicd.pauses == 3


@pytest.mark.parametrize("who", [0, 1])
def test_a_difference_with_a_reading_of_moving_queues_is_moving(who: int) -> None:
    readings = [decode("a-lab", PLAN, Maps().raw(), moving=who == one) for one in (0, 1)]
    assert (readings[1] - readings[0]).moving
    assert not (Maps().read() - Maps().read()).moving


def test_readings_of_two_runs_are_not_subtracted() -> None:
    maps = Maps()
    before = maps.read()
    maps.of["asicd"][0].started_ns = 1
    with pytest.raises(RunInvalid, match="started anew"):
        maps.read() - before


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda read: read.port("leaf1", "eth9"), "port leaf1:eth9"),
        (lambda read: read.queue("leaf1", "eth1", 8), "queue 8 of leaf1:eth1"),
        (lambda read: read.group("host1", "eth1", 0), "PG 0 of host1:eth1"),
        (lambda read: read.pool("leaf1", "mine"), "pool mine of leaf1"),
    ],
)
def test_what_a_lab_does_not_have(ask: Callable[[AsicCounters], object], words: str) -> None:
    with pytest.raises(SpecError, match=re.escape(f"found no {words}")):
        ask(Maps().read())


def test_names_are_sais_and_sonics() -> None:
    said: Any = Maps().read().to_dict()
    names = {name for part in ("ports", "queues", "groups", "pools") for name in said[part][0]}
    assert {
        *(f"SAI_PORT_STAT_PFC_{n}_{way}_PKTS" for n in range(8) for way in ("RX", "TX")),
        *(f"SAI_QUEUE_STAT_{name}" for name in ("PACKETS", "BYTES", "DROPPED_PACKETS", "DROPPED_BYTES")),
        *(f"SAI_QUEUE_STAT_WRED_DROPPED_{unit}" for unit in ("PACKETS", "BYTES")),
        *(f"SAI_QUEUE_STAT_WRED_ECN_MARKED_{unit}" for unit in ("PACKETS", "BYTES")),
        "SAI_QUEUE_STAT_SHARED_WATERMARK_BYTES",
        "SAI_INGRESS_PRIORITY_GROUP_STAT_SHARED_WATERMARK_BYTES",
        "SAI_INGRESS_PRIORITY_GROUP_STAT_XOFF_ROOM_WATERMARK_BYTES",
        "SAI_INGRESS_PRIORITY_GROUP_STAT_DROPPED_PACKETS",
        "SAI_BUFFER_POOL_STAT_WATERMARK_BYTES",
        "SAI_BUFFER_POOL_STAT_XOFF_ROOM_WATERMARK_BYTES",
        *("PFC_WD_STATUS", "PFC_WD_QUEUE_STATS_DEADLOCK_DETECTED", "PFC_WD_QUEUE_STATS_DEADLOCK_RESTORED"),
    } <= names
    assert said["queues"][0]["PFC_WD_STATUS"] == "operational"


def test_queues_that_change_while_they_are_read_are_moving(monkeypatch: pytest.MonkeyPatch) -> None:
    maps, asked = Maps(), list[str]()

    def read_maps(
        folder: Path,
        values: dict[str, int],
        *,
        locked: frozenset[str] = frozenset(),
        optional: frozenset[str] = frozenset(),
    ) -> dict[str, bytes]:
        assert folder == Path("/run/railbed/a-lab/maps")
        asked.append(" ".join(sorted(values)))
        assert locked <= {"groups"}
        assert values["queues"] == sizeof(abi.QueueState)
        raw = maps.raw()
        maps.of["queues"][9].sent_packets += moves
        return {name: raw[name] for name in values if name not in optional}

    monkeypatch.setattr(counters, "read_maps", read_maps)
    moves = 0
    assert not read_counters("a-lab", PLAN).moving
    moves = 1
    assert read_counters("a-lab", PLAN).moving
    assert asked[1::2] == ["queues"] * 2, "the queues once more, at the end"


def test_a_lab_without_maps_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing_there(command: int, told: bytes | bytearray) -> int:
        del command, told
        raise OSError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(bpf_syscall, "bpf", nothing_there)
    with pytest.raises(NotReady, match="the soft ASIC is not attached"):
        read_counters("no-such-lab", PLAN)
