"""Which queue a frame goes to: DSCP -> TC -> queue, for every DSCP, and what is not classified."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from scapy.layers.l2 import ARP, Dot1Q, Ether

from labs.dataplane import abi

if TYPE_CHECKING:
    from tests.dataplane.conftest import Bench

PASS = -1
OUT, CAME, OUT_HOST = 3, 1, 5


@pytest.fixture(autouse=True)
def scattered(bench: Bench) -> None:
    """Maps in which no two steps are the same, so that a step left out shows."""
    for profile in (bench.profiles[1], bench.profiles[2]):
        profile.tc_of_dscp[:] = [(dscp * 5 + 3) % abi.CLASSES for dscp in range(abi.DSCPS)]
        profile.queue_of_tc[:] = [(tc * 3 + 1) % abi.QUEUES for tc in range(abi.CLASSES)]
        profile.pg_of_tc[:] = [(tc * 7 + 2) % abi.QUEUES for tc in range(abi.CLASSES)]


def tc_of(dscp: int) -> int:
    return (dscp * 5 + 3) % 16


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize("ecn", range(4))
def test_every_dscp(bench: Bench, udp: Callable[..., bytes], v6: bool, ecn: int) -> None:
    for dscp in range(abi.DSCPS):
        queue, pg = (tc_of(dscp) * 3 + 1) % 8, (tc_of(dscp) * 7 + 2) % 8
        frame = udp(dscp, ecn, v6=v6)
        before, in_group = bench.depth(OUT, queue), bench.charged(OUT, 0, pg)
        ran = bench.egress(OUT, frame, came=CAME)
        assert (ran.verdict, ran.priority, ran.frame) == (PASS, 0x10010 | queue, frame)
        assert bench.depth(OUT, queue) == (before[0] + 1, before[1] + 100)
        assert bench.charged(OUT, 0, pg) == (in_group[0] + 1, in_group[1] + 100)
    assert sum(bench.depth(OUT, queue)[0] for queue in range(8)) == 64
    assert sum(bench.group(CAME, pg).packets for pg in range(8)) == 64
    # Negative control: another map of DSCPs sends them elsewhere.
    bench.profile.tc_of_dscp[:] = [0] * abi.DSCPS
    assert {bench.egress(OUT, udp(dscp, v6=v6), came=CAME).queue for dscp in range(64)} == {1}


def test_the_ports_of_a_switch_are_told_apart(bench: Bench, udp: Callable[..., bytes]) -> None:
    for came in (1, 2, 4):
        bench.egress(OUT, udp(), came=came)
    pg = (tc_of(0) * 7 + 2) % 8
    assert [bench.charged(OUT, local, pg)[0] for local in range(4)] == [1, 1, 0, 1]
    assert [bench.group(port, pg).used for port in (1, 2, 3, 4)] == [100, 100, 0, 100]


@pytest.mark.parametrize(
    "frame",
    [
        Ether(dst="ff:ff:ff:ff:ff:ff") / ARP(),
        Ether(dst="01:80:c2:00:00:0e", type=0x88CC) / bytes(50),
        Ether(dst="02:00:00:00:00:02") / Dot1Q(vlan=7, type=0x0800) / bytes(50),
        Ether(dst="02:00:00:00:00:02", type=0x8847) / bytes(50),
    ],
    ids=["arp", "lldp", "vlan", "mpls"],
)
def test_what_is_not_ip_has_traffic_class_0(bench: Bench, frame: Ether) -> None:
    content = bytes(frame)
    ran = bench.egress(OUT, content, came=CAME)
    assert (ran.verdict, ran.queue) == (PASS, 1)
    assert bench.charged(OUT, 0, 2) == (1, len(content))


def test_the_switches_own_frames_take_queue_7(bench: Bench, udp: Callable[..., bytes]) -> None:
    for dscp in range(abi.DSCPS):
        assert bench.egress(OUT, udp(dscp)).queue == 7
    # Somebody else's mark is none of ours.
    assert bench.egress(OUT, udp(0), mark=0x5AC00000).queue == 7
    assert (bench.queue(OUT, 7).own_packets, bench.queue(OUT, 7).own_bytes) == (65, 6500)
    assert not any(bench.group(port, pg).packets for port in range(1, 9) for pg in range(8)), "no PG is charged"
    assert bench.egress(OUT, udp(0), came=CAME).queue == (tc_of(0) * 3 + 1) % 8
    assert bench.queue(OUT, 7).own_packets == 65


def test_a_host_sends_by_dscp_and_has_no_groups(bench: Bench, udp: Callable[..., bytes]) -> None:
    for dscp in range(abi.DSCPS):
        assert bench.egress(OUT_HOST, udp(dscp)).queue == (tc_of(dscp) * 3 + 1) % 8
    assert bench.egress(OUT_HOST, udp(0), mark=abi.MARK_INGRESS).queue == (tc_of(0) * 3 + 1) % 8
    assert not any(bench.group(port, pg).packets for port in range(1, 9) for pg in range(8))
    assert not any(pool.used for pool in bench.pools)


def test_an_interface_that_is_no_port_is_left_alone(bench: Bench, udp: Callable[..., bytes]) -> None:
    ran = bench.egress(0, udp(), mark=abi.MARK_INGRESS)
    assert (ran.verdict, ran.priority, ran.mark) == (PASS, 0, abi.MARK_INGRESS)
    ran = bench.ingress(0, udp())
    assert (ran.verdict, ran.mark) == (PASS, 0)
    assert not any(any(bytes(queue)) for queue in bench.queues)


def test_what_comes_in_is_told_its_port(bench: Bench, udp: Callable[..., bytes]) -> None:
    assert [bench.ingress(port, udp()).mark & ~abi.MARK_MASK for port in (1, 2, 3, 4, 7, 8)] == [0, 1, 2, 3, 0, 1]
    assert bench.ingress(1, udp()).mark & abi.MARK_MASK == abi.MARK_INGRESS
    assert bench.ingress(OUT_HOST, udp()).mark == 0
    assert bench.ports[1].unstamped == 2


@pytest.mark.parametrize("port", [OUT, OUT_HOST])
def test_a_kick_passes_every_queue_and_ends_at_the_far_end(bench: Bench, port: int) -> None:
    kick = bytes(Ether(dst="02:00:00:00:00:00", type=abi.ETH_P_KICK) / bytes(46))
    ran = bench.egress(port, kick)
    assert (ran.verdict, ran.priority) == (PASS, 0x10000)
    assert bench.ingress(bench.ports[port].peer, kick).verdict == 2
    assert not any(any(bytes(queue)) for queue in bench.queues)
    assert bench.ports[bench.ports[port].peer].unstamped == 0
    # Negative control: a type next to it is a frame as any other.
    other = bytes(Ether(dst="02:00:00:00:00:00", type=abi.ETH_P_KICK + 1) / bytes(46))
    assert bench.egress(port, other).priority != 0x10000
    assert bench.ingress(bench.ports[port].peer, other).verdict == PASS
