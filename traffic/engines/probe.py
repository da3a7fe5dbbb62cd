"""What an open-loop probe saw: packets numbered and sent on schedule whatever becomes of them, and what of them came.

A closed loop (TCP, a collective) stops sending when nothing is answered, so its silence is its own time-out and not
the fabric's outage. Here every packet has its place in time, and what is missing says when the way was broken:

- between the arrival of the last packet before a gap and that of the first after it the way was broken *at most*;
- from when the first of the missing was sent to when the last was sent it was broken *at least*;
- `missing` × interval is a third reading of the same (F9: t = lost / rate), which does not depend on any clock.

The packets are those of `rnic send` and `rnic recv` (traffic/engines/rnic.py), stamped by the receiving host's kernel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from topologies.errors import SpecError
from traffic.engines.rnic import HEADER_BYTES, LOGGED, RawFlow, RawReport, RawResult
from traffic.errors import TrafficError
from traffic.flows import FiveTuple

PPS = 2000
"""Packets a second: a gap is then read to half a millisecond."""
PAYLOAD_BYTES = 64
WIRE_OVERHEAD_BYTES = 8 + 20 + 14 + 4 + 20  # UDP, IPv4, Ethernet, FCS, preamble and gap: wire_bytes() of traffic/rnic
# So many intervals without a packet are no pause of the schedule's own: the law of pacing forgives two.
SILENT_INTERVALS = 3
# struct log_record of traffic/rnic/recv.c
_LOGGED = np.dtype(
    [("at", "<u8"), ("sequence", "<u8"), ("flow", "<u4"), ("sport", "<u2"), ("tos", "u1"), ("zero", "u1")]
)
Arrivals = npt.NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch in which nothing of a flow came. Times are nanoseconds of CLOCK_MONOTONIC.

    From `began_ns`, the arrival of the last packet before, to `ended_ns`, that of the first after; None when none came
    any more, and `began_ns` is the begin of sending when none had come. `missing` packets from number `first` on never
    came. With none missing it is a silence: the sender was held up, or the packets waited somewhere.
    """

    first: int
    missing: int
    began_ns: int
    ended_ns: int | None

    @property
    def lasted_s(self) -> float:
        """Seconds without a packet; infinite for one that did not end."""
        return float("inf") if self.ended_ns is None else (self.ended_ns - self.began_ns) / 1e9


@dataclass(frozen=True, slots=True)
class ProbedFlow:
    """What became of one flow.

    `reordered` packets came after one of a higher number, `duplicates` more than once. `late_ns` is how far behind
    its schedule the sender was at worst, `late_packets` how many left more than two intervals late. `held_back_ns` is
    how long the host's own port took nothing: the loop was not open then.
    """

    five_tuple: FiveTuple
    src: str
    dst: str
    interval_ns: int
    sent: int
    received: int
    gaps: tuple[Gap, ...]
    duplicates: int = 0
    reordered: int = 0
    late_ns: int = 0
    late_packets: int = 0
    held_back_ns: int = 0

    @property
    def lost(self) -> int:
        """Packets that left and never came."""
        return self.sent - self.received

    @property
    def longest(self) -> Gap | None:
        """The longest gap with packets missing; None when none is."""
        return max((gap for gap in self.gaps if gap.missing), key=lambda gap: gap.lasted_s, default=None)


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """What became of all flows, in the order they were given. `began_ns` and `ended_ns` are CLOCK_MONOTONIC.

    `invalid_because` are reasons for which the counts themselves cannot be trusted: a receiver's socket that was full.
    A late sender is none: how late it was bounds what its gaps prove, and is judged with them.
    """

    flows: tuple[ProbedFlow, ...]
    began_ns: int
    ended_ns: int
    invalid_because: tuple[str, ...] = ()

    @property
    def lost(self) -> int:
        """Packets of all flows that never came."""
        return sum(one.lost for one in self.flows)

    def __iter__(self) -> Iterator[ProbedFlow]:
        return iter(self.flows)


def probe_flow(src: str, dst: str, five_tuple: FiveTuple, *, pps: int = PPS, dscp: int = 0) -> RawFlow:
    """An endless flow of small packets, `pps` a second. Raises SpecError for a rate that proves nothing."""
    if not 1 <= pps <= 100_000:
        raise SpecError(f"a probe of {pps} packets/s", allowed="1 to 100000")
    return RawFlow(
        src=src,
        dst=dst,
        five_tuple=five_tuple,
        payload_bytes=PAYLOAD_BYTES,
        rate_bps=pps * 8 * (PAYLOAD_BYTES + WIRE_OVERHEAD_BYTES),
        dscp=dscp,
    )


def interval_ns(flow: RawFlow) -> int:
    """From one packet's moment to the next one's."""
    return round(1e9 * 8 * (flow.payload_bytes + WIRE_OVERHEAD_BYTES) / (flow.rate_bps or 1))


def probe_report(report: RawReport, logs: Mapping[str, Path], began_ns: int, ended_ns: int) -> ProbeReport:
    """What a run of probe flows comes to, from its report and the receivers' logs.

    Raises TrafficError for a log that is none or does not hold what its receiver counted.
    """
    arrived = {node: read_arrivals(path) for node, path in logs.items()}
    flows = tuple(
        _probed(one, number, arrived[one.flow.dst], began_ns) for number, one in enumerate(report.results, start=1)
    )
    reasons = [
        *(
            f"{node}: {one.overflow} packets found the receiver's socket full"
            for node, one in report.receivers.items()
            if one.overflow
        ),
        *(
            f"{node}: the receiver's log has no room for {one.log_left_out} packets"
            for node, one in report.receivers.items()
            if one.log_left_out
        ),
    ]
    return ProbeReport(flows, began_ns, ended_ns, tuple(reasons))


def read_arrivals(path: Path) -> Arrivals:
    """A receiver's log as an array with fields at, sequence, flow. Raises TrafficError for what is no such log."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TrafficError(f"the receiver's log cannot be read: {error}") from error
    if len(data) % LOGGED.size:
        raise TrafficError(f"{path}: {len(data)} bytes are no log of {LOGGED.size}-byte records")
    return np.frombuffer(data, _LOGGED)


def _probed(one: RawResult, number: int, arrived: Arrivals, began_ns: int) -> ProbedFlow:
    if one.flow.payload_bytes < HEADER_BYTES:
        raise SpecError(f"probe packets of {one.flow.payload_bytes} bytes", allowed=f"{HEADER_BYTES} or more")
    mine = arrived[arrived["flow"] == number]
    every_ns = interval_ns(one.flow)
    sequence, at = mine["sequence"].astype(np.int64), mine["at"].astype(np.int64)
    unique, first_at = np.unique(sequence, return_index=True)
    # A number below one that had come before it, copies of what had come left aside.
    firsts = sequence[np.sort(first_at)]
    reordered = int((firsts < np.maximum.accumulate(firsts)).sum()) if len(firsts) else 0
    return ProbedFlow(
        five_tuple=one.flow.five_tuple,
        src=one.flow.src,
        dst=one.flow.dst,
        interval_ns=every_ns,
        sent=one.sent.packets,
        received=len(unique),
        gaps=tuple(gaps_of(unique, at[first_at], one.sent.next_sequence, every_ns, began_ns)),
        duplicates=len(sequence) - len(unique),
        reordered=reordered,
        late_ns=one.sent.late_worst_ns,
        late_packets=one.sent.late_packets,
        held_back_ns=one.sent.held_back_ns,
    )


def gaps_of(
    sequence: Sequence[int] | npt.NDArray[np.int64],
    at: Sequence[int] | npt.NDArray[np.int64],
    next_sequence: int,
    every_ns: int,
    began_ns: int,
) -> Iterator[Gap]:
    """The gaps of a flow, in the order of their numbers.

    Args:
        sequence: the numbers that came, rising; `at` when each came first.
        next_sequence: the number after the last that was sent.
    """
    numbers = np.concatenate(([-1], np.asarray(sequence, dtype=np.int64)))
    times = np.concatenate(([began_ns], np.asarray(at, dtype=np.int64)))
    steps, waits = np.diff(numbers), np.diff(times)
    for i in np.nonzero((steps > 1) | (waits > SILENT_INTERVALS * every_ns))[0]:
        if steps[i] > 1 or numbers[i] >= 0:  # the way to the first packet is no silence
            began, ended = int(times[i]), int(times[i + 1])
            yield Gap(int(numbers[i]) + 1, int(steps[i]) - 1, began, max(began, ended))
    if next_sequence > numbers[-1] + 1:
        yield Gap(int(numbers[-1]) + 1, int(next_sequence - numbers[-1] - 1), int(times[-1]), None)
