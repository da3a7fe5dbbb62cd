from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath

import pytest

from topologies.errors import RailbedError, SpecError
from traffic.engines.base import CommandResult, RunsCommands
from traffic.engines.packet_burst import Burst, send_bursts
from traffic.errors import TrafficError
from traffic.flows import FiveTuple, Transport


def burst(sport: int = 1000, src: str = "h1", dst: str = "h2", **settings: int) -> Burst:
    return Burst(src, dst, FiveTuple("10.1.0.1", "10.1.0.2", Transport.UDP, sport, 7), **settings)


@dataclass
class FakeProcess:
    argv: tuple[str, ...]
    stdout: str
    status: int = 0
    ready: bool = True
    lingers: bool = False
    running: bool = True

    def wait(self, timeout: float) -> CommandResult:
        if self.lingers and self.running:
            raise RailbedError(f"still running after {timeout} s")
        return self.stop()

    def wait_ready(self, text: str, timeout: float) -> None:
        assert text == "ready"
        if not self.ready:
            raise RailbedError(f"ended before {timeout} s: Address already in use")

    def stop(self) -> CommandResult:
        self.running = False
        return CommandResult(self.argv, self.status, self.stdout, "a traceback")


@dataclass
class FakeHost:
    name: str
    sent: str = '{"sent": [100], "errors": [null]}\n'
    received: str = 'ready\n{"received": [100], "strangers": 0, "dropped": 0}\n'
    status: int = 0
    ready: bool = True
    lingers: bool = False
    started: list[FakeProcess] = field(default_factory=list)

    def run(self, *argv: str, timeout: float = 30.0, stdin: str = "") -> CommandResult:
        raise NotImplementedError(argv, timeout, stdin)

    def start(self, *argv: str) -> FakeProcess:
        assert argv[:5] == ("python3", "-I", "-S", "-B", "-c")
        sink = argv[6] == "sink"
        stdout, lingers = (self.received, self.lingers) if sink else (self.sent, False)
        self.started.append(FakeProcess(argv[6:], stdout, self.status, self.ready, lingers))
        return self.started[-1]

    def put(self, path: PurePosixPath, text: str) -> None:
        raise AssertionError(f"nothing is written on a host: {path} {text}")


def hosts(**settings: object) -> tuple[dict[str, RunsCommands], list[FakeHost]]:
    fakes = [FakeHost(name, **settings) for name in ("h1", "h2")]  # type: ignore[arg-type]
    return {fake.name: fake for fake in fakes}, fakes


def test_what_was_sent_and_what_arrived_meet() -> None:
    by_name, fakes = hosts()
    report = send_bursts([burst()], by_name)
    assert report.complete
    assert report.results[0].received_packets == 100
    assert fakes[1].started[0].argv == ("sink", "60", "10.1.0.1,1000,10.1.0.2,7,100,64")
    assert fakes[0].started[0].argv == ("send", "10000", "connected", "10.1.0.1,1000,10.1.0.2,7,100,64")


def test_lost_packets_and_errors_are_told() -> None:
    by_name, fakes = hosts(
        sent='{"sent": [100, 98], "errors": [null, "Network is unreachable"]}',
        received='ready\n{"received": [99, 98], "strangers": 3, "dropped": 1}\n',
        lingers=True,
    )
    report = send_bursts([burst(), burst(1001)], by_name, connected=False)
    assert not report.complete
    assert [result.received_packets for result in report.results] == [99, 98]
    assert report.results[1].error == "Network is unreachable"
    assert (report.dropped_at_sinks, report.strangers) == (1, 3)
    assert not any(process.running for fake in fakes for process in fake.started)


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"ready": False}, "h2: the sink does not start"), ({"status": 1}, "h1: packet burst ended with 1: a traceback")],
)
def test_a_program_that_fails_is_an_error_and_leaves_nothing(settings: dict[str, object], said: str) -> None:
    by_name, fakes = hosts(**settings)
    with pytest.raises(TrafficError, match=said):
        send_bursts([burst()], by_name)
    assert not any(process.running for fake in fakes for process in fake.started)


@pytest.mark.parametrize(
    ("bursts", "said"),
    [
        ([], "0 bursts"),
        ([burst(), burst()], "each its own five-tuple"),
        ([burst(packets=0)], "1 or more packets of udp"),
        ([Burst("h1", "h2", FiveTuple("a", "b", Transport.TCP, 1, 2))], "1 or more packets of udp"),
        ([burst(dst="h3")], "name no host here: h3"),
    ],
)
def test_what_is_no_burst_is_refused(bursts: list[Burst], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        send_bursts(bursts, hosts()[0])
