"""Collectives as tests ask for them."""

from __future__ import annotations

import pytest

from topologies.errors import SpecError
from topologies.units import MIB
from traffic.bounds import wire_efficiency
from traffic.busbw import Collective
from traffic.operations import (
    Operation,
    all_gather,
    all_to_all,
    broadcast,
    gather,
    halving_doubling_all_reduce,
    operation,
    reduce_scatter,
    ring_all_reduce,
)

HOSTS = ("host1", "host2", "host3", "host4")


@pytest.mark.parametrize(
    ("made", "collective", "busbw_of_a_second"),
    [
        (ring_all_reduce(HOSTS, size=MIB), Collective.ALL_REDUCE, 1.5),
        (ring_all_reduce(HOSTS, size=MIB, rings=2), Collective.ALL_REDUCE, 1.5),
        (halving_doubling_all_reduce(HOSTS, size=MIB), Collective.ALL_REDUCE, 1.5),
        (all_gather(HOSTS, size=MIB), Collective.ALL_GATHER, 0.75),
        (reduce_scatter(HOSTS, size=MIB), Collective.REDUCE_SCATTER, 0.75),
        (all_to_all(HOSTS, size=MIB), Collective.ALL_TO_ALL, 0.75),
        (all_to_all(HOSTS, size=MIB, at_once=True), Collective.ALL_TO_ALL, 0.75),
        (broadcast(HOSTS, size=MIB, root=2), Collective.BROADCAST, 1.0),
        (gather(HOSTS, size=MIB), Collective.GATHER, 0.75),
    ],
)
def test_bandwidth_is_what_nccl_tests_would_say(
    made: Operation, collective: Collective, busbw_of_a_second: float
) -> None:
    assert (made.collective, made.hosts, made.size) == (collective, HOSTS, MIB)
    assert made.busbw_bps(1.0) == pytest.approx(busbw_of_a_second * MIB * 8)
    rate = busbw_of_a_second * MIB * 8 / wire_efficiency(4096)
    assert made.busbw_ratio(1.0, rate_bps=rate, mtu=4096) == pytest.approx(1.0)


def test_a_number_of_ranks_names_no_hosts() -> None:
    made = operation("all_reduce_perf", 4, size=MIB, algorithm="tree")
    assert (made.hosts, made.graph.ranks) == ((), 4)
    assert "tree" in str(made)


def test_what_cannot_be_played_is_refused() -> None:
    with pytest.raises(SpecError, match=r"1001 bytes of all_reduce for 4 ranks; allowed: 1000"):
        ring_all_reduce(HOSTS, size=1001)
    with pytest.raises(SpecError, match="ranks"):
        ring_all_reduce(HOSTS[:1], size=MIB)
    with pytest.raises(SpecError, match="line rate of 0"):
        ring_all_reduce(HOSTS, size=MIB).busbw_ratio(1.0, rate_bps=0, mtu=4096)
