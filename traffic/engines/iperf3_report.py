"""Reads what iperf3 writes with ``-J``, the client's and the server's report of one flow, into a `FlowResult`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from traffic.flows import Arrival, FiveTuple, Flow, FlowResult, Interval, StreamResult, Transport

# How iperf3 reports that it was told to end: the engine's doing, and no trouble of the flow.
INTERRUPTED = "interrupt - "


@dataclass(frozen=True, slots=True)
class _Stream:
    """One stream as one side saw it: counts of the whole test, and per interval (start, end, bytes)."""

    local_port: int
    remote_port: int
    five_tuple: FiveTuple
    moved_bytes: int
    packets: int | None
    lost: int | None
    retransmits: int | None
    seconds: float
    intervals: tuple[tuple[float, float, int], ...]


def flow_result(flow: Flow, client: str, server: str, *, started_s: float, error: str | None = None) -> FlowResult:
    """What became of one flow.

    Args:
        client, server: the two reports as text; either may be empty, cut short or an error report.
        error: what the engine itself has to say against the flow.
    """
    sent, arrived = _report(client), _report(server)
    there = {stream.remote_port: stream for stream in _streams(arrived, flow.transport)}
    here = list(_streams(sent, flow.transport))
    streams = tuple(_joined(stream, there.get(stream.local_port), flow.transport) for stream in here)
    return FlowResult(
        flow=flow,
        streams=streams,
        started_s=started_s,
        duration_s=max((stream.seconds for stream in here), default=0.0),
        error=error or _trouble(sent, client, bool(streams)),
    )


@dataclass(frozen=True, slots=True)
class Received:
    """What a client in reverse mode received over its one stream.

    `seconds` is the sender's: from its start until it heard that the client had all; the client's own clock starts
    late by what came before. `retransmits` is None for UDP, `lost_packets` for TCP.
    """

    five_tuple: FiveTuple
    bytes: int
    seconds: float
    retransmits: int | None
    lost_packets: int | None


def received_in(text: str) -> Received | str:
    """A client's report of a reverse flow; what it has to say against it, where it did not come to its end."""
    report = _report(text)
    end = report.get("end", {})
    connected = report.get("start", {}).get("connected", ())
    total = end.get("sum", {})  # older ones have but this of UDP
    sent, received = end.get("sum_sent", total), end.get("sum_received", total)
    if report.get("error") or not connected or not sent or not received:
        return _trouble(report, text, opened=False) or "iperf3 did not come to its end"
    transport = Transport.UDP if str(report["start"]["test_start"]["protocol"]) == "UDP" else Transport.TCP
    there = _five_tuple(connected[0], transport)
    return Received(
        FiveTuple(there.dst, there.src, transport, there.dport, there.sport),
        int(received["bytes"]),
        float(sent["seconds"]),
        int(sent["retransmits"]) if "retransmits" in sent else None,
        int(total["lost_packets"]) if transport is Transport.UDP else None,
    )


def error_in(text: str) -> str:
    """The error a report states, empty without one."""
    return str(_report(text).get("error", ""))


def _trouble(sent: Mapping[str, Any], text: str, opened: bool) -> str | None:
    stated = str(sent.get("error", ""))
    if stated and not (stated.startswith(INTERRUPTED) and opened):
        return stated
    if not sent:
        return f"iperf3 wrote no report{': ' + text.strip()[-200:] if text.strip() else ''}"
    return None


def _report(text: str) -> dict[str, Any]:
    """The report as plain data, {} when there is none. What stands before the first brace is a warning."""
    try:
        found = json.loads(text[text.index("{") :])
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _streams(report: Mapping[str, Any], transport: Transport) -> Iterator[_Stream]:
    """The streams of one side's report. A test that ended badly has no totals: its intervals are added up."""
    totals = {number: total for one in report.get("end", {}).get("streams", ()) for number, total in _totals(one)}
    block = int(report.get("start", {}).get("test_start", {}).get("blksize", 0))
    for connected in report.get("start", {}).get("connected", ()):
        number = connected["socket"]
        seen = [s for interval in report.get("intervals", ()) for s in interval["streams"] if s["socket"] == number]
        total = totals.get(number, {})
        packets = int(total.get("packets", sum(s.get("packets", 0) for s in seen)))
        lost = int(total.get("lost_packets", sum(s.get("lost_packets", 0) for s in seen)))
        moved = int(total.get("bytes", 0)) or sum(int(s["bytes"]) for s in seen)
        if transport is Transport.UDP and seen and not seen[0].get("sender", True) and total:
            # The receiver's total says 0 bytes; packets × size also has what came after the last interval.
            moved = (packets - lost) * block
        yield _Stream(
            local_port=int(connected["local_port"]),
            remote_port=int(connected["remote_port"]),
            five_tuple=_five_tuple(connected, transport),
            moved_bytes=moved,
            packets=packets if transport is Transport.UDP else None,
            lost=lost if transport is Transport.UDP else None,
            retransmits=_retransmits(total, seen),
            seconds=float(total.get("seconds", seen[-1]["end"] if seen else 0.0)),
            intervals=tuple((float(s["start"]), float(s["end"]), int(s["bytes"])) for s in seen),
        )


def _totals(stream: Mapping[str, Any]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(socket, this side's total). A TCP stream has a sender's and a receiver's, of which the reporter's own counts."""
    if "udp" in stream:
        yield int(stream["udp"]["socket"]), stream["udp"]
        return
    own = "sender" if stream.get("sender", {}).get("sender", False) else "receiver"
    if own in stream:
        yield int(stream[own]["socket"]), stream[own]


def _retransmits(total: Mapping[str, Any], seen: list[Mapping[str, Any]]) -> int | None:
    if "retransmits" in total:
        return int(total["retransmits"])
    counted = [int(s["retransmits"]) for s in seen if "retransmits" in s]
    return sum(counted) if counted else None


def _joined(here: _Stream, there: _Stream | None, transport: Transport) -> StreamResult:
    """The sender's and the receiver's view of one stream in one."""
    got = None if there is None or there.packets is None or there.lost is None else there.packets - there.lost
    udp = transport is Transport.UDP
    return StreamResult(
        five_tuple=here.five_tuple,
        sent_bytes=here.moved_bytes,
        received_bytes=there.moved_bytes if there is not None else 0,
        sent_packets=here.packets,
        # The receiver's own count of losses misses those after the last packet it saw.
        lost_packets=max(0, (here.packets or 0) - got) if udp and got is not None else None,
        retransmits=here.retransmits,
        intervals=tuple(Interval(*seen) for seen in here.intervals),
        arrivals=tuple(Arrival(*seen) for seen in there.intervals) if there is not None else (),
    )


def _five_tuple(connected: Mapping[str, Any], transport: Transport) -> FiveTuple:
    return FiveTuple(
        src=str(connected["local_host"]),
        dst=str(connected["remote_host"]),
        transport=transport,
        sport=int(connected["local_port"]),
        dport=int(connected["remote_port"]),
    )
