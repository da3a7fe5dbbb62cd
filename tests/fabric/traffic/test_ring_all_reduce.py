"""An all-reduce without contention reaches what its wires allow, sums every element right, and puts on every
port what its plan says.

        spine1          spine2            8 ranks, one a host, in a ring: host1 > host2 > … > host8 > host1.
       /  |  |  \\      /  |  |  \\         Four hops stay below a leaf, four cross the spines; no uplink carries the
     leaf1   leaf2   leaf3   leaf4        data of two. Every link has 25 Mbit/s, in the nightly
      / \\     / \\     / \\     / \\       run 100: what that takes of two processors leaves little.
     h1 h2   h3 h4   h5 h6   h7 h8

Of a link's rate a packet of 4096 bytes leaves 98.0 % to its payload (82 bytes of headers, preamble and gap): line rate
× wire efficiency. A rank waits 14 times for the neighbor's share, and the share's last packet crosses three more links
than the sender's own: of 1 MiB a step takes 32 packets and those three, 32/35 = 0.914, and of larger ones less is lost;
two of the three are spared where an idle port lets 9300 bytes go at once. busbw has to reach 0.90. Nothing is lost, so
nothing is sent again.

The soft ASIC counts bytes of a class, the plan knows nothing of it: frames, headers and answers have to agree within
0.5 % at every port of every switch, in whichever direction.

That these checks can fail is shown by a link of half the rate, a wire that loses packets, another class, and a rank
that expects another sum (tests/netns/test_rnic_graphs.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from labs import lease
from labs.collective_traffic import CollectiveResult
from labs.dataplane.asic import SoftAsic
from labs.dataplane.wires import Impairment
from labs.lab import Lab
from labs.testing import MBIT, MIB, Operation, RcSettings, ring_all_reduce
from labs.traffic_bridge import LabTraffic

NIGHTLY = bool(os.environ.get("RAILBED_NIGHTLY"))
RATE_MBIT = 100 if NIGHTLY else 25
SIZES = [1 * MIB, 4 * MIB, *([16 * MIB] if NIGHTLY else [])]
# A card's packets in a run are several thousand: one moment in which all stands still is not a hundredth of them.
TIMED = {1 * MIB: 12}
# What counts bytes needs no long run: three iterations of this put 1344 packets on a port, of which one is 0.07 %, and
# six are lost where every two hundredth is; at half the rate a step of 35 packets' time makes busbw 0.457 of the whole.
COUNTED = 4 * MIB if NIGHTLY else MIB
BUSBW_LEAST = 0.90
LAB = str(Path(__file__).parent / f"clos_2x4_{RATE_MBIT}mbit.yaml")
SETTINGS = RcSettings(seed=21)
# What starves a run is not the fabric's fault: one valid run of at most three.
pytestmark = [pytest.mark.lab(LAB, profile="roce_default"), pytest.mark.valid_of(3)]

Note = Callable[[object], None]


def played(
    traffic: LabTraffic,
    operation: Operation,
    note: Note,
    settings: RcSettings = SETTINGS,
    *,
    iterations: int | None = None,
) -> CollectiveResult:
    one = traffic.run(operation, iterations=iterations or TIMED.get(operation.size, 3), settings=settings)
    note(one.reached())
    assert (one.error, one.wrong) == (None, 0)
    return one


def not_overtaken(one: CollectiveResult) -> bool:
    """Nothing was sent again but for packets that were lost: none has overtaken another."""
    return one.retransmits == 0 or one.played.lost_packets > 0


@pytest.mark.parametrize(
    ("size", "in_place"),
    [(size, inside) for inside in (False, True) for size in (SIZES[:1] if inside and not NIGHTLY else SIZES)],
)
def test_a_ring_reaches_what_its_wires_allow(
    lab: Lab, asic: SoftAsic, traffic: LabTraffic, note: Note, size: int, in_place: bool
) -> None:
    del asic  # its books are looked at afterwards
    one = played(traffic, ring_all_reduce(lab.fabric.hosts, size=size, in_place=in_place), note)
    assert not_overtaken(one)
    assert one.reached(BUSBW_LEAST)
    assert (one.retransmits, one.played.lost_packets) == (0, 0)
    note(one.stragglers())
    assert one.stragglers()


def test_every_port_carries_what_was_planned(lab: Lab, asic: SoftAsic, traffic: LabTraffic, note: Note) -> None:
    """Also where workstations were slow: bytes are no question of time."""
    del asic
    one = played(traffic, ring_all_reduce(lab.fabric.hosts, size=COUNTED), note, iterations=3)
    verdict = one.carried_as_planned(lab)
    note(verdict)
    assert not_overtaken(one)
    assert verdict
    # Answers are as many as were asked for, but for those that one answer said for several.
    asked, sent = (
        sum(carried.frames for carried in one.planned_at_ports(lab, asked=asked).values()) for asked in (True, False)
    )
    data = sum(flow.sent.sent_packets for flow in one.played.rc.connections if flow.sent)
    # How many that is is a question of time: whoever was held up finds several asked for at once.
    note(f"answers and data at all ports: {sent} frames, {asked} if every one asked for was sent; {data} data packets")
    assert sent <= asked


def test_another_class_is_not_where_it_was_planned(lab: Lab, asic: SoftAsic, traffic: LabTraffic, note: Note) -> None:
    del asic
    other = RcSettings(seed=21, dscp=0)
    one = played(traffic, ring_all_reduce(lab.fabric.hosts, size=COUNTED), note, other, iterations=3)
    assert one.carried_as_planned(lab, queue=3).held is False
    assert one.carried_as_planned(lab, queue=1)


@contextmanager
def slower(lab: Lab, asic: SoftAsic) -> Iterator[None]:
    """One host's link has half the rate."""
    link = lab.fabric.links_of("host4")[0]
    with lease.changing(lab.name, "a slower link"):
        asic.apply(asic.profile, rates={link.name: RATE_MBIT * MBIT // 2})
    try:
        yield
    finally:
        with lease.changing(lab.name, "its own rate"):
            asic.apply(asic.profile, rates={link.name: RATE_MBIT * MBIT})


def test_a_link_of_half_the_rate_is_seen(lab: Lab, asic: SoftAsic, traffic: LabTraffic, note: Note) -> None:
    """PFC holds the sender back, nothing is lost, every sum is right; and the ring is as slow as its slowest link."""
    with slower(lab, asic):
        one = played(traffic, ring_all_reduce(lab.fabric.hosts, size=COUNTED), note, iterations=4)
    assert one.busbw_ratio
    assert one.busbw_ratio < 0.55
    assert not one.reached(BUSBW_LEAST).held
    slow = one.stragglers()
    note(slow)
    assert not slow.held
    assert slow.evidence.numbers["worst"] == "rank 3 on host4"


def test_lost_packets_are_sent_again_and_prove_nothing(
    lab: Lab, asic: SoftAsic, traffic: LabTraffic, note: Note
) -> None:
    asic.impair("host4", "eth1", Impairment(every=200))
    try:
        one = played(traffic, ring_all_reduce(lab.fabric.hosts, size=COUNTED), note, iterations=3)
    finally:
        asic.impair("host4", "eth1", Impairment())
    assert one.retransmits >= one.played.lost_packets > 0
    assert "packets were lost where none may be" in str(one.invalid_because)
    assert not one.valid
    assert not one.carried_as_planned(lab).held
