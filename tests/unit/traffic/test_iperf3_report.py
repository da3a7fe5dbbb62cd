"""Reports recorded from iperf3 3.12 on a loopback; `recorded/` holds them without what is not read."""

from __future__ import annotations

from pathlib import Path

from traffic.engines.iperf3_report import error_in, flow_result
from traffic.flows import FiveTuple, Flow, FlowResult, Transport

RECORDED = Path(__file__).parent / "recorded"
TCP = Flow("host1", "host2", duration_s=1.0, streams=2)
UDP = Flow("host1", "host2", duration_s=1.0, transport=Transport.UDP)


def text(name: str) -> str:
    return (RECORDED / f"{name}.json").read_text()


def read(flow: Flow, name: str) -> FlowResult:
    return flow_result(flow, text(f"{name}.client"), text(f"{name}.server"), started_s=7.0)


def test_tcp_streams_with_both_views() -> None:
    result = read(TCP, "tcp")
    assert result.error is None
    assert result.started_s == 7.0
    assert result.duration_s == 1.000092
    assert len(result.streams) == 2
    for stream in result.streams:
        assert (stream.sent_bytes, stream.received_bytes, stream.retransmits) == (1048576, 1048576, 0)
        assert (stream.sent_packets, stream.lost_packets) == (None, None)
        assert sum(seen.sent_bytes for seen in stream.intervals) == 1048576
        assert sum(seen.received_bytes for seen in stream.arrivals) == 1048576
        assert (stream.five_tuple.dst, stream.five_tuple.dport) == ("127.0.0.1", 5321)
    assert len({stream.five_tuple.sport for stream in result.streams}) == 2


def test_udp_without_loss() -> None:
    for stream in read(UDP, "udp").streams:
        assert (stream.sent_packets, stream.lost_packets) == (250, 0)
        assert (stream.sent_bytes, stream.received_bytes) == (250_000, 250_000)


def test_udp_with_loss_counts_what_arrived() -> None:
    (stream,) = read(UDP, "udp_lossy").streams
    assert (stream.sent_packets, stream.lost_packets) == (145680, 91611)
    assert stream.received_bytes == 75_696_600 == (145680 - 91611) * 1400
    assert stream.sent_bytes == 203_952_000
    assert stream.retransmits is None


def test_an_interrupted_flow_has_what_it_sent_and_no_error() -> None:
    result = read(TCP, "interrupted")
    assert result.error is None
    assert (result.sent_bytes, result.received_bytes) == (1310720, 1310720)
    assert result.streams[0].five_tuple == FiveTuple("127.0.0.1", "127.0.0.1", Transport.TCP, 45412, 5302)


def test_a_flow_whose_server_vanished_has_its_intervals_and_the_error() -> None:
    result = flow_result(UDP, text("cut.client"), "", started_s=0.0)
    assert result.error == "control socket has closed unexpectedly"
    assert result.sent_bytes == sum(seen.sent_bytes for seen in result.streams[0].intervals) > 0
    assert result.received_bytes == 0
    assert result.streams[0].lost_packets is None
    assert result.streams[0].arrivals == ()


def test_a_refused_connection_is_an_error_without_streams() -> None:
    result = flow_result(TCP, text("refused.client"), "", started_s=0.0)
    assert result.error == "unable to connect to server: Connection refused"
    assert result.streams == ()


def test_no_report_is_an_error() -> None:
    assert flow_result(TCP, "", "", started_s=0.0).error == "iperf3 wrote no report"
    assert flow_result(TCP, '{"start": {"conn', "", started_s=0.0).error == 'iperf3 wrote no report: {"start": {"conn'


def test_the_engines_own_error_comes_first() -> None:
    result = flow_result(TCP, text("interrupted.client"), "", started_s=0.0, error="did not end within 5 s")
    assert result.error == "did not end within 5 s"
    assert result.sent_bytes == 1310720


def test_an_interrupt_before_any_stream_is_an_error() -> None:
    stopped = (
        '{"start": {"connected": []}, "intervals": [], "end": {}, "error": "interrupt - the client has terminated"}'
    )
    assert flow_result(TCP, stopped, "", started_s=0.0).error == "interrupt - the client has terminated"
    assert error_in(stopped) == "interrupt - the client has terminated"
    assert error_in("nonsense") == ""
