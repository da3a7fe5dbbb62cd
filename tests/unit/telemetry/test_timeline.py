"""Reading a timeline: order, stretches, columns, and what a killed writer leaves."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from labs.errors import LabError
from labs.telemetry.records import FaultEvent, FlowRecord, HostRecord, LinkEvent, Note, PortRecord, Record, RouteEvent
from labs.telemetry.timeline import read_timeline, timeline_of


def port(t: int, node: str = "leaf1", **more: int) -> PortRecord:
    return PortRecord(t=t, node=node, port="eth1", up=True, tx_packets=t, tx_bytes=0, rx_packets=0, rx_bytes=0, **more)


def written(path: Path, *records: Record) -> Path:
    path.write_bytes(b"".join(msgspec.json.encode(record) + b"\n" for record in records))
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    told = (
        FaultEvent(t=1, id="f", fault="link-down", target="leaf1:spine1", phase="made", params={"sender": "leaf1"}),
        port(2, rx_dropped=7),
        RouteEvent(t=3, node="leaf1", prefix="10.0.0.0/24", ports=("eth1", "eth2"), protocol="bgp"),
        FlowRecord(t=4, flow="a", received=3, first=1, last=4, silence_ns=9, silence_end=3),
    )
    timeline = read_timeline(written(tmp_path / "t", *told))
    assert tuple(timeline) == told
    assert len(timeline) == 4
    assert timeline.counts()[PortRecord] == 1


def test_a_stretch_has_its_first_moment_and_not_its_last() -> None:
    timeline = timeline_of(LinkEvent(t=t, node="leaf1", port="eth1", up=False) for t in (3, 1, 2, 4))
    assert [event.t for event in timeline.of(LinkEvent)] == [1, 2, 3, 4]
    assert [event.t for event in timeline.since(2).until(4)] == [2, 3]
    assert [event.t for event in timeline.since(2).since(1).of(LinkEvent, until=3)] == [2]
    assert list(timeline.since(3).until(2)) == []
    assert timeline.first(LinkEvent, lambda event: event.t > 2) == LinkEvent(t=3, node="leaf1", port="eth1", up=False)
    assert timeline.first(Note) is None


@pytest.mark.parametrize("kind", [PortRecord, HostRecord])
def test_no_record_of_a_kind(kind: type[Record]) -> None:
    timeline = timeline_of([])
    assert timeline.of(kind) == ()
    assert len(timeline.columns(kind)["t"]) == 0 if kind is PortRecord else True
    assert len(timeline) == 0


def test_columns_of_samples_and_of_events() -> None:
    timeline = timeline_of([port(2, "leaf2"), port(1), LinkEvent(t=5, node="leaf1", port="eth1", up=False)])
    ports = timeline.columns(PortRecord)
    assert ports["tx_packets"].tolist() == [1, 2]
    assert ports["node"].tolist() == ["leaf1", "leaf2"]
    assert timeline.columns(PortRecord, since=2)["node"].tolist() == ["leaf2"]
    assert timeline.of(PortRecord) == (port(1), port(2, "leaf2"))
    assert timeline.columns(LinkEvent)["up"].tolist() == [False]
    optional = timeline_of([HostRecord(t=1, duration_s=1.0, steal=0, steal_worst=0, starved_s=0)]).columns(HostRecord)
    assert optional["cpu_pressure"].tolist() == [None]


def test_a_torn_last_line_is_left_out_and_counted(tmp_path: Path) -> None:
    path = written(tmp_path / "t", port(1), port(2))
    path.write_bytes(path.read_bytes()[:-5])
    timeline = read_timeline(path)
    assert (len(timeline), timeline.torn, timeline.unread) == (1, 1, 0)


def test_lines_of_no_known_kind_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "t"
    known = msgspec.json.encode(port(1)) + b"\n"
    path.write_bytes(b'{"kind":"of-tomorrow","t":1}\n' + known + b"{not json\n" + known)
    timeline = read_timeline(path)
    assert (len(timeline), timeline.torn, timeline.unread) == (2, 0, 2)


def test_a_late_record_is_put_back_to_when_it_happened(tmp_path: Path) -> None:
    path = written(tmp_path / "t", Note(t=10, text="before"), Note(t=10, late_ns=4, text="late"))
    assert [(note.t, note.text) for note in read_timeline(path).of(Note)] == [(6, "late"), (10, "before")]


def test_a_file_larger_than_a_block(tmp_path: Path) -> None:
    path = written(tmp_path / "t", *(port(t) for t in range(40_000)))
    assert path.stat().st_size > 1 << 21
    timeline = read_timeline(path)
    assert (timeline.columns(PortRecord)["t"] == range(40_000)).all()
    assert timeline.torn == timeline.unread == 0


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="there is no timeline to read"):
        read_timeline(tmp_path / "none")
