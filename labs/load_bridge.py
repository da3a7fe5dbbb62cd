"""Load on a running lab: raw flows from rnic, which runs beside the nodes' software, in their network namespaces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from labs.channels.namespaces import in_network
from labs.lab import Lab
from topologies import addressing
from traffic.engines.rnic import RawFlow, RawReport, RawRun, SpokenTo, start_raw
from traffic.flows import FiveTuple, Transport

ROCE_PORT = 4791
FIRST_SPORT = 49152  # of the range that Linux gives RoCEv2's source ports


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
