"""Load on a running lab: raw flows from rnic, which runs beside the nodes' software, in their network namespaces.

And by hand, for what load is no use for: single packets (`Probe`), and frames that a port's MAC sends past all queues,
as it does 802.1Qbb pauses (`MacPort`, `storming`).
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from labs import lease
from labs.channels.namespaces import in_network
from labs.dataplane.asic import SoftAsic
from labs.errors import CapabilityMissing, NotReady
from labs.kernel import inside_netns
from labs.lab import Lab
from labs.telemetry.asic_counters import AsicCounters
from labs.telemetry.host_watch import HostWatch
from labs.verdicts.ledger import nothing_left
from labs.verdicts.pfc import Measured
from labs.waiting import wait_until
from topologies import addressing
from topologies.ecmp import ROCE_PORT
from traffic.engines.rc_settings import FIRST_SPORT
from traffic.engines.rnic import RawFlow, RawReport, RawRun, SpokenTo, start_raw
from traffic.flows import FiveTuple, Transport
from traffic.pauses import ETH_P_PAUSE, pfc_frame

UDP_HEADERS = 42  # Ethernet 14, IPv4 20, UDP 8
# A reading takes 4 ms on a quiet workstation, for nine hosts; one that was held up says less of when it was made.
READINGS, QUICK_S = 5, 0.006
ETH_P_ALL = 3
PACKET_QDISC_BYPASS = 20  # linux/if_packet.h
SOL_PACKET = 263
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33  # beyond the workstation's own limit


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
    duration_s: float | None,
    dscp: int = 3,
    ecn: int = 2,
    payload_bytes: int = 4096,
) -> tuple[RawFlow, ...]:
    """One flow from each source to the sink, `rate_bps` on the wire each; `duration_s` None is until it is stopped."""
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
            let_pass(for_s)
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
    """The counters, and when they were asked for and there: the quickest of a few readings, the first that will do."""
    readings = []
    for _ in range(READINGS):
        asked = time.monotonic()
        counters = asic.counters()
        readings.append((asked, counters, time.monotonic()))
        if readings[-1][2] - asked <= QUICK_S:
            break
    return min(readings, key=lambda one: one[2] - one[0])


def let_pass(seconds: float) -> None:
    """Let time pass: traffic runs meanwhile."""
    until = time.monotonic() + seconds
    wait_until(
        f"{seconds:g} s have passed", time.monotonic, lambda now: now >= until, within=seconds + 60, most=seconds / 8
    )


class MacPort:
    """A port's wire, below its queues: what is sent here is sent at once, and never queued or counted by its port.

    With `listens` it hears MAC control frames. Use it in a `with` block.
    """

    def __init__(self, lab: Lab, node: str, port: str = "eth1", *, listens: bool = False) -> None:
        self.name = f"{node}:{port}"
        with inside_netns(lab.deployment.netns(node)):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
        # Only who listens to everything hears a frame before the soft ASIC's programs take it out.
        self._socket.bind((port, ETH_P_ALL if listens else 0))
        self._socket.setblocking(False)
        self.mac: bytes = self._socket.getsockname()[4]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, frame: bytes) -> None:
        """Put a frame on the wire."""
        self._socket.send(frame)

    def pause(self, quanta: Mapping[int, int]) -> None:
        """Ask the far end to pause priorities, or with 0 quanta to go on."""
        self.send(pfc_frame(self.mac, quanta))

    def heard(self) -> int:
        """MAC control frames that came in here since the last time, also those that the soft ASIC takes out."""
        count = 0
        for _ in range(100_000):
            try:
                _, (_, protocol, kind, _, _) = self._socket.recvfrom(2048)
            except BlockingIOError:
                break
            count += protocol == ETH_P_PAUSE and kind != socket.PACKET_OUTGOING
        return count


class Storm:
    """What a storm was: the moments of its first and its last frame, in seconds since the epoch."""

    def __init__(self) -> None:
        self.first_s = 0.0
        self.last_s = 0.0
        self.frames = 0


@contextmanager
def storming(port: MacPort, priority: int, quanta: int, *, every_s: float) -> Iterator[Storm]:
    """Pause a priority again and again for the length of a block, from a thread."""
    storm, ended = Storm(), threading.Event()

    def send() -> None:
        storm.last_s = time.time()
        port.pause({priority: quanta})
        storm.frames += 1

    def go_on() -> None:
        while not ended.wait(every_s):
            send()

    storm.first_s = time.time()
    send()
    thread = threading.Thread(target=go_on, name="railbed-storm", daemon=True)
    thread.start()
    try:
        yield storm
    finally:
        ended.set()
        thread.join()


class Probe:
    """Single UDP packets between two hosts. `frame_bytes` is what a switch counts of each. Use it in a `with` block."""

    def __init__(self, lab: Lab, src: str, dst: str, *, dscp: int = 3, payload_bytes: int = 1024) -> None:
        flow = five_tuple(lab, src, dst)
        self.frame_bytes = payload_bytes + UDP_HEADERS
        self._payload = bytes(payload_bytes)
        self._to = (flow.dst, flow.dport)
        self._undo = ExitStack()
        with inside_netns(lab.deployment.netns(src)):
            self._out = self._undo.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC))
        with inside_netns(lab.deployment.netns(dst)):
            self._in = self._undo.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC))
        self._out.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, dscp << 2)
        self._out.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 1 << 22)
        self._in.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 22)
        self._in.setblocking(False)
        self._in.bind(self._to)
        self.sent = 0
        lab.node(src).kernel("ping", "-c", "1", "-W", "2", flow.dst)  # a neighbour that is not known holds packets back

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def send(self, count: int = 1) -> None:
        """Send packets back to back."""
        for _ in range(count):
            self._out.sendto(self._payload, self._to)
        self.sent += count

    def received(self) -> int:
        """Packets that arrived since the last time."""
        count = 0
        for _ in range(100_000):
            try:
                self._in.recv(65536)
            except BlockingIOError:
                break
            count += 1
        return count
