"""Workloads of phases as graphs: groups, order, bytes, and what is refused."""

from __future__ import annotations

import pytest

from topologies.errors import SpecError
from traffic.outcome import checks
from traffic.races import races
from traffic.step_model import computing_s
from traffic.workloads.phases import graph_of, members
from traffic.workloads.workload import Collective, CollectiveKind, Compute, Message, Workload


def same(*phases: Compute | Collective | Message, sizes: dict[str, int] | None = None) -> Workload:
    return Workload("w", phases, group_sizes=sizes or {})


def test_groups_are_megatrons() -> None:
    one = same(sizes={"TP": 2, "DP": 4, "EP": 2, "DP_EP": 2})
    assert members(one, "TP", 5, 8) == (4, 5)
    assert members(one, "DP", 5, 8) == (1, 3, 5, 7)
    assert members(one, "EP", 5, 8) == (5, 7)
    assert members(one, "DP_EP", 5, 8) == (1, 5)
    assert members(one, "world", 5, 8) == tuple(range(8))
    with pytest.raises(SpecError, match="groups TP of 2 ranks, 1 apart, among 7"):
        members(one, "TP", 0, 7)


def test_a_phase_begins_when_what_it_waits_for_is_done_and_leaves_what_it_should() -> None:
    one = same(
        Compute("forward", 0.5),
        Collective("sum", CollectiveKind.ALL_REDUCE, 4096, "TP", (0,)),
        Compute("backward", 0.25, (1,)),
        Collective("gather", CollectiveKind.ALL_GATHER, 4096, "DP", (2,)),
        sizes={"TP": 2, "DP": 2},
    )
    graph = graph_of([one] * 4, "w")
    assert computing_s(graph) == pytest.approx(0.75)
    assert races(graph) == ()
    # All-reduce: 2 x 1/2 x 4096 a rank; all-gather: 1/2 x 4096. Each has its own part of the output, all checked.
    assert graph.matrix.sum() == 4 * (4096 + 2048)
    assert sum(one.size for one in checks(graph)) == 4 * 2 * 4096
    assert {(one.first, one.last, one.every) for one in checks(graph) if one.first != one.last} == {
        (0, 1, 1),
        (2, 3, 1),
    }


def test_what_ranks_do_not_agree_on_is_refused() -> None:
    large, small = (same(Collective("sum", CollectiveKind.ALL_REDUCE, size, "all")) for size in (64, 32))
    with pytest.raises(SpecError, match="the same kind and size on all its ranks"):
        graph_of([large, small], "w")
    with pytest.raises(SpecError, match="rank 1 has none"):
        graph_of([large, same()], "w")
    with pytest.raises(SpecError, match="has a message, 'm', beside collectives"):
        graph_of([same(Message("m", 4, False, 0, 1))] * 2, "w")
    with pytest.raises(SpecError, match="up to 262144 messages, 2147483648 bytes"):
        graph_of([same(Collective("sum", CollectiveKind.ALL_REDUCE, 1 << 30, "all"))] * 4, "w")


def test_a_barrier_is_a_small_all_reduce_and_a_group_of_one_sends_nothing() -> None:
    one = same(
        Collective("b", CollectiveKind.BARRIER, 0, "all"), Collective("s", CollectiveKind.ALL_REDUCE, 64, "TP", (0,)),
        sizes={"TP": 1},
    )  # fmt: skip
    assert graph_of([one] * 2, "w").matrix.tolist() == [[0, 32], [32, 0]]
