"""What came and went while a watch ran: device events, namespaces, links by name."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from labs.telemetry import net_watch
from labs.telemetry.net_watch import NetChanges, NetWatch, link_changes, namespaces

NEW, DEL = 16, 17
ALL = 0xFFFFFFFF


def message(kind: int, name: str, *, change: int = ALL, family: int = 0) -> bytes:
    """A link message as the kernel sends it, with an attribute before the name."""
    text = name.encode() + b"\0"
    attributes = struct.pack("=HHI", 8, 13, 1000) + struct.pack("=HH", 4 + len(text), 3) + text
    body = struct.pack("=BxHiII", family, 1, 7, 0, change) + attributes
    return (struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body).ljust(16 + (len(body) + 3 & ~3), b"\0")


def test_links_that_come_and_go() -> None:
    said = message(NEW, "veth1a") + message(DEL, "eth0") + message(NEW, "br-lan")
    assert list(link_changes(said)) == ["+veth1a", "-eth0", "+br-lan"]


def test_links_that_only_change_are_none() -> None:
    up, port = message(NEW, "eth0", change=1), message(DEL, "veth1", family=7)  # set up; taken off a bridge
    assert list(link_changes(up + port)) == []
    assert list(link_changes(b"")) == []
    assert list(link_changes(b"\0" * 64)) == []


@pytest.fixture
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "uevent_seqnum"
    path.write_text("100\n")
    monkeypatch.setattr(net_watch, "UEVENTS", path)
    return path


def test_device_events_are_those_of_the_block(events: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net_watch, "namespaces", lambda: frozenset({1, 2}))
    with NetWatch() as watch:
        events.write_text("103\n")
        assert watch.changes().device_events == 3
        monkeypatch.setattr(net_watch, "namespaces", lambda: frozenset({2, 3}))
    events.write_text("200\n")
    seen = watch.changes()
    assert (seen.device_events, seen.namespaces_gone) == (3, 1)
    assert not seen.none
    assert seen.as_dict()["namespaces_gone"] == 1


def test_kernel_that_numbers_no_events(events: Path) -> None:
    events.unlink()
    with NetWatch() as watch:
        pass
    assert watch.changes().device_events is None
    assert NetChanges(None, 0).none
    assert NetChanges(0, 0).none


def test_our_own_namespace_is_seen() -> None:
    assert Path("/proc/self/ns/net").stat().st_ino in namespaces()
