"""A graph as bursts of crafted packets: numbers, limits, and a rank's book of what has come."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import pytest
from scapy.contrib.roce import BTH
from scapy.layers.inet import IP
from scapy.layers.l2 import Ether

from topologies.errors import SpecError
from topologies.units import KIB, MIB
from traffic.collectives import all_to_all, ring_all_reduce, send_recv
from traffic.engines.crafted import CraftedExpect, CraftedRank, CraftedReport, CraftedSend
from traffic.engines.crafted_packets import RETH, write_packets
from traffic.engines.crafted_plan import MOST_PACKETS, CraftedPlans, CraftedSettings, crafted_plans
from traffic.engines.crafted_rank import Rank as Playing
from traffic.graph import Graph
from traffic.patterns import ALGORITHMS, Pattern
from traffic.placement import Rank, checked_placement, one_each

HOSTS = ("h1", "h2", "h3", "h4")


def planned(graph: Graph, iterations: int = 1, **settings: Any) -> CraftedPlans:
    chosen = CraftedSettings(**settings)
    placement = one_each(HOSTS[: graph.ranks])
    return crafted_plans(graph, placement, lambda host, _card: f"10.0.0.{host[1:]}", chosen, iterations=iterations)


@pytest.mark.parametrize(
    "pattern", [Pattern(one, by) for one, played in ALGORITHMS.items() for by in played], ids=lambda p: p.algorithm
)
def test_every_packet_that_is_sent_is_expected_once(pattern: Pattern) -> None:
    graph = pattern.graph(4, 64 * KIB)
    plans = planned(graph, mtu=1024)
    ranks = {rank: json.loads(text) for rank, text in plans.texts.items()}
    sent = [(one["queue_pair"], one["psn"] + index) for said in ranks.values() for one in said["sends"]
            for index in range(one["packets"])]  # fmt: skip
    expected = [(one["queue_pair"], one["psn"] + index) for said in ranks.values() for one in said["expects"]
                for index in range(one["packets"])]  # fmt: skip
    assert sorted(sent) == sorted(set(sent)) == sorted(expected)
    assert len(sent) == plans.packets
    assert sum(way.size for way in plans.ways) == graph.matrix.sum()


def test_more_packets_than_scapy_crafts_are_refused_with_the_limits() -> None:
    assert planned(send_recv(2, size=MOST_PACKETS // 2 * 4096)).packets == MOST_PACKETS
    with pytest.raises(SpecError, match=r"is 4098 packets of 4096 bytes; allowed: up to 4096 an iteration, 262144"):
        planned(send_recv(2, size=MOST_PACKETS // 2 * 4096 + 1))
    with pytest.raises(SpecError, match="65 iterations of 4096 packets"):
        planned(send_recv(2, size=MOST_PACKETS // 2 * 4096), iterations=65)


def test_what_nobody_reports_on_is_not_lost() -> None:
    """Rank 1 and 2 send 0 seven packets each of ten, of which four and all came; 0 sends rank 3, who says nothing."""

    def rank(number: int, sends: tuple[CraftedSend, ...], *expects: CraftedExpect) -> CraftedRank:
        return CraftedRank(number, (), (), sends, expects, overflow=0, ce=0, strangers=0)

    ranks = {
        0: rank(0, (CraftedSend(2, 9, 1, 2),), CraftedExpect(0, 4, 6, 0), CraftedExpect(1, 7, 3, 0)),
        1: rank(1, (CraftedSend(0, 7, 1, 2),)),
        2: rank(2, (CraftedSend(1, 7, 1, 2),)),
    }
    plans = planned(send_recv(2, size=4096))
    assert CraftedReport(plans, ranks).lost_packets == 3
    assert CraftedReport(plans, {0: ranks[0], 2: ranks[2]}).lost_packets == 0


@pytest.mark.parametrize(
    ("ranks", "settings", "message"),
    [
        ((Rank("h1"), Rank("h1", (2,))), CraftedSettings(), "both on h1"),
        ((Rank("h1"), Rank("h1")), CraftedSettings(), "ranks 0 and 1 share card 1 of h1"),
        ((Rank("h1"), Rank("h2", (1, 2))), CraftedSettings(), "rank 1 has 2 cards"),
        ((Rank("h1"), Rank("h2")), CraftedSettings(mtu=1000), "mtu 1000"),
        ((Rank("h1"), Rank("h2")), CraftedSettings(ecn=4), "ecn 4"),
    ],
)
def test_what_scapy_cannot_play_is_refused(ranks: tuple[Rank, ...], settings: CraftedSettings, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        crafted_plans(send_recv(2, size=MIB), checked_placement(ranks), lambda host, card: f"{host}.{card}", settings)


def test_source_ports_differ_by_queue_pair_unless_they_are_fixed() -> None:
    graph = all_to_all(4, size=64 * KIB)
    assert len({way.sport for way in planned(graph).ways}) > 6
    assert {way.sport for way in planned(graph, fixed_port=True).ways} == {0xC000}


@pytest.mark.parametrize("size", [1, 1022, 1024, 1025, 4099])
def test_a_write_is_first_middle_last_or_only(size: int) -> None:
    made = [IP(one) for one in write_packets(
        "10.0.0.1", "10.0.0.2", sport=50_000, queue_pair=7, psn=9, size=size, mtu=1024, tos=106)]  # fmt: skip
    kinds = [packet[BTH].opcode for packet in made]
    assert kinds == ([0x0A] if size <= 1024 else [0x06, *[0x07] * (len(kinds) - 2), 0x08])
    assert [packet[BTH].psn for packet in made] == list(range(9, 9 + len(made)))
    assert RETH(bytes(made[0][BTH].payload)[:16]).dmalen == size
    headers = 16 + sum(packet[BTH].padcount for packet in made)
    assert sum(len(packet[BTH].payload) for packet in made) == size + headers
    assert [packet[BTH].ackreq for packet in made] == [0] * (len(made) - 1) + [1]
    assert all(packet.id and packet.tos == 106 and packet["UDP"].chksum == 0 for packet in made)


def test_the_icrc_is_right_and_sees_what_changes() -> None:
    frame = Ether() / IP(next(iter(write_packets(
        "10.0.0.1", "10.0.0.2", sport=50_000, queue_pair=7, psn=9, size=100, mtu=1024, tos=106))))  # fmt: skip
    for spoilt in (0, 60):
        found = bytearray(bytes(frame))
        found[-60] ^= spoilt
        bth = Ether(bytes(found))[BTH]
        assert (bth.compute_icrc(bytes(bth)[:-4]) == bytes(found[-4:])) is (spoilt == 0)


def playing(graph: Graph, rank: int, iterations: int) -> Playing:
    plan = json.loads(planned(graph, iterations).texts[rank])
    packets = {one["number"]: [b""] * one["packets"] for one in plan["sends"]}
    nowhere = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    nowhere.close()
    return Playing(plan, packets, nowhere, nowhere)


def bth(pair: int, psn: int) -> bytes:
    return bytes([7, 0, 0xFF, 0xFF, 0]) + pair.to_bytes(3, "big") + b"\0" + psn.to_bytes(3, "big")


def test_a_message_has_come_when_all_its_packets_have_and_what_waits_for_it_goes() -> None:
    rank = playing(ring_all_reduce(3, size=3 * 8192), 1, 1)
    rank.begin(0)
    rank.step(time.monotonic_ns())
    first = rank.plan["expects"][0]
    sends = [one for one in rank.plan["sends"] if one["packets"]]
    (waiting,) = [one["number"] for one in sends if first["number"] in one["after"]]
    own = [number for number, _ in rank.active]
    for number in own:
        rank.finished(number, 0)
    rank.active.clear()
    rank.count(bth(first["queue_pair"], first["psn"]), 0)
    rank.step(time.monotonic_ns())
    assert not rank.active
    rank.count(bth(first["queue_pair"], first["psn"] + 1), 3)
    rank.step(time.monotonic_ns())
    assert [number for number, _ in rank.active] == [waiting]
    assert rank.counts == {"ce": 1, "strangers": 0}


def test_what_is_lost_in_one_iteration_is_missing_in_the_end_and_strangers_are_told_apart() -> None:
    rank = playing(send_recv(2, size=8192), 0, 2)
    rank.begin(0)
    one = rank.plan["expects"][0]
    for psn in (0, 1, 0):
        rank.count(bth(one["queue_pair"], psn), 0)
    rank.count(bth(one["queue_pair"], 2), 0)
    rank.count(bth(99, 0), 0)
    said = json.loads(rank.report())
    assert (said["expects"][0]["missing"], said["expects"][0]["done_ns"]) == (1, 0)
    assert (said["expects"][0]["came"], said["strangers"]) == (3, 2)
