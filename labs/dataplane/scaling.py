"""What a link of 1 Gbit/s can say about one of 400: the scaling rule, and what a profile's numbers mean at a rate.

With s = real rate / emulated rate, bytes, probabilities and counts of flows stay as they are, and every time becomes s
times as long. Then queues in bytes, the share of marked packets, the share of time paused, and rates over the line rate
come out the same. Pauses stretch by themselves: a quantum is 512 bit times. What runs on the wall clock does not
stretch: the PFC watchdog, BGP, BFD, TCP's least retransmission time.
"""

from __future__ import annotations

from labs.dataplane.headroom import QUANTUM_BYTES, needed
from labs.dataplane.intent import BufferProfile, PortIntent, Wred
from labs.dataplane.profile import Profile
from labs.dataplane.selectors import EVERY
from topologies.units import GBIT, MBIT, MICROSECOND, MILLISECOND

ETHERNET_HEADER = 14
MTU = 9216  # labs/spec.py
MOST_QUANTA = 65535
PAUSE_S = 20 * MILLISECOND
REFRESHES_PER_PAUSE = 2
PAUSES_BEFORE_STORM = 3
DCQCN_TIMER_S = 55 * MICROSECOND  # rate increase timer, SIGCOMM 2015


def stretch(profile: Profile, rate_bps: int) -> float:
    """s: how many times longer everything takes at `rate_bps` than at the real rate."""
    return profile.real_rate_bps / rate_bps


def pause_s(quanta: int, rate_bps: int) -> float:
    """How long a pause of so many quanta lasts, in seconds."""
    return quanta * QUANTUM_BYTES * 8 / rate_bps


def quanta(profile: Profile, rate_bps: int) -> int:
    """The pause time that a port of this rate sends: what the profile states, or what comes nearest to PAUSE_S.

    20 ms, refreshed every 10: long enough that a process on a busy workstation keeps it alive, short against the
    watchdog, which a pause must not look like. From 1.7 Gbit/s on the field's 65535 quanta last less.
    """
    if profile.quanta is not None:
        return profile.quanta
    return max(1, min(MOST_QUANTA, round(PAUSE_S * rate_bps / (QUANTUM_BYTES * 8))))


def refresh_s(profile: Profile, rate_bps: int) -> float:
    """How often a pause that goes on is said again."""
    return pause_s(quanta(profile, rate_bps), rate_bps) / REFRESHES_PER_PAUSE


def watchdog_trap(profile: Profile, rate_bps: int) -> str | None:
    """Why the watchdog would take a sound network for a storm at this rate; None where it does not.

    A pause lasts so many bit times, the watchdog counts milliseconds: a slow port's pause that nobody refreshes can
    outlast the detection time. It has to end well before: at a third.
    """
    times = [row.detection_time for row in profile.rows.PFC_WD.values() if row.detection_time is not None]
    if not times:
        return None
    sent, detection_s = quanta(profile, rate_bps), min(times) * MILLISECOND
    pause, allowed_s = pause_s(sent, rate_bps), detection_s / PAUSES_BEFORE_STORM
    if pause <= allowed_s:
        return None
    most = int(allowed_s * rate_bps / (QUANTUM_BYTES * 8))
    return (
        f"one pause of {sent} quanta lasts {_time(pause)} at {rate(rate_bps)}, more than a third of the watchdog's "
        f"{_time(detection_s)}: at most {most} quanta there"
    )


def explain(profile: Profile, rate_bps: int, *, mtu: int = MTU) -> tuple[str, ...]:
    """What the profile's numbers mean for ports of this rate, a line each; for rows that speak for every port."""
    port = profile.port(EVERY, EVERY)
    return (
        *_scale(profile, rate_bps, mtu + ETHERNET_HEADER),
        *_marking(port, rate_bps),
        *_pausing(profile, port, rate_bps, mtu + ETHERNET_HEADER),
        *_watching(profile, port, rate_bps),
        *(f"without effect: {remark}" for remark in profile.remarks),
    )


def rate(bps: float) -> str:
    """1Gbit, 100Mbit."""
    return f"{bps / GBIT:g}Gbit" if bps >= GBIT else f"{bps / MBIT:g}Mbit"


def _scale(profile: Profile, rate_bps: int, frame: int) -> list[str]:
    s = stretch(profile, rate_bps)
    here, there = frame * 8 / rate_bps, frame * 8 / profile.real_rate_bps
    return [
        f"scale: {rate(rate_bps)} plays {rate(profile.real_rate_bps)}, s = {s:g}",
        "kept: bytes (thresholds, headroom, messages), probabilities, numbers of flows",
        f"times s: every delay and timer; a frame of {frame} bytes {_time(there)} -> {_time(here)}",
        f"DCQCN's timer of {_time(DCQCN_TIMER_S)} is {_time(DCQCN_TIMER_S * s)} for the hosts",
        "not stretched: PFC watchdog, BGP, BFD, TCP's least retransmission time (wall clock)",
    ]


def _marking(port: PortIntent, rate_bps: int) -> list[str]:
    curves: dict[Wred, list[int]] = {}
    for queue in port.queues:
        if queue.wred:
            curves.setdefault(queue.wred, []).append(queue.index)
    lines = []
    for wred, queues in curves.items():
        does = {(True, True): "marks ECT and drops others", (True, False): "marks ECT", (False, True): "drops"}
        low, high = (_time(edge * 8 / rate_bps) for edge in (wred.min_bytes, wred.max_bytes))
        lines.append(
            f"WRED on queue {_list(queues)}: {does[wred.ecn, wred.drop]}, 0 to {wred.probability_percent} % from "
            f"{wred.min_bytes} to {wred.max_bytes} bytes of queue ({low} to {high} to drain), all above"
        )
    return lines or ["WRED and ECN: none"]


def _pausing(profile: Profile, port: PortIntent, rate_bps: int, frame: int) -> list[str]:
    if not any(pg.lossless for pg in port.pgs):
        return ["PFC: none"]
    sent = quanta(profile, rate_bps)
    stated = "as stated" if profile.quanta is not None else "by the rate"
    said = (
        f"PFC on priority {_list(sorted(port.pfc_enable))}: {sent} quanta ({stated}) pause for "
        f"{_time(pause_s(sent, rate_bps))}, refreshed every {_time(refresh_s(profile, rate_bps))}"
    )
    groups: dict[BufferProfile, list[int]] = {}
    for pg in port.pgs:
        if pg.buffer and pg.lossless:
            groups.setdefault(pg.buffer, []).append(pg.index)
    lines = [said]
    for limits, numbers in groups.items():
        covered_s = max(0.0, (limits.xoff - needed(0, frame, 0, 0)) * 8 / rate_bps)
        shared = f", for {limits.pool.xoff // limits.xoff} such at once in a switch" if limits.pool.xoff else ""
        lines.append(
            f"priority group {_list(numbers)}: alone it pauses at {limits.most_bytes} bytes "
            f"({_time(limits.most_bytes * 8 / rate_bps)} to drain); headroom {limits.xoff} covers a reaction of "
            f"{_time(covered_s)}{shared}"
        )
    return lines


def _watching(profile: Profile, port: PortIntent, rate_bps: int) -> list[str]:
    if port.watchdog is None or not port.watchdog_priorities:
        return ["PFC watchdog: none"]
    dog = port.watchdog
    said = (
        f"PFC watchdog on priority {_list(sorted(port.watchdog_priorities))}: {dog.action}; detects in "
        f"{dog.detection_ms} to {dog.detection_ms + dog.poll_ms} ms, restores in {dog.restoration_ms} to "
        f"{dog.restoration_ms + dog.poll_ms} ms"
    )
    trap = watchdog_trap(profile, rate_bps)
    return [said, f"warning: {trap}"] if trap else [said]


def _list(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", MILLISECOND), ("us", MICROSECOND)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / MICROSECOND:.2g} us"
