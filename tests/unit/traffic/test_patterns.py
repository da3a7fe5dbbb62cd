"""nccl-tests' collectives by name."""

from __future__ import annotations

import pytest

from topologies.errors import SpecError
from traffic.busbw import Collective, rounded
from traffic.graph import checked
from traffic.outcome import checks
from traffic.patterns import ALGORITHMS, pattern

EVERY = [(collective, name) for collective, played in ALGORITHMS.items() for name in played]


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize(("collective", "algorithm"), EVERY)
def test_each_gives_a_graph_of_the_rounded_size_with_something_to_check(
    collective: Collective, algorithm: str, in_place: bool
) -> None:
    size = rounded(collective, 3 << 20, ranks=8).size
    graph = checked(pattern(str(collective), algorithm).graph(8, size, root=0, in_place=in_place))
    assert graph.ranks == 8
    if not (in_place and not collective.checked_in_place):
        assert checks(graph)


@pytest.mark.parametrize("name", ["all_reduce", "all-reduce", "ALL_REDUCE_PERF"])
def test_a_name_may_be_written_in_several_ways(name: str) -> None:
    assert pattern(name).collective is Collective.ALL_REDUCE
    assert pattern(name).algorithm == "ring"


def test_an_incast_is_a_gather() -> None:
    assert pattern("incast").collective is Collective.GATHER


@pytest.mark.parametrize(
    ("name", "algorithm", "said"),
    [("al_reduce", None, "meant all_reduce"), ("alltoall", "ring", "alltoall by 'ring'; .*at-once, pairwise, bruck")],
)
def test_what_is_not_there_is_refused_with_what_is(name: str, algorithm: str | None, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        pattern(name, algorithm)


def test_too_few_bytes_for_everybody_are_refused() -> None:
    with pytest.raises(SpecError, match="8 bytes of alltoall for 8 ranks"):
        pattern("alltoall").graph(8, 8)
