"""Crafted bursts between namespaces, one of whose cables delivers nothing. As root.

h1 == eth1 == h2      10.79.1.1, fd79::1:1 and .2
   == eth2 ==         10.79.2.1 and .2; h1 has a wrong Ethernet address for h2, whose kernel drops what comes
   == eth3 == h3      10.79.3.1 and .3
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from labs.channels.namespaces import BackgroundProcess, in_network
from traffic.engines.crafted_bursts import (
    Crafted,
    Ecn,
    RocePacket,
    ecn_probe,
    entropy_set,
    pause_frames,
    roce_write,
)
from traffic.engines.crafted_counts import CraftedResult
from traffic.engines.crafted_sending import RunningBursts, Wiring, start_bursts
from traffic.errors import TrafficError

MTU = 1500


def ip(*argv: str) -> None:
    subprocess.run(["ip", *argv], check=True, capture_output=True, timeout=10)


def netns(host: str) -> Path:
    return Path(f"/run/netns/crafts{os.getpid()}-{host}")


def address(host: str, nic: int, family: int) -> str:
    number = host.removeprefix("h")
    return f"10.79.{nic}.{number}" if family == 4 else f"fd79::{nic}:{number}"


def far_end(node: str, port: str) -> tuple[str, str]:
    return ("h2" if node == "h1" else "h1", port)


@pytest.fixture(scope="module", autouse=True)
def hosts() -> Iterator[None]:
    spaces = [netns(host).name for host in ("h1", "h2", "h3")]
    try:
        for space in spaces:
            ip("netns", "add", space)
        for nic, peer in ((1, "h2"), (2, "h2"), (3, "h3")):
            ends = (netns("h1").name, netns(peer).name)
            ip("-n", ends[0], "link", "add", f"eth{nic}", "type", "veth", "peer", f"eth{nic}", "netns", ends[1])
            for host, space in zip(("h1", peer), ends, strict=True):
                ip("-n", space, "addr", "add", f"{address(host, nic, 4)}/24", "dev", f"eth{nic}")
                ip("-n", space, "addr", "add", f"{address(host, nic, 6)}/112", "dev", f"eth{nic}", "nodad")
                ip("-n", space, "link", "set", f"eth{nic}", "up")
        wrong = ("lladdr", "02:00:00:00:00:99", "nud", "permanent")
        ip("-n", spaces[0], "neigh", "replace", address("h2", 2, 4), *wrong, "dev", "eth2")
        yield
    finally:
        for space in spaces:
            subprocess.run(["ip", "netns", "del", space], check=False, capture_output=True, timeout=10)


class Starter:
    """Starts programs in the namespaces, and knows them all."""

    def __init__(self) -> None:
        self.started: list[BackgroundProcess] = []

    def __call__(self, node: str, argv: tuple[str, ...]) -> BackgroundProcess:
        self.started.append(in_network(node, netns(node), argv))
        return self.started[-1]

    @property
    def left(self) -> int:
        return sum(one.running for one in self.started)


def started(*bursts: Crafted, rate_bps: float = 1e8) -> tuple[RunningBursts, Starter]:
    start = Starter()
    return start_bursts(bursts, Wiring(address, far_end), start, rate_bps=rate_bps), start


def sent(*bursts: Crafted) -> CraftedResult:
    run, start = started(*bursts)
    result = run.finish(20)
    assert start.left == 0
    assert result.invalid_because is None
    return result


@pytest.mark.parametrize(
    ("vary", "family"), [(("sport",), 4), (("queue_pair",), 4), (("sport",), 6), (("flow_label",), 6), (("psn",), 4)]
)
def test_every_packet_is_counted_in_its_class(vary: tuple[str, ...], family: int) -> None:
    result = sent(entropy_set("h1", "h2", 40, vary=vary, packets=3, family=family))
    assert result.complete, result
    assert (len(result.classes), result.received, result.lost) == (40, 120, ())
    tuples = 1 if vary in {("flow_label",), ("psn",)} else 40  # a label is in no five-tuple
    assert sorted(result.received_by.values()) == [120 // tuples] * tuples


@pytest.mark.parametrize("family", [4, 6])
def test_codepoints_and_classes_arrive_as_sent(family: int) -> None:
    result = sent(ecn_probe("h1", "h2", packets=10, dscp=26, family=family))
    assert result.complete, result
    assert {one.name: dict(one.codepoints) for one in result.classes} == {str(one): {one: 10} for one in Ecn}
    assert all(one.dscps == {26: 10} for one in result.classes)
    assert result.marked == 0


def test_a_write_arrives_whole_and_both_ways_at_once() -> None:
    size = 20 * 1024
    result = sent(roce_write("h1", "h2", size=size), roce_write("h2", "h1", size=size, family=6))
    assert result.complete, result
    assert [one.received for one in result.classes] == [1, 18, 1] * 2


def test_pauses_are_heard_at_the_other_end_as_often_as_they_were_said() -> None:
    result = sent(pause_frames("h1:eth1", {3: 500}, times=4, every_s=0.01, xon=True))
    assert result.complete, result
    assert [(one.name, one.received) for one in result.classes] == [
        ("class 3: 500 quanta", 4),
        ("class 3: 0 quanta", 1),
    ]
    assert result.classes[0].dst == "h2:eth1"


def test_lost_packets_are_named_and_others_kept() -> None:
    """Negative control of every count above: h2's kernel drops what comes by eth2."""
    result = sent(
        ecn_probe("h1", "h2", codepoints=(2,), packets=3, src_nic=2, dst_nic=2), entropy_set("h1", "h2", 5, seed=3)
    )
    assert result.lost == ("h1 > h2: ECN probe, ECT(0): 3 of 3 packets did not come: psn 0, psn 1, psn 2",)
    assert not result.complete
    assert all(one.complete for one in result.classes[1:])


def test_what_no_card_takes_is_an_error_and_not_a_loss() -> None:
    result = sent(entropy_set("h1", "h2", 2, like=RocePacket(payload_bytes=MTU)))
    assert result.error == f"h1: {MTU + 60} bytes: Message too long"
    assert (result.sent, result.lost, result.complete) == (0, (), False)


def test_a_receiver_beside_one_who_has_the_port() -> None:
    keeper = "import socket,sys;s=socket.socket(2,2);s.bind(('',4791));print('bound',flush=True);sys.stdin.read()"
    other = in_network("h2", netns("h2"), ("python3", "-c", keeper))
    try:
        other.wait_ready("bound", 10)
        assert sent(entropy_set("h1", "h2", 5)).complete
    finally:
        other.stop()


def test_nobody_answers_that_the_port_is_closed() -> None:
    def answered() -> str:
        argv = ("ip", "netns", "exec", netns("h2").name, "cat", "/proc/net/snmp")
        lines = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=10).stdout.splitlines()
        names, values = (line.split() for line in lines if line.startswith("Icmp:"))
        return values[names.index("OutDestUnreachs")]

    before = answered()
    assert sent(entropy_set("h1", "h2", 20)).complete
    assert answered() == before


def test_a_receiver_that_is_missing_is_one_error_with_its_name() -> None:
    start = Starter()
    with pytest.raises(TrafficError, match=r"^h9: the receiver of a burst does not start: ") as caught:
        start_bursts((entropy_set("h1", "h9", 2),), Wiring(address, far_end), start)
    assert str(netns("h9")) in str(caught.value)
    assert start.left == 0


def test_an_address_that_is_not_there_is_one_error() -> None:
    start = Starter()
    with pytest.raises(TrafficError, match=r"^h2: the receiver of a burst does not start: Cannot assign requested"):
        start_bursts((entropy_set("h1", "h2", 2, dst_nic=3),), Wiring(address, far_end), start)
    assert start.left == 0


def test_a_receiver_that_is_killed_is_one_error_and_other_bursts_are_counted() -> None:
    run, start = started(entropy_set("h1", "h2", 5), entropy_set("h1", "h3", 5, src_nic=3, dst_nic=3))
    run.processes["h2"].stop()
    result = run.finish(20)
    assert start.left == 0
    assert result.errors == ("h2: entropy of sport h1 > h2 is not counted: its program ended with -15",)
    assert not result.complete
    assert [(one.dst, one.received) for one in result.classes] == [("h3", 1)] * 5


def test_a_burst_that_is_stopped_keeps_what_it_counted() -> None:
    run, start = started(pause_frames("h1:eth1", {3: 1}, times=1000, every_s=1.0), entropy_set("h1", "h2", 5))
    run.processes["h2"].wait_ready("sent\n", 5)  # it has nothing to send
    result = run.stop()
    assert start.left == 0
    assert result.classes[0].sent < 10
    assert not result.complete
    assert run.finish(1) is result


def test_what_does_not_end_in_time_says_so() -> None:
    run, start = started(pause_frames("h1:eth1", {3: 1}, times=100, every_s=1.0))
    result = run.finish(0.3)
    assert start.left == 0
    assert result.errors == ("h1: not all was sent within 0.3 s",)
    assert 1 <= result.classes[0].received == result.classes[0].sent < 10
