"""Patterns of traffic between hosts, as plans. Pure: nothing is sent here."""

from __future__ import annotations

from collections.abc import Sequence

from topologies.errors import SpecError
from topologies.fabric import Node
from traffic.flows import Flow, TrafficPlan, Transport


def permutation(
    hosts: Sequence[Node | str],
    *,
    stride: int = 1,
    size: int | None = None,
    duration_s: float | None = None,
    transport: Transport = Transport.TCP,
    rate_bps: int | None = None,
    streams: int = 1,
    family: int = 4,
) -> TrafficPlan:
    """Host i sends to host i + `stride` (mod n): every host sends one flow and receives one.

    Args:
        size: bytes each flow moves; or `duration_s`: how long each lasts. Exactly one of the two.
        rate_bps: payload bit/s of each flow, None for as fast as the transport goes.
        streams: connections that share one flow's bytes.

    Raises SpecError for fewer than two hosts, one named twice, a stride that maps hosts to themselves, or a size
    and duration both or neither given.
    """
    names = [str(host) for host in hosts]
    if len(names) < 2:
        raise SpecError(f"a permutation of {len(names)} hosts", allowed="2 or more")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SpecError(f"hosts named more than once: {', '.join(twice)}", allowed="each once")
    if stride % len(names) == 0:
        itself = f"stride {stride} of {len(names)} hosts sends every host to itself"
        raise SpecError(itself, allowed=f"any integer that {len(names)} does not divide")
    if (size is None) == (duration_s is None):
        raise SpecError(f"size is {size} and duration_s is {duration_s}", allowed="exactly one of the two")
    pairs = ((name, names[(place + stride) % len(names)]) for place, name in enumerate(names))
    return TrafficPlan(
        name=f"permutation of {len(names)}, stride {stride}",
        flows=tuple(
            Flow(src, dst, size, duration_s, transport, rate_bps, streams=streams, family=family) for src, dst in pairs
        ),
    )
