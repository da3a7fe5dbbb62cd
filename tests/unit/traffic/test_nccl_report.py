"""nccl-tests' table and JSON: expected lines were printed by C with the formats of its src/util.cu."""

from __future__ import annotations

import json

import pytest

from topologies.errors import SpecError
from traffic.busbw import Collective
from traffic.nccl_report import (
    FlowLine,
    Line,
    Report,
    Settings,
    Side,
    fitted,
    footer,
    header,
    json_document,
    line_of,
    railbed_part,
    side,
    table,
    text_line,
)

RING = Line(
    33554432,
    8388608,
    "float",
    "sum",
    -1,
    Side(2.68435456, 0.0125, 0.021875, 0),
    Side(1.34217728, 0.025, 0.04375, 1234567),
    ideal_s=0.67108864,
)
UNCHECKED = Line(
    1024, 256, "half", "none", 3, Side(12.346e-6, 123456.7, 1234567890.0, 3), Side(0.0999995, 0.0, 0.0, None)
)


def test_lines_are_those_of_nccl_tests() -> None:
    assert text_line(RING) == (
        "    33554432       8388608     float     sum      -1"
        "  2684355    0.01    0.02       0  1342177    0.03    0.04  1.23457e+06"
    )
    assert text_line(UNCHECKED) == (
        "        1024           256      half    none       3"
        "    12.35  123457   1e+09       3  99999.5    0.00    0.00    N/A"
    )
    halved = text_line(Line(8, 2, "float", "sum", -1, None, Side(1e-6, 1.0, 1.0)))
    assert halved.index("1.00") == text_line(RING).index("1342177") + 3


def test_the_header_is_that_of_nccl_tests() -> None:
    settings = Settings(Collective.ALL_REDUCE, 2, least_bytes=8, most_bytes=128 << 20, step_factor=2)
    lines = header(settings, ("host1", "host2"))
    assert lines[1:4] == (
        "# Collective test starting: all_reduce_perf",
        (
            "# nThread 1 nGpus 1 minBytes 8 maxBytes 134217728 step: 2(factor) warmup iters: 1 iters: 20 agg iters: 1 "
            "validation: 1 graph: 0 unalign: 0"
        ),
        "#",
    )
    assert lines[4:6] == (
        "# Using devices",
        "#  Rank  0 Group  0 Pid      0 on      host1 device  0 [0000:00:00] railbed host",
    )
    first = "#                                                              out-of-place                "
    halves = ("     time   algbw   busbw  #wrong", "     (us)  (GB/s)  (GB/s)        ")
    assert lines[-3:] == (
        first + "       in-place          ",
        "#       size         count      type   redop    root" + 2 * halves[0] + " ",
        "#        (B)    (elements)                          " + 2 * halves[1] + " ",
    )
    assert "step: 1048576(bytes)" in header(Settings(Collective.ALL_REDUCE, 2))[2]


@pytest.mark.parametrize(
    ("value", "in_seven", "in_six"),
    [
        (0, "   0.00", "  0.00"),
        (9999.994, "9999.99", " 10000"),
        (9999.995, "10000.0", " 10000"),
        (99999.94, "99999.9", "100000"),
        (999999.4, " 999999", "999999"),
        (9999999.4, "9999999", " 1e+07"),
        (99999999.0, "1.0e+08", " 1e+08"),
        (1.5e10, "1.5e+10", " 2e+10"),
    ],
)
def test_numbers_lose_decimals_before_they_lose_their_column(value: float, in_seven: str, in_six: str) -> None:
    assert (fitted(value, 7), fitted(value, 6)) == (in_seven, in_six)


def test_the_footer_counts_sides_with_wrong_elements_and_averages_all() -> None:
    settings = Settings(Collective.ALL_REDUCE, 8)
    report = Report(settings, (RING,))
    assert footer(report)[:2] == (
        "# Out of bounds values : 1 FAILED",
        "# Avg bus bandwidth    : 0.0328125 ",
    )
    clean = Report(settings, (Line(8, 2, "float", "sum", -1, Side(1.0, 1.0, 1.5), Side(1.0, 1.0, 0.5)),))
    assert footer(clean)[:2] == ("# Out of bounds values : 0 OK", "# Avg bus bandwidth    : 1 ")
    assert table(clean).endswith("#\n# Collective test concluded: all_reduce_perf\n#\n\n")
    assert table(clean).splitlines()[9].split() == [
        *("8", "2", "float", "sum", "-1"),
        *("1000000", "1.00", "1.50", "0"),
        *("1000000", "1.00", "0.50", "0"),
    ]


@pytest.mark.parametrize(("demanded", "word"), [(1.0, "OK"), (1.11, "OK"), (1.12, "FAILED"), (None, "")])
def test_nine_tenths_of_what_is_demanded_pass(demanded: float | None, word: str) -> None:
    settings = Settings(Collective.BROADCAST, 2, min_bus_bw=demanded)
    report = Report(settings, (Line(8, 2, "float", "none", 0, Side(1.0, 1.0, 1.0), None),))
    assert footer(report)[1] == f"# Avg bus bandwidth    : 1 {word}"
    okay = json_document(report)["average_bus_bandwidth"]
    assert okay == {"bandwidth": 1.0, "okay": {"OK": "true", "FAILED": "false", "": "unchecked"}[word]}


def test_the_json_is_nccl_tests_with_a_part_of_ours() -> None:
    flows = [FlowLine("host1", "host2", 1024, 81.92, ce=3, retransmits=0, path=("leaf1:eth1", "leaf1:eth2"))]
    extra = railbed_part((RING, UNCHECKED), flows, line_rate_bps=1e9, invalid_because="pacing was off by 5.0%")
    report = Report(Settings(Collective.ALL_REDUCE, 8), (RING, UNCHECKED), ("host1",), extra)
    document = json.loads(json.dumps(json_document(report, args=["all_reduce_perf"], started="now", ended="then")))
    assert list(document)[:6] == ["version", "start_time", "args", "env", "nccl_version", "config"]
    assert document["version"] == 3
    result, unchecked = document["results"]
    assert {key: result[key] for key in ("size", "count", "type", "redop", "root", "actual_iterations")} == {
        "size": 33554432,
        "count": 8388608,
        "type": "float",
        "redop": "sum",
        "root": "    -1",
        "actual_iterations": 20,
    }
    assert result["out_of_place"] == {"time": 2684354.56, "alg_bw": 0.0125, "bus_bw": 0.021875, "nwrong": 0.0}
    assert result["in_place"]["nwrong"] == 1234567.0
    assert unchecked["in_place"]["nwrong"] is None
    # 0.67 s ideal, 1.34 s at best.
    assert result["railbed"] == {"ideal_time_us": 671088.64, "ideal_ratio": 0.5}
    assert unchecked["railbed"] == {"ideal_time_us": None, "ideal_ratio": None}
    assert document["out_of_bounds"] == {"count": 2, "okay": "false"}
    assert document["config"]["devices"][0]["hostname"] == "host1"
    assert document["railbed"] == {
        "line_rate_bps": 1e9,
        "busbw_ratio": 0.35,  # 0.04375 GB/s are 0.35 Gbit/s
        "ideal_time_us": 671088.64,
        "flows": [
            {
                "src": "host1",
                "dst": "host2",
                "bytes": 1024,
                "fct_us": 81.92,
                "ce": 3,
                "retransmits": 0,
                "path": ["leaf1:eth1", "leaf1:eth2"],
            }
        ],
        "valid": False,
        "invalid_because": "pacing was off by 5.0%",
    }


def test_a_report_of_nothing_has_no_average() -> None:
    report = Report(Settings(Collective.ALL_REDUCE, 8), ())
    assert json_document(report)["average_bus_bandwidth"] == {"bandwidth": "nan", "okay": "unchecked"}


def test_words_fit_the_collective() -> None:
    one = side(Collective.ALL_REDUCE, 1.0, size=10**9, ranks=4)
    assert (one.alg_bw, one.bus_bw) == (1.0, 1.5)
    found = {
        collective: line_of(Settings(collective, 4), size=8, count=2, out_of_place=one, in_place=None, root=3)
        for collective in Collective
    }
    assert {str(collective): (line.redop, line.root) for collective, line in found.items()} == {
        "all_reduce": ("sum", -1),
        "all_gather": ("none", -1),
        "reduce_scatter": ("sum", -1),
        "alltoall": ("none", -1),
        "alltoallv": ("none", -1),
        "broadcast": ("none", 3),
        "reduce": ("sum", 3),
        "gather": ("none", 3),
        "scatter": ("none", 3),
        "sendrecv": ("none", -1),
        "hypercube": ("", -1),
    }
    with pytest.raises(SpecError, match="8 bytes that were not run"):
        line_of(Settings(Collective.REDUCE, 4), size=8, count=2, out_of_place=None, in_place=None)
