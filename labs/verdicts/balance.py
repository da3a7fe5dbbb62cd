"""What load balancing is for, and what it costs: fixed bytes done in time, and packets that overtake each other."""

from __future__ import annotations

import math
from collections.abc import Sequence

from labs.telemetry.samples import HostSample
from labs.verdicts import Evidence, Fidelity, Verdict
from labs.verdicts.health import vouch
from traffic.engines.rnic import RawReport, RawResult

# Ideal is every byte at line rate over links that are never idle; what protocols and pauses cost besides.
COMPLETION_MOST = 1.15
REORDERED_MOST = 1e-4
# With this many packets and not one reordered, the true share is below the bound with 95 % confidence (rule of three).
RULE_OF_THREE = 3.0
MOST_ROWS = 12


def in_order(
    report: RawReport, *, gap_s: float, most: float = REORDERED_MOST, host: HostSample | None = None
) -> Verdict:
    """Judge that packets of a flow hardly ever overtake each other.

    Args:
        gap_s: the silence that ends a flowlet. A switch that the workstation holds up for half of it, while another
            goes on, lets packets overtake each other that would not have: then what is false is invalid. What held,
            held: nothing puts packets back in order.
        most: the share of packets that may come after a later one.
        host: the workstation meanwhile.

    Invalid with fewer than 3 / `most` packets, and when packets were lost: what is missing cannot be late. How well
    the senders kept their schedule is no matter here.
    """
    received = sum(one.received_packets for one in report)
    late = {_name(one): one.received.reordered for one in report if one.received and one.received.reordered}
    share = sum(late.values()) / received if received else math.nan
    lost = sum(one.lost_packets for one in report)
    verdict = Verdict(
        f"fewer than {most:g} of packets come after a later one of their flow",
        share < most,
        Evidence(
            f"{sum(late.values())} of {received} packets in {len(report.results)} flows",
            {"packets": received, "reordered": sum(late.values()), "share": share, "most": most, "lost": lost},
            tuple(f"{name}: {count}" for name, count in late.items())[:MOST_ROWS],
        ),
        fidelity=Fidelity.EMULATED,
    )
    needed = math.ceil(RULE_OF_THREE / most)
    if received < needed:
        return verdict.invalid(f"{received} packets came, {needed} are needed to say {most:g}")
    if lost:
        return verdict.invalid(f"{lost} packets were lost")
    if not verdict.held and (host is None or host.starved_s > gap_s / 2):
        fared = f"a thread woke {host.starved_s * 1e3:.1f} ms late" if host else "nobody watched the workstation"
        return verdict.invalid(f"{fared}; the gap is {gap_s * 1e3:g} ms")
    return vouch(verdict, host)


def completion(
    report: RawReport, *, ideal_s: float, most: float = COMPLETION_MOST, host: HostSample | None = None
) -> Verdict:
    """Judge that flows of a fixed size were all done soon after the links alone would have allowed.

    Args:
        report: flows that began together and ended after their number of packets.
        ideal_s: the time that the busiest link, or cut of links, takes for the bytes that have to cross it.
        most: how many times that it may have taken, from the first packet of all to the last.

    False, whatever the time, when packets were lost: those bytes are not done. Invalid without flows, when the
    workstation was starved, and when the bytes would have been there in time but for what one CPU lost to the
    hypervisor: ports whose packets leave when that CPU wakes stood still meanwhile.
    """
    took = _took_s(report.results)
    lost = sum(one.lost_packets for one in report)
    last = sorted(report.results, key=_ended_ns, reverse=True)
    verdict = Verdict(
        f"all bytes are there within {most:g} times the ideal {ideal_s:.3f} s",
        bool(report.results) and not lost and took <= most * ideal_s,
        Evidence(
            f"{len(report.results)} flows took {took:.3f} s, {took / ideal_s:.3f} of the ideal; {lost} packets lost",
            {"took_s": took, "ideal_s": ideal_s, "ratio": took / ideal_s, "most": most, "lost": lost},
            tuple(f"{_name(one)}: done after {_took_s(report.results, one):.3f} s" for one in last)[:MOST_ROWS],
        ),
        fidelity=Fidelity.EMULATED,
        budget_s=ideal_s,
    )
    if not report.results:
        return verdict.invalid("there were no flows")
    stolen = host.steal_worst if host else 0.0
    if not verdict.held and not lost and took * (1 - stolen) <= most * ideal_s:
        return verdict.invalid(f"{stolen:.1%} of a CPU was stolen")
    return vouch(verdict, host)


def _took_s(results: Sequence[RawResult], last: RawResult | None = None) -> float:
    if not results:
        return math.nan
    ended = _ended_ns(last) if last else max(_ended_ns(one) for one in results)
    return (ended - min(one.sent.first_ns for one in results)) / 1e9


def _ended_ns(one: RawResult) -> int:
    return one.received.last_ns if one.received else one.sent.last_ns


def _name(result: RawResult) -> str:
    return f"{result.flow.src} to {result.flow.dst}, {result.flow.five_tuple}"
