from __future__ import annotations

import pytest

from topologies.errors import SpecError
from topologies.fabric import Node, Tier
from traffic.collectives import permutation
from traffic.flows import Flow, Transport


def test_every_host_sends_once_and_receives_once() -> None:
    plan = permutation(["a", "b", "c"], size=10)
    assert [str(flow) for flow in plan] == ["a>b", "b>c", "c>a"]
    assert {flow.size_bytes for flow in plan} == {10}


@pytest.mark.parametrize("stride", [-5, -1, 2, 3, 7])
def test_any_stride_is_a_permutation(stride: int) -> None:
    hosts = [Node(f"host{number}", Tier.HOST, number) for number in range(1, 5)]
    plan = permutation(hosts, stride=stride, duration_s=1)
    assert sorted(flow.dst for flow in plan) == sorted(flow.src for flow in plan) == [str(host) for host in hosts]
    assert all(flow.src != flow.dst for flow in plan)


def test_the_settings_reach_every_flow() -> None:
    plan = permutation("ab", duration_s=2.0, transport=Transport.UDP, rate_bps=8_000, streams=3, family=6)
    assert plan.flows[0] == Flow("a", "b", None, 2.0, Transport.UDP, 8_000, streams=3, family=6)


@pytest.mark.parametrize(
    ("hosts", "stride", "size", "duration_s", "said"),
    [
        ("a", 1, 1, None, "a permutation of 1 hosts; allowed: 2 or more"),
        ("aba", 1, 1, None, "hosts named more than once: a"),
        ("abc", 0, 1, None, "stride 0 of 3 hosts sends every host to itself"),
        ("abc", -6, 1, None, "stride -6 of 3 hosts"),
        ("abc", 1, None, None, "exactly one of the two"),
        ("abc", 1, 1, 1.0, "exactly one of the two"),
    ],
)
def test_what_is_no_permutation_is_refused(
    hosts: str, stride: int, size: int | None, duration_s: float | None, said: str
) -> None:
    with pytest.raises(SpecError, match=said):
        permutation(list(hosts), stride=stride, size=size, duration_s=duration_s)
