"""Session events out of FRR's log, and when they happened."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from labs.telemetry.frr_log import Offset, session_event
from labs.telemetry.records import SessionEvent

# Read 2 ms after 2026-11-22 03:53:12.346570, by a clock that has run for 1000 s.
READ = Offset(int(datetime(2026, 11, 22, 3, 53, 12, tzinfo=UTC).timestamp()) * 10**9 + 348_570_000, 1000 * 10**9)
HAPPENED = 1000 * 10**9 - 2_000_000
DOWN = "BGP: [PXVXG-TFNNT] %ADJCHANGE: neighbor 10.160.8.3(spine1) in vrf default Down Interface down"
UP = "BGP: [N9HHH-F8H1M] %ADJCHANGE: neighbor eth1(spine1) in vrf default Up"
BFD = (
    "BFD: [SEY1D-NT8EQ] state-change: [mhop:no peer:10.160.8.3 local:10.160.8.2 vrf:default ifname:eth1] "
    "up -> down reason:control-expired"
)
PORTS = {"10.160.8.3": "eth1", "eth1": "eth1"}


def event(said: str, stamp: str = "2026/11/22 03:53:12.346570", *, now: Offset = READ) -> SessionEvent | None:
    return session_event(f"{stamp} {said}", "leaf1", PORTS, now)


def test_bgp() -> None:
    assert event(DOWN) == SessionEvent(
        t=HAPPENED,
        node="leaf1",
        peer="10.160.8.3",
        protocol="bgp",
        state="Down",
        up=False,
        because="Interface down",
        port="eth1",
    )
    up = event(UP)
    assert up is not None
    assert (up.peer, up.up, up.because, up.port) == ("eth1", True, "", "eth1")


def test_bfd() -> None:
    down, up = event(BFD), event(BFD.replace("up -> down reason:control-expired", "init -> up"))
    assert down is not None
    assert up is not None
    assert (down.protocol, down.state, down.up, down.because) == ("bfd", "down", False, "control-expired")
    assert (up.state, up.up, up.because, up.port) == ("up", True, "", "eth1")


def test_a_bfd_peer_that_nobody_knows_has_the_port_it_names() -> None:
    found = event(BFD.replace("peer:10.160.8.3", "peer:fe80::1"))
    assert found is not None
    assert found.port == "eth1"


@pytest.mark.parametrize("hours", [-12, -3.5, 0, 5.75, 14])
def test_a_node_may_live_in_another_time_zone(hours: float) -> None:
    local = datetime.fromtimestamp(datetime(2026, 11, 22, 3, 53, 12, 346570, UTC).timestamp() + hours * 3600, UTC)
    found = event(DOWN, local.strftime("%Y/%m/%d %H:%M:%S.%f"))
    assert found is not None
    assert found.t == HAPPENED


def test_a_stamp_of_whole_seconds() -> None:
    found = event(DOWN, "2026/11/22 03:53:12")
    assert found is not None
    assert found.t == HAPPENED - 346_570_000


@pytest.mark.parametrize(
    "line",
    [
        "",
        "2026/11/22 03:52:45.259 ZEBRA: [VTVCM-Y2NW3] Configuration Read in Took: 00:00:01",
        "%ADJCHANGE: neighbor eth1(spine1) in vrf default Up",
        "2026/11/22 03:53:12.346570 BGP: %ADJCHANGE in other words",
    ],
)
def test_other_lines(line: str) -> None:
    assert session_event(line, "leaf1", PORTS, READ) is None
