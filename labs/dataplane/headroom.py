"""How much buffer a lossless priority group needs after it has said "stop": arithmetic from three sources.

- `needed`: the law itself, for the soft ASIC: what the peer still sends until it has heard and obeyed.
- `sonic_headroom`: what SONiC works out for a real switch chip (sonic-swss, cfgmgr/buffer_headroom_mellanox.lua).
- `static_bound`, `dynamic_bound`: where the ECN threshold has to lie so that marking comes before pausing
  (DCQCN, SIGCOMM 2015, section 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from types import MappingProxyType

KIB = 1024
LIGHT_IN_FIBRE_M_PER_S = 198_000_000
QUANTUM_BYTES = 64  # 512 bit times, IEEE 802.3 31B
SMALLEST_PACKET_BYTES = 64
EIGHT_LANES_FROM_MBPS = 400_000

# How long a peer may take to obey, in quanta, by speed in Mbit/s (IEEE 802.3 31B.3.7, as SONiC lists it).
RESPONSE_QUANTA: Mapping[int, int] = MappingProxyType(
    {
        100: 1,
        1_000: 2,
        10_000: 67,
        25_000: 80,
        40_000: 118,
        50_000: 147,
        100_000: 394,
        200_000: 453,
        400_000: 905,
        800_000: 905,
    }
)


def needed(rate_bps: float, mtu_bytes: int, delay_s: float, reaction_s: float) -> int:
    """Bytes that still arrive after the decision to pause: 2 · MTU + rate · (2 · delay + reaction) / 8, rounded up.

    One packet may be on its way out here, before which the pause frame cannot be sent, and one there, which is
    finished before the pause is obeyed. `delay_s` is that of the wire, one way; `reaction_s` is everything that
    software adds at both ends together: until the threshold is noticed, and until the peer's gate is shut.
    Raises ValueError for a negative number.
    """
    if min(rate_bps, mtu_bytes, delay_s, reaction_s) < 0:
        raise ValueError(f"negative: {rate_bps=} {mtu_bytes=} {delay_s=} {reaction_s=}")
    return 2 * mtu_bytes + ceil(rate_bps * (2 * delay_s + reaction_s) / 8)


@dataclass(frozen=True, slots=True)
class SwitchChip:
    """What SONiC's ASIC_TABLE states of a switch chip; KiB as there."""

    cell_bytes: int
    pipeline_kib: Fraction
    mac_phy_kib: Fraction
    peer_response_kib: Fraction


SPECTRUM_3 = SwitchChip(144, Fraction(19), Fraction("0.8"), Fraction("3.8"))  # MSN4700


@dataclass(frozen=True, slots=True)
class LosslessTraffic:
    """SONiC's LOSSLESS_TRAFFIC_PATTERN, and the port's MTU: what the worst packets look like."""

    port_mtu: int = 9216
    lossless_mtu: int = 1024
    small_percent: int = 100


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """In what SONiC's releases differ.

    `listed_response`: the peer's response by speed (RESPONSE_QUANTA) instead of the chip's one figure.
    `whole_cells`: the worst case of cell use rounded up to whole cells, small packets weighed by bytes, not by number.
    `less_for_eight_lanes`: KiB taken off the pipeline of a port of eight lanes, which counts twice.
    """

    listed_response: bool
    whole_cells: bool
    less_for_eight_lanes: int


PUBLISHED = Arithmetic(listed_response=False, whole_cells=False, less_for_eight_lanes=1)
"""What the pg_profile_lookup.ini files of Spectrum switches were worked out with: all 21 rows of the MSN4700's."""

CURRENT = Arithmetic(listed_response=True, whole_cells=True, less_for_eight_lanes=0)
"""buffer_headroom_mellanox.lua since September 2024, Spectrum 1 to 3; that of `vs` is the same file."""


@dataclass(frozen=True, slots=True)
class Headroom:
    """A lossless buffer profile's bytes, as BUFFER_PROFILE has them."""

    xon: int
    xoff: int
    size: int


def sonic_headroom(
    speed_mbps: int,
    cable_m: int,
    *,
    chip: SwitchChip = SPECTRUM_3,
    traffic: LosslessTraffic = LosslessTraffic(),
    arithmetic: Arithmetic = CURRENT,
    shared_pool: bool = False,
) -> Headroom:
    """What SONiC gives a lossless priority group of a port.

    `xoff` holds the packet that cannot be interrupted and all that is under way (wire, PHYs, the peer's response),
    times the cells that the worst packets waste; `xon` is the pipeline. With a shared headroom pool only `xon` is
    reserved. Raises ValueError for a speed that RESPONSE_QUANTA does not list, where `arithmetic` needs it.
    """
    lanes_8 = speed_mbps >= EIGHT_LANES_FROM_MBPS
    pipeline = chip.pipeline_kib * KIB
    if lanes_8:
        pipeline = 2 * pipeline - arithmetic.less_for_eight_lanes * KIB
    cable = Fraction(2 * cable_m * speed_mbps * 1_000_000, LIGHT_IN_FIBRE_M_PER_S * 8)
    under_way = traffic.port_mtu + cable + chip.mac_phy_kib * KIB + _response(speed_mbps, chip, arithmetic)
    xoff = _up(traffic.lossless_mtu + under_way * _waste(chip, traffic, arithmetic))
    if arithmetic.whole_cells and not shared_pool and traffic.small_percent != 100:
        # SONiC since 2026: two KiB more where fewer small packets than the worst case were assumed.
        worst = _up(traffic.lossless_mtu + under_way * ceil(_worst(chip)))
        xoff += 2 * KIB if xoff + 2 * KIB < worst else 0
    xon = _up(pipeline)
    size = xon if shared_pool else xoff + xon + (traffic.port_mtu if lanes_8 else 0)
    return Headroom(xon, xoff, _up(Fraction(size)))


def _response(speed_mbps: int, chip: SwitchChip, arithmetic: Arithmetic) -> Fraction:
    if not arithmetic.listed_response:
        return chip.peer_response_kib * KIB
    if speed_mbps not in RESPONSE_QUANTA:
        listed = ", ".join(map(str, RESPONSE_QUANTA))
        raise ValueError(f"no response time is listed for {speed_mbps} Mbit/s, only for {listed}")
    return Fraction(RESPONSE_QUANTA[speed_mbps] * QUANTUM_BYTES)


def _worst(chip: SwitchChip) -> Fraction:
    """Cell bytes a packet of the worst length takes up, per byte of it."""
    if chip.cell_bytes > 2 * SMALLEST_PACKET_BYTES:
        return Fraction(chip.cell_bytes, SMALLEST_PACKET_BYTES)
    return Fraction(2 * chip.cell_bytes, 1 + chip.cell_bytes)


def _waste(chip: SwitchChip, traffic: LosslessTraffic, arithmetic: Arithmetic) -> Fraction:
    """Cell bytes per byte of the traffic's mix: small packets are the worst, the others waste nothing."""
    worst, small = _worst(chip), Fraction(traffic.small_percent, 100)
    if arithmetic.whole_cells:
        worst = Fraction(ceil(worst))
        mean = small * SMALLEST_PACKET_BYTES + (1 - small) * traffic.lossless_mtu
        # SONiC's own step: the share of small packets' bytes, of one small packet rather than of all of them.
        small = SMALLEST_PACKET_BYTES / mean
    return 1 - small + small * worst


def _up(bytes_: Fraction) -> int:
    return ceil(bytes_ / KIB) * KIB


def static_bound(buffer_bytes: float, ports: int, in_flight_bytes: float, priorities: int = 8) -> float:
    """The highest fixed pause threshold, in bytes, that loses nothing when all priorities of all ports fill up at once.

    (B − p·n·t) / (p·n), with t what a priority of a port may still receive. ECN would have to mark below this
    divided by n, to come first however traffic spreads. Negative where headroom alone is more than the buffer.
    """
    return (buffer_bytes - priorities * ports * in_flight_bytes) / (priorities * ports)


def dynamic_bound(
    buffer_bytes: float, ports: int, in_flight_bytes: float, beta: float = 8, priorities: int = 8
) -> float:
    """Below which queue length ECN always marks before a dynamic pause threshold is met, in bytes.

    β·(B − p·n·t) / (p·n·(β + 1)); β is what `2 ** dynamic_th · p` is in SONiC's terms: the threshold of one priority
    group is β/p of the free buffer.
    """
    return beta / (beta + 1) * static_bound(buffer_bytes, ports, in_flight_bytes, priorities)
