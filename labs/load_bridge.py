"""Load on a running lab: raw flows from rnic, which runs beside the nodes' software, in their network namespaces."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from labs import lease
from labs.channels.namespaces import in_network
from labs.dataplane.asic import SoftAsic
from labs.errors import CapabilityMissing, NotReady
from labs.lab import Lab
from labs.telemetry.asic_counters import AsicCounters
from labs.telemetry.host_watch import HostWatch
from labs.verdicts.ledger import nothing_left
from labs.verdicts.pfc import Measured
from labs.waiting import wait_until
from topologies import addressing
from traffic.engines.rnic import RawFlow, RawReport, RawRun, SpokenTo, start_raw
from traffic.flows import FiveTuple, Transport

ROCE_PORT = 4791
FIRST_SPORT = 49152  # of the range that Linux gives RoCEv2's source ports
UDP_HEADERS = 42  # Ethernet 14, IPv4 20, UDP 8


def five_tuple(
    lab: Lab, src: str, dst: str, *, sport: int = FIRST_SPORT, dport: int = ROCE_PORT, family: int = 4
) -> FiveTuple:
    """The five-tuple of a flow between the first cards of two hosts."""
    ends = [str(addressing.host_address(lab.fabric, host, 1, family)) for host in (src, dst)]
    return FiveTuple(ends[0], ends[1], Transport.UDP, sport, dport)


def incast(
    lab: Lab,
    sources: Sequence[str],
    sink: str,
    *,
    rate_bps: int,
    duration_s: float,
    dscp: int = 3,
    ecn: int = 2,
    payload_bytes: int = 4096,
) -> tuple[RawFlow, ...]:
    """One flow from each source to the sink, `rate_bps` on the wire each."""
    return tuple(
        RawFlow(
            src=src,
            dst=sink,
            five_tuple=five_tuple(lab, src, sink, sport=FIRST_SPORT + number),
            duration_s=duration_s,
            payload_bytes=payload_bytes,
            rate_bps=rate_bps,
            dscp=dscp,
            ecn=ecn,
        )
        for number, src in enumerate(sources)
    )


@contextmanager
def sending(lab: Lab, flows: Sequence[RawFlow], logs: Mapping[str, Path] | None = None) -> Iterator[RawRun]:
    """Send raw flows for the length of a block, once hosts know the way; what is left of them then ends."""

    def start(node: str, argv: tuple[str, ...]) -> SpokenTo:
        return in_network(node, lab.deployment.netns(node), argv)

    for flow in flows:  # a neighbour that is not known yet costs the first packets
        lab.node(flow.src).kernel("ping", "-c", "1", "-W", "2", flow.five_tuple.dst)
    run = start_raw(flows, start, logs=logs or {})
    try:
        yield run
    finally:
        run.stop()


def send(lab: Lab, flows: Sequence[RawFlow], *, within: float, logs: Mapping[str, Path] | None = None) -> RawReport:
    """Send raw flows to their end, at most `within` seconds. The report says whether it can vouch for itself."""
    with sending(lab, flows, logs) as run:
        return run.finish(within * lab.timeout_scale)


def measure(
    lab: Lab,
    flows: Sequence[RawFlow],
    *,
    steady: Callable[[AsicCounters], bool],
    for_s: float,
    within: float = 10.0,
    logs: Mapping[str, Path] | None = None,
) -> Measured:
    """Send flows, wait until what has been counted since then is `steady`, and measure `for_s` seconds.

    Flows without an end are ended then; either way the buffers are empty when it returns. The measurement holds the
    lease, so no other lab comes or goes meanwhile. Raises NotReady for traffic that does not get steady `within`
    seconds, CapabilityMissing for a lab without a soft ASIC.
    """
    asic = soft_asic(lab)
    within *= lab.timeout_scale
    frame = max(flow.payload_bytes for flow in flows) + UDP_HEADERS
    with lease.measuring(lab.name, "traffic") as held, HostWatch() as watch:
        start = asic.counters()
        with sending(lab, flows, logs) as run:
            settled = wait_until(
                "traffic is steady", lambda: steady(asic.counters() - start), bool, within=within, most=0.05
            )
            if not settled.held:
                raise NotReady(str(settled))
            asked, begun, answered = _read(asic)
            _pass(for_s)
            asked_again, ended, answered_again = _read(asic)
            report = run.stop() if any(flow.duration_s is None for flow in flows) else run.finish(within)
        emptied = wait_until("the buffers are empty", asic.counters, lambda now: nothing_left(now).held, within=within)
        return Measured(
            start=start,
            begun=begun,
            ended=ended,
            end=emptied.last,
            lasted_s=((asked_again + answered_again) - (asked + answered)) / 2,
            blur_s=((answered - asked) + (answered_again - asked_again)) / 2,
            covered_s=covered_s(asic, frame),
            report=report,
            disturbed=held.disturbed(),
            host=watch.sample(),
            lease=held.evidence(),
        )


def soft_asic(lab: Lab) -> SoftAsic:
    """The lab's soft ASIC. Raises CapabilityMissing."""
    if lab.asic is None:
        raise CapabilityMissing("soft-asic", f"lab {lab.name} plays no profile", remedy="railbed up … --profile")
    return lab.asic


def covered_s(asic: SoftAsic, frame_bytes: int) -> float:
    """The longest reaction that every lossless headroom of the lab covers, in seconds: F6 solved for it.

    headroom = 2 · frame + rate · reaction / 8, as labs.dataplane.headroom.needed has it for a cable without length.
    """
    found = [
        (group.buffer.xoff - 2 * frame_bytes) * 8 / port.rate_bps
        for node in asic.plan.nodes
        for port in node.ports
        if node.pools
        for group in asic.profile.port(node.name, port.name).pgs
        if group.buffer is not None and group.lossless
    ]
    return min(found, default=0.0)


def _read(asic: SoftAsic) -> tuple[float, AsicCounters, float]:
    """The counters, and when they were asked for and there."""
    asked = time.monotonic()
    counters = asic.counters()
    return asked, counters, time.monotonic()


def _pass(seconds: float) -> None:
    """Let time pass: traffic runs meanwhile."""
    until = time.monotonic() + seconds
    wait_until(f"{seconds:g} s have passed", time.monotonic, lambda now: now >= until, within=seconds + 1, most=0.05)
