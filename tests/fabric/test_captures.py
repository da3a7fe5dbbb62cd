"""CAPTURE-1: a capture of a port holds the packets that went through it."""

from __future__ import annotations

import struct

import pytest

from labs.captures import capturing
from labs.lab import Lab
from labs.testing import FiveTuple, Transport
from topologies import addressing
from traffic.engines.packet_burst import Burst, send_bursts

PACKETS = 50


@pytest.mark.lab("pair")
def test_a_capture_holds_what_went_through(lab: Lab) -> None:
    """Each of 50 packets of one flow, by their destination port."""
    ends = [str(addressing.host_address(lab.fabric, host)) for host in ("host1", "host2")]
    flow = FiveTuple(ends[0], ends[1], Transport.UDP, 50_000, 4791)
    with capturing(lab, "leaf1:eth2", "one flow"):
        assert send_bursts([Burst("host1", "host2", flow, PACKETS)], lab.nodes).complete
    captured = (lab.run_dir / "captures" / "one_flow" / "leaf1-eth2.pcap").read_bytes()
    assert captured.count(struct.pack("!HH", flow.sport, flow.dport)) == PACKETS


@pytest.mark.lab("pair")
def test_a_capture_of_a_quiet_port_holds_nothing_of_the_flow(lab: Lab) -> None:
    """Control: nothing is sent, nothing is found."""
    with capturing(lab, "leaf1:eth2", "quiet"):
        pass
    captured = (lab.run_dir / "captures" / "quiet" / "leaf1-eth2.pcap").read_bytes()
    assert struct.pack("!HH", 50_000, 4791) not in captured
