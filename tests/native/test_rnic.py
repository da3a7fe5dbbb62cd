"""The native program itself: its pure headers, and packets from `rnic send` to `rnic recv` over loopback.

No root, no namespaces. What a loaded workstation may miss (a packet's time) is asserted on the headers alone.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from operator import xor
from pathlib import Path
from typing import Any

import pytest

from labs.channels.namespaces import BackgroundProcess
from traffic.engines.rnic import RawFlow, RawReport, read_log, start_raw
from traffic.errors import TrafficError
from traffic.flows import FiveTuple, Transport

ROOT = Path(__file__).resolve().parents[2]
C_TESTS = sorted((ROOT / "traffic" / "rnic" / "tests").glob("test_*.c"))
SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")
HEADER = struct.Struct("!4sBBHIQQ")


@pytest.fixture(scope="session")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs, built by the script that users run, in a folder of their own."""
    folder = tmp_path_factory.mktemp("native")
    build(folder)
    return folder


def build(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "scripts" / "build_native", *arguments],
        env={**os.environ, "RAILBED_NATIVE": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=not arguments and not environment,
    )


@pytest.mark.parametrize("source", C_TESTS, ids=lambda path: path.stem)
def test_headers(source: Path, tmp_path: Path) -> None:
    program = tmp_path / source.stem
    flags = ("-std=c11", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-Werror", *SANITIZED)
    subprocess.run(["gcc", *flags, source, "-o", program], check=True, timeout=120)
    ended = subprocess.run([program], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_every_c_test_is_found() -> None:
    assert [path.stem for path in C_TESTS] == [
        "test_accounting",
        "test_dcqcn",
        "test_graph",
        "test_pace",
        "test_packet",
        "test_queue_pair",
        "test_roce",
        "test_schedule",
    ]


# --- build_native


def test_what_is_built_is_not_built_again(native: Path) -> None:
    before = (native / "rnic").stat().st_ino
    assert build(native, "--check", "rnic").stdout == ""
    build(native, "rnic")
    assert (native / "rnic").stat().st_ino == before


def test_another_stamp_or_no_program_asks_for_a_build_and_check_makes_none(tmp_path: Path, native: Path) -> None:
    ended = build(tmp_path, "--check", "rnic")
    assert (ended.returncode, ended.stdout, list(tmp_path.iterdir())) == (1, "rnic\n", [])
    (tmp_path / "rnic").write_bytes((native / "rnic").read_bytes())
    (tmp_path / "rnic").chmod(0o755)
    (tmp_path / "rnic.stamp").write_text((native / "rnic.stamp").read_text().replace("-O2", "-O0"))
    assert build(tmp_path, "--check", "rnic").returncode == 1
    build(tmp_path, "rnic")
    assert (tmp_path / "rnic").read_bytes() == (native / "rnic").read_bytes(), "the same sources make the same file"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rnic", "rnic.stamp"]


def test_a_missing_compiler_is_named_with_its_package(tmp_path: Path) -> None:
    ended = build(tmp_path, "--force", "rnic", CC="no-such-gcc")
    assert ended.returncode == 2
    assert "rnic is built with no-such-gcc, which is not here" in ended.stderr
    assert "apt-get install" in ended.stderr


def test_an_unknown_program_prints_the_usage(tmp_path: Path) -> None:
    ended = build(tmp_path, "nonsense")
    assert ended.returncode == 2
    assert "scripts/build_native [NAME ...]" in ended.stdout


# --- from send to recv


def start_locally(node: str, argv: tuple[str, ...]) -> BackgroundProcess:
    return BackgroundProcess(node, argv, argv)


@contextmanager
def local(*argv: str) -> Iterator[BackgroundProcess]:
    process = start_locally("here", argv)
    try:
        yield process
    finally:
        process.stop()


def free_port(family: socket.AddressFamily = socket.AF_INET) -> int:
    with socket.socket(family, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        return int(one.getsockname()[1])


# Without root a receiver has room for 50 packets of 4096 bytes, 180 of 1024: at 20 Mbit/s it may stall for 80 ms.
def flow(address: str = "127.0.0.1", **settings: Any) -> RawFlow:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    tuple_ = FiveTuple(address, address, Transport.UDP, free_port(family), free_port(family))
    return RawFlow("h1", "h2", tuple_, **({"packets": 200, "rate_bps": 20_000_000} | settings))


def play(native: Path, *flows: RawFlow, **settings: Any) -> RawReport:
    run = start_raw(flows, start_locally, binary=str(native / "rnic"), **settings)
    return run.finish(timeout=20)


def test_every_packet_of_every_flow_is_counted_once(native: Path) -> None:
    flows = [flow(payload_bytes=size, dscp=dscp) for size, dscp in ((28, 0), (1024, 26), (4096, 63))]
    report = play(native, *flows)
    for one in report:
        assert one.sent.packets == one.received_packets == 200
        assert one.lost_packets == 0
        assert one.received
        assert one.received.bytes == one.sent.bytes == 200 * one.flow.payload_bytes
        assert one.sent.wire_bytes == 200 * (one.flow.payload_bytes + 66)
        assert one.received.dscp == {one.flow.dscp: 200}
        assert (one.received.lost, one.received.reordered, one.received.duplicates) == (0, 0, 0)
        delay = one.received.delay_ns
        assert 0 < delay.min <= delay.p50 <= delay.p99 <= delay.max < 20e9
    assert report.receivers["h2"].overflow == report.strangers == 0
    assert report.receivers["h2"].ended == "expect"


def test_ipv6_carries_the_same(native: Path) -> None:
    (one,) = play(native, flow("::1", ecn=3, dscp=26))
    assert (one.received_packets, one.ce_packets) == (200, 200)
    assert one.received
    assert one.received.dscp == {26: 200}
    assert one.sent.wire_bytes == 200 * (1024 + 86)


@pytest.mark.parametrize(("ecn", "counted"), [(0, "not_ect"), (1, "ect1"), (2, "ect0"), (3, "ce")])
def test_the_ecn_field_is_counted_as_it_arrives(native: Path, ecn: int, counted: str) -> None:
    (one,) = play(native, flow(ecn=ecn, packets=50))
    assert one.received
    found = {name: getattr(one.received, name) for name in ("not_ect", "ect1", "ect0", "ce")}
    assert found == {**dict.fromkeys(found, 0), counted: 50}


def test_left_out_sequence_numbers_are_found_missing(native: Path) -> None:
    (one,) = play(native, flow(packets=505, skip_every=10))
    assert one.sent.skipped == 50
    assert one.sent.packets == one.received_packets == 455
    assert one.received
    assert one.received.lost == 50
    assert one.lost_packets == 0, "what was never sent is not lost"


def test_the_pattern_is_verified(native: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    (one,) = play(native, flow(pattern=True, payload_bytes=1001), logs={"h2": log})
    assert one.received
    assert one.received.corrupted == 0
    logged = list(read_log(log))
    assert [packet.sequence for packet in logged] == list(range(200))
    assert {(packet.flow, packet.sport, packet.ce) for packet in logged} == {(1, one.flow.five_tuple.sport, False)}
    assert logged == sorted(logged)


def test_a_duration_ends_a_flow_and_so_does_stop(native: Path) -> None:
    short, endless = flow(packets=None, duration_s=0.1), flow(packets=None)
    run = start_raw([short, endless], start_locally, binary=str(native / "rnic"))
    first, second = run.stop()
    assert first.sent.packets == first.received_packets
    assert second.sent.packets == second.received_packets
    (one,) = play(native, flow(packets=None, duration_s=0.1, rate_bps=10_000_000))
    # 0.1 s of 10 Mbit/s are 114.7 packets of 1090 wire bytes; fewer only where the workstation stalls at the end.
    assert 0 < one.sent.packets <= 115
    assert one.sent.packets == one.received_packets


def test_hundreds_of_flows_in_one_process(native: Path) -> None:
    port = free_port()
    # Source ports 20000 to 20299 of an address that nobody else on loopback uses; 20 packets a millisecond in all.
    flows = [
        RawFlow(
            *("h1", "h2", FiveTuple("127.7.3.1", "127.0.0.1", Transport.UDP, 20000 + i, port)),
            packets=5,
            payload_bytes=28,
            rate_bps=50_000,
            start_s=i % 15 / 1000,
        )
        for i in range(300)
    ]
    report = play(native, *flows)
    assert [one.received_packets for one in report] == [5] * 300


def test_without_a_rate_there_is_no_schedule_to_miss(native: Path) -> None:
    report = play(native, flow(rate_bps=None, payload_bytes=28))
    assert report.valid
    assert report.results[0].received_packets == 200


def raw_packet(sequence: int, rest: bytes = b"", flags: int = 0) -> bytes:
    fields = (HEADER.size + len(rest), 9, sequence, time.monotonic_ns())
    folded = reduce(xor, HEADER.pack(b"RNIC", 2, flags, *fields))
    return HEADER.pack(b"RNIC", 2, flags | ((folded ^ folded >> 4) & 0x0F) << 4, *fields) + rest


def test_reordered_duplicate_corrupted_and_strange_packets_are_told_apart(native: Path) -> None:
    port = free_port()
    with local(str(native / "rnic"), "recv", "--port", str(port), "--check", "--max-s", "30") as receiver:
        receiver.wait_ready("ready to", 10)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for sequence in (0, 1, 4, 2, 2, 6):
                sender.sendto(raw_packet(sequence), ("127.0.0.1", port))
            sender.sendto(raw_packet(7, b"no pattern", flags=1), ("127.0.0.1", port))
            flipped = bytearray(raw_packet(8))
            flipped[12] ^= 0x80  # a sequence number from nowhere
            for strange in (b"", b"x" * 27, b"x" * 28, raw_packet(8)[:-1], raw_packet(8) + b"x", bytes(flipped)):
                sender.sendto(strange, ("127.0.0.1", port))
        receiver.write("expect 7 200\n")
        said = json.loads(receiver.wait(10).stdout.splitlines()[-1])
    (one,) = said["flows"]
    assert said["strangers"] == 6
    assert said["ended"] == "idle", "six of seven are unique"
    counted = {name: one[name] for name in ("packets", "lost", "reordered", "duplicates", "unclear", "corrupted")}
    assert counted == {"packets": 7, "lost": 2, "reordered": 1, "duplicates": 1, "unclear": 0, "corrupted": 1}


def test_a_receiver_without_room_says_so(native: Path) -> None:
    port = free_port()
    arguments = ("recv", "--port", str(port), "--rcvbuf", "4096", "--max-s", "30")
    with local(str(native / "rnic"), *arguments) as receiver:
        receiver.wait_ready("ready to", 10)
        receiver.signal(signal.SIGSTOP)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for sequence in range(100):
                sender.sendto(raw_packet(sequence, bytes(1000)), ("127.0.0.1", port))
        receiver.signal(signal.SIGCONT)
        receiver.write("expect 100 200\n")
        said = json.loads(receiver.wait(10).stdout.splitlines()[-1])
    assert said["overflow"] > 0
    assert said["overflow"] + said["packets"] == 100


@pytest.mark.parametrize("mode", ["send", "recv"])
def test_a_tied_program_ends_with_whoever_started_it(native: Path, mode: str) -> None:
    port = free_port()
    arguments = ("--port", str(port)) if mode == "recv" else ()
    with local(str(native / "rnic"), mode, *arguments, "--tied", "--max-s", "60") as process:
        if mode == "send":
            process.write(
                f"flow 1 src=127.0.0.1 dst=127.0.0.1 sport={free_port()} dport={port} rate_bps=1000000\nend\n"
            )
        process.wait_ready("ready to", 10)
        if mode == "send":
            process.write("go 0\n")
        assert process._child.stdin
        process._child.stdin.close()
        ended = process.wait(10)
    assert (ended.status, json.loads(ended.stdout.splitlines()[-1])["ended"]) == (0, "stdin")


def test_a_program_that_has_ended_can_be_written_to_in_vain(native: Path) -> None:
    with local(str(native / "rnic"), "send", "--fly") as process:
        process.wait(10)
        process.write("x" * 100_000)
        process.write("x" * 100_000)


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ("", "the plan has no flow"),
        ("flow 1 src=127.0.0.1\n", "line 1: a flow is incomplete"),
        ("# a remark\n\nflow 1 ecn=7\n", "line 3: ecn is 7; allowed: 0 to 3"),
        ("{flow}", "the plan has no `end`"),
        ("{flow}{flow}", "line 2: two flows of id 1"),
        ("{flow}end\n", "standard input ended before go"),
        ("{flow}end\ngo now\n", "a line is go now; allowed: go NANOSECONDS"),
        ("{flow}end\ngo 18446744073709551615\n", "go is more than 3600 s ahead"),
        ("{big}end\n", "flow 1: bytes is 65507; allowed: up to 65488"),
        ("{far}end\n", "flow 1: no way to its destination"),
        ("x" * 600 + "\n", "a line is longer than 511 bytes"),
    ],
)
def test_a_plan_that_cannot_be_played_is_refused(native: Path, plan: str, said: str) -> None:
    # Loopback's MTU is 65536: only behind IPv6's longer header is the largest payload too large.
    text = plan.format(
        flow="flow 1 src=127.0.0.1 dst=127.0.0.1 sport=20400 dport=20401\n",
        big="flow 1 src=::1 dst=::1 sport=20400 dport=20401 bytes=65507\n",
        far="flow 1 src=192.0.2.1 dst=127.0.0.1 sport=20400 dport=20401\n",
    )
    ended = subprocess.run(
        [native / "rnic", "send"], input=text, capture_output=True, text=True, timeout=20, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"rnic: {said}")


@pytest.mark.parametrize(
    "arguments",
    [(), ("fly",), ("send", "x"), ("send", "--fly"), ("recv",), ("recv", "--port", "1", "x")],
    ids=" ".join,
)
def test_wrong_arguments_print_the_usage(native: Path, arguments: tuple[str, ...]) -> None:
    ended = subprocess.run([native / "rnic", *arguments], capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 2
    assert "rnic recv --port" in ended.stderr


def test_a_port_that_is_taken_is_said_by_the_engine(native: Path) -> None:
    taken = flow()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", taken.five_tuple.dport))
        with pytest.raises(
            TrafficError, match=r"h2: rnic does not start: rnic: bind to port \d+: Address already in use"
        ):
            play(native, taken)


def test_the_timing_figures_are_there_and_consistent(native: Path) -> None:
    (one,) = play(native, flow(packets=2000, rate_bps=200_000_000))
    sent = one.sent
    assert sent.late_bound_ns == 200_000, "two packets of 43.6 us are less"
    assert sent.last_ns > sent.first_ns
    assert sent.late_packets <= sent.packets
    assert sent.paced_ok == (sent.paced_because is None)
    if sent.late_packets * 100 > sent.packets:
        assert not sent.paced_ok
