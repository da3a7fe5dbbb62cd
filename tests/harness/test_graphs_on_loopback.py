"""Graphs over real iperf3 on this workstation's loopback: order, bytes, and what is told when something is missing."""

from __future__ import annotations

import os
import shutil
import socket
from contextlib import suppress
from dataclasses import replace

import pytest

from labs.channels.namespaces import BackgroundProcess
from topologies.units import KIB, MBIT, MIB
from traffic.collectives import all_to_all, ring_all_reduce, send_recv
from traffic.engines.iperf3_graph import Iperf3Report, start_iperf3
from traffic.engines.iperf3_plan import Iperf3Plans, Iperf3Settings, iperf3_plans
from traffic.errors import TrafficError
from traffic.flows import Transport
from traffic.graph import Graph
from traffic.placement import one_each

HOSTS = ("h1", "h2", "h3")


@pytest.fixture(autouse=True)
def _there() -> None:
    if shutil.which("iperf3") is None:
        pytest.fail("iperf3 is not installed: `make setup` installs it")


class Starter:
    """Starts programs here, and knows them all."""

    def __init__(self) -> None:
        self.started: list[BackgroundProcess] = []

    def __call__(self, node: str, argv: tuple[str, ...]) -> BackgroundProcess:
        self.started.append(BackgroundProcess(node, argv, argv))
        return self.started[-1]

    @property
    def left(self) -> list[tuple[str, ...]]:
        return [one.argv for one in self.started if one.running]


def free_ports() -> int:
    """The first of a hundred where nobody listens: below those that the kernel gives to whoever connects (32768 on)."""
    for port in range(21_000 + os.getpid() % 50 * 100, 32_700, 100):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    pytest.fail("every hundredth port from 21000 on is taken")


def planned(graph: Graph, iterations: int = 1, **settings: object) -> Iperf3Plans:
    chosen = Iperf3Settings(base_port=free_ports(), connect_s=1.0, **settings)  # type: ignore[arg-type]
    placement = one_each(HOSTS[: graph.ranks], rate_bps=400 * MBIT)
    return iperf3_plans(graph, placement, lambda host, _: f"127.0.0.{host[1:]}", chosen, iterations=iterations)


def played(plans: Iperf3Plans, timeout: float = 60.0) -> Iperf3Report:
    start = Starter()
    report = start_iperf3(plans, start).finish(timeout)
    assert start.left == []
    return report


@pytest.mark.parametrize("transport", list(Transport))
def test_a_ring_is_played_in_the_graphs_order(transport: Transport) -> None:
    report = played(planned(ring_all_reduce(3, size=3 * 256 * KIB), 2, transport=transport))
    assert (report.error, report.wrong, report.late_share) == (None, None, None)
    assert len(report.turns) == 2
    for turn in report.turns:
        runs = {run.flow.number: run for run in turn.runs}
        assert sorted(runs) == [flow.number for flow in report.plans.flows]
        sent = [run.received.bytes for run in runs.values() if run.received]
        assert sent == [256 * KIB] * len(report.plans.carried)
        for run in runs.values():
            assert all(runs[number].ended_s <= run.begun_s for number in run.flow.after)
    took, overhead = report.took_s(1), report.overhead_s(1)
    assert took is not None
    assert overhead is not None
    assert 0 < overhead < took
    assert sum(flow.bytes for flow in report.flows) == report.plans.graph.matrix.sum()
    assert (report.retransmits is None) is (transport is Transport.UDP)


def test_flows_that_wait_for_nobody_are_under_way_at_once() -> None:
    turn = played(planned(all_to_all(3, size=3 * MIB, in_flight=None), transport=Transport.UDP)).turns[0]
    sent = [run for run in turn.runs if run.received]
    assert len(sent) == 6
    assert max(run.begun_s for run in sent) < min(run.ended_s for run in sent)


def test_a_port_that_is_taken_is_named_and_nothing_is_left() -> None:
    plans, start = planned(send_recv(2, size=1000)), Starter()
    with (
        socket.create_server(("127.0.0.1", plans.carried[0].port)),
        pytest.raises(TrafficError, match=r"h1: iperf3 does not listen on 127.0.0.1 port \d+: .*in use"),
    ):
        start_iperf3(plans, start)
    assert start.left == []


def test_a_sender_that_is_not_there_is_named_and_what_others_did_is_kept() -> None:
    """Rank 0's server listens where nobody looks for it: the client of the message that it was to send says so."""
    plans = planned(send_recv(2, size=1000))
    elsewhere = replace(plans, at=("127.0.0.99", plans.at[1]))

    class Moved(Starter):
        def __call__(self, node: str, argv: tuple[str, ...]) -> BackgroundProcess:
            there = "127.0.0.1" if "-s" in argv else "127.0.0.99"
            return super().__call__(node, tuple(there if word == "127.0.0.99" else word for word in argv))

    start = Moved()
    report = start_iperf3(elsewhere, start).finish(20.0)
    assert "h1 to h2 (rank 0 to 1, 127.0.0.99:" in str(report.error)
    assert "Connection refused" in str(report.error)
    assert report.took_s() is None
    assert [(flow.src, flow.bytes) for flow in report.flows] == [("h2", 1000)]
    assert start.left == []


def test_what_is_past_its_time_is_ended_and_told() -> None:
    start = Starter()
    slow = planned(send_recv(2, size=8 << 20), transport=Transport.UDP)
    slow = replace(slow, flows=tuple(replace(flow, rate_bps=MBIT) for flow in slow.flows))
    report = start_iperf3(slow, start).finish(0.5)
    assert "not done within 0.5 s" in str(report.error)
    assert report.took_s() is None
    assert start.left == []
