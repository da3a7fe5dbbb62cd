"""Reading what a probe's receivers logged: gaps, silences, copies, and what came out of order."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest

from topologies.errors import SpecError
from traffic.engines.probe import Gap, gaps_of, interval_ns, probe_flow, probe_report, read_arrivals
from traffic.engines.rnic import RawReport, RawResult
from traffic.engines.rnic_report import RawSent, ReceiverReport
from traffic.errors import TrafficError
from traffic.flows import FiveTuple, Transport

MS = 1_000_000
FLOW = probe_flow("host1", "host3", FiveTuple("10.0.0.1", "10.0.0.2", Transport.UDP, 46000, 47777), pps=1000)
SENT = RawSent(
    flow=1,
    packets=10,
    bytes=640,
    wire_bytes=1300,
    next_sequence=10,
    skipped=0,
    refused=0,
    host_drops=0,
    icmp_errors=0,
    first_ns=0,
    last_ns=9 * MS,
    rate_bps=1,
    mean_bps=1,
    mean_judged=False,
    late_packets=2,
    late_bound_ns=2 * MS,
    late_worst_ns=3 * MS,
    held_back_ns=0,
    held_back_times=0,
    sndbuf=1,
    error=None,
    paced_ok=False,
    paced_because="late",
)
RECEIVER = ReceiverReport(
    elapsed_ns=1,
    cpu_ns=1,
    ended="signal",
    packets=10,
    strangers=0,
    flows_left_out=0,
    overflow=0,
    log_records=10,
    log_left_out=0,
    flows=(),
)


def log(path: Path, *arrived: tuple[int, int], flow: int = 1) -> Path:
    """A receiver's log of (milliseconds, sequence number)."""
    records = [struct.pack("<QQIHBx", at * MS, sequence, flow, 46000, 0) for at, sequence in arrived]
    path.write_bytes(b"".join(records))
    return path


def report(*, receiver: ReceiverReport = RECEIVER) -> RawReport:
    return RawReport((RawResult(FLOW, SENT, None),), {}, {"host3": receiver})


def test_a_probe_has_its_packets_a_second() -> None:
    assert interval_ns(FLOW) == MS
    assert interval_ns(probe_flow("host1", "host3", FLOW.five_tuple)) == MS // 2


@pytest.mark.parametrize("pps", [0, 100_001])
def test_a_rate_that_proves_nothing_is_refused(pps: int) -> None:
    with pytest.raises(SpecError, match="1 to 100000"):
        probe_flow("host1", "host3", FLOW.five_tuple, pps=pps)


def test_missing_packets_are_a_gap_between_two_arrivals() -> None:
    assert list(gaps_of([0, 1, 5, 6], [10, 11, 15, 16], 7, 1, 0)) == [Gap(2, 3, 11, 15)]


def test_a_silence_without_loss_has_nothing_missing() -> None:
    assert list(gaps_of([0, 1, 2], [0, 10 * MS, 11 * MS], 3, MS, 0)) == [Gap(1, 0, 0, 10 * MS)]


def test_the_way_to_the_first_packet_is_no_silence() -> None:
    assert list(gaps_of([0, 1], [50 * MS, 51 * MS], 2, MS, 0)) == []


def test_packets_missing_at_the_end_are_a_gap_without_end() -> None:
    (gap,) = gaps_of([0, 1], [0, MS], 10, MS, 0)
    assert gap == Gap(2, 8, MS, None)
    assert gap.lasted_s == float("inf")


def test_of_a_flow_of_which_nothing_came_all_is_missing() -> None:
    assert list(gaps_of([], [], 10, MS, 7)) == [Gap(0, 10, 7, None)]


def test_what_never_came_at_the_beginning_is_missing() -> None:
    assert list(gaps_of([3, 4], [3 * MS, 4 * MS], 5, MS, 0)) == [Gap(0, 3, 0, 3 * MS)]


def test_copies_and_order_are_counted_apart(tmp_path: Path) -> None:
    path = log(tmp_path / "host3", (0, 0), (1, 1), (1, 1), (3, 3), (4, 2), (5, 4), (6, 6), (7, 5), (8, 7), (9, 8))
    (flow,) = probe_report(report(), {"host3": path}, 0, 20 * MS)
    assert (flow.duplicates, flow.reordered, flow.received, flow.lost) == (1, 2, 9, 1)
    assert flow.gaps == (Gap(9, 1, 9 * MS, None),)
    assert (flow.late_ns, flow.late_packets) == (3 * MS, 2)


def test_the_longest_gap_is_one_with_packets_missing(tmp_path: Path) -> None:
    path = log(tmp_path / "host3", (0, 0), (30, 1), (31, 2), (35, 6), (36, 7), (38, 9))
    (flow,) = probe_report(report(), {"host3": path}, 0, 40 * MS)
    assert flow.longest == Gap(3, 3, 31 * MS, 35 * MS)
    assert len(flow.gaps) == 3


def test_another_flows_packets_are_not_counted(tmp_path: Path) -> None:
    path = log(tmp_path / "host3", (0, 0), flow=2)
    (flow,) = probe_report(report(), {"host3": path}, 0, 40 * MS)
    assert flow.received == 0


@pytest.mark.parametrize(
    ("receiver", "words"),
    [(replace(RECEIVER, overflow=3), "socket full"), (replace(RECEIVER, log_left_out=3), "no room")],
)
def test_a_receiver_that_lost_packets_itself_makes_it_invalid(
    tmp_path: Path, receiver: ReceiverReport, words: str
) -> None:
    path = log(tmp_path / "host3", (0, 0))
    said = probe_report(report(receiver=receiver), {"host3": path}, 0, MS)
    assert words in said.invalid_because[0]


def test_a_file_that_is_no_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "host3").write_bytes(b"12345")
    with pytest.raises(TrafficError, match="no log"):
        read_arrivals(tmp_path / "host3")
    with pytest.raises(TrafficError, match="cannot be read"):
        read_arrivals(tmp_path / "none")
