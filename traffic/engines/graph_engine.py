"""What an engine gives that plays a graph of sends, whichever it is: a run, and in the end a report.

`rnic` moves real data and checks it; `iperf3` and `scapy` move as many bytes that mean nothing, so nothing of theirs
is ever wrong or right. What an engine cannot know is None, never 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from traffic.flows import FiveTuple


@dataclass(frozen=True, slots=True)
class CarriedFlow:
    """What one five-tuple carried from host `src` to host `dst`.

    `bytes` are of one iteration, `took_s` of the last: from the flow's first begin to its last end, None where it has
    none. `ce` packets came with a congestion mark, `retransmits` were sent again, `lost_packets` never came.
    """

    src: str
    dst: str
    five_tuple: FiveTuple
    bytes: int
    took_s: float | None
    ce: int | None = None
    retransmits: int | None = None
    lost_packets: int | None = None


class GraphReport(Protocol):
    """What became of a graph, all iterations together unless it says otherwise."""

    @property
    def error(self) -> str | None:
        """All that failed, with flows and hosts, as one message; None when nothing did."""
        ...

    @property
    def wrong(self) -> int | None:
        """Elements that are not what they should be; None where nothing was checked."""
        ...

    @property
    def retransmits(self) -> int | None:
        """Packets that were sent again; None where nobody sends again."""
        ...

    @property
    def ce(self) -> int | None:
        """Packets that arrived with a congestion mark; None where nobody looked."""
        ...

    @property
    def lost_packets(self) -> int:
        """Packets that were really lost, as far as the engine knows."""
        ...

    @property
    def timeouts(self) -> int:
        """Times that a sender had waited in vain for an acknowledgement."""
        ...

    @property
    def late_share(self) -> float | None:
        """The largest share of a card's packets that left behind their schedule; None without a schedule."""
        ...

    @property
    def rate_error(self) -> float | None:
        """By how much the worst card's mean rate missed its schedule's, as a share of it; None where not told."""
        ...

    @property
    def dscp(self) -> int:
        """The class the packets were sent in."""
        ...

    @property
    def flows(self) -> Sequence[CarriedFlow]:
        """Every five-tuple that carried something."""
        ...

    def took_s(self, warmup: int = 0) -> float | None:
        """Seconds an iteration took on the mean, but for the first `warmup`; None when not all were done."""
        ...

    def overhead_s(self, warmup: int = 0) -> float | None:
        """Of these, what the engine took to begin and end its sends; None where that is not told apart."""
        ...


class Unchecked:
    """What reports have alike of engines whose bytes mean nothing and leave by no schedule."""

    __slots__ = ()
    errors: tuple[str, ...]

    @property
    def error(self) -> str | None:
        """All that failed as one message; None when nothing did."""
        return "; ".join(self.errors) or None

    @property
    def wrong(self) -> int | None:
        """Nothing is checked."""
        return None

    @property
    def timeouts(self) -> int:
        """None that the engine could tell."""
        return 0

    @property
    def late_share(self) -> float | None:
        """Not measured: no packet has a time of its own to leave at."""
        return None

    @property
    def rate_error(self) -> float | None:
        """Not measured, as there is no schedule."""
        return None


class RunningGraph(Protocol):
    """A graph under way."""

    def finish(self, timeout: float) -> GraphReport:
        """Wait for its end, at most `timeout` seconds, and report. Leaves no process behind."""
        ...

    def stop(self) -> GraphReport:
        """End it now and report what was done until now; idempotent. Leaves no process behind."""
        ...
