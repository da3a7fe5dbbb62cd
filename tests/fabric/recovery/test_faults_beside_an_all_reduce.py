"""RECOVER-1: what is lost to a fault beside a running all-reduce, flow by flow, by an open-loop probe.

       spine1          spine2
      x  |  |  \\      /  |  |  \\        own: host1 > … > leaf1 > spine1: leaf1 has spine2, and sees the cut itself
     leaf1   leaf2   leaf3   leaf4     far: … > spine1 > leaf1: spine1 has no other way; leaf2 … must hear of it

Eight flows of 2000 packets/s each, a gap is read to half a millisecond. The all-reduce runs at 25 Mbit/s a card: with
more, two processors have no time left for the switches' software, and what is measured is that.
"""

from __future__ import annotations

import pytest

from labs import recovery_bridge as bridge
from labs.lab import Lab
from labs.probing import Way, around
from labs.pytest_plugin import Faults
from labs.testing import SECOND, came_back, detected_within, drained, kept_in, nothing_lost, recovered, wait_until
from labs.verdicts.recovered import each_failure

pytestmark = [pytest.mark.lab("clos_frr_graceful"), pytest.mark.valid_of(3)]
LINK = "leaf1:spine1"
# The kernel takes a member without carrier out of its groups by itself (ignore_routes_with_linkdown). One end is set
# down after the other, 1 to 5 ms: 20 ms is that, and the scheduler.
OWN_WITHIN = 0.020 * SECOND
# FRR holds its queues 50 + 10 ms at each of two hops: 0.12 s, seen 124 to 126 ms; the rest is for a loaded workstation.
FAR_WITHIN = 0.200 * SECOND
# A session whose first attempt failed tries again after FRR's 10 s.
BACK_WITHIN = 20 * SECOND
# One that the crashed end did not live to close ends with its hold time, 30 s; then a try, and a container's own start.
RETURN_WITHIN = 60 * SECOND


def test_carrier_loss(lab: Lab, faults: Faults, repeats: int) -> None:
    """Flows at the cut are out 20 ms at most, those that need the far side's news 200 ms; others lose nothing."""
    link = lab.fabric.link(LINK)
    seen = bridge.measure(
        lab,
        LINK,
        lambda: faults.link_down(LINK),
        settles=lambda: lab.wait_routes_match(lab.fabric.without(link), within=10 * SECOND),
        lasts_s=0.5,
        repeats=repeats,
    )
    for way, budget in ((Way.OWN, OWN_WITHIN), (Way.FAR, FAR_WITHIN)):
        took = each_failure(seen.timeline, LINK, budget_s=budget, only=seen.names(way))
        assert kept_in(took, what=f"{way} flows", budget_s=budget, least_valid=min(repeats, 19))
    # Control: the cut was there. Those who wait for news lose packets; at the cut itself none may be on its way.
    assert all(one.lost for found in seen.outages(Way.FAR) for one in found)
    assert recovered(seen.timeline, LINK, within=0.001, only=seen.names(Way.BESIDE))
    assert came_back(seen.timeline, LINK, within=BACK_WITHIN)
    assert seen.collective is not None
    assert (seen.collective.error, seen.collective.wrong or 0) == (None, 0)
    # Its own stall is another number: by its time-outs, and by which of its flows cross the link.
    assert seen.stall_s is not None


def test_a_silent_blackhole_is_found_by_bfd(lab: Lab, faults: Faults) -> None:
    """BFD of 300 ms x 3 says so after 0.6 to 0.9 s: a packet is due within each 300 ms, and three must be missing."""
    link = lab.fabric.link(LINK)
    seen = bridge.measure(
        lab,
        LINK,
        lambda: faults.blackhole(LINK),
        settles=lambda: lab.wait_routes_match(lab.fabric.without(link), within=10 * SECOND),
    )
    assert detected_within(seen.timeline, LINK, fabric=lab.fabric, protocol="bfd", least=0.6, most=0.9)
    # Nothing else tells the switch: flows at the break are out as long, and those behind it the news longer.
    assert recovered(seen.timeline, LINK, within=0.9 + 0.1 + FAR_WITHIN)
    out = [one for found in seen.outages(Way.OWN) for one in found]
    assert min(one.most_s for one in out) >= 0.6
    assert recovered(seen.timeline, LINK, within=0.001, only=seen.names(Way.BESIDE))


def test_a_spine_crashes_and_returns(lab: Lab, faults: Faults) -> None:
    """All leaves lose carrier, one after the other, and have the other spine: out 200 ms at most. Then it is back."""
    seen = bridge.measure(
        lab,
        "spine1",
        lambda: faults.node_crash("spine1"),
        flows=around(lab, LINK),
        settles=lambda: lab.wait_routes_match(lab.fabric.without("spine1"), within=10 * SECOND),
        back_within=RETURN_WITHIN,
    )
    assert recovered(seen.timeline, "spine1", within=FAR_WITHIN)
    assert came_back(seen.timeline, "spine1", within=RETURN_WITHIN)


def test_a_drained_spine_costs_no_packet(lab: Lab, faults: Faults) -> None:
    """Its neighbours move away while it goes on forwarding, and come back to one that forwards: 0 packets lost."""

    def is_drained() -> object:
        moved = wait_until(
            "nothing goes through spine1",
            lambda: drained(lab.fabric, "spine1", [lab.routes(leaf.node) for leaf in lab.switches]),
            lambda verdict: verdict.held,
            within=10 * SECOND,
        )
        assert moved.held, moved.last
        return moved

    seen = bridge.measure(
        lab,
        "spine1",
        lambda: faults.drain("spine1"),
        flows=around(lab, LINK),
        settles=is_drained,
    )
    assert nothing_lost(seen.timeline, "spine1")
    assert came_back(seen.timeline, "spine1", within=5 * SECOND)
