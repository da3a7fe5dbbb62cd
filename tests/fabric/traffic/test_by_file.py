"""What files and splits make, on a lab: every byte of a matrix and of a flow file arrives, and what arrives is right.

    host1  host2  host3      three ranks at 100 Mbit/s on one switch
        \\    |    /
          leaf1

Functional: bytes as in the file, #wrong 0, times no shorter than the wire allows. Times themselves are other tests'.
The negative control is a cell that is 16 bytes more.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labs import cli_by_file
from labs.collective_bridge import Played, play, ranks_on
from labs.completion_bridge import completion_of
from labs.lab import Lab
from labs.testing import KIB, RunInvalid
from traffic.bounds import placed_ideal_s
from traffic.composing import Part, together
from traffic.engines.rc_settings import RcSettings
from traffic.graph import Graph
from traffic.patterns import Pattern, pattern

APART_MOST_S = 0.003
pytestmark = [pytest.mark.lab("star_3", profile="roce_default"), pytest.mark.valid_of(3)]

MATRIX = "1024 65536 131072\n98304 0 16384\n32768 49152 2048\n"
FLOWS = "3\n1 0 3 100 100000 0\n2 0 3 100 100000 0\n0 2 3 101 60000 0.05\n"
SIMAI = (
    "HYBRID_TRANSFORMER_FWD_IN_BCKWD model_parallel_NPU_group: 3 ep: 1 pp: 1 vpp: 1 ga: 1 all_gpus: 3 checkpoints: 0\n"
    "1\nattention -1 1000000 ALLREDUCE 98304 1 NONE 0 1 NONE 0 100\n"
)


def arrived(played: Played, ranks: int) -> list[list[int]]:
    """Bytes from rank i to rank j, by what the receiving queue pairs counted."""
    found = np.zeros((ranks, ranks), dtype=np.int64)
    for one in played.rc.connections:
        if one.received is not None:
            found[one.src, one.connection.far(one.src).rank] += one.received.received_bytes
    return [[int(size) for size in row] for row in found]


def checked_run(lab: Lab, graph: Graph) -> Played:
    placement = cli_by_file.first_ranks(ranks_on(lab), graph.ranks, "file")
    played = play(lab, graph, placement)
    report = played.report
    assert (report.error, report.wrong) == (None, 0)
    took = report.took_s()
    assert took is not None
    assert took > placed_ideal_s(graph, placement)
    assert arrived(played, graph.ranks) == graph.matrix.tolist()
    return played


def test_a_matrix_arrives_to_the_byte(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "matrix"
    file.write_text(MATRIX)
    uneven = cli_by_file.from_matrix(file)
    graph = Pattern(pattern("alltoallv").collective, "pairwise", uneven).graph(3, uneven.fixed or 0)
    assert arrived(checked_run(lab, graph), 3) == [[0, 65536, 131072], [98304, 0, 16384], [32768, 49152, 0]]


def test_a_cell_that_is_larger_is_seen(lab: Lab, tmp_path: Path) -> None:
    """Negative control: 16 bytes more from rank 2 to rank 1 than the file above says."""
    file = tmp_path / "matrix"
    file.write_text(MATRIX.replace("49152", "49168"))
    uneven = cli_by_file.from_matrix(file)
    graph = Pattern(pattern("alltoallv").collective, "pairwise", uneven).graph(3, uneven.fixed or 0)
    assert arrived(checked_run(lab, graph), 3)[2] == [32768, 49168, 0]


def test_flows_of_a_file_arrive_and_the_third_begins_when_it_says(lab: Lab, tmp_path: Path) -> None:
    """Two of 100000 B share host1's port: together 16.3 ms on the wire, so the one that is
    done last took twice as long as alone, less by how much later it began: 4 ms leave 1.5, so
    a run in which they began further apart is invalid.
    """
    file = tmp_path / "flow.txt"
    file.write_text(FLOWS)
    graph = cli_by_file.workload(file, 3)
    assert isinstance(graph, Graph)
    played = checked_run(lab, graph)
    begins = [one.begun_s for one in played.rc.sends]
    assert begins[0] is not None
    assert begins[1] is not None
    assert begins[2] is not None
    if abs(begins[1] - begins[0]) > APART_MOST_S:
        raise RunInvalid(f"two flows began {abs(begins[1] - begins[0]) * 1e3:.1f} ms apart")
    assert begins[2] - begins[0] >= 0.049
    done = completion_of(played, ranks_on(lab), RcSettings())
    assert done is not None
    assert done.messages == 3
    assert done.slowdown.largest > 1.5
    assert done.slowdown.p50 > 0.9
    assert 1 / 3 < done.jain <= 1


def test_phases_of_a_training_step(lab: Lab, tmp_path: Path) -> None:
    """A collective that waits for 1 ms of computing, before and after, with data that is checked."""
    file = tmp_path / "workload.txt"
    file.write_text(SIMAI)
    graph = cli_by_file.workload(file, 3)
    assert isinstance(graph, Graph)
    checked_run(lab, graph)


def test_two_collectives_at_once_leave_each_other_alone(lab: Lab) -> None:
    """Two of two ranks, which share the third: parts of one graph, of which none touches what another leaves."""
    pair = pattern("all_reduce").graph(2, 64 * KIB)
    checked_run(lab, together("two at once", [Part(pair, (0, 2)), Part(pair, (1, 2))], ranks=3))
