"""V21: a ring all-reduce over a fabric without contention reaches what its wires allow, and sums every element right.

        spine1          spine2            8 ranks, one a host, in a ring: host1 > host2 > … > host8 > host1.
       /  |  |  \\      /  |  |  \\         Four hops stay below a leaf, four cross the spines; no uplink carries the
     leaf1   leaf2   leaf3   leaf4        data of two. Every link has 100 Mbit/s.
      / \\     / \\     / \\     / \\
     h1 h2   h3 h4   h5 h6   h7 h8

Of 100 Mbit/s a packet of 4096 bytes leaves 98.0 % to its payload (82 bytes of headers, preamble and gap). A rank waits
14 times for the neighbor's share, so the smallest size is one where that is little. busbw has to reach 0.90 of the
payload's rate. Nothing may be lost, so nothing is sent again.

That these checks can fail is shown by a link of half the rate, a wire that loses packets, and a rank that expects
another sum (tests/netns/test_rnic_graphs.py).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from labs import lease
from labs.collective_bridge import Played, play, ranks_on
from labs.dataplane.asic import Impairment, SoftAsic
from labs.lab import Lab
from labs.testing import MBIT, MIB, RunInvalid
from traffic.bounds import wire_efficiency
from traffic.busbw import GB, Collective, bandwidth
from traffic.collectives import ring_all_reduce
from traffic.engines.rc_settings import RcSettings

RANKS = 8
RATE_BPS = 100 * MBIT
WARMUP, TIMED = 1, 2
BUSBW_LEAST = 0.90
LAB = str(Path(__file__).parent / "clos_2x4_100mbit.yaml")
# What starves a run is not the fabric's fault: one valid run of at most three.
pytestmark = [pytest.mark.lab(LAB, profile="roce_default"), pytest.mark.valid_of(3)]
SETTINGS = RcSettings(seed=21)


def played(lab: Lab, size: int, *, in_place: bool = False) -> Played:
    graph = ring_all_reduce(RANKS, size=size, in_place=in_place)
    return play(lab, graph, ranks_on(lab), SETTINGS, iterations=WARMUP + TIMED)


def ratio(one: Played, size: int) -> float:
    """busbw over what a link's rate leaves to payload."""
    took = one.report.took_s(WARMUP)
    assert took, one.report.error
    reached = bandwidth(Collective.ALL_REDUCE, took, size=size, ranks=RANKS).bus_bw * GB * 8
    return reached / (RATE_BPS * wire_efficiency(SETTINGS.mtu))


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("size", [1 * MIB, 4 * MIB, 16 * MIB])
def test_a_ring_reaches_what_its_wires_allow(
    lab: Lab, asic: SoftAsic, note: Callable[[object], None], size: int, in_place: bool
) -> None:
    del asic  # its books are looked at afterwards
    one = played(lab, size, in_place=in_place)
    share = ratio(one, size)
    late, left = one.report.late_share, one.cpu_left
    note(f"{size} B: {share:.3f}, late {late:.2%}, CPU left {left:.1%}, {one.report.retransmits} sent again")
    assert one.report.error is None
    assert one.report.wrong == 0
    if one.invalid_because:
        raise RunInvalid(one.invalid_because)
    assert one.report.retransmits == 0
    assert one.dropped == 0
    assert share >= BUSBW_LEAST


def test_a_link_of_half_the_rate_is_seen(lab: Lab, asic: SoftAsic) -> None:
    """PFC holds the sender back, nothing is lost, every sum is right; and the ring is as slow as its slowest link."""
    link = lab.fabric.links_of("host4")[0]
    with lease.changing(lab.name, "a slower link"):
        asic.apply(asic.profile, rates={link.name: RATE_BPS // 2})
    try:
        one = played(lab, 4 * MIB)
    finally:
        with lease.changing(lab.name, "its own rate"):
            asic.apply(asic.profile, rates={link.name: RATE_BPS})
    assert (one.report.error, one.report.wrong, one.dropped) == (None, 0, 0)
    assert ratio(one, 4 * MIB) < 0.55


def test_lost_packets_are_sent_again_and_make_the_run_invalid(lab: Lab, asic: SoftAsic) -> None:
    asic.impair("host4", "eth1", Impairment(every=200))
    try:
        one = played(lab, 4 * MIB)
    finally:
        asic.impair("host4", "eth1", Impairment())
    assert (one.report.error, one.report.wrong) == (None, 0)
    assert one.report.retransmits > 0
    assert "packets were lost where none may be" in str(one.invalid_because)
