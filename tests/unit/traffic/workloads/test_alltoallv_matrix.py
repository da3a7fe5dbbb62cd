from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from topologies.errors import SpecError
from traffic.graph import Graph, checked
from traffic.playing import orders
from traffic.races import races
from traffic.workloads import alltoallv_matrix

FILES = Path(__file__).parent / "files"


def cells(graph: Graph) -> list[list[int]]:
    found = [[0] * graph.ranks for _ in range(graph.ranks)]
    for send in graph:
        found[send.src][send.dst] += send.size
    return found


def test_cells_are_bytes_rounded_down_to_sixteen() -> None:
    graph = checked(alltoallv_matrix.read(FILES / "three.matrix"))
    assert cells(graph) == [[96, 192, 144], [48, 96, 64], [288, 144, 192]]
    assert graph.matrix.tolist() == [[0, 192, 144], [48, 0, 64], [288, 144, 0]]
    assert (graph.input_bytes, graph.output_bytes) == (288 + 144 + 192, 96 + 48 + 288)


def test_every_rank_ends_with_its_parts_in_the_order_of_their_senders() -> None:
    graph = alltoallv_matrix.read(FILES / "three.matrix")
    sizes = cells(graph)
    rng = np.random.default_rng(1)
    parts = [[rng.integers(0, 256, size, dtype=np.uint8) for size in row] for row in sizes]
    for outputs in orders(graph, [np.concatenate(row) for row in parts], range(5)):
        for rank, output in enumerate(outputs):
            expected = np.concatenate([row[rank] for row in parts])
            assert (output[: len(expected)] == expected).all()
    assert races(graph) == ()


def test_a_larger_matrix_gives_its_first_rows_and_columns() -> None:
    graph = alltoallv_matrix.read(FILES / "three.matrix", ranks=2)
    assert cells(graph) == [[96, 192], [48, 96]]


@pytest.mark.parametrize(
    ("cell", "scale", "expected"),
    [
        ("160", 0.1, 16),
        ("160", 0.7, 96),  # 0.7 as a double is a little less: 111.99… of which nccl-tests keeps 96; doubles give 112
        ("1e3", 1.0, 992),
        (".5e2", 1.0, 48),
        ("15.99", 1.0, 0),
        ("16", 0.0, 0),
        ("-0.0", 1.0, 0),
        ("17592186044416", 1.0, 1 << 44),
    ],
)
def test_a_scaled_cell_rounds_as_nccl_tests_rounds(cell: str, scale: float, expected: int) -> None:
    graph = alltoallv_matrix.parse(f"0 {cell}\n0 0\n".encode(), "m", scale=scale)
    assert int(graph.matrix[0, 1]) == expected


@pytest.mark.parametrize("text", ["1 2\n3 4", "\n\n 1\t2 \r\n\n3 4\r\n", "\ufeff1 2\n3 4\n"])
def test_blanks_do_not_matter(text: str) -> None:
    assert alltoallv_matrix.parse(text.encode(), "m").ranks == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"m: found no line; allowed: a square matrix"),
        (b"16", r"m: 1 ranks of a matrix of 1; allowed: 2 to 2"),
        (b"1 2\n3 4 5\n", r"m:2: column 5: found 3 columns; allowed: 2, as in the first row"),
        (b"1 2\n3\n", r"m:2: column 2: found 1 columns"),
        (b"1 2\n", r"m: found 1 rows of 2 columns; allowed: a square matrix: 2 rows"),
        (b"1 2\n3 4\n5 6\n", r"m:3: column 1: found row 3 of 2 columns"),
        (
            b"1 two\n3 4\n",
            r"m:1: column 3: bytes to rank 1 is 'two'; allowed: a decimal number from 0 to 17592186044416",
        ),
        (b"1 -2\n3 4\n", r"m:1: column 3: bytes to rank 1 is '-2'"),
        (b"1 nan\n3 4\n", r"bytes to rank 1 is 'nan'"),
        (b"1 inf\n3 4\n", r"bytes to rank 1 is 'inf'"),
        (b"1 0x10\n3 4\n", r"bytes to rank 1 is '0x10'"),
        (b"1 1e999999\n3 4\n", r"bytes to rank 1 is '1e999999'"),
        (b"1 1" + b"0" * 9999 + b"\n", r"bytes to rank 1 is '1000+\.\.\.'; allowed"),
        (b"1 2\n3 \xff\n", r"m:2: found byte 0xff, which is not UTF-8"),
        (b"1 2\n3 4\x00\n", r"m:2: found the control character"),
        (b"1 " * 1025, r"m:1: column 2049: found 1025 columns; allowed: at most 1024"),
        (b"1 " * 5000, r"m:1: column 8193: found more than 4096 words"),
    ],
)
def test_what_is_no_matrix_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        alltoallv_matrix.parse(content, "m")


def test_a_cell_that_scaling_makes_too_large_is_refused() -> None:
    with pytest.raises(SpecError, match=r"m:1: column 3: bytes to rank 1, scaled, is 1800000000000000000; allowed"):
        alltoallv_matrix.parse(b"0 18\n0 0", "m", scale=1e17)


@pytest.mark.parametrize("scale", [-1.0, float("nan"), float("inf")])
def test_what_scales_nothing_is_refused(scale: float) -> None:
    with pytest.raises(SpecError, match="allowed: a finite number from 0"):
        alltoallv_matrix.parse(b"0 1\n1 0", "m", scale=scale)


@pytest.mark.parametrize("ranks", [-1, 0, 1, 4])
def test_ranks_the_matrix_does_not_have_are_refused(ranks: int) -> None:
    with pytest.raises(SpecError, match="ranks of a matrix of 3; allowed: 2 to 3"):
        alltoallv_matrix.read(FILES / "three.matrix", ranks=ranks)
