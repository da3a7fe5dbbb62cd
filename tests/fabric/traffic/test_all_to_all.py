"""An all-to-all over uplinks that are as fast as hosts, and no faster.

        spine1          spine2            Every rank sends an eighth of its bytes to each, in pairwise order, all under
       /  |  |  \\      /  |  |  \\         way at once as NCCL's grouped sends are. Every leaf has two hosts and two
     leaf1   leaf2   leaf3   leaf4        uplinks, all of 25 Mbit/s, in the nightly run 100.
      / \\     / \\     / \\     / \\
     h1 h2   h3 h4   h5 h6   h7 h8

What the hash allows follows from the paths: the busiest port's bytes. Of the 7/8 that a host sends, 6/8 leave its leaf:
an uplink may have 7/6 of its share before it is what holds things up. A leaf's 2 · 6 · 16 = 192 connections over two
uplinks miss half by 7 % (one standard deviation, √192 / 2 of 96): 7/6 is 2.3 of these away, and what exceeds it costs
what it exceeds it by. With one connection a pair, 12 over two uplinks, the deviation is 29 %.

One step after the other would not do: in five steps of seven both hosts of a leaf send to other leaves, 32 connections
over two uplinks, which miss half by 18 %. The worst of eight such pairs of ways (four leaves, up and down) is what a
step waits for, 1.3 on average: (2 + 5) / (2 + 5 · 1.3) is 0.82, below the 0.85 of line rate × wire efficiency that are
to be reached.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from labs.dataplane.asic import SoftAsic
from labs.lab import Lab
from labs.testing import MIB, RcSettings, all_to_all
from labs.traffic_bridge import LabTraffic
from traffic.carried import busiest_s

NIGHTLY = bool(os.environ.get("RAILBED_NIGHTLY"))
RATE_MBIT = 100 if NIGHTLY else 25
SIZE = 16 * MIB if NIGHTLY else 4 * MIB
TIMED = 2 if NIGHTLY else 6  # a card's packets in a run are several thousand
BUSBW_LEAST = 0.85
QPS = 16
LAB = str(Path(__file__).parent / f"clos_2x4_{RATE_MBIT}mbit.yaml")
pytestmark = [pytest.mark.lab(LAB, profile="roce_default"), pytest.mark.valid_of(3)]


@pytest.mark.parametrize("seed", [1, 2, 3] if NIGHTLY else [1])
def test_sixteen_connections_a_pair_fill_the_uplinks(
    lab: Lab, asic: SoftAsic, traffic: LabTraffic, note: Callable[[object], None], seed: int
) -> None:
    del asic  # its books are looked at afterwards
    operation = all_to_all(lab.fabric.hosts, size=SIZE, at_once=True)
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
