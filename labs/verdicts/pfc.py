"""Priority flow control: is nothing lost, are senders paused as long as they have to be, soon enough, and no longer?

    send at B  ┐                       ┌ N senders that always have packets, one port of rate B: each port may send
    send at B  ┼─► leaf ─ B ─► sink    │ B/N, so it is open 1/N of the time and paused 1 - 1/N of it
    send at B  ┘                       └ (F7; V10 allows 3 points)

A pause works when what is still on its way finds room: headroom >= 2 frames + rate · reaction (F6). The reaction is
software's here, and a busy workstation makes it longer than any switch's. So every judge of what PFC achieves asks
`Measured` first whether the run can vouch for itself: it is INVALID when the longest reaction was longer than the
headroom covers, when somebody took the kernel's networking lock, when the CPU was withheld, when the receiver or the
kernel's own backlog lost packets that no switch would have lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt

from labs.telemetry.asic_counters import AsicCounters, QueueCounters
from labs.telemetry.asicd_counters import BUCKET_US, AsicdCounters
from labs.telemetry.samples import HostSample
from labs.verdicts import Evidence, Fidelity, Verdict
from labs.verdicts.health import STEAL_MOST, vouch
from traffic.engines.rnic import RawReport, RawResult

LOSSLESS = (3, 4)  # queues, priority groups and priorities of the profiles that come with railbed
LOSSLESS_DSCPS = (3, 4, 26)
WIRE_OVERHEAD = 24  # preamble 8, FCS 4, gap 12: what a frame takes on the wire beyond its length
# V10: 3 points. A run of W seconds that begins and ends anywhere in a cycle of pauses errs by one such at most.
SHARE_WITHIN = 0.03
GOODPUT_LEAST = 0.95
# The counters are read one map after the other: what that takes is the error of every rate.
BLUR_MOST = 0.01
# The longest of some thousand reactions is 2 to 10 times their 99th percentile (84 and 189 µs, 496 and 1810, 228 and
# 1760 were measured); what the headroom covers beyond that is for a workstation that stops as a whole. So a hundredth
# of it for 99 %, which leaves the longest one ten times its room.
P99_SHARE = 0.01
LEAST_PAUSES = 100  # below, the 99th percentile is the maximum
# asicd's timers fire late: its polls keep their distance, so a detection is at most two such wake-ups late. How late
# threads woke while the run lasted is measured; this is what a quiet workstation does.
TIMER_SLACK_S = 0.005
# Polls are counted on CLOCK_MONOTONIC, storms are stamped by CLOCK_REALTIME, which adjtime may slew by 500 ppm.
CLOCK_SLEW = 500e-6
MOST_ROWS = 12

PortName = tuple[str, str]
"""A node and its port: ``("host1", "eth1")``."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Traffic on a lab, watched.

    `start` and `end` are the counters before the first packet and after the last, `begun` and `ended` those between
    which it was steady, `lasted_s` apart, give or take `blur_s`. `covered_s` is the longest reaction that the lossless
    headroom covers, at this rate and frame. `disturbed` is why the lease says it was no quiet moment, or None.
    """

    start: AsicCounters
    begun: AsicCounters
    ended: AsicCounters
    end: AsicCounters
    lasted_s: float
    blur_s: float
    covered_s: float
    report: RawReport | None = None
    disturbed: str | None = None
    host: HostSample | None = None
    lease: Mapping[str, object] = field(default_factory=dict)

    @property
    def whole(self) -> AsicCounters:
        """All that was counted."""
        return self.end - self.start

    @property
    def steady(self) -> AsicCounters:
        """What was counted while it was steady."""
        return self.ended - self.begun

    @property
    def why_not(self) -> str | None:
        """Why the run cannot vouch for itself; None when it can."""
        if self.disturbed:
            return self.disturbed
        overflow = sum(one.overflow for one in self.report.receivers.values()) if self.report else 0
        if overflow:
            return f"{overflow} packets found a receiver's socket full"
        counted = self.whole.asicd
        if counted.softnet_dropped:
            return f"the kernel's backlog lost {counted.softnet_dropped} packets of the workstation's"
        longest = longest_us(counted)
        if longest is not None and longest > self.covered_s * 1e6:
            return f"a pause took {longest:.0f} µs to be obeyed, the headroom covers {self.covered_s * 1e6:.0f} µs"
        if self.host is not None and self.host.steal > STEAL_MOST:
            return f"the workstation was starved: steal {self.host.steal:.0%}, at most {STEAL_MOST:.0%} allowed"
        return None

    def numbers(self) -> dict[str, object]:
        """What belongs into every verdict's evidence."""
        counted = self.whole.asicd
        return {
            "reaction": reaction_numbers(counted),
            "covered_us": round(self.covered_s * 1e6),
            "fifo": counted.fifo,
            "workstation": self.host
            and {
                "steal": round(self.host.steal, 4),
                "steal_worst": round(self.host.steal_worst, 4),
                "starved_s": round(self.host.starved_s, 4),
            },
            **self.lease,
        }


def longest_us(counted: AsicdCounters) -> float | None:
    """The longest reaction in a stretch, or a little more; None without any.

    asicd's own maximum is that of its whole life. The histogram says more up to where it ends; beyond, the sum does:
    the longest one is at most what the sum leaves for those beyond, each of the others in the middle of its bucket.
    That errs by n uniform errors of 4 µs, 4/√12 · √n, of which five standard deviations are added.
    """
    highest = max((at for at, count in enumerate(counted.reactions) if count), default=None)
    if highest is None:
        return None
    *within, beyond = counted.reactions
    if not beyond:
        return min(float((highest + 1) * BUCKET_US), counted.reaction_max_us)
    others = sum((at + 0.5) * BUCKET_US * count for at, count in enumerate(within))
    others += (beyond - 1) * highest * BUCKET_US
    error = 5 * BUCKET_US * sqrt(sum(within) / 12)
    return min(counted.reaction_max_us, counted.reaction_sum_ns / 1000 - others + error)


def reaction_numbers(counted: AsicdCounters) -> dict[str, object]:
    """Reactions in a stretch, in µs."""
    shares = {name: counted.reaction_us(share) for name, share in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999))}
    return {"count": counted.reaction_count, **shares, "max": longest_us(counted)}


def lossless(run: Measured, *, queues: Sequence[int] = LOSSLESS, dscps: Sequence[int] = LOSSLESS_DSCPS) -> Verdict:
    """Judge that no lossless queue and no lossless PG dropped a packet, and every one that was sent arrived.

    Bound: 0. The counters of the switches and the ends' own accounts have to agree on it. Invalid when the run cannot
    vouch for itself (`Measured.why_not`), or when nothing was sent in a lossless class.
    """
    counted = run.whole
    wrong = {str(one): drops for one in counted.queues if one.queue in queues and (drops := _drops(one))}
    wrong |= {str(one): one.dropped_packets for one in counted.groups if one.group in queues and one.dropped_packets}
    flows = [one for one in (run.report or ()) if one.flow.dscp in dscps]
    missing = {_name(one): one.lost_packets for one in flows if one.lost_packets}
    sent = sum(one.sent.packets for one in flows)
    through = sum(one.sent_packets for one in counted.queues if one.queue in queues)
    told = f"{sum(wrong.values())} drops, {sum(missing.values())} of {sent} packets lost"
    verdict = Verdict(
        "lossless classes lose nothing",
        not wrong and not missing,
        Evidence(
            told if wrong or missing else f"no drop; all of {sent} packets arrived",
            {"drops": wrong, "missing": missing, "sent": sent, "sent_by_queues": through, **run.numbers()},
        ),
        fidelity=Fidelity.EMULATED,
    )
    return _valid(verdict, run, None if sent or through else "nothing was sent in a lossless class")


def pause_share(
    run: Measured,
    ports: Sequence[PortName],
    *,
    priority: int = 3,
    paused: float | None = None,
    within: float = SHARE_WITHIN,
) -> Verdict:
    """Judge that each of these sending ports is paused the same share of the time, and sends the same share of bytes.

    Bound: paused 1 - 1/N of the time, a share of 1/N of the bytes, both give or take `within` (3 points). `paused` is
    the share expected where it is another: a slow receiver of r on a port of B pauses it 1 - r/B. Invalid when the
    run cannot vouch for itself, when the counters took too long to read, or when nothing was sent.
    """
    counted = run.steady
    sent = {port: counted.queue(*port, priority).sent_bytes for port in ports}
    total, even = sum(sent.values()), 1 / len(ports)
    expected = 1 - even if paused is None else paused
    shares = {port: (count / total if total else 0.0) for port, count in sent.items()}
    held = {port: counted.port(*port).paused_ns[priority] / 1e9 / run.lasted_s for port in ports}
    off = max(abs(held[port] - expected) for port in ports), max(abs(shares[port] - even) for port in ports)
    verdict = Verdict(
        f"priority {priority} is paused {expected:.1%} of the time",
        max(off) <= within,
        Evidence(
            f"paused {_range(held.values())} of {run.lasted_s:.2f} s, shares {_range(shares.values())} for {even:.1%}",
            {"worst_paused": round(off[0], 4), "worst_share": round(off[1], 4), "within": within, **run.numbers()},
            tuple(
                f"{node}:{name}: paused {held[node, name]:.3f}, share {shares[node, name]:.3f}" for node, name in ports
            )[:MOST_ROWS],
        ),
        fidelity=Fidelity.EMULATED,
    )
    return _valid(verdict, run, _blurred(run) or (None if total else "nothing was sent"))


def incast_goodput(
    run: Measured,
    sink: PortName,
    *,
    payload_bytes: int,
    frame_bytes: int,
    priority: int = 3,
    least: float = GOODPUT_LEAST,
) -> Verdict:
    """Judge that pausing costs no throughput: the port to the sink sends payload at its rate, less headers.

    Args:
        sink: the switch's port that all flows leave by.
        frame_bytes: a frame as Linux counts it; on the wire it takes 24 more.
        least: the share of what is possible that has to be reached.

    Bound: 0.95 · rate · payload / (frame + 24). A queue that runs dry while its senders are still paused shows here.
    Invalid when the run cannot vouch for itself, or the counters took too long to read; and where it would have held
    but for the time that the hypervisor took from one CPU: a port's packets leave when a CPU wakes, and what it slept
    through is not made good.
    """
    counted = run.steady
    rate = counted.port(*sink).rate_bps
    possible = rate * payload_bytes / (frame_bytes + WIRE_OVERHEAD)
    goodput = counted.queue(*sink, priority).sent_bytes * payload_bytes / frame_bytes * 8 / run.lasted_s
    verdict = Verdict(
        f"an incast gets {least:.0%} of its port",
        goodput >= least * possible,
        Evidence(
            f"{goodput / 1e6:.2f} Mbit/s of payload, {possible / 1e6:.2f} possible: {goodput / possible:.3f}",
            {"goodput_bps": round(goodput), "possible_bps": round(possible), "least": least, **run.numbers()},
        ),
        fidelity=Fidelity.EMULATED,
    )
    stolen = run.host.steal_worst if run.host else 0.0
    robbed = not verdict.held and goodput >= least * possible * (1 - stolen)
    return _valid(verdict, run, _blurred(run) or (f"{stolen:.1%} of a CPU was stolen" if robbed else None))


def reaction(run: Measured, *, share: float = P99_SHARE) -> Verdict:
    """Judge that pauses are obeyed soon: from the packet that crosses the threshold until the sender's gate is shut.

    Bound: 99 % within a hundredth of what the headroom covers; that the longest one is within all of it is what makes a
    run valid. Where the hypervisor took a share s of a CPU's time, as many pauses met a workstation that stood still,
    at either end: of the others, 1 - 2s at least, 99 % are judged. The evidence says whether asicd had real-time
    priority, and what else happened on the workstation meanwhile. Invalid, beside that, with fewer than 100 pauses.
    """
    counted = run.whole.asicd
    awake = 1 - 2 * min(run.host.steal_worst if run.host else 0.0, STEAL_MOST)
    p99, most, longest = counted.reaction_us(0.99 * awake), run.covered_s * 1e6 * share, longest_us(counted)
    verdict = Verdict(
        f"{99 * awake:.3g} % of pauses are obeyed within {share:.0%} of what the headroom covers",
        p99 is not None and p99 <= most,
        Evidence(
            f"{counted.reaction_count} pauses, p{99 * awake:.3g} {p99 or 0:.0f} µs, {most:.0f} allowed; "
            f"max {longest or 0:.0f}",
            {"pauses": counted.pauses, "events_late": counted.events_late, **run.numbers()},
        ),
        fidelity=Fidelity.EMULATED,
    )
    few = f"{counted.reaction_count} pauses were measured, {LEAST_PAUSES} are the least for a percentile"
    return _valid(verdict, run, few if counted.reaction_count < LEAST_PAUSES else None)


@dataclass(frozen=True, slots=True)
class StormTiming:
    """One storm: seconds from its first frame to the watchdog's detection, and from its last to the restoration."""

    detected_s: float | None
    restored_s: float | None


def watchdog_timing(
    storms: Sequence[StormTiming],
    *,
    detect_s: float,
    restore_s: float,
    poll_s: float,
    host: HostSample | None = None,
    disturbed: str | None = None,
) -> Verdict:
    """Judge that the PFC watchdog finds and ends every storm in time.

    Bound (SONiC's own, V18): detected in (detect, detect + poll) after the storm's first frame, restored in (restore,
    restore + poll) after its last: the poll that sees the storm first comes at any moment of a poll's length, and
    full polls are counted from there. The upper ends have 5 ms more, as asicd's timers fire late, or twice what threads
    of this workstation were seen to wake late; the lower ends 500 ppm less, which is two clocks' due. They need
    traffic that flowed until the storm began: a queue already still would count the poll before as well. Invalid when
    there were no storms, when the lease was disturbed or the workstation starved.
    """
    found = [*(("detected", one.detected_s, detect_s) for one in storms)]
    found += [*(("restored", one.restored_s, restore_s) for one in storms)]
    late_s = max(TIMER_SLACK_S, 2 * host.starved_s) if host else TIMER_SLACK_S
    wrong = [
        f"{what} {'never' if took is None else f'after {took * 1e3:.1f} ms'}, allowed {after * 1e3:g} to "
        f"{(after + poll_s) * 1e3:g} ms"
        for what, took, after in found
        if took is None or not after * (1 - CLOCK_SLEW) < took < after + poll_s + late_s
    ]
    took = {what: sorted(round(one, 4) for name, one, _ in found if name == what and one is not None) for what in _WHAT}
    verdict = Verdict(
        "the PFC watchdog acts in time",
        not wrong and bool(storms),
        Evidence(
            f"{len(wrong)} of {len(found)} times are wrong" if wrong else f"{len(storms)} storms", took, tuple(wrong)
        ),
        fidelity=Fidelity.EMULATED,
        budget_s=poll_s,
    )
    if not storms or disturbed:
        return verdict.invalid(disturbed or "there were no storms")
    return vouch(verdict, host)


_WHAT = ("detected", "restored")


def _drops(queue: QueueCounters) -> int:
    """Every packet that came to a queue and did not leave it over the wire."""
    return queue.dropped_packets + queue.ingress_packets + queue.lost_packets


def _name(result: RawResult) -> str:
    return f"{result.flow.src} to {result.flow.dst}"


def _range(values: Iterable[float]) -> str:
    found = sorted(values)
    return f"{found[0]:.1%}" if found[0] == found[-1] else f"{found[0]:.1%} to {found[-1]:.1%}"


def _blurred(run: Measured) -> str | None:
    if run.blur_s <= BLUR_MOST * run.lasted_s:
        return None
    return f"the counters took {run.blur_s * 1e3:.0f} ms to read, of a run of {run.lasted_s:.2f} s"


def _valid(verdict: Verdict, run: Measured, because: str | None) -> Verdict:
    why = run.why_not or because
    return verdict.invalid(why) if why else verdict
