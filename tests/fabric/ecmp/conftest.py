"""What the tests of the hash engine share: packets of chosen headers, and where each of them was seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from labs.ecmp_taps import Packet, Ways, ways_taken
from labs.lab import Lab
from labs.load_bridge import five_tuple


@pytest.fixture
def ways(lab: Lab) -> Callable[..., Ways]:
    """``ways(src, dst, packets, *nodes)``: by which port of these nodes each packet came in; all must have come."""

    def watch(src: str, dst: str, packets: Sequence[Packet], *nodes: str) -> Ways:
        found = ways_taken(lab, src, dst, packets, nodes)
        assert found.keys() == {packet.known_by for packet in packets}
        return found

    return watch


@pytest.fixture
def flows(lab: Lab) -> Callable[..., list[Packet]]:
    """``flows(src, dst, COUNT)``: one packet each of so many flows that differ in their source port."""

    def make(src: str, dst: str, count: int, *, family: int = 4, dscp: int = 3, first: int = 20_000) -> list[Packet]:
        # A neighbour that is not known yet holds packets back.
        flow = five_tuple(lab, src, dst, family=family)
        lab.node(src).kernel("ping", "-c", "1", "-W", "2", flow.dst)
        return [Packet(replace(flow, sport=first + number), dscp=dscp) for number in range(count)]

    return make
