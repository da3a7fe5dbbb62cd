"""Sessions that change, as FRR's daemons write it to their log. Pure.

bgpd says it of every neighbour (``bgp log-neighbor-changes``), bfdd of every peer (``debug bfd peer``). FRR stamps a
line when it happens, to the microsecond, in the node's local time; the file gets it at the end of the daemon's turn.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from labs.telemetry.records import SessionEvent

_LINE = re.compile(r"^(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d(?:\.\d+)?) (\w+): (.*)$")
_BGP = re.compile(r"%ADJCHANGE: neighbor (\S+?)(?:\([^)]*\))? in vrf \S+ (Up|Down) ?(.*)$")
_BFD = re.compile(r"state-change: \[.*?peer:(\S+) .*?\] (\S+) -> (\S+)(?: reason:(.*))?$")
_IFNAME = re.compile(r"ifname:([^\]\s]+)")
_QUARTER_NS = 900 * 10**9  # time zones differ by quarters of an hour


@dataclass(frozen=True, slots=True)
class Offset:
    """Which wall time (`wall_ns` from the epoch) it was at `monotonic_ns`."""

    wall_ns: int
    monotonic_ns: int

    def monotonic(self, stamp: str) -> int:
        """When a line just read was stamped; not later than now. Its time zone is that which makes it recent."""
        naive = datetime.strptime(stamp if "." in stamp else f"{stamp}.0", "%Y/%m/%d %H:%M:%S.%f").replace(tzinfo=UTC)
        whole = int(naive.replace(microsecond=0).timestamp()) * 10**9 + naive.microsecond * 1000
        ago = self.wall_ns - whole
        zone = (ago + _QUARTER_NS // 2) // _QUARTER_NS * _QUARTER_NS
        return self.monotonic_ns - max(0, ago - zone)


def session_event(line: str, node: str, ports: Mapping[str, str], now: Offset) -> SessionEvent | None:
    """The event in a line; None for any other line.

    Args:
        ports: the port behind each neighbour's address or name.
    """
    if "%ADJCHANGE" not in line and "state-change" not in line:
        return None
    matched = _LINE.match(line)
    if matched is None:
        return None
    stamp, _, said = matched.groups()
    t = now.monotonic(stamp)
    if bgp := _BGP.search(said):
        peer, state, because = bgp.groups()
        return SessionEvent(
            t=t, node=node, peer=peer, protocol="bgp", state=state, up=state == "Up", because=because.strip(),
            port=ports.get(peer, ""),
        )  # fmt: skip
    if bfd := _BFD.search(said):
        peer, _, state, because = bfd.groups()
        port = ports.get(peer) or (found.group(1) if (found := _IFNAME.search(said)) else "")
        return SessionEvent(
            t=t, node=node, peer=peer, protocol="bfd", state=state, up=state == "up", because=(because or "").strip(),
            port=port,
        )  # fmt: skip
    return None
