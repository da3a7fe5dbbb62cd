"""ECMP-1: many flows between two hosts spread over a leaf's uplinks as an independent uniform hash would.

           spine1    spine2
              \\      /            n = 65 flows (odd: perfect dealing over 2 ports is not a whole number each),
               leaf1              100 packets each; the bound is that of n flows on m = 2 paths at a false-alarm
                |                 rate of 1e-5, so that a night of 300 such tests has 0.003 false alarms.
              host1 ──> host3

Fewer than flows_to_notice_unused(2) = 20 flows could not show an unused uplink at that rate; 65 also show a share
of 0.77 against 0.23 (65 · 0.27 = 17.5 flows off, 4.4 standard deviations of √(65/4) = 4.0).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from labs.lab import Lab
from labs.telemetry.samples import PortSample
from labs.testing import FiveTuple, Transport, Verdict, flows_needed, spread_over_ports
from topologies import addressing
from traffic.engines.packet_burst import Burst, send_bursts

FLOWS = 65
PACKETS = 100
ROCE_PORT = 4791


def flows(lab: Lab, src: str, dst: str, family: int, count: int = FLOWS) -> list[Burst]:
    """`count` flows that differ in their source port alone, as RoCEv2 queue pairs do."""
    ends = [str(addressing.host_address(lab.fabric, host, 1, family)) for host in (src, dst)]
    return [
        Burst(src, dst, FiveTuple(ends[0], ends[1], Transport.UDP, 49152 + i, ROCE_PORT), PACKETS) for i in range(count)
    ]


def uplink_counters(lab: Lab, leaf: str) -> Mapping[str, PortSample]:
    """The counters of a leaf's uplinks, by port name."""
    ports = {link.end(leaf).name for link in lab.fabric.uplinks(leaf)}
    return {port: sample for (node, port), sample in lab.counters().items() if node == leaf and port in ports}


def spread(lab: Lab, src: str, dst: str, family: int) -> Verdict:
    """Send the flows and judge how they left the source's leaf."""
    leaf = lab.fabric.neighbors(src)[0].name
    before = uplink_counters(lab, leaf)
    report = send_bursts(flows(lab, src, dst, family), lab.nodes, connected=True)
    assert report.complete, "packets were lost on an idle fabric"
    return spread_over_ports(before, uplink_counters(lab, leaf), packets_per_flow=PACKETS, flows=FLOWS)


@pytest.mark.lab("clos_frr")
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(("src", "dst"), [("host1", "host3"), ("host5", "host8")])
def test_flows_spread_over_the_uplinks(lab: Lab, src: str, dst: str, family: int) -> None:
    """The source ports alone must give the hash enough to spread by."""
    assert flows_needed(2) <= FLOWS
    assert spread(lab, src, dst, family)


@pytest.mark.lab("clos_frr")
def test_an_address_hash_does_not_spread_one_pair(lab: Lab) -> None:
    """Control: a hash of addresses alone puts all flows of one pair of hosts on one uplink, and the verdict says so."""
    with hash_policy(lab, "leaf1", 0):
        verdict = spread(lab, "host1", "host3", 4)
    assert not verdict


@pytest.mark.lab("clos_frr")
def test_lost_packets_make_the_spread_invalid(lab: Lab) -> None:
    """Control: counters that do not add up to what was sent say nothing about hashing."""
    before = uplink_counters(lab, "leaf1")
    report = send_bursts(flows(lab, "host1", "host3", 4), lab.nodes, connected=True)
    after = uplink_counters(lab, "leaf1")
    assert report.complete
    verdict = spread_over_ports(before, after, packets_per_flow=PACKETS, flows=FLOWS + 7)
    assert not verdict.valid


@contextmanager
def hash_policy(lab: Lab, switch: str, policy: int) -> Iterator[None]:
    """One switch with another kernel hash policy, for the length of a block."""
    key = "net.ipv4.fib_multipath_hash_policy"
    node = lab.node(switch)
    before = node.kernel("sysctl", "-n", key).stdout.strip()
    node.kernel("sysctl", "-qw", f"{key}={policy}")
    try:
        yield
    finally:
        node.kernel("sysctl", "-qw", f"{key}={before}")
