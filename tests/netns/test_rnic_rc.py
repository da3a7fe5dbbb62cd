"""RoCEv2 queue pairs between network namespaces: real frames, real data, and links that lose, spoil and mark.

rank 0 ──┐
rank 1 ──┼── bridge          every link an own veth; each host runs one `rnic rc`
rank … ──┘
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from labs.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
RANKS = 4
NAME = f"rc{os.getpid()}"
Report = dict[str, Any]


@pytest.fixture(scope="module")
def rnic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("native")
    script = ROOT / "scripts" / "build_native"
    subprocess.run([script, "rnic"], env={**os.environ, "RAILBED_NATIVE": str(folder)}, check=True, timeout=120)
    return folder / "rnic"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=30)


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[str, ...]]:
    """Namespaces, one a rank, and one with the bridge between them."""
    names = tuple(f"{NAME}-{rank}" for rank in range(RANKS))
    with ExitStack() as undo:
        for name in (*names, f"{NAME}-b"):
            ip("netns", "add", name)
            undo.callback(ip, "netns", "del", name)
        ip("-n", f"{NAME}-b", "link", "add", "name", "br", "mtu", "9216", "type", "bridge")
        ip("-n", f"{NAME}-b", "link", "set", "dev", "br", "up")
        for rank, name in enumerate(names):
            peer = ("peer", "name", f"p{rank}", "mtu", "9216", "netns", f"{NAME}-b")
            ip("link", "add", "name", "e", "mtu", "9216", "netns", name, "type", "veth", *peer)
            ip("-n", f"{NAME}-b", "link", "set", "dev", f"p{rank}", "master", "br", "up")
            ip("-n", name, "link", "set", "dev", "e", "up")
            ip("-n", name, "addr", "add", f"10.79.0.{rank + 1}/24", "dev", "e")
            ip("-n", name, "addr", "add", f"fd79::{rank + 1}/64", "dev", "e", "nodad")
        yield names


@pytest.fixture
def fault(hosts: tuple[str, ...], tmp_path: Path) -> Iterator[Any]:
    """Sets what rank 1's link does to data packets, until the test's end."""
    tc = ("tc", "-n", hosts[1])

    def set_fault(lose: int = 0, spoil: int = 0, mark: int = 0) -> None:
        made = tmp_path / "fault.o"
        source = ROOT / "tests" / "netns" / "bpf" / "link_fault.bpf.c"
        flags = ("-O2", "-g", "-target", "bpf", "-mcpu=v3", f"-I/usr/include/{os.uname().machine}-linux-gnu")
        faults = (f"-DLOSE={lose}", f"-DSPOIL={spoil}", f"-DMARK={mark}")
        subprocess.run(["clang", *flags, *faults, "-c", source, "-o", made], check=True, timeout=60)
        subprocess.run([*tc, "qdisc", "add", "dev", "e", "clsact"], check=True, timeout=30)
        filter_ = ("filter", "add", "dev", "e", "ingress", "bpf", "da", "obj", str(made), "sec", "tc")
        # `tc -n` loads programs where it has no /sys/fs/bpf to pin to; these pin nothing.
        subprocess.run([*tc, *filter_], check=True, timeout=30)

    yield set_fault
    subprocess.run([*tc, "qdisc", "del", "dev", "e", "clsact"], check=False, timeout=30, capture_output=True)


def play(
    rnic: Path,
    hosts: Sequence[str],
    plans: Sequence[str],
    timeout: float = 30,
    meanwhile: Callable[[Sequence[subprocess.Popen[str]]], None] = lambda _: None,
) -> list[Report]:
    """Play a plan a host; the reports. `meanwhile` is called once all begin. Every process is gone at the end."""
    with ExitStack() as undo:
        running = []
        for name, plan in zip(hosts, plans, strict=False):
            argv = ["nsenter", f"--net=/run/netns/{name}", str(rnic), "rc", "--tied", "--max-s", str(int(timeout))]
            process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            undo.callback(process.wait, 10)
            undo.callback(process.kill)
            say(process, plan + "end\n")
            running.append(process)
        for process in running:
            assert "ready to" in heard(process)
        begin = time.monotonic_ns() + 20_000_000
        for process in running:
            say(process, f"go {begin}\n")
        meanwhile(running)
        first = [heard(process) for process in running]
        for process, said in zip(running, first, strict=True):
            if said == "done\n":
                say(process, "stop\n")
        return [
            json.loads(heard(process) if said == "done\n" else said)
            for process, said in zip(running, first, strict=True)
        ]


def say(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdin
    process.stdin.write(text)
    process.stdin.flush()


def heard(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline()


def exchange(size: int, host: str = "", *, v6: bool = False, rate_bps: int = 0) -> list[str]:
    """Rank 0 and rank 1 send each other `size` bytes at once."""
    addresses = ("fd79::1", "fd79::2") if v6 else ("10.79.0.1", "10.79.0.2")
    return [
        f"host rank={me} numbers=2 {host}\nbuffer input {size}\nbuffer output {size}\n"
        f"nic 0 src={addresses[me]} rate_bps={rate_bps}\n"
        f"qp {5 + me} nic=0 dst={addresses[1 - me]} dqpn={6 - me} sport={50000 + me} "
        f"psn={16777000 * me} epsn={16777000 * (1 - me)}\n"
        f"send {me} qp={5 + me} size={size} from=input:0\n"
        f"expect {1 - me} qp={5 + me} size={size} to=output:0\n"
        f"check output:0 bytes={size} ranks={1 - me}-{1 - me} at=0\n"
        for me in (0, 1)
    ]


def ring(size: int, host: str, rate_bps: int, ranks: int = RANKS) -> list[str]:
    """A ring all-reduce in place."""
    chunk = size // ranks
    plans = []
    for me in range(ranks):
        after, before = (me + 1) % ranks, (me - 1) % ranks
        lines = [
            f"host rank={me} in_place=1 numbers={2 * ranks * ranks} {host}",
            f"buffer input {size}",
            f"buffer output {size}",
            f"nic 0 src=10.79.0.{me + 1} rate_bps={rate_bps}",
            f"qp {100 + me} nic=0 dst=10.79.0.{after + 1} dqpn={200 + after} sport={50000 + me}",
            f"qp {200 + me} nic=0 dst=10.79.0.{before + 1} dqpn={100 + before} sport={51000 + me}",
        ]
        for step in range(2 * (ranks - 1)):
            goes, comes = (me - step) % ranks * chunk, (before - step) % ranks * chunk
            waits = f" after={(step - 1) * ranks + before}" if step else ""
            reduce = int(step < ranks - 1)
            lines += [
                f"send {step * ranks + me} qp={100 + me} size={chunk} from=input:{goes} step={step}{waits}",
                f"expect {step * ranks + before} qp={200 + me} size={chunk} to=output:{comes} reduce={reduce}",
            ]
        lines.append(f"check output:0 bytes={size} ranks=0-{ranks - 1} at=0")
        plans.append("\n".join(lines) + "\n")
    return plans


def total(reports: Sequence[Report], key: str) -> int:
    return sum(int(qp[key]) for report in reports for qp in report["qps"])


@pytest.mark.parametrize("v6", [False, True], ids=["v4", "v6"])
@pytest.mark.parametrize("mode", ["gbn", "sr", "gb0"])
def test_a_message_each_way(rnic: Path, hosts: tuple[str, ...], mode: str, v6: bool) -> None:
    reports = play(rnic, hosts, exchange(1_000_003, f"mtu=1024 mode={mode}", v6=v6))
    packets = -(-1_000_003 // 1024)
    for report in reports:
        assert (report["ended"], report["failure"], report["wrong"]) == ("stop", None, 0)
        (qp,) = report["qps"]
        assert (qp["sent_packets"], qp["received_packets"], qp["received_bytes"]) == (packets, packets, 1_000_003)
        bad = ("foreign", "malformed", "unknown", "corrupt", "strangers", "misplaced", "overflow")
        assert [report[key] for key in bad] == [0] * len(bad)
    assert total(reports, "retransmitted") == total(reports, "naks") == 0


def test_the_kernel_does_not_answer_port_unreachable(rnic: Path, hosts: tuple[str, ...]) -> None:
    def unreachable() -> int:
        argv = ["nsenter", f"--net=/run/netns/{hosts[1]}", "cat", "/proc/net/snmp"]
        lines = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()
        names, values = (line.split() for line in lines if line.startswith("Icmp:"))
        return int(values[names.index("OutDestUnreachs")])

    play(rnic, hosts, exchange(1000, "mtu=1024"))  # who does not know its peer's MAC address sends it a datagram first
    before = unreachable()
    play(rnic, hosts, exchange(100_000, "mtu=1024"))
    assert unreachable() == before


@pytest.mark.parametrize("mode", ["gbn", "sr", "gb0"])
def test_what_is_lost_comes_again(rnic: Path, hosts: tuple[str, ...], fault: Any, mode: str) -> None:
    """1000 packets, every 50th data packet lost: 20 losses or a few more, as what is sent again is counted too."""
    fault(lose=50)
    host = f"mtu=1024 mode={mode} window=32 reorder=1 timeout_us=20000"
    # Go back 0 starts a message again: only one that is shorter than 50 packets ever ends.
    size = 40 * 1024 if mode == "gb0" else 1000 * 1024
    reports = play(rnic, hosts, exchange(size, host, rate_bps=500_000_000))
    assert [report["wrong"] for report in reports] == [0, 0]
    if mode == "gb0":
        return
    (sender,), (receiver,) = reports[0]["qps"], reports[1]["qps"]
    assert receiver["out_of_order"] > 0
    assert sender["naks"] >= 15
    if mode == "sr":
        assert 20 <= sender["retransmitted"] <= 30
    else:
        assert sender["retransmitted"] > 30


def test_what_is_spoilt_is_found_and_comes_again(rnic: Path, hosts: tuple[str, ...], fault: Any) -> None:
    fault(spoil=100)
    reports = play(rnic, hosts, exchange(1000 * 1024, "mtu=1024 mode=sr reorder=1 timeout_us=20000"))
    assert [report["wrong"] for report in reports] == [0, 0]
    assert 10 <= reports[1]["corrupt"] <= 12
    assert reports[0]["corrupt"] == 0


def test_marks_at_tc_ingress_are_seen_and_slow_the_sender(rnic: Path, hosts: tuple[str, ...], fault: Any) -> None:
    """Every 20th packet marked: CNPs, cuts, less than half the rate; nothing without marks (below)."""
    fault(mark=20)
    host = "mtu=1024 cc=dcqcn-sigcomm15 dilation=40"
    reports = play(rnic, hosts, exchange(1000 * 1024, host, rate_bps=1_000_000_000))
    (sender,), (receiver,) = reports[0]["qps"], reports[1]["qps"]
    assert receiver["ce"] == 50
    assert 0 < receiver["sent_cnps"] == sender["cnps"] <= 50
    assert sender["cuts"] == sender["cnps"]
    assert sender["rate_bps"] < 500_000_000
    assert (reports[1]["qps"][0]["cnps"], reports[0]["qps"][0]["ce"]) == (0, 0)


def test_without_marks_nobody_slows(rnic: Path, hosts: tuple[str, ...]) -> None:
    host = "mtu=1024 cc=dcqcn-sigcomm15 dilation=40"
    reports = play(rnic, hosts, exchange(1000 * 1024, host, rate_bps=1_000_000_000))
    assert total(reports, "ce") == total(reports, "cnps") == total(reports, "cuts") == 0
    assert [report["qps"][0]["rate_bps"] for report in reports] == [1_000_000_000] * 2


def test_a_dead_peer_ends_the_run_when_the_retries_are_spent(rnic: Path, hosts: tuple[str, ...], fault: Any) -> None:
    fault(lose=1)
    reports = play(rnic, hosts, exchange(100_000, "mtu=1024 timeout_us=20000 retries=3"), timeout=5)
    assert (reports[0]["ended"], reports[0]["failure"]) == ("failed", "qp 5: no acknowledgement after all retries")
    assert reports[0]["qps"][0]["timeouts"] == 4
    # The other way the link is whole; what was sent there arrived.
    assert reports[0]["qps"][0]["received_bytes"] == 100_000


@pytest.mark.parametrize("mode", ["gbn", "sr"])
def test_a_ring_adds_up_and_takes_the_time_its_bytes_take(rnic: Path, hosts: tuple[str, ...], mode: str) -> None:
    """2 (n-1)/n S at 100 Mbit/s: 6 chunks of 256 packets of 1106 wire bytes (sr 1122 and 4) = 136 ms and latencies."""
    size, rate = 1 << 20, 100_000_000
    reports = play(rnic, hosts, ring(size, f"mtu=1024 mode={mode}", rate))
    assert [report["wrong"] for report in reports] == [0] * RANKS
    took = max(report["ended_ns"][0] for report in reports) - min(report["began_ns"][0] for report in reports)
    least = 6 * 256 * (1024 + 82) * 8 / rate
    assert took / 1e9 >= least, "nobody is faster than the link"
    for report in reports:
        assert sum(qp["sent_bytes"] for qp in report["qps"]) == 6 * size // RANKS


def test_a_wrong_sum_is_found(rnic: Path, hosts: tuple[str, ...]) -> None:
    """Negative control: rank 2 expects one rank's share less than there is."""
    plans = ring(1 << 16, "mtu=1024", 0)
    plans[2] = plans[2].replace("ranks=0-3", "ranks=0-2")
    reports = play(rnic, hosts, plans)
    assert [report["wrong"] > 0 for report in reports] == [False, False, True, False]


def test_iterations_follow_each_other_with_a_known_result(rnic: Path, hosts: tuple[str, ...]) -> None:
    reports = play(rnic, hosts, ring(1 << 16, "mtu=1024 iterations=20", 0))
    assert [(report["wrong"], report["iterations"]) for report in reports] == [(0, 20)] * RANKS
    for report in reports:
        assert report["began_ns"][1:] == report["ended_ns"][:-1]


def test_propagation_delay_is_held_both_ways(rnic: Path, hosts: tuple[str, ...]) -> None:
    """5 ms each way: no round trip is shorter than 10 ms; without it they are far from that (the control)."""
    slow = play(rnic, hosts, exchange(300_000, "mtu=1024 delay_ns=5000000", rate_bps=100_000_000))
    fast = play(rnic, hosts, exchange(300_000, "mtu=1024", rate_bps=100_000_000))
    assert all(report["qps"][0]["round_trip_min_ns"] >= 10_000_000 for report in slow)
    assert all(report["qps"][0]["round_trip_min_ns"] < 5_000_000 for report in fast)
    assert [report["wrong"] for report in slow] == [0, 0]


def test_a_sender_that_sleeps_is_off_its_schedule(rnic: Path, hosts: tuple[str, ...]) -> None:
    """Rank 0 is stopped for 0.1 of 0.5 s, in which 300 packets are due; the law allows 15 of 1500 to be late.

    It makes up for them in a burst until its window or its port is full, where the schedule begins anew: the first
    batch, 64 packets, is late in any case.
    """

    def stop_a_while(running: Sequence[subprocess.Popen[str]]) -> None:
        began = time.monotonic()
        wait_until("it is sending", lambda: time.monotonic() - began > 0.1, bool, within=5.0)
        running[0].send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        wait_until("it has slept", lambda: time.monotonic() - stopped > 0.1, bool, within=5.0)
        running[0].send_signal(signal.SIGCONT)

    plans = exchange(1500 * 4096, "mtu=4096", rate_bps=100_000_000)
    (sent,) = play(rnic, hosts, plans, meanwhile=stop_a_while)[0]["nics"]
    assert sent["paced_packets"] == sent["packets"] == 1500
    assert sent["late_packets"] >= 64
    assert sent["late_worst_ns"] > 90_000_000
    assert sent["paced_ok"] is False


def test_without_a_rate_there_is_no_schedule_to_miss(rnic: Path, hosts: tuple[str, ...]) -> None:
    for report in play(rnic, hosts, exchange(1_000_000, "mtu=1024")):
        (sent,) = report["nics"]
        assert (sent["paced_packets"], sent["late_packets"], sent["paced_ok"]) == (0, 0, True)


def test_what_a_window_holds_back_is_not_late(rnic: Path, hosts: tuple[str, ...]) -> None:
    """One packet may be under way, 5 ms there and 5 ms back: 20 stretches of one packet, each due when it may leave."""
    host = "mtu=1024 delay_ns=5000000 window=1"
    for report in play(rnic, hosts, exchange(20 * 1024, host, rate_bps=100_000_000)):
        (sent,) = report["nics"]
        assert (sent["stretches"], sent["due_ns"], sent["took_ns"]) == (20, 0, 0)
        assert sent["mean_judged"] is False


def test_an_answer_from_an_idle_link_does_not_join_what_the_window_holds_apart(
    rnic: Path, hosts: tuple[str, ...]
) -> None:
    """As above with 40 ms both ways. Rank 0 answers 1 ms before its own packet may leave, and is at it for 2.7 ms."""
    plans = exchange(20 * 256, "mtu=256 window=1 delay_ns=39000000", rate_bps=250_000)
    plans[1] = plans[1].replace("delay_ns=39000000", "delay_ns=1000000")
    for report in play(rnic, hosts, plans):
        (sent,) = report["nics"]
        assert (sent["stretches"], sent["due_ns"], sent["took_ns"]) == (20, 0, 0)


def test_an_unexpected_message_is_refused(rnic: Path, hosts: tuple[str, ...]) -> None:
    plans = exchange(10_000, "mtu=1024")
    plans[1] = plans[1].replace("expect 0", "expect 1").replace("send 1", "send 0")
    reports = play(rnic, hosts, plans, timeout=3)
    assert "failed" in {report["ended"] for report in reports}
    assert any(report["failure"] and "expects no such message" in report["failure"] for report in reports)
