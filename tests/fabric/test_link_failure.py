"""RECOVER-0: a leaf-spine link is cut while flows run. Routing settles as the oracle says; no flow is lost for good.

           spine1    spine2
             x\\      /            8 hosts, each with 4 TCP connections to the host two leaves on, 7 s long;
               leaf1              the cut comes within the first second.

Budgets. Routes: a switch at the cut sees the carrier go, the others wait for the withdrawal through the spine; FRR
holds its queues 50 + 10 ms at each of two hops, which makes 0.2 s; 10 s is what a loaded workstation may add, and ten
times the lateness at which the wait would call itself invalid. Flows:
TCP sends again after 0.2 s at the least, doubling; 0.2 + 0.4 + 0.8 + 1.6 = 3 s of silence end before the last second.
"""

from __future__ import annotations

import pytest

from labs.lab import Lab
from labs.pytest_plugin import Faults
from labs.testing import MBIT, SECOND, Fabric, TrafficPlan, no_flow_lost_for_good, permutation
from labs.traffic_bridge import LabTraffic

LASTS = 7.0 * SECOND
ROUTES_WITHIN = 10 * SECOND
# Routes that cannot match are waited for in vain: ten times what routes that can need, by the budget above.
IN_VAIN = 2 * SECOND
# A session that failed its first attempt tries again after FRR's 10 s.
BACK_WITHIN = 20 * SECOND


def elephants(fabric: Fabric) -> TrafficPlan:
    """Every host sends to the host two leaves on: all traffic crosses a spine."""
    return permutation(fabric.hosts, stride=4, duration_s=LASTS, streams=4, rate_bps=8 * MBIT)


@pytest.mark.lab("clos_frr")
def test_flows_survive_a_cut_link(lab: Lab, fabric: Fabric, traffic: LabTraffic, faults: Faults) -> None:
    """The oracle without the link is reached, every flow goes on, and all comes back."""
    link = fabric.uplinks("leaf1")[0]
    with traffic.running(elephants(fabric)) as running:
        with faults.link_down(link):
            assert lab.wait_routes_match(fabric.without(link), within=ROUTES_WITHIN)
            report = running.finish(2 * LASTS)
        assert no_flow_lost_for_good(report, final_s=1.0 * SECOND)
    assert lab.wait_routes_match(within=BACK_WITHIN)


@pytest.mark.lab("clos_frr")
def test_flows_behind_a_leaf_cut_off_are_lost(lab: Lab, fabric: Fabric, traffic: LabTraffic, faults: Faults) -> None:
    """Control: with every uplink of a leaf cut there is no way, and the verdict says which flows are dead."""
    first, second = fabric.uplinks("leaf1")
    with traffic.running(elephants(fabric)) as running, faults.link_down(first), faults.link_down(second):
        report = running.finish(2 * LASTS)
    verdict = no_flow_lost_for_good(report, final_s=1.0 * SECOND)
    assert not verdict
    assert any("host1" in row for row in verdict.evidence.rows)
    assert lab.wait_routes_match(within=BACK_WITHIN)


@pytest.mark.lab("clos_frr")
def test_a_link_quietly_left_down_is_found(lab: Lab, fabric: Fabric, faults: Faults) -> None:
    """Control: routes do not match the whole design while a link is down, and the rows name it."""
    with faults.link_down("leaf2:spine2"):
        assert lab.wait_routes_match(fabric.without("leaf2:spine2"), within=ROUTES_WITHIN)
        verdict = lab.wait_routes_match(within=IN_VAIN)
        assert not verdict
        assert any(row.startswith("spine2: 10.1.0.2/32: absent") for row in verdict.evidence.rows)
    assert lab.wait_routes_match(within=BACK_WITHIN)


@pytest.mark.lab("clos_frr")
def test_a_host_cable_comes_back(lab: Lab, fabric: Fabric, faults: Faults) -> None:
    """A host whose cable was pulled has its addresses and routes when it is plugged in again."""
    link = fabric.uplinks("host1")[0]
    with faults.link_down(link):
        assert lab.wait_routes_match(fabric.without(link), within=ROUTES_WITHIN)
    assert lab.wait_converged(within=BACK_WITHIN)
