"""The engine against scripted hosts: what it starts, in which order, and that it leaves nothing running."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pytest

from topologies.errors import RailbedError, SpecError
from traffic.collectives import permutation
from traffic.engines.base import CommandResult, RunsCommands
from traffic.engines.iperf3 import Iperf3, RunningIperf3
from traffic.errors import TrafficError
from traffic.flows import Flow, TrafficPlan, Transport

RECORDED = Path(__file__).parent / "recorded"


class OutOfTime(RailbedError):
    """What a scripted process raises that does not end."""


@dataclass
class FakeProcess:
    argv: tuple[str, ...]
    stdout: str = ""
    hangs: bool = False
    running: bool = True
    stops: int = 0

    def wait(self, timeout: float) -> CommandResult:
        if self.hangs and self.running:
            raise OutOfTime(f"still running after {timeout} s")
        return self.stop()

    def wait_ready(self, text: str, timeout: float) -> None:
        raise NotImplementedError

    def stop(self) -> CommandResult:
        self.stops += self.running
        self.running = False
        return CommandResult(self.argv, 0, self.stdout, "")


@dataclass
class FakeHost:
    name: str
    log: list[str]
    client: str = (RECORDED / "tcp.client.json").read_text()
    server: str = (RECORDED / "tcp.server.json").read_text()
    help: str = "--idle-timeout #"
    missing: tuple[str, ...] = ()
    hangs: bool = False
    broken_client: bool = False
    ended_server: bool = False
    processes: list[FakeProcess] = field(default_factory=list)

    def run(self, *argv: str, timeout: float = 30.0, stdin: str = "") -> CommandResult:
        assert timeout > 0
        assert not stdin
        if argv[0] == "iperf3":
            return CommandResult(argv, 0, self.help, "")
        what, *wanted = argv[7:]
        self.log.append(f"{self.name} {what} {' '.join(wanted)}")
        return CommandResult(argv, 0, json.dumps([one for one in wanted if one in self.missing]), "")

    def start(self, *argv: str) -> FakeProcess:
        side = "server" if "-s" in argv else "client"
        self.log.append(f"{self.name} {side}")
        if side == "client" and self.broken_client:
            raise OutOfTime("no such container")
        process = FakeProcess(argv, self.server if side == "server" else self.client, self.hangs)
        process.running = not (side == "server" and self.ended_server)
        self.processes.append(process)
        return process

    def put(self, path: PurePosixPath, text: str) -> None:
        raise AssertionError(f"nothing is written on a host: {path} {text}")


class Hosts(dict[str, RunsCommands]):
    def __init__(self, *names: str, **settings: object) -> None:
        self.log: list[str] = []
        self.fakes = {name: FakeHost(name, self.log, **settings) for name in names}  # type: ignore[arg-type]
        super().__init__(self.fakes)

    @property
    def left(self) -> list[FakeProcess]:
        return [process for host in self.fakes.values() for process in host.processes if process.running]


def address(host: str, nic: int, family: int) -> str:
    number = host[-1]
    return f"10.1.{nic}.{number}" if family == 4 else f"fd00:{nic}::{number}"


def engine(clock: Callable[[], float] = lambda: 3.0) -> Iperf3:
    return Iperf3(address, clock=clock)


def one(flow: Flow) -> TrafficPlan:
    return TrafficPlan("one flow", (flow,))


def started(plan: TrafficPlan, hosts: Hosts) -> RunningIperf3:
    return engine().start(plan, hosts)


def test_servers_listen_before_the_first_client_starts() -> None:
    hosts = Hosts("h1", "h2")
    started(permutation(["h1", "h2"], duration_s=1, streams=2), hosts).finish(5.0)
    assert sorted(hosts.log[:2]) == ["h1 server", "h2 server"]
    assert sorted(hosts.log[2:4]) == ["h1 listening 5201", "h2 listening 5201"]
    assert sorted(hosts.log[4:6]) == ["h1 client", "h2 client"]
    assert sorted(hosts.log[6:]) == ["h1 begun tcp/5201/2", "h2 begun tcp/5201/2"]


def test_a_report_has_every_flow_in_the_plans_order() -> None:
    hosts = Hosts("h1", "h2", "h3")
    report = started(permutation(["h1", "h2", "h3"], duration_s=1, streams=2), hosts).finish(5.0)
    assert [str(result.flow) for result in report] == ["h1>h2", "h2>h3", "h3>h1"]
    assert report.received_bytes == 3 * 2 * 1048576
    assert report.engine == "iperf3"
    assert report.results[0].started_s == 3.0
    assert hosts.left == []


def test_ports_count_up_for_each_receiver() -> None:
    flows = [Flow("h1", "h3", 1), Flow("h2", "h3", 1), Flow("h1", "h2", 1), Flow("h1", "h3", 1)]
    placed = engine().place(TrafficPlan("incast", tuple(flows)), Hosts("h1", "h2", "h3"))
    assert [(p.flow.dst, p.port) for p in placed] == [("h3", 5201), ("h3", 5202), ("h2", 5201), ("h3", 5203)]


@pytest.mark.parametrize(
    ("flow", "client"),
    [
        (Flow("h1", "h2", 1000), "-4 -B 10.1.1.1 -p 5201 -i 0.1 -n 1000 -P 1 --connect-timeout 10000"),
        (
            Flow("h1", "h2", duration_s=3.0, streams=4, rate_bps=8000, family=6, src_nic=2),
            "-6 -B fd00:2::1 -p 5201 -i 0.1 -t 3 -P 4 --connect-timeout 10000 -b 2000",
        ),
        (
            Flow("h1", "h2", duration_s=3.0, transport=Transport.UDP, payload_bytes=1200),
            "-4 -B 10.1.1.1 -p 5201 -i 0.1 -t 3 -P 1 --connect-timeout 10000 -u -b 0 -l 1200",
        ),
    ],
)
def test_client_commands(flow: Flow, client: str) -> None:
    (placed,) = engine().place(one(flow), Hosts("h1", "h2"))
    argv = engine().client_argv(placed)
    assert argv[:3] == ("iperf3", "-c", address("h2", 1, flow.family))
    assert " ".join(argv[4:]) == client


def test_server_command_has_an_idle_timeout_where_iperf3_knows_one() -> None:
    plan = one(Flow("h1", "h2", 1000))
    for text, has in (("--idle-timeout #", True), ("iperf 3.9", False)):
        hosts = Hosts("h1", "h2", help=text)
        started(plan, hosts).stop()
        argv = hosts.fakes["h2"].processes[0].argv
        assert argv[:10] == ("iperf3", "-s", "-1", "-J", "-4", "-B", "10.1.1.2", "-p", "5201", "-i")
        assert ("--idle-timeout" in argv) is has


def test_a_flow_that_does_not_end_is_ended_and_says_so() -> None:
    hosts = Hosts("h1", "h2", hangs=True)
    report = started(one(Flow("h1", "h2", duration_s=1, streams=2)), hosts).finish(5.0)
    assert report.results[0].error == "did not end within 5 s"
    assert report.received_bytes == 2 * 1048576
    assert hosts.left == []


def test_stop_reports_what_was_sent_and_twice_is_once() -> None:
    hosts = Hosts(
        *("h1", "h2"),
        client=(RECORDED / "interrupted.client.json").read_text(),
        server=(RECORDED / "interrupted.server.json").read_text(),
        hangs=True,
    )
    running = started(one(Flow("h1", "h2", duration_s=20)), hosts)
    report = running.stop()
    assert report.results[0].error is None
    assert report.received_bytes == 1310720
    assert running.stop() is running.finish(1.0) is report
    assert [process.stops for host in hosts.fakes.values() for process in host.processes] == [1, 1]


def test_a_client_that_cannot_be_started_leaves_nothing_running() -> None:
    hosts = Hosts("h1", "h2", "h3")
    hosts.fakes["h2"].broken_client = True
    with pytest.raises(OutOfTime, match="no such container"):
        started(permutation(["h1", "h2", "h3"], duration_s=1), hosts)
    assert len(hosts.fakes["h1"].processes) == 2
    assert hosts.left == []


@pytest.mark.parametrize("settings", [{"missing": ("5201",)}, {"ended_server": True}])
def test_a_server_that_does_not_listen_is_an_error(settings: dict[str, object]) -> None:
    said = '{"error": "unable to start listener for connections: Address already in use"}'
    hosts = Hosts("h1", "h2", server=said, **settings)
    with pytest.raises(TrafficError, match=r"h2: iperf3 does not listen on 10.1.1.2 port 5201: .*already in use"):
        started(one(Flow("h1", "h2", 1)), hosts)
    assert hosts.left == []
    assert "h1 client" not in hosts.log


def test_a_client_that_cannot_connect_is_a_result_not_an_error_of_ours() -> None:
    hosts = Hosts("h1", "h2", missing=("tcp/5201/1",), client=(RECORDED / "refused.client.json").read_text())
    report = started(one(Flow("h1", "h2", 1)), hosts).finish(5.0)
    assert report.results[0].error == "unable to connect to server: Connection refused"


@pytest.mark.parametrize(
    ("flow", "said"),
    [
        (Flow("h1", "h9", 1), "names no host here: h9; allowed: h1, h2"),
        (Flow("h1", "h2"), "has a size and a duration, or neither"),
        (Flow("h1", "h2", 1, 1.0), "has a size and a duration, or neither"),
        (Flow("h1", "h2", 0), "size_bytes is 0; allowed: 1 or more"),
        (Flow("h1", "h2", duration_s=0.5), "duration_s is 0.5; allowed: whole seconds"),
        (Flow("h1", "h2", 1, streams=129), "streams is 129; allowed: 1 to 128"),
    ],
)
def test_what_iperf3_cannot_play_is_refused_before_anything_starts(flow: Flow, said: str) -> None:
    hosts = Hosts("h1", "h2")
    with pytest.raises(SpecError, match=said):
        started(one(flow), hosts)
    assert hosts.log == []


def test_ports_end() -> None:
    with pytest.raises(SpecError, match="from port 65535"):
        Iperf3(address, base_port=65535).place(TrafficPlan("two", (Flow("h1", "h2", 1),) * 2), Hosts("h1", "h2"))
