r"""Crafted bursts through a fabric: what spreads, what is marked, what a switch hears of pauses.

        spine1   spine2
         |  \    /  |         leaf1 has two ways to leaf2. Flows from host1 that differ in their source port take
        leaf1     leaf2       both; those of a card with one fixed source port, whatever their queue pairs, take one.
        /  |       |  \       All at 100 Mbit/s; a kernel chooses by addresses, protocol and ports.
    host1 host2 host3 host4

No bound here depends on time: counts are to the packet, but for the spread, whose verdict has its false-alarm rate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from labs.dataplane.asic import SoftAsic
from labs.lab import Lab
from labs.load_bridge import incast, sending
from labs.telemetry.samples import PortSample
from labs.testing import (
    KIB,
    MBIT,
    SECOND,
    Ecn,
    SpecError,
    Verdict,
    ecn_probe,
    entropy_set,
    flows_needed,
    pause_frames,
    roce_write,
    spread_over_ports,
    wait_until,
)
from labs.traffic_bridge import LabTraffic
from labs.verdicts.ecmp import flows_per_path
from traffic.engines.crafted_counts import CraftedResult

LAB = str(Path(__file__).parent / "clos_2x4_100mbit.yaml")
pytestmark = [pytest.mark.lab(LAB, profile="roce_default"), pytest.mark.valid_of(3)]

FLOWS = 33  # odd: packets dealt in turn over two ports would not give whole multiples
PACKETS = 100
RATE = 20 * MBIT  # a fifth of a link: some 15 000 packets a second, which Python sends on half a processor
Ports = Mapping[str, PortSample]


def uplinks(lab: Lab, leaf: str) -> Ports:
    """The counters of a leaf's uplinks, by port name."""
    ports = {link.end(leaf).name for link in lab.fabric.uplinks(leaf)}
    return {port: sample for (node, port), sample in lab.counters().items() if node == leaf and port in ports}


def sent(lab: Lab, traffic: LabTraffic, *vary: str, family: int = 4) -> tuple[CraftedResult, Ports, Ports]:
    """Send flows from host1 to host3 that differ in these fields; what came, and leaf1's uplinks before and after."""
    before = uplinks(lab, "leaf1")
    burst = entropy_set("host1", "host3", FLOWS, vary=vary, packets=PACKETS, seed=lab.seed, family=family)
    result = traffic.send(burst, rate_bps=RATE)
    assert result.complete, result.lost
    return result, before, uplinks(lab, "leaf1")


def spread(before: Ports, after: Ports) -> Verdict:
    return spread_over_ports(before, after, packets_per_flow=PACKETS, flows=FLOWS)


def test_source_ports_spread_over_two_uplinks_as_predicted(lab: Lab, traffic: LabTraffic) -> None:
    """Each flow takes the uplink that leaf1's kernel names for its five-tuple, so both counts are known."""
    assert flows_needed(2) <= FLOWS
    result, before, after = sent(lab, traffic, "sport")
    assert len(result.flows) == FLOWS
    assert spread(before, after)
    taken = Counter(path.hops[1].out_port for path in lab.paths(result.flows, result.sources))
    assert flows_per_path(before, after, packets_per_flow=PACKETS, flows=FLOWS).flows == taken


def test_source_ports_spread_over_ipv6_too(lab: Lab, traffic: LabTraffic) -> None:
    _, before, after = sent(lab, traffic, "sport", family=6)
    assert spread(before, after)


def test_one_fixed_source_port_does_not_spread(lab: Lab, traffic: LabTraffic) -> None:
    """Control: queue pairs alone are nothing that a hash of five-tuples sees; the verdict says so."""
    result, before, after = sent(lab, traffic, "queue_pair")
    assert len({flow.sport for flow in result.flows}) == 1
    verdict = spread(before, after)
    assert not verdict


@pytest.mark.parametrize("family", [4, 6])
def test_an_idle_fabric_marks_nothing_and_changes_no_codepoint(traffic: LabTraffic, family: int) -> None:
    result = traffic.run(ecn_probe("host1", "host3", packets=50, family=family))
    assert result.complete, result.lost
    assert result.marked == 0
    for one in result.classes:
        assert (dict(one.codepoints), dict(one.dscps)) == ({one.ecn: 50}, {3: 50})


def test_a_full_queue_marks_what_can_be_marked(lab: Lab, asic: SoftAsic, traffic: LabTraffic) -> None:
    """Control: two hosts send 190 Mbit/s into host3's 100; behind 409600 bytes the curve marks every packet that can.

    One of them is on host3's own leaf, so that the queue is at host3's port whichever spine the other's flow takes. A
    packet that cannot be marked is dropped there instead: it may be lost, and never comes with a mark.
    """
    start = asic.counters()
    port = lab.fabric.links_of("host3")[0].far("host3")
    load = incast(lab, ["host4", "host5"], "host3", rate_bps=95 * MBIT, duration_s=None)
    with sending(lab, load):
        full = wait_until(
            "host3's port marks",
            lambda: (asic.counters() - start).queue(port.node, port.name, 3).marked_packets,
            lambda marked: marked > 100,
            within=20 * SECOND,
        )
        assert full.held, full
        result = traffic.send(ecn_probe("host1", "host3", packets=25))
    assert result.of("ECT(0)").marked > 0, result
    assert result.of("ECT(1)").marked > 0, result
    assert set(result.of("CE").codepoints) == {Ecn.CE}
    assert set(result.of("Not-ECT").codepoints) <= {Ecn.NOT_ECT}


def test_a_switch_counts_the_pauses_it_is_sent(lab: Lab, asic: SoftAsic, traffic: LabTraffic) -> None:
    """10 quanta are 51.2 µs at 100 Mbit/s: nothing waits for long. Only the port that they come to hears of them."""
    port = lab.fabric.links_of("host1")[0].far("host1")
    before = asic.counters()
    with traffic.running(pause_frames("host1:eth1", {3: 10, 4: 10}, times=5, every_s=0.005, xon=True)) as run:
        result = run.finish(10 * SECOND)
    assert result.complete, result
    assert [one.received for one in result.classes] == [5, 1]
    counted = wait_until(
        f"{port} has counted them",
        lambda: (asic.counters() - before).port(port.node, port.name),
        lambda now: sum(now.pfc_rx) >= 10 and sum(now.pfc_xon_rx) >= 2,
        within=5 * SECOND,
    )
    assert counted.last.pfc_rx == (0, 0, 0, 5, 5, 0, 0, 0)
    assert counted.last.pfc_xon_rx == (0, 0, 0, 1, 1, 0, 0, 0)
    others = [one for one in (asic.counters() - before).ports if (one.node, one.name) != (port.node, port.name)]
    assert others
    assert all(sum(one.pfc_rx) == 0 for one in others)


def test_writes_cross_the_fabric_both_ways(traffic: LabTraffic) -> None:
    size = 64 * KIB
    result = traffic.send(roce_write("host1", "host8", size=size), roce_write("host8", "host1", size=size, mtu=4096))
    assert result.complete, result.lost
    assert (result.received, result.marked) == (64 + 16, 0)


def test_a_host_that_is_not_there_is_one_error(traffic: LabTraffic) -> None:
    with pytest.raises(SpecError, match="host99"):
        traffic.send(entropy_set("host1", "host99", 2))
    with pytest.raises(SpecError, match=r"no port 'eth7' on host1; allowed: eth1"):
        traffic.send(pause_frames("host1:eth7", {3: 1}))
