from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topologies.errors import SpecError
from traffic.graph import Graph, Send, checked
from traffic.workloads import ns3_flows
from traffic.workloads.ns3_flows import Ns3Flow

FILES = Path(__file__).parent / "files"

FLOWS = st.lists(
    st.builds(
        Ns3Flow,
        src=st.integers(0, 511),
        dst=st.integers(512, 1023),
        priority=st.integers(0, 7),
        dport=st.integers(1, 65535),
        size=st.integers(1, 2**32 - 1),
        start_s=st.floats(0, 1e6, allow_subnormal=True),
    ),
    max_size=5,
).map(lambda flows: tuple(sorted(flows, key=lambda flow: flow.start_s)))


def test_lines_after_the_last_flow_are_not_read() -> None:
    assert ns3_flows.read_flows(FILES / "two.flow") == (
        Ns3Flow(2, 1, 3, 100, 200000, 2.0),
        Ns3Flow(3, 1, 3, 100, 5000, 2.5),
    )


def test_a_flow_is_a_send_that_waits_for_its_start() -> None:
    graph = checked(ns3_flows.read(FILES / "two.flow"))
    assert graph.sends == (
        Send(2, 1, 200000, to_offset=0, compute_s=2.0),
        Send(3, 1, 5000, to_offset=200000, compute_s=2.5),
    )
    assert (graph.ranks, graph.input_bytes, graph.output_bytes) == (4, 200000, 205000)


@given(FLOWS)
def test_what_is_written_reads_as_it_was(flows: tuple[Ns3Flow, ...]) -> None:
    assert ns3_flows.parse_flows(ns3_flows.written(flows).encode(), "f") == flows
    graph = checked(ns3_flows.graph_of(flows, "f"))
    ends = [(flow.src, flow.dst, flow.size, flow.start_s) for flow in ns3_flows.flows_of(graph)]
    assert ends == [(flow.src, flow.dst, flow.size, flow.start_s) for flow in flows]


def test_flows_are_written_in_the_order_of_their_starts() -> None:
    late, soon = Ns3Flow(0, 1, 3, 100, 8, 2.0), Ns3Flow(1, 0, 3, 100, 8, 1e-05)
    assert ns3_flows.written([late, soon]) == "2\n1 0 3 100 8 1e-05\n0 1 3 100 8 2.0\n"


def test_what_waits_for_another_cannot_be_written() -> None:
    graph = Graph("chain", 3, (Send(0, 1, 8), Send(1, 2, 8, after=(0,))))
    with pytest.raises(SpecError, match="send 1 of chain waits for 1 others; allowed: sends that wait for none"):
        ns3_flows.flows_of(graph)


def test_what_stays_within_a_rank_is_no_flow() -> None:
    graph = Graph("copy", 2, (Send(0, 0, 8), Send(0, 1, 8)))
    assert ns3_flows.flows_of(graph, priority=1, dport=7) == (Ns3Flow(0, 1, 1, 7, 8, 0.0),)


@pytest.mark.parametrize(
    "flow", [Ns3Flow(0, 0, 3, 100, 8, 0.0), Ns3Flow(0, 1, 3, 100, 2**32, 0.0), Ns3Flow(0, 1, 3, 100, 8, float("nan"))]
)
def test_what_the_simulator_cannot_take_is_not_written(flow: Ns3Flow) -> None:
    with pytest.raises(SpecError, match="flows to be written:2: column"):
        ns3_flows.written([flow])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"f: found no line; allowed: the number of flows"),
        ("1 2", r"f:1: column 3: found 2 words; allowed: 1: flows"),
        ("two\n", r"f:1: column 1: the number of flows is 'two'"),
        ("-1\n", r"f:1: column 1: the number of flows is '-1'; allowed: a whole number from 0 to 262144"),
        ("999999999\n", r"the number of flows is '999999999'"),
        ("2\n0 1 3 100 8 0\n", r"f:1: column 1: found 1 flows; allowed: 2, as this line says"),
        ("1\n0 1 3 100 8\n", r"f:2: column 12: found 5 words; allowed: 6: src dst pg dport bytes start"),
        ("1\n0 1 3 100 8 0 9\n", r"f:2: column 15: found 7 words"),
        ("1\n0 1024 3 100 8 0\n", r"f:2: column 3: the destination is '1024'; allowed: a whole number from 0 to 1023"),
        ("1\n1 1 3 100 8 0\n", r"f:2: column 3: found a flow from node 1 to itself"),
        ("1\n0 1 8 100 8 0\n", r"f:2: column 5: the priority group is '8'"),
        ("1\n0 1 3 65536 8 0\n", r"f:2: column 7: the destination port is '65536'"),
        ("1\n0 1 3 100 0 0\n", r"f:2: column 11: the number of bytes is '0'; allowed: .* from 1 to 4294967295"),
        ("1\n0 1 3 100 8.5 0\n", r"the number of bytes is '8.5'"),
        ("1\n0 1 3 100 8 -1\n", r"f:2: column 13: the start is '-1'"),
        ("2\n0 1 3 100 8 2\n1 0 3 100 8 1\n", r"f:3: column 13: the flow starts at 1 s; allowed: from 2 s"),
    ],
)
def test_what_is_no_flow_file_is_refused(text: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        ns3_flows.parse_flows(text.encode(), "f")
