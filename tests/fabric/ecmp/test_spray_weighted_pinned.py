"""HASH-8: packets dealt by chance and in turn, flows by the rates of their ports, and flows that are told their member.

    host1, host2 ─ leaf1 ═ spine1 … spine16 ═ leaf2 ─ host3, host4

What leaf1 chose stands in the engine's counters; what went that way in those of its ports' queue 3, which are counted
by another program, at the far end of each link. Only what these tests send is of class 3, and only that class has a
rule: pings and neighbour discovery take no turn.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from labs.dataplane.asic import SoftAsic
from labs.dataplane.ecmp_state import live_ecmp
from labs.lab import Lab
from labs.load_bridge import five_tuple, send
from labs.testing import FALSE_ALARM, MBIT, ecmp_spread, wait_until
from topologies.ecmp import EcmpMode
from traffic.engines.rnic import RawFlow

pytestmark = pytest.mark.lab("clos_16x2", profile="roce_default")

WAYS = 16
PACKETS = 16_000
PORTS = tuple(f"eth{number}" for number in range(1, WAYS + 1))
WITHIN_S = 5.0
MODE = """
base: roce_default
SWITCH_TABLE:
  "*": {{ecmp_hash_seed: 7}}
RAILBED_ECMP:
  "*|3": {{mode: {mode}}}
"""

Play = Callable[..., object]
Ways = Callable[..., Mapping[tuple[int, int], str]]
Flows = Callable[..., list[Any]]
Note = Callable[[object], None]


def dealt(lab: Lab, asic: SoftAsic, mode: EcmpMode) -> dict[str, int]:
    """Packets by leaf1's uplinks, of 16 000 of one flow; all arrive, and all went where the engine's counters say."""
    flow = RawFlow(
        "host1",
        "host3",
        five_tuple(lab, "host1", "host3"),
        packets=PACKETS,
        payload_bytes=128,
        rate_bps=50 * MBIT,
        dscp=3,
    )
    start = asic.counters()
    report = send(lab, [flow], within=30.0)
    assert report.results[0].sent.packets == PACKETS

    def went() -> dict[str, int]:
        counted = asic.counters() - start
        return {port: counted.queue("leaf1", port, 3).sent_packets for port in PORTS}

    arrived = wait_until("all have gone", went, lambda seen: sum(seen.values()) >= PACKETS, within=WITHIN_S)
    rows = (asic.counters() - start).ecmp
    chosen = Counter({row.port: row.packets for row in rows if row.node == "leaf1" and row.mode is mode})
    assert arrived.last == {port: chosen[port] for port in PORTS}
    assert sum(chosen.values()) == PACKETS
    return arrived.last


def test_random_spray_is_uniform_by_packets(lab: Lab, asic: SoftAsic, play: Play, note: Note) -> None:
    """16 000 packets of one flow over 16 ports, as independent draws would: the verdict of flows, of packets.

    Controls: the same flow by its hash goes by one port, which the verdict calls uneven; and dealt in turn it is more
    even than chance, which the verdict tells too.
    """
    verdicts = {}
    for mode, kind in (
        ("spray, by: random", EcmpMode.SPRAY),
        ("switch_hash", EcmpMode.SWITCH_HASH),
        ("spray, by: round_robin", EcmpMode.SPRAY),
    ):
        play(MODE.format(mode=mode))
        counts = dealt(lab, asic, kind)
        verdicts[mode] = ecmp_spread(counts)
        note(f"{mode}: {verdicts[mode]}")
        assert verdicts[mode].valid
        if mode == "switch_hash":
            assert sorted(counts.values())[-2:] == [0, PACKETS]
        if mode == "spray, by: round_robin":
            in_turn(counts)
    assert verdicts["spray, by: random"]
    assert not verdicts["switch_hash"].held
    assert not verdicts["spray, by: round_robin"].held


def in_turn(counts: Mapping[str, int]) -> None:
    """Each processor deals what comes in by one port in turn, so no two members differ by more than 1 of its packets.

    All of this flow come in by leaf1's port to host1: as many as there are processors is the most that two may differ.
    By chance sixteen counts of 1000 ± 31 differ by some 110: two processors' bound is not met by accident.
    """
    assert max(counts.values()) - min(counts.values()) <= (os.cpu_count() or 1), counts


def test_weights_are_the_rates_of_the_ports(lab: Lab, asic: SoftAsic, play: Play, ways: Ways, flows: Flows) -> None:
    """4000 flows, one uplink at a quarter of the others' rate: a quarter of 15 1/4 shares goes there.

    χ² against these weights, at the false-alarm rate of all spreads; control: the same counts against equal weights.
    These flows and this seed hash alike in every run. 4000 · (0.25/15.25) = 66 where 250 would be equal: χ² is
    184²/250 = 136 above its mean of 15, and 50.5 is the bound.
    """
    from scipy.stats import chisquare

    slow = lab.fabric.between("leaf1", "spine5")[0]
    quarter = {slow.name: slow.rate_bps // 4}
    play(MODE.format(mode="weighted"), rates=quarter)
    start, counted = asic.counters(), Counter[str]()
    for batch in range(4):
        packets = flows("host1", "host3", 1000, first=20_000 + 1000 * batch)
        counted.update(ways("host1", "host3", packets, "leaf2").values())
    counts = [counted[f"leaf2:{port}"] for port in PORTS]
    rows = (asic.counters() - start).ecmp
    chosen = {row.port: row.packets for row in rows if row.node == "leaf1" and row.mode is EcmpMode.WEIGHTED}
    shares = [0.25 if port == slow.end("leaf1").name else 1.0 for port in PORTS]
    expected = [4000 * share / sum(shares) for share in shares]
    assert sum(counts) == 4000
    assert counts == [chosen.get(port, 0) for port in PORTS]
    assert float(chisquare(counts, expected).pvalue) > FALSE_ALARM, counts
    assert float(chisquare(counts).pvalue) < FALSE_ALARM, counts


def members(lab: Lab, asic: SoftAsic, dst: str) -> list[str]:
    """Leaf1's members for host3, in their order, as leaf2's port behind each: either leaf's eth N goes to spine N."""
    live = live_ecmp(lab.name, asic.plan)
    assert live is not None
    group = live.group(asic.port("leaf1", "eth1").first, dst)
    assert group is not None
    return [f"leaf2:{live.port_name(one.port)}" for one in group.members]


@pytest.mark.parametrize("family", [4, 6])
def test_a_queue_pair_is_pinned_to_its_member(
    lab: Lab, asic: SoftAsic, play: Play, ways: Ways, flows: Flows, family: int
) -> None:
    """Queue pair q goes by member q mod 16, from two source ports; control: by hash all pairs of a port go one way."""
    queue_pairs = [*range(1, 65), 0x10000, 0x123456, 0xFFFFFF]
    ports = flows("host1", "host3", 2, family=family)
    packets = [replace(one, queue_pair=number) for one in ports for number in queue_pairs]
    play(MODE.format(mode="pinned, by: queue_pair"))
    order = members(lab, asic, ports[0].five_tuple.dst)
    assert len(order) == WAYS
    seen = ways("host1", "host3", packets, "leaf2")
    assert seen == {(sport, pair): order[pair % WAYS] for sport, pair in seen}
    assert len(seen) == len(packets)
    play(MODE.format(mode="switch_hash"))
    seen = ways("host1", "host3", packets, "leaf2")
    assert len({(sport, port) for (sport, _), port in seen.items()}) == len(ports)


def test_a_rail_is_pinned_to_its_member(lab: Lab, asic: SoftAsic, play: Play, ways: Ways, flows: Flows) -> None:
    """What comes in by leaf1's port number n goes by member n mod 16: host1's by one, host2's by the next.

    Whatever is in the packets: 64 source ports and as many queue pairs each. Control: by hash they spread.
    """
    seen = {}
    for mode in ("pinned, by: rail", "switch_hash"):
        play(MODE.format(mode=mode))
        for host, port in (("host1", "eth17"), ("host2", "eth18")):
            packets = [replace(one, queue_pair=number) for number, one in enumerate(flows(host, "host3", 64), start=1)]
            order = members(lab, asic, packets[0].five_tuple.dst)
            seen[mode, host] = set(ways(host, "host3", packets, "leaf2").values())
            if mode != "switch_hash":
                assert seen[mode, host] == {order[asic.port("leaf1", port).local % WAYS]}
    assert seen["pinned, by: rail", "host1"] != seen["pinned, by: rail", "host2"]
    assert min(len(seen["switch_hash", host]) for host in ("host1", "host2")) > 1
