"""The engines with the real programs, over this workstation's loopback; needs iperf3, but no root."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from itertools import pairwise
from pathlib import Path, PurePosixPath

import pytest

from labs.errors import CommandFailed, NotReady
from labs.verdicts.flows import no_flow_lost_for_good
from labs.waiting import wait_until
from traffic.engines.base import CommandResult
from traffic.engines.iperf3 import Iperf3
from traffic.engines.packet_burst import Burst, send_bursts
from traffic.errors import TrafficError
from traffic.flows import FiveTuple, Flow, TrafficPlan, Transport

ADDRESSES = {"h1": {4: "127.0.0.1", 6: "::1"}, "h2": {4: "127.0.0.2", 6: "::1"}}


class LocalProcess:
    def __init__(self, name: str, argv: tuple[str, ...]) -> None:
        self.name, self.argv = name, argv
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - as long as it runs
        self._child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self._out, stderr=self._err)

    @property
    def running(self) -> bool:
        return self._child.poll() is None

    def wait(self, timeout: float) -> CommandResult:
        try:
            status = self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            raise CommandFailed(self.name, self.argv, None, "") from None
        return CommandResult(self.argv, status, self.said(), self.said(errors=True))

    def wait_ready(self, text: str, timeout: float) -> None:
        wait_until(text, lambda: text in self.said() or not self.running, bool, within=timeout)
        if text not in self.said():
            raise NotReady(self.said(errors=True))

    def stop(self) -> CommandResult:
        if self.running:
            self._child.terminate()
        return self.wait(5.0)

    def said(self, *, errors: bool = False) -> str:
        file = self._err if errors else self._out
        return Path(f"/proc/self/fd/{file.fileno()}").read_text(encoding="utf-8")


class LocalHost:
    """A host that is this workstation."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.started: list[LocalProcess] = []

    def run(self, *argv: str, timeout: float = 30.0, stdin: str = "") -> CommandResult:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
        if done.returncode:
            raise CommandFailed(self.name, argv, done.returncode, done.stderr)
        return CommandResult(argv, done.returncode, done.stdout, done.stderr)

    def start(self, *argv: str) -> LocalProcess:
        self.started.append(LocalProcess(self.name, argv))
        return self.started[-1]

    def put(self, path: PurePosixPath, text: str) -> None:
        raise AssertionError(f"nothing is written on a host: {path} {text}")


@pytest.fixture
def hosts() -> dict[str, LocalHost]:
    return {name: LocalHost(name) for name in ADDRESSES}


@pytest.fixture
def iperf3() -> Iperf3:
    if shutil.which("iperf3") is None:
        pytest.fail("iperf3 is not installed: `make setup` installs it")
    return Iperf3(lambda host, _nic, family: ADDRESSES[host][family], base_port=free_port(), ready_s=5.0)


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    """One where nobody listens, nor on the few behind it: below those that the kernel gives away (32768 on)."""
    for port in range(25_000 + os.getpid() % 50 * 100, 32_700, 100):
        with suppress(OSError), socket.socket(socket.AF_INET, kind) as probe:
            probe.bind(("127.0.0.1", port))
            return port
    pytest.fail("every hundredth port from 25000 on is taken")


def none_left(hosts: dict[str, LocalHost]) -> bool:
    return not any(process.running for host in hosts.values() for process in host.started)


def test_tcp_and_udp_flows_side_by_side(iperf3: Iperf3, hosts: dict[str, LocalHost]) -> None:
    plan = TrafficPlan(
        "three flows",
        (
            Flow("h1", "h2", duration_s=1, rate_bps=8_000_000, streams=2),
            Flow("h1", "h2", duration_s=1, rate_bps=1_600_000, transport=Transport.UDP, payload_bytes=1000),
            Flow("h2", "h1", size_bytes=1_000_000),
        ),
    )
    report = iperf3.start(plan, hosts).finish(10.0)
    tcp, udp, sized = report.results
    assert [result.error for result in report] == [None] * 3
    assert [len(result.streams) for result in report] == [2, 1, 1]
    assert tcp.received_bytes == pytest.approx(1_000_000, rel=0.3)  # paced in blocks of 128 KiB
    assert udp.streams[0].sent_packets == pytest.approx(200, abs=20)
    assert udp.streams[0].five_tuple.src == "127.0.0.1"
    assert sized.sent_bytes >= 1_000_000
    # Every tenth of a second; one in which iperf3 stood still is as long as that took.
    sent = [(one.start_s, one.end_s) for one in tcp.streams[0].intervals]
    received = [(one.start_s, one.end_s) for one in tcp.streams[0].arrivals]
    for told in (sent, received):
        assert told[0][0] == pytest.approx(0.0, abs=0.001)
        assert all(one[1] == pytest.approx(next_[0], abs=0.001) for one, next_ in pairwise(told))
        assert told[-1][1] >= 0.95
        assert sum(end - start < 0.15 for start, end in told) >= 2
    assert none_left(hosts)
    assert no_flow_lost_for_good(report, final_s=0.5)


def test_ipv6(iperf3: Iperf3, hosts: dict[str, LocalHost]) -> None:
    report = iperf3.start(TrafficPlan("one", (Flow("h1", "h2", 100_000, family=6),)), hosts).finish(10.0)
    assert report.results[0].error is None
    assert report.results[0].streams[0].five_tuple.dst == "::1"


def test_an_endless_flow_is_stopped_and_told(iperf3: Iperf3, hosts: dict[str, LocalHost]) -> None:
    plan = TrafficPlan("one", (Flow("h1", "h2", duration_s=600, rate_bps=8_000_000),))
    running = iperf3.start(plan, hosts)
    assert not none_left(hosts)
    assert wait_until("it is sending", lambda: None, lambda _: False, within=0.5).held is False
    result = running.stop().results[0]
    assert none_left(hosts)
    assert result.error is None
    assert 0.4 < result.duration_s < 5
    assert result.received_bytes > 0


def test_a_flow_past_its_time_is_ended(iperf3: Iperf3, hosts: dict[str, LocalHost]) -> None:
    running = iperf3.start(TrafficPlan("one", (Flow("h1", "h2", duration_s=600, rate_bps=8_000_000),)), hosts)
    assert running.finish(0.5).results[0].error == "did not end within 0.5 s"
    assert none_left(hosts)


def test_a_port_that_is_taken_is_an_error(iperf3: Iperf3, hosts: dict[str, LocalHost]) -> None:
    with socket.create_server(("127.0.0.2", iperf3.base_port)), pytest.raises(TrafficError, match="in use"):
        iperf3.start(TrafficPlan("one", (Flow("h1", "h2", 1000),)), hosts)
    assert none_left(hosts)


def bursts(count: int, **settings: int) -> list[Burst]:
    port = free_port(socket.SOCK_DGRAM)
    tuples = [FiveTuple("127.0.0.1", "127.0.0.2", Transport.UDP, 20_000 + one, port) for one in range(count)]
    return [Burst("h1", "h2", one, **settings) for one in tuples]


@pytest.mark.parametrize("connected", [True, False])
def test_every_packet_of_a_burst_is_counted(hosts: dict[str, LocalHost], connected: bool) -> None:
    report = send_bursts(bursts(16, packets=200), hosts, connected=connected)
    assert report.complete
    assert (report.dropped_at_sinks, report.strangers) == (0, 0)
    assert none_left(hosts)


def test_bursts_of_both_families_and_directions(hosts: dict[str, LocalHost]) -> None:
    port = free_port(socket.SOCK_DGRAM)
    six = Burst("h1", "h2", FiveTuple("0::1", "0:0::1", Transport.UDP, 20_100, port), packets=7, payload_bytes=0)
    back = Burst("h2", "h1", FiveTuple("127.0.0.2", "127.0.0.1", Transport.UDP, 20_101, port), packets=9)
    report = send_bursts([six, *bursts(2), back], hosts)
    assert report.complete
    assert [result.received_packets for result in report.results] == [7, 100, 100, 9]


def test_packets_that_do_not_arrive_are_missing_in_the_count(hosts: dict[str, LocalHost]) -> None:
    """The sink binds 127.0.0.2; what is sent to another address of the loopback reaches nobody."""
    there, lost = bursts(2, packets=50)
    elsewhere = FiveTuple("127.0.0.1", "127.0.0.3", Transport.UDP, lost.five_tuple.sport, lost.five_tuple.dport)
    tables = {"h1": hosts["h1"], "h2": Redirected("h2", "127.0.0.3", "127.0.0.4")}
    report = send_bursts([there, Burst("h1", "h2", elsewhere, packets=50)], tables, connected=False)
    assert [result.received_packets for result in report.results] == [50, 0]
    assert report.results[1].sent_packets == 50
    assert not report.complete


class Redirected(LocalHost):
    """A host whose sinks listen on `instead` where they were to listen on `address`."""

    def __init__(self, name: str, address: str, instead: str) -> None:
        super().__init__(name)
        self.address, self.instead = address, instead

    def start(self, *argv: str) -> LocalProcess:
        return super().start(*(word.replace(self.address, self.instead) for word in argv))


def test_an_address_that_is_not_there_is_an_error(hosts: dict[str, LocalHost]) -> None:
    wrong = Burst("h1", "h2", FiveTuple("127.0.0.1", "192.0.2.1", Transport.UDP, 20_200, 7))
    with pytest.raises(TrafficError, match="the sink does not start"):
        send_bursts([wrong], hosts)
    assert none_left(hosts)


def test_the_programs_need_nothing_but_the_standard_library() -> None:
    folder = Path(__file__).parents[2] / "traffic" / "engines" / "on_host"
    for program in ("burst.py", "sockets.py"):
        imported = {
            line.split()[1].split(".")[0]
            for line in (folder / program).read_text().splitlines()
            if line.startswith(("import ", "from "))
        }
        assert imported <= sys.stdlib_module_names
