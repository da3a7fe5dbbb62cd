"""The engine around `rnic`, with programs that are only pretended."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from topologies.errors import RailbedError, SpecError
from traffic.engines.base import CommandResult
from traffic.engines.rnic import RawFlow, RawReport, RawRun, read_log, rnic_binary, start_raw
from traffic.errors import TrafficError
from traffic.flows import FiveTuple, Transport

SENT: dict[str, Any] = {
    "flow": 1,
    "packets": 100,
    "bytes": 102400,
    "wire_bytes": 109000,
    "next_sequence": 100,
    "skipped": 0,
    "refused": 0,
    "host_drops": 0,
    "icmp_errors": 0,
    "first_ns": 5,
    "last_ns": 9,
    "rate_bps": 1000,
    "mean_bps": 999,
    "mean_judged": True,
    "late_packets": 0,
    "late_bound_ns": 200000,
    "late_worst_ns": 7,
    "held_back_ns": 0,
    "held_back_times": 0,
    "sndbuf": 524288,
    "error": None,
    "paced_ok": True,
    "paced_because": None,
}
GOT: dict[str, Any] = {
    "flow": 1,
    "src": "10.1.0.1",
    "sport": 50000,
    "dport": 7000,
    "packets": 100,
    "bytes": 102400,
    "ce": 3,
    "ect0": 97,
    "ect1": 0,
    "not_ect": 0,
    "dscp": {"26": 100},
    "next_sequence": 100,
    "lost": 0,
    "reordered": 0,
    "duplicates": 0,
    "unclear": 0,
    "corrupted": 0,
    "first_ns": 6,
    "last_ns": 10,
    "delay_ns": {"min": 1, "mean": 2, "p50": 2, "p99": 3, "max": 4},
}


def sender(*flows: dict[str, Any], **changes: Any) -> dict[str, Any]:
    head = {"program": "rnic", "mode": "send", "version": 1, "go_ns": 1, "elapsed_ns": 2, "cpu_ns": 3}
    said = {**head, "woken_late_ns": 4, "ended": "done", "paced_ok": True, "flows": list(flows or (SENT,))}
    return {**said, **changes}


def receiver(*flows: dict[str, Any], **changes: Any) -> dict[str, Any]:
    head = {"program": "rnic", "mode": "recv", "version": 1, "elapsed_ns": 2, "cpu_ns": 3, "ended": "expect"}
    said = {**head, "packets": 100, "strangers": 0, "flows_left_out": 0, "overflow": 0, "log_records": 0}
    return {**said, "log_left_out": 0, "flows": list(flows or (GOT,)), **changes}


@dataclass
class FakeProcess:
    argv: tuple[str, ...]
    stdout: str
    status: int = 0
    ready: bool = True
    lingers: bool = False
    running: bool = True
    written: str = ""
    stopped: int = 0

    def said(self) -> str:
        return self.stdout

    def write(self, text: str) -> None:
        self.written += text

    def wait(self, timeout: float) -> CommandResult:
        if self.lingers and self.running:
            raise RailbedError(f"still running after {timeout} s")
        self.running = False
        return CommandResult(self.argv, self.status, self.stdout, "rnic: out of luck")

    def wait_ready(self, text: str, timeout: float) -> None:
        assert text == "ready to"
        if not self.ready:
            raise RailbedError(f"ended before {timeout} s")

    def stop(self) -> CommandResult:
        self.stopped += 1
        self.running = False
        return CommandResult(self.argv, self.status, self.stdout, "rnic: out of luck")


@dataclass
class Workstation:
    """Starts pretended programs: what `rnic send` and `rnic recv` say by node."""

    says: dict[tuple[str, str], Any] = field(default_factory=dict)
    settings: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    started: dict[tuple[str, str], FakeProcess] = field(default_factory=dict)

    def __call__(self, node: str, argv: tuple[str, ...]) -> FakeProcess:
        mode = argv[1]
        said = self.says.get((node, mode), sender() if mode == "send" else receiver())
        text = said if isinstance(said, str) else f"ready to {mode}\n{json.dumps(said)}\n"
        process = FakeProcess(argv, text, **self.settings.get((node, mode), {}))
        self.started[node, mode] = process
        return process

    @property
    def left_running(self) -> list[tuple[str, str]]:
        return [key for key, process in self.started.items() if process.running]


def flow(sport: int = 50000, dport: int = 7000, src: str = "h1", dst: str = "h2", **settings: Any) -> RawFlow:
    addresses = {"h1": "10.1.0.1", "h2": "10.1.0.2", "h3": "10.1.0.3"}
    return RawFlow(src, dst, FiveTuple(addresses[src], addresses[dst], Transport.UDP, sport, dport), **settings)


def started(workstation: Workstation, *flows: RawFlow, **settings: Any) -> RawRun:
    return start_raw(flows or (flow(),), workstation, binary="/bin/rnic", **settings)


def played(workstation: Workstation, *flows: RawFlow) -> RawReport:
    return started(workstation, *flows).finish(timeout=5)


def test_what_was_sent_and_what_arrived_meet() -> None:
    workstation = Workstation()
    report = played(workstation)
    (one,) = report
    assert (one.sent.packets, one.received_packets, one.lost_packets, one.ce_packets) == (100, 100, 0, 3)
    assert one.received
    assert one.received.dscp == {26: 100}
    assert one.received.delay_ns.p99 == 3
    assert report.valid
    assert workstation.left_running == []


def test_what_the_programs_are_told() -> None:
    workstation = Workstation()
    run = started(
        workstation,
        flow(packets=5, payload_bytes=4096, rate_bps=500_000_000, dscp=26, ecn=2),
        logs={"h2": Path("/tmp/log")},
        options=("--spin-us", "9"),
    )
    run.finish(5)
    sending, receiving = workstation.started["h1", "send"], workstation.started["h2", "recv"]
    assert sending.argv == ("/bin/rnic", "send", "--spin-us", "9", "--max-s", "3600", "--tied")
    assert receiving.argv[2:8] == ("--port", "7000", "--bind", "10.1.0.2", "--log", "/tmp/log")
    assert sending.written == (
        "flow 1 src=10.1.0.1 dst=10.1.0.2 sport=50000 dport=7000 count=5 bytes=4096 rate_bps=500000000 dscp=26 ecn=2"
        f" burst=1 start_ms=0 pattern=0\nend\ngo {run.began_ns}\n"
    )
    assert receiving.written == "expect 100 500\n", "what was sent is what is waited for"


def test_a_flow_says_only_what_it_sets() -> None:
    line = flow(duration_s=0.25, burst=4, start_s=1.5, pattern=True, skip_every=7, sndbuf_bytes=9000).line(3)
    assert line.split(" ", 6)[-1] == (
        "duration_ms=250 bytes=1024 dscp=0 ecn=0 burst=4 start_ms=1500 pattern=1 skip=7 sndbuf=9000\n"
    )
    assert "count" not in line


def test_flows_of_many_hosts_start_at_one_instant() -> None:
    says = {
        ("h1", "send"): sender(),
        ("h3", "send"): sender({**SENT, "flow": 2, "packets": 70}),
        ("h2", "recv"): receiver(GOT, {**GOT, "flow": 2, "src": "10.1.0.3", "packets": 71, "duplicates": 1}),
    }
    workstation = Workstation(says)
    report = played(workstation, flow(), flow(src="h3", pattern=True))
    assert [one.received_packets for one in report] == [100, 70]
    assert workstation.started["h2", "recv"].written == "expect 170 500\n"
    assert "--check" in workstation.started["h2", "recv"].argv
    gos = {workstation.started[node, "send"].written.splitlines()[-1] for node in ("h1", "h3")}
    assert len(gos) == 1


def test_lost_packets_and_those_of_another_source_port_are_no_arrivals() -> None:
    short = {**GOT, "packets": 90, "unclear": 1, "lost": 5}
    assert played(Workstation({("h2", "recv"): receiver(short)})).results[0].lost_packets == 11
    for other in ({"sport": 50001}, {"dport": 7001}, {"src": "10.1.0.9"}, {"flow": 2}):
        (one,) = played(Workstation({("h2", "recv"): receiver({**GOT, **other})}))
        assert (one.received, one.received_packets, one.ce_packets, one.lost_packets) == (None, 0, 0, 100)


@pytest.mark.parametrize(
    ("says", "because"),
    [
        (
            {("h1", "send"): sender({**SENT, "paced_ok": False, "paced_because": "the mean rate is off"})},
            "h1: flow udp 10.1.0.1:50000 > 10.1.0.2:7000: the mean rate is off",
        ),
        ({("h2", "recv"): receiver(overflow=2)}, "h2: 2 packets found the receiver's socket full"),
        ({("h2", "recv"): receiver(flows_left_out=4)}, "h2: 4 packets belonged to more flows than"),
    ],
)
def test_a_run_that_cannot_vouch_for_itself_says_why(says: dict[tuple[str, str], Any], because: str) -> None:
    report = played(Workstation(says))
    assert not report.valid
    assert report.invalid_because[0].startswith(because)


def test_a_port_that_held_back_is_no_fault() -> None:
    held = {**SENT, "held_back_ns": 300_000_000, "held_back_times": 1}
    report = played(Workstation({("h1", "send"): sender(held)}))
    assert report.valid
    assert report.results[0].sent.held_back_ns == 300_000_000


def test_a_sender_that_does_not_end_is_told_to_and_reports() -> None:
    workstation = Workstation(settings={("h1", "send"): {"lingers": True}})
    assert played(workstation).results[0].sent.packets == 100
    assert workstation.left_running == []


def test_stop_ends_senders_first_and_a_second_report_is_the_first() -> None:
    workstation = Workstation()
    run = started(workstation)
    report = run.stop()
    assert run.finish(1) is report
    assert workstation.started["h1", "send"].stopped == 2, "by stop, and once more when nothing may be left"


@pytest.mark.parametrize(
    ("key", "said"), [(("h2", "recv"), "h2: rnic does not start"), (("h1", "send"), "h1: rnic does not start")]
)
def test_a_program_that_does_not_start_leaves_nothing(key: tuple[str, str], said: str) -> None:
    workstation = Workstation(settings={key: {"ready": False}})
    with pytest.raises(TrafficError, match=f"{said}: rnic: out of luck"):
        started(workstation)
    assert workstation.left_running == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "h1: rnic send ended with 0: rnic: out of luck"),
        ("{", "makes no sense: Expecting property name"),
        (sender(version=2), r"\('rnic', 'send', 2\), not \('rnic', 'send', 1\); run `make native`"),
        (receiver(), "'recv', 1"),
        (sender(flows=7), "no list of flows"),
        (sender(flows=["x"]), "RawSent is missing"),
        (sender({key: value for key, value in SENT.items() if key != "packets"}), r"\['packets'\]"),
        (sender({**SENT, "colour": 1}), r"\['colour'\]"),
        (sender({**SENT, "packets": -1}), "RawSent.packets is -1, no int"),
        (sender({**SENT, "packets": True}), "RawSent.packets is True, no int"),
        (sender({**SENT, "packets": 1.5}), "RawSent.packets is 1.5, no int"),
        (sender({**SENT, "paced_ok": "yes"}), "RawSent.paced_ok is 'yes', no bool"),
        (sender({**SENT, "error": 5}), "RawSent.error is 5"),
        (sender(ended=None), "SenderReport.ended is None, no str"),
        (sender({**SENT, "flow": 2}), "h1: rnic send does not report flow 1"),
    ],
)
def test_a_senders_nonsense_is_refused(text: Any, said: str) -> None:
    workstation = Workstation({("h1", "send"): text})
    with pytest.raises(TrafficError, match=said):
        played(workstation)
    assert workstation.left_running == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (receiver({**GOT, "dscp": {"x": 1}}), "invalid literal"),
        (receiver({**GOT, "dscp": {"26": "many"}}), "'many' is no count"),
        (receiver({**GOT, "dscp": 5}), "makes no sense"),
        (receiver({**GOT, "delay_ns": {"min": 1}}), "Delays is missing"),
        (receiver({**GOT, "delay_ns": None}), "Delays is missing"),
        (receiver(flows=[5]), "makes no sense"),
        (receiver(flows=[{}]), "makes no sense: 'dscp'"),
        (receiver(overflow=None), "ReceiverReport.overflow is None"),
    ],
)
def test_a_receivers_nonsense_is_refused(text: Any, said: str) -> None:
    with pytest.raises(TrafficError, match=said):
        played(Workstation({("h2", "recv"): text}))


def test_a_program_that_failed_is_an_error() -> None:
    workstation = Workstation(settings={("h1", "send"): {"status": 2}})
    with pytest.raises(TrafficError, match="h1: rnic send ended with 2: rnic: out of luck"):
        played(workstation)


@pytest.mark.parametrize(
    ("flows", "said"),
    [
        ([], "0 raw flows"),
        ([flow(), flow()], "each its own five-tuple"),
        ([flow(sport) for sport in range(1, 4098)], "4097 raw flows from h1; allowed: up to 4096"),
        ([RawFlow("h1", "h2", FiveTuple("a", "b", Transport.TCP, 1, 2))], "allowed: udp"),
        ([flow(ecn=4)], "ecn is 4; allowed: from 0 to 3"),
        ([flow(dscp=-1)], "dscp is -1"),
        ([flow(payload_bytes=27)], "payload_bytes is 27; allowed: from 28 to 65507"),
        ([flow(packets=0)], "packets is 0"),
        ([flow(rate_bps=0)], "rate_bps is 0"),
        ([flow(duration_s=0.0)], "duration_s is 0.0"),
        ([flow(skip_every=1)], "skip_every is 1"),
        ([flow(sport=0)], "sport is 0"),
    ],
)
def test_what_is_no_raw_flow_is_refused(flows: list[RawFlow], said: str) -> None:
    workstation = Workstation()
    with pytest.raises(SpecError, match=said):
        start_raw(flows, workstation, binary="/bin/rnic")
    assert not workstation.started


def test_the_binary_is_where_it_is_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAILBED_NATIVE", str(tmp_path))
    with pytest.raises(TrafficError, match="rnic is not there: run `make native`"):
        rnic_binary()
    (tmp_path / "rnic").touch(mode=0o755)
    assert rnic_binary() == str(tmp_path / "rnic")


def test_a_log_is_read_packet_by_packet(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(struct.pack("<QQIHBx", 11, 0, 1, 50000, 26 << 2 | 3) + struct.pack("<QQIHBx", 12, 1, 1, 50000, 2))
    first, second = read_log(log)
    assert (first.arrived_ns, first.sequence, first.flow, first.sport, first.ce) == (11, 0, 1, 50000, True)
    assert (second.sequence, second.ce) == (1, False)
    log.write_bytes(b"x" * 25)
    with pytest.raises(TrafficError, match="25 bytes are no log"):
        read_log(log)
    with pytest.raises(TrafficError, match="cannot be read"):
        read_log(tmp_path / "none")


def test_values_are_frozen() -> None:
    with pytest.raises(AttributeError):
        flow().packets = 5  # type: ignore[misc]
    assert replace(flow(), packets=5).packets == 5
