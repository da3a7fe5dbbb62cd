"""One all-reduce on every engine, through the same lab, plan and report.

    host1  host2  host3      a ring of three at 100 Mbit/s; whichever engine plays it, its bytes cross leaf1:
        \\    |    /          4/3 of the size leave every host, as packets of the engine's making
          leaf1

Bounds: no more than the wire gives, and for iperf3 and scapy, which add their own time, some 15 ms a message for the
one and Python's for the other, no less than a twentieth of it: that it was played at all. What is checked to the byte
is what the switch counts in the class. The negative control is a link that loses every fifth packet.
"""

from __future__ import annotations

import pytest

from labs.collective_bridge import flow_lines, play, ranks_on
from labs.dataplane.asic import SoftAsic
from labs.dataplane.wires import Impairment
from labs.lab import Lab
from labs.testing import KIB, MIB
from traffic.bounds import placed_ideal_s
from traffic.engines.crafted_plan import CraftedSettings
from traffic.engines.graphs import EngineSettings
from traffic.engines.iperf3_plan import Iperf3Settings
from traffic.engines.rc_settings import RcSettings
from traffic.flows import Transport
from traffic.graph import Graph, Send
from traffic.patterns import pattern

pytestmark = pytest.mark.lab("star_3", profile="roce_default")

ENGINES: dict[str, EngineSettings] = {
    "rnic": RcSettings(),
    "iperf3": Iperf3Settings(),
    "iperf3 udp": Iperf3Settings(Transport.UDP),
    "scapy": CraftedSettings(),
}
LEAST = 0.05
# iperf3 3.12 now and then misses a datagram of a message that no kernel counter misses: one in some 500 messages of
# 64, never two in the 12 here. What the fabric loses is the soft ASIC's to tell.
MISCOUNTED = {"iperf3 udp": 1}
RDMA_QUEUE = 3


@pytest.fixture
def asic(lab: Lab) -> SoftAsic:
    """The soft ASIC of a lab with a profile."""
    assert lab.asic is not None
    return lab.asic


@pytest.mark.parametrize("engine", list(ENGINES))
def test_an_all_reduce_on_every_engine(lab: Lab, engine: str) -> None:
    placement = ranks_on(lab)
    graph = pattern("all_reduce").graph(3, 3 * 256 * KIB)
    settings = ENGINES[engine]
    played = play(lab, graph, placement, settings, iterations=2)
    report = played.report
    assert report.error is None
    assert report.wrong == (0 if engine == "rnic" else None)
    took, least = report.took_s(1), placed_ideal_s(graph, placement)
    assert took is not None
    assert least < took < least / LEAST
    assert played.counted is not None
    refused = [queue for queue in played.counted.queues if queue.queue == RDMA_QUEUE and queue.refused_packets]
    assert (refused, played.dropped) == ([], 0)
    assert report.lost_packets <= MISCOUNTED.get(engine, 0)
    lines = flow_lines(lab, played)
    carried = {(line.src, line.dst): 0 for line in lines}
    for line in lines:
        carried[line.src, line.dst] += line.bytes
        assert line.path[0].startswith(line.src)
    assert {ends: size for ends, size in carried.items() if size} == {
        (placement.hosts[src], placement.hosts[dst]): graph.matrix[src, dst] for src, dst in ((0, 1), (1, 2), (2, 0))
    }
    for port, _ in enumerate(placement.hosts, start=1):
        left = played.counted.queue("leaf1", f"eth{port}", RDMA_QUEUE).sent_bytes
        assert left >= 2 * graph.matrix.sum() / 3


def test_a_packet_that_is_lost_is_missed(lab: Lab, asic: SoftAsic) -> None:
    """Negative control: every fifth packet to host2 is lost; a burst is never done, and says of which flow."""
    graph = pattern("all_reduce").graph(3, 3 * 64 * KIB)
    asic.impair("host2", "eth1", Impairment(every=5))
    try:
        report = play(lab, graph, ranks_on(lab), CraftedSettings(mtu=1024), within=5.0).report
    finally:
        asic.impair("host2", "eth1", Impairment())
    assert report.took_s() is None
    assert report.lost_packets > 0
    assert "host1 to host2 (rank 0 to 1, " in str(report.error)
    assert "packets did not come" in str(report.error)


def test_udp_counts_what_a_switch_loses_and_tcp_sends_it_again(lab: Lab, asic: SoftAsic) -> None:
    """Negative control: 1 in 50 to host2. Either brings all bytes; UDP's receiver knows what is missing.

    There is but one flow, so that no other's packets are lost.
    iperf3 opens a UDP stream with one datagram each way. Where that is the fiftieth, the flow ends with an error.
    """
    graph = Graph("one way", 2, (Send(0, 1, 3 * MIB),), 3 * MIB, 3 * MIB)
    placement = ranks_on(lab, ["host1", "host2"])
    asic.impair("host2", "eth1", Impairment(every=50))
    try:
        udp = play(lab, graph, placement, Iperf3Settings(Transport.UDP)).report
        tcp = play(lab, graph, placement, Iperf3Settings()).report
    finally:
        asic.impair("host2", "eth1", Impairment())
    if udp.error is None:
        assert udp.lost_packets > 0
    else:
        assert "host1 to host2 (rank 0 to 1, " in udp.error
        assert "unable to read from stream socket" in udp.error
    assert (tcp.error, tcp.lost_packets) == (None, 0)
    assert (tcp.retransmits or 0) > 0
