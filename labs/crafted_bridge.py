"""Crafted bursts on a running lab: where its hosts and cables are, and that hosts know the way."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from labs.channels.namespaces import in_network
from labs.errors import CommandFailed
from labs.lab import Lab
from topologies import addressing
from traffic.engines.crafted_bursts import Crafted, CraftedBurst
from traffic.engines.crafted_sending import RATE_BPS, RunningBursts, Wiring, start_bursts
from traffic.engines.rnic import SpokenTo


def wiring(lab: Lab) -> Wiring:
    """Where the lab's design has hosts and cables. Its answers raise SpecError for what is not there."""

    def far_end(node: str, port: str) -> tuple[str, str]:
        far = lab.fabric.link_at(lab.fabric.node(node), port).far(node)
        return far.node, far.name

    def address(host: str, nic: int, family: int) -> str:
        return str(addressing.host_address(lab.fabric, host, nic, family))

    return Wiring(address, far_end)


def start(lab: Lab, bursts: Sequence[Crafted], *, rate_bps: float = RATE_BPS) -> RunningBursts:
    """Send bursts, all at the same time; see `traffic.engines.crafted_sending.start_bursts`."""
    where = wiring(lab)
    for burst in bursts:
        if isinstance(burst, CraftedBurst):
            # A neighbour that is not known yet costs the first packets. Who does not answer is found by its losses.
            far = where.address(burst.dst, burst.dst_nic, burst.family)
            near = where.address(burst.src, burst.src_nic, burst.family)
            with suppress(CommandFailed):
                lab.node(burst.src).kernel("ping", "-c", "1", "-W", "2", "-I", near, far)

    def begin(node: str, argv: tuple[str, ...]) -> SpokenTo:
        return in_network(node, lab.deployment.netns(node), argv)

    return start_bursts(bursts, where, begin, rate_bps=rate_bps)
