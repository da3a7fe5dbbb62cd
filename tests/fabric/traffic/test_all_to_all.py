"""V21, V22: an all-to-all over uplinks that are as fast as hosts, and no faster.

        spine1          spine2            Pairwise: in step k rank i sends to i + k, an eighth of its bytes to each.
       /  |  |  \\      /  |  |  \\         Every leaf has two hosts and two uplinks, all of 100 Mbit/s: where both
     leaf1   leaf2   leaf3   leaf4        send to other leaves (five steps of seven) uplinks are full only when the
      / \\     / \\     / \\     / \\         hash gives each half of the connections.
     h1 h2   h3 h4   h5 h6   h7 h8

What the hash allows follows from the paths: the busiest port's bytes. Of a host's 7/8 of the bytes 6/8 leave its leaf:
over the whole, an uplink may have 7/6 of its share before it is what holds things up. 2 · 6 · 16 = 192 connections of a
leaf over two uplinks differ from half by 7 % (one standard deviation, √192 / 2 of 96), so 16 connections a pair rarely
cost anything over the whole; with one a pair, 12 connections, it would be 29 %. Within one step it is 32 connections,
18 %, and who waits in a step for the fuller uplink goes on later: a rank has one step under way, not all. PFC keeps
that lossless. 0.85 of line rate × wire efficiency is to be reached.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from labs.dataplane.asic import SoftAsic
from labs.lab import Lab
from labs.testing import MIB, RcSettings, all_to_all
from labs.traffic_bridge import LabTraffic
from traffic.carried import busiest_s

TIMED = 2
BUSBW_LEAST = 0.85
QPS = 16
LAB = str(Path(__file__).parent / "clos_2x4_100mbit.yaml")
pytestmark = [pytest.mark.lab(LAB, profile="roce_default"), pytest.mark.valid_of(3)]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_sixteen_connections_a_pair_fill_the_uplinks(
    lab: Lab, asic: SoftAsic, traffic: LabTraffic, note: Callable[[object], None], seed: int
) -> None:
    del asic  # its books are looked at afterwards
    operation = all_to_all(lab.fabric.hosts, size=16 * MIB)
    one = traffic.run(operation, iterations=TIMED, settings=RcSettings(seed=seed, qps=QPS, split=True))
    rates = {(port.node, port.name): link.rate_bps for link in lab.fabric.links for port in link.ends}
    least_s = busiest_s(one.planned_at_ports(lab), rates) / one.iterations
    allowed = operation.busbw_ratio(least_s, rate_bps=one.line_rate_bps, mtu=4096)
    note(one.reached(BUSBW_LEAST))
    note(f"its paths allow {allowed:.3f}; {one.played.pauses} pauses, {one.played.marked} packets marked")
    assert (one.error, one.wrong) == (None, 0)
    assert one.retransmits == 0 or one.played.lost_packets > 0
    assert one.carried_as_planned(lab)
    assert allowed >= BUSBW_LEAST
    assert one.reached(BUSBW_LEAST)
    assert (one.retransmits, one.played.lost_packets) == (0, 0)
