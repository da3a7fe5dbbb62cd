"""How the queue pairs of `rnic rc` behave: values alone, so that a command line may name them at no cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from topologies.errors import SpecError
from topologies.units import GBIT

FIRST_SPORT = 0xC000  # IB_ROCE_UDP_ENCAP_VALID_PORT_MIN of Linux
FIRST_QPN = 2  # 0 and 1 are for management
MTUS = (256, 512, 1024, 2048, 4096)
MOST_WINDOW = 65536


class Recovery(StrEnum):
    """What a receiver makes of a gap: go-back-N, selective repeat, or from the message's begin again."""

    GO_BACK_N = "gbn"
    SELECTIVE_REPEAT = "sr"
    GO_BACK_0 = "gb0"


class Congestion(StrEnum):
    """What slows a sender down: nothing, or DCQCN with one of the published parameter sets."""

    NONE = "none"
    SIGCOMM15 = "dcqcn-sigcomm15"
    MELLANOX = "dcqcn-mlx"
    NS3 = "dcqcn-ns3"


PUBLISHED_BPS: Mapping[Congestion, int] = MappingProxyType(
    {Congestion.SIGCOMM15: 40 * GBIT, Congestion.MELLANOX: 100 * GBIT, Congestion.NS3: 100 * GBIT}
)
"""What each set was published for: the paper's testbed of 40 Gbit/s, the firmware of cards of up to 100 Gbit/s
(ConnectX-4 and 5, whose manuals list these defaults), and HPCC's simulated hosts of 100 Gbit/s."""


def dilation(congestion: Congestion, rate_bps: float) -> int:
    """By how much a set's times have to be stretched for a line of `rate_bps` to act as the one it is published for."""
    return max(1, round(PUBLISHED_BPS.get(congestion, rate_bps) / rate_bps))


@dataclass(frozen=True, slots=True)
class RcSettings:
    """How queue pairs behave; what is not said is as NCCL and its NICs have it.

    Args:
        mtu: payload bytes of a packet, a power of two from 256 to 4096.
        qps: connections a pair of ranks has (on each card); a message goes whole on one, the next on the next
            (NCCL_IB_QPS_PER_CONNECTION), or with `split` in equal parts on all (NCCL_IB_SPLIT_DATA_ON_QPS).
        window: packets that may be on their way.
        dilation: by how much DCQCN's times are stretched, so that it acts on a slow fabric as on a fast one.
        delay_s: held at the receiver for every packet, as propagation.
        reorder: with selective repeat a packet counts as lost once so many that were sent after it have arrived; on a
            fabric that sprays, as many as may be on their way (`window`): then only a time-out repairs.
        timeout_s: without an acknowledgement, then `retries` times again: NCCL_IB_TIMEOUT 20 is 4.3 s.
        fixed_port: one source port for all instead of one a connection: no entropy for ECMP.
        local_bps: at which each message between ranks of one host goes, as over NVLink; None takes no time.
        rate_bps: of every card whose rank has none of its own; None is as fast as the host's port takes it.
        uncontrolled: hosts whose cards have congestion control off: they neither slow down nor notify.
        fixed_port_hosts: hosts whose queue pairs all send from one source port.
    """

    mtu: int = 4096
    qps: int = 1
    split: bool = False
    window: int = 256
    recovery: Recovery = Recovery.GO_BACK_N
    reorder: int = 3
    congestion: Congestion = Congestion.NONE
    dilation: int = 1
    dscp: int = 26
    cnp_dscp: int = 48
    ecn: int = 2
    delay_s: float = 0.0
    timeout_s: float = 4.295
    retries: int = 7
    fixed_port: bool = False
    rate_bps: int | None = None
    local_bps: float | None = None
    seed: int = 0
    uncontrolled: frozenset[str] = frozenset()
    fixed_port_hosts: frozenset[str] = frozenset()


def check_settings(settings: RcSettings) -> None:
    """Raise SpecError for a setting out of range, with the range."""
    bounds: Sequence[tuple[str, float, float, float]] = (
        ("qps", settings.qps, 1, 256),
        ("window", settings.window, 1, MOST_WINDOW),
        ("reorder", settings.reorder, 1, MOST_WINDOW),
        ("dilation", settings.dilation, 1, 1_000_000),
        ("dscp", settings.dscp, 0, 63),
        ("cnp_dscp", settings.cnp_dscp, 0, 63),
        ("ecn", settings.ecn, 0, 3),
        ("delay_s", settings.delay_s, 0, 10),
        ("timeout_s", settings.timeout_s, 0.0001, 3600),
        ("retries", settings.retries, 0, 100),
    )
    for word, found, least, most in bounds:
        if not least <= found <= most:
            raise SpecError(f"{word} {found}", allowed=f"from {least} to {most}")
    if settings.mtu not in MTUS:
        raise SpecError(f"mtu {settings.mtu}", allowed=", ".join(map(str, MTUS)))
