"""How flows stand to a link, and what a timeline is told of a probe."""

from __future__ import annotations

import pytest

from labs.path import Hop, Path
from labs.probing import ProbeFlow, Way, records, way_of
from labs.telemetry.records import FlowRecord, GapRecord, ProbeRecord
from topologies.load import load_fabric
from traffic.engines.probe import Gap, ProbedFlow, ProbeReport
from traffic.flows import FiveTuple, Transport

FABRIC = load_fabric("clos_2x4")
LINK = FABRIC.link("leaf1:spine1")


@pytest.mark.parametrize(
    ("ports", "dst", "way"),
    [
        (("host1:eth1", "leaf1:eth1", "spine1:eth2", "leaf2:eth3"), "host3", Way.OWN),
        (("host3:eth1", "leaf2:eth1", "spine1:eth1", "leaf1:eth3"), "host1", Way.FAR),
        (("host1:eth1", "leaf1:eth2", "spine2:eth2", "leaf2:eth3"), "host3", Way.BESIDE),
        (("host1:eth1", "leaf1:eth4"), "host2", Way.BESIDE),
    ],
)
def test_how_a_flow_stands_to_a_link(ports: tuple[str, ...], dst: str, way: Way) -> None:
    assert way_of(FABRIC, LINK, ports, dst) is way


def test_a_hosts_own_cable_has_no_other_way() -> None:
    link = FABRIC.uplinks("host1")[0]
    assert way_of(FABRIC, link, ("host1:eth1", "leaf1:eth1", "spine1:eth2", "leaf2:eth3"), "host3") is Way.FAR


def test_a_timeline_is_told_the_flow_its_path_and_its_gaps() -> None:
    five_tuple = FiveTuple("10.64.8.7", "10.64.16.7", Transport.UDP, 46000, 47777)
    path = Path(five_tuple, (Hop("host1", None, "eth1"), Hop("leaf1", "eth3", "eth1")), "host3")
    flow = ProbeFlow(path, "host1", "host3", Way.OWN)
    gaps = (Gap(5, 0, 1, 9), Gap(10, 3, 100, 107), Gap(50, 2, 900, None))
    seen = ProbedFlow(five_tuple, "host1", "host3", 500_000, sent=52, received=47, gaps=gaps, late_ns=4)
    told = records(FABRIC, [flow], ProbeReport((seen,), 0, 1000, ("host3: full",)))
    (probe,) = [one for one in told if isinstance(one, ProbeRecord)]
    assert (probe.flow, probe.path) == ("host1>host3 46000 (own)", ("host1:eth1", "leaf1:eth1"))
    assert probe.prefix == "10.64.16.6/31"
    assert (probe.way, probe.gaps, probe.invalid_because) == ("own", 3, ("host3: full",))
    assert (probe.began, probe.ended) == (0, 1000)
    (total,) = [one for one in told if isinstance(one, FlowRecord)]
    assert (total.received, total.last, total.silence_ns, total.silence_end) == (47, 51, 8, 9)
    assert [(one.first, one.missing, one.ended) for one in told if isinstance(one, GapRecord)] == [
        (5, 0, 9),
        (10, 3, 107),
        (50, 2, 0),
    ]
    assert {one.t for one in told} == {1000}


def test_a_flow_lives_as_long_as_it_was_sent() -> None:
    """Receivers wait for what is on its way after the last packet was sent: nothing is seen in that time."""
    five_tuple = FiveTuple("10.64.8.7", "10.64.16.7", Transport.UDP, 46000, 47777)
    flow = ProbeFlow(Path(five_tuple, (Hop("host1", None, "eth1"),), "host3"), "host1", "host3", Way.OWN)
    seen = ProbedFlow(five_tuple, "host1", "host3", 500_000, sent=10, received=10, gaps=())
    (probe,) = [
        one for one in records(FABRIC, [flow], ProbeReport((seen,), 7, 9_000_000)) if isinstance(one, ProbeRecord)
    ]
    assert (probe.began, probe.ended) == (7, 5_000_007)
