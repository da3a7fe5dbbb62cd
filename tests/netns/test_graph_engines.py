"""Every collective on iperf3 and as scapy's bursts, between four namespaces on one bridge. As root.

Each by the first of its algorithms: what becomes of every other's messages the plans show, which are pure
(tests/unit/traffic/test_iperf3_plan.py, test_crafted_plan.py).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from labs.channels.namespaces import BackgroundProcess, in_network
from labs.errors import CapabilityMissing
from topologies.units import KIB, MBIT
from traffic.collectives import send_recv
from traffic.engines.crafted_plan import CraftedSettings
from traffic.engines.graph_engine import GraphReport, RunningGraph
from traffic.engines.graphs import EngineSettings, planned
from traffic.engines.iperf3_plan import Iperf3Settings
from traffic.errors import TrafficError
from traffic.flows import Transport
from traffic.graph import Graph
from traffic.patterns import ALGORITHMS, Pattern
from traffic.placement import one_each

HOSTS = 4
PATTERNS = [Pattern(one, next(iter(played))) for one, played in ALGORITHMS.items()]
ENGINES: dict[str, EngineSettings] = {
    "iperf3": Iperf3Settings(connect_s=2.0),
    "iperf3 udp": Iperf3Settings(Transport.UDP),
    "scapy": CraftedSettings(mtu=1024),
}
SIZE = 64 * KIB


def ip(*argv: str) -> None:
    subprocess.run(["ip", *argv], check=True, capture_output=True, timeout=10)


def netns(host: str) -> Path:
    return Path(f"/run/netns/engines{os.getpid()}-{host}")


def address(host: str, _card: int) -> str:
    return f"10.78.0.{host.removeprefix('h')}"


@pytest.fixture(scope="module")
def hosts(bridged: Callable[[str, Mapping[str, str]], None]) -> tuple[str, ...]:
    names = tuple(f"h{number}" for number in range(1, HOSTS + 1))
    bridged(netns("").name, {name: f"{address(name, 1)}/24" for name in names})
    return names


class Starter:
    """Starts programs in the namespaces, and knows them all."""

    def __init__(self) -> None:
        self.started: list[BackgroundProcess] = []

    def __call__(self, node: str, argv: tuple[str, ...]) -> BackgroundProcess:
        self.started.append(in_network(node, netns(node), argv))
        return self.started[-1]

    @property
    def left(self) -> list[tuple[str, ...]]:
        return [one.argv for one in self.started if one.running]


def started(
    graph: Graph, hosts: tuple[str, ...], settings: EngineSettings, iterations: int = 1
) -> tuple[RunningGraph, Starter]:
    placement, start = one_each(hosts[: graph.ranks], rate_bps=100 * MBIT), Starter()
    return planned(graph, placement, address, settings, iterations=iterations).start(start), start


def played(
    graph: Graph, hosts: tuple[str, ...], settings: EngineSettings, iterations: int = 1, timeout: float = 60
) -> GraphReport:
    run, start = started(graph, hosts, settings, iterations)
    report = run.finish(timeout)
    assert start.left == []
    return report


@pytest.mark.parametrize("engine", ["iperf3", "scapy"])
@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda one: f"{one.collective}-{one.algorithm}")
def test_every_collective_is_played_to_its_end(hosts: tuple[str, ...], pattern: Pattern, engine: str) -> None:
    graph = pattern.graph(HOSTS, SIZE)
    report = played(graph, hosts, ENGINES[engine])
    assert (report.error, report.wrong, report.lost_packets) == (None, None, 0)
    assert (report.took_s() or 0) > 0
    carried = graph.matrix * 0
    for flow in report.flows:
        assert (flow.took_s or 0) > 0
        carried[hosts.index(flow.src), hosts.index(flow.dst)] += flow.bytes
    assert (carried == graph.matrix).all()


@pytest.mark.parametrize("engine", list(ENGINES))
def test_several_iterations_and_a_warm_up(hosts: tuple[str, ...], engine: str) -> None:
    report = played(PATTERNS[0].graph(HOSTS, SIZE), hosts, ENGINES[engine], iterations=3)
    assert report.error is None
    assert report.took_s(1) is not None
    assert report.took_s(3) is None


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("iperf3", r"h1 to h2 \(rank 0 to 1, 10.78.0.1:21000 > 10.78.0.2\): unable to connect"),
        ("scapy", r"h1 to h2 \(rank 0 to 1, .*\): 16 of 16 packets did not come"),
    ],
)
def test_a_receiver_that_cannot_be_reached_is_named(hosts: tuple[str, ...], engine: str, message: str) -> None:
    ip("-n", netns("sw").name, "link", "set", "h2", "nomaster")
    try:
        report = played(send_recv(2, size=16 * KIB), hosts, ENGINES[engine], timeout=5)
    finally:
        ip("-n", netns("sw").name, "link", "set", "h2", "master", "br0")
    assert report.took_s() is None
    assert re.search(message, str(report.error)), report.error


def capture(host: str, tmp_path: Path) -> tuple[BackgroundProcess, Path]:
    if shutil.which("tshark") is None:
        raise CapabilityMissing("tshark", "it is not on PATH", remedy="apt-get install tshark")
    file = tmp_path / "seen.pcap"
    argv = ("tcpdump", "--immediate-mode", "-i", "eth1", "-U", "-w", str(file), "-Z", "root", "udp", "port", "4791")
    process = in_network(host, netns(host), argv)
    process.wait_ready("listening on", 10)
    return process, file


def test_tshark_finds_nothing_malformed_in_a_burst(hosts: tuple[str, ...], tmp_path: Path) -> None:
    process, file = capture("h2", tmp_path)
    try:
        report = played(send_recv(2, size=4099), hosts, CraftedSettings(mtu=1024))
    finally:
        process.stop()
    assert report.error is None
    argv = ["tshark", "-n", "-r", str(file), "-T", "fields", "-E", "separator=|"]
    fields = ("infiniband.bth.opcode", "_ws.malformed", "infiniband.reth.dmalen")
    argv += [word for field in fields for word in ("-e", field)]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout.split()
    assert sorted(said) == sorted(["6||4099", *["7||"] * 3, "8||"] * 2)


def test_a_port_in_use_is_named(hosts: tuple[str, ...]) -> None:
    """A second burst on the same cards finds their port taken; the first goes on."""
    run, start = started(send_recv(2, size=512 * KIB), hosts, CraftedSettings(), iterations=5)
    try:
        with pytest.raises(TrafficError, match=r"h1 \(rank 0\): scapy does not start: .*10.78.0.1 port 4791: .*in use"):
            started(send_recv(2, size=4096), hosts, CraftedSettings())
        report = run.finish(30)
    finally:
        run.stop()
    assert report.error is None
    assert start.left == []


def test_a_rank_that_is_ended_is_named(hosts: tuple[str, ...]) -> None:
    run, start = started(send_recv(2, size=8192 * KIB), hosts, CraftedSettings())
    start.started[1].stop()
    report = run.finish(20)
    assert "h2 (rank 1): scapy ended with" in str(report.error)
    assert report.took_s() is None
    assert start.left == []


@pytest.mark.parametrize("engine", list(ENGINES))
def test_stopping_leaves_nothing(hosts: tuple[str, ...], engine: str) -> None:
    run, start = started(send_recv(2, size=1024 * KIB), hosts, ENGINES[engine], iterations=9)
    report = run.stop()
    assert start.left == []
    assert report.took_s() is None
    assert run.stop().took_s() is None
