"""`railbed traffic` by matrix, skew, workload file and communicators, on the fake backend: what would be played."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from labs import collective_bridge as bridge
from labs.cli import run
from labs.lab import Lab
from labs.telemetry.samples import HostSample
from traffic.engines.graphs import EngineSettings
from traffic.engines.rc_plan import RcPlans
from traffic.engines.rc_report import RcReport, SendResult
from traffic.engines.rc_settings import RcSettings
from traffic.engines.rnic_rc import Watches
from traffic.graph import Graph
from traffic.placement import Placement

Capture = pytest.CaptureFixture[str]
MATRIX = "16 32 48\n64 0 80\n96 112 0\n"
FLOWS = "3\n0 1 3 100 100000 0\n1 2 3 100 200000 0.001\n0 2 3 100 50000 0.002\n"
SIMAI = (
    "HYBRID_TRANSFORMER_FWD_IN_BCKWD model_parallel_NPU_group: 2 ep: 1 pp: 1 vpp: 8 ga: 1 all_gpus: {} checkpoints: 0\n"
    "1\nattention -1 1000 ALLREDUCE 4096 1 NONE 0 1 ALLGATHER 8192 100\n"
)
MSCCL = (
    '<algo name="pair" proto="Simple" nchannels="1" nchunksperloop="2" ngpus="2" coll="{}" inplace="0">'
    '<gpu id="0" i_chunks="2" o_chunks="2" s_chunks="0"><tb id="0" send="1" recv="1" chan="0">'
    '<step s="0" type="s" srcbuf="i" srcoff="1" dstbuf="o" dstoff="0" cnt="1" depid="-1" deps="-1" hasdep="0"/>'
    '<step s="1" type="r" srcbuf="i" srcoff="0" dstbuf="o" dstoff="1" cnt="1" depid="-1" deps="-1" hasdep="0"/>'
    "</tb></gpu>"
    '<gpu id="1" i_chunks="2" o_chunks="2" s_chunks="0"><tb id="0" send="0" recv="0" chan="0">'
    '<step s="0" type="s" srcbuf="i" srcoff="0" dstbuf="o" dstoff="1" cnt="1" depid="-1" deps="-1" hasdep="0"/>'
    '<step s="1" type="r" srcbuf="i" srcoff="1" dstbuf="o" dstoff="0" cnt="1" depid="-1" deps="-1" hasdep="0"/>'
    "</tb></gpu></algo>"
)


@dataclass(frozen=True)
class PlayedReport(RcReport):
    """Took a second an iteration, a millisecond a message."""

    wrong_elements: int = 0
    failed: str | None = None

    @property
    def wrong(self) -> int | None:
        return self.wrong_elements

    @property
    def error(self) -> str | None:
        return self.failed

    def took_s(self, warmup: int = 0) -> float | None:
        return 1.0 + 0 * warmup


@dataclass
class Player:
    """Stands in for `collective_bridge.play`."""

    wrong: int = 0
    failed: str | None = None
    graphs: list[Graph] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    settings: EngineSettings | None = None

    def play(
        self,
        lab: Lab,
        graph: Graph,
        placement: Placement,
        settings: EngineSettings,
        *,
        iterations: int,
        check: bool,
        watch: Watches | None = None,
    ) -> bridge.Played:
        del lab, check, watch
        self.graphs.append(graph)
        self.rounds.append(iterations)
        self.settings = settings
        plans = RcPlans(graph, placement, RcSettings(), iterations, (), (), {})
        sends = tuple(SendResult(one, 1.0, 1.001) for one in graph if not one.is_local)
        report = PlayedReport(plans, {}, sends, (), (), self.wrong, self.failed)
        return bridge.Played(report, HostSample(duration_s=1.0, steal=0.0, starved_s=0.0), 0.5)


@pytest.fixture
def player(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Player:
    """A lab that is up, and who plays on it."""
    found = Player()
    monkeypatch.setattr(bridge, "play", found.play)
    monkeypatch.setattr(bridge, "flow_lines", lambda _lab, _played: ())
    assert run(["up", "clos_frr", "--backend", "fake", "--seed", "1", "--profile", "none"]) == 0
    capsys.readouterr()
    return found


def said(capsys: Capture, *argv: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert run(["traffic", *argv]) == code
    return capsys.readouterr()


def written(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def row(out: str) -> list[str]:
    (found,) = [line.split() for line in out.splitlines() if line and not line.startswith("#")]
    return found


def test_a_matrix_is_played_to_the_byte_and_its_busiest_rank_is_the_size(
    player: Player, capsys: Capture, tmp_path: Path
) -> None:
    """Column sums 176, 144, 128, row sums 96, 144, 208: nccl-tests' size is 208, its busbw 208 x 2/3 over the time."""
    file = written(tmp_path, "m", MATRIX)
    words = said(capsys, "alltoallv", "--matrix", file, "--format", "json")
    (graph,) = player.graphs
    assert graph.matrix.tolist() == [[0, 32, 48], [64, 0, 80], [96, 112, 0]]
    line = json.loads(words.out)["results"][0]
    assert (line["size"], line["count"], line["redop"], line["in_place"]) == (208, 0, "none", None)
    assert line["out_of_place"]["bus_bw"] == pytest.approx(208e-9 * 2 / 3, abs=1e-6)
    row_said = row(said(capsys, "--workload", file).out)
    assert row_said[:4] == ["208", "0", "float", "none"]


def test_a_matrix_of_nccl_tests_variables(
    player: Player, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NCCL_TESTS_ALLTOALLV_MATRIX_FILE", written(tmp_path, "m", MATRIX))
    monkeypatch.setenv("NCCL_TESTS_ALLTOALLV_MATRIX_SCALE", "2")
    said(capsys, "alltoallv")
    said(capsys, "all_reduce", "-b", "1M")  # which knows no matrix, nor minds
    assert (player.graphs[0].matrix.sum(), player.graphs[1].ranks) == (2 * (32 + 48 + 64 + 80 + 96 + 112), 8)


def test_a_skew_makes_columns_that_fall_and_others_of_one_sum(player: Player, capsys: Capture) -> None:
    said(capsys, "alltoallv", "-b", "1M", "--skew", "zipf:1.2")
    said(capsys, "alltoallv", "-b", "1M", "--skew", "spread:0.5")
    said(capsys, "alltoallv", "-b", "1M")
    zipf, spread, default = (one.matrix for one in player.graphs)
    columns = sorted(zipf.max(axis=0))
    assert columns[-1] / columns[0] == pytest.approx(8**1.2, rel=0.01)
    for matrix in (spread, default):
        assert len({*matrix.sum(axis=0), *matrix.sum(axis=1)}) == 1
    assert default[0, 1] < spread[0, 1] < spread[0, 7] < default[0, 7]


def test_flows_are_played_once_and_their_completion_is_said(player: Player, capsys: Capture, tmp_path: Path) -> None:
    """Each message took 1 ms; at 1 Gbit/s x 4096/4178 of it, 200000 B take 1.632 ms alone: slowdowns 0.61, 1.23, 2.45.

    That a message cannot be faster than the wire does not concern this stand-in.
    """
    file = written(tmp_path, "flow.txt", FLOWS)
    out = tmp_path / "out.json"
    words = said(capsys, "--workload", file, "-J", str(out))
    (graph,) = player.graphs
    assert (player.rounds, graph.ranks, [one.size for one in graph]) == ([1], 3, [100000, 200000, 50000])
    found = json.loads(out.read_text())
    assert (found["size"], found["messages"], found["time"], found["nwrong"]) == (350000, 3, 1e6, 0)
    assert found["alg_bw"] == pytest.approx(350000 / 1e9)
    done = found["railbed"]["completion"]
    assert done["fct_us"]["p50"] == pytest.approx(1000)
    wire = 4096 / 4178 * 1e9
    assert done["slowdown"]["p50"] == pytest.approx(0.001 * wire / 800000, rel=1e-5)
    assert done["slowdown"]["largest"] == pytest.approx(0.001 * wire / 400000, rel=1e-5)
    assert done["jain"] == pytest.approx((1 + 2 + 0.5) ** 2 / (3 * (1 + 4 + 0.25)), abs=1e-5)
    assert found["railbed"]["valid"] is True
    assert "fct (us)" in words.out
    assert json.loads(said(capsys, "--workload", file, "--format", "json", "-n", "3", "-w", "1").out)["messages"] == 3
    assert player.rounds[-1] == 4


def test_what_goes_wrong_in_a_workload_is_told_as_of_a_collective(
    player: Player, capsys: Capture, tmp_path: Path
) -> None:
    file = written(tmp_path, "flow.txt", FLOWS)
    player.wrong = 2
    assert row(said(capsys, "--workload", file, code=1).out.splitlines()[3])[-1] == "2"
    player.failed = "host1 to host2: no acknowledgement after all retries"
    words = said(capsys, "--workload", file, "--format", "json", code=2)
    assert "no acknowledgement" in words.err
    assert words.err.count("\n") == 1
    assert json.loads(words.out)["railbed"]["valid"] is False


def test_phases_become_collectives_of_their_groups(player: Player, capsys: Capture, tmp_path: Path) -> None:
    """Four ranks in tensor groups of two: an all-reduce in (0,1) and (2,3), then an all-gather in (0,2) and (1,3)."""
    said(capsys, "--workload", written(tmp_path, "w", SIMAI.format(4)))
    (graph,) = player.graphs
    sent = Counter({(one.src, one.dst): 0 for one in graph})
    for one in graph:
        sent[one.src, one.dst] += one.size
    assert graph.ranks == 4
    assert {ends: size for ends, size in sent.items() if size and ends[0] != ends[1]} == {
        (0, 1): 4096, (1, 0): 4096, (2, 3): 4096, (3, 2): 4096,
        (0, 2): 4096, (2, 0): 4096, (1, 3): 4096, (3, 1): 4096,
    }  # fmt: skip


def test_an_algorithm_of_msccl_is_a_collective_of_its_own(player: Player, capsys: Capture, tmp_path: Path) -> None:
    words = said(capsys, "--workload", written(tmp_path, "a.xml", MSCCL.format("alltoall")), "-b", "1M", "-n", "2")
    assert row(words.out)[:2] == ["1048576", "131072"]
    assert (player.graphs[0].ranks, player.graphs[0].matrix.sum(), player.rounds) == (2, 1 << 20, [3])


def test_communicators_play_at_once_and_count_as_one_of_them(
    player: Player, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight ranks, MOD 2: two rings of four. busbw is a ring's of four; no byte goes from one to the other."""
    words = said(capsys, "all_reduce", "-b", "1M", "--communicators", "MOD 2", "--format", "json")
    matrix = player.graphs[0].matrix
    assert {(src % 2, dst % 2) for src, dst in zip(*matrix.nonzero(), strict=True)} == {(0, 0), (1, 1)}
    assert matrix.sum() == 2 * 2 * 3 * (1 << 20)
    found = json.loads(words.out)
    assert found["results"][0]["out_of_place"]["bus_bw"] == pytest.approx((1 << 20) / 1e9 * 2 * 3 / 4, abs=1e-6)
    assert [(one["rank"], one["group"]) for one in found["config"]["devices"]][3:5] == [(3, 0), (0, 1)]
    assert found["railbed"]["communicators"] == [[0, 2, 4, 6], [1, 3, 5, 7]]
    monkeypatch.setenv("NCCL_TESTS_SPLIT", "DIV 4")
    assert "Group  1" in said(capsys, "all_reduce", "-b", "1M").out
    assert player.graphs[-1].matrix[:4, 4:].sum() == 0
    monkeypatch.setenv("NCCL_TESTS_SPLIT_MASK", "0x1")  # goes before the other
    said(capsys, "all_reduce", "-b", "1M")
    assert player.graphs[-1].matrix[0, 2] > 0


def test_the_retry_budget_is_nccls(player: Player, capsys: Capture) -> None:
    said(capsys, "all_reduce", "-b", "1M", "--ib-timeout", "14", "--ib-retry-cnt", "3")
    assert isinstance(player.settings, RcSettings)
    assert [player.settings.timeout_s, player.settings.retries] == pytest.approx([0.0671, 3], abs=1e-4)
    said(capsys, "all_reduce", "-b", "1M")
    assert [player.settings.timeout_s, player.settings.retries] == pytest.approx([4.295, 7], abs=1e-3)


@pytest.mark.parametrize(
    ("text", "argv", "message"),
    [
        ("1 2\n3\n", ("alltoallv", "--matrix", "FILE"), "FILE:2: column 2: found 1 columns"),
        ("", ("alltoallv", "--matrix", "FILE"), "found no line"),
        ("16 0\n0 16\n", ("alltoallv", "--matrix", "FILE"), "no rank sends another 16 bytes"),
        ("\n".join(["16 " * 9] * 9), ("alltoallv", "--matrix", "FILE"), "FILE: 9 ranks; 8 cards"),
        (MATRIX, ("alltoallv", "--matrix", "FILE", "-b", "1M"), "-b with a matrix"),
        (MATRIX, ("alltoallv", "--matrix", "FILE", "--skew", "zipf:1"), "--matrix and --skew; allowed: one of them"),
        (MATRIX, ("alltoall", "--matrix", "FILE"), "--matrix with alltoall; allowed: alltoallv"),
        (MATRIX, ("alltoallv", "--matrix", "FILE", "--communicators", "MOD 3"), "communicators of 1 of 3 ranks"),
        (MATRIX, ("all_reduce", "--workload", "FILE"), "pattern all_reduce and --workload"),
        ("", ("alltoallv", "--skew", "pareto:2"), "--skew pareto:2; allowed: zipf:ALPHA"),
        ("", ("alltoallv", "--skew", "spread:2"), "--skew spread:2"),
        ("", ("alltoallv", "--matrix-scale", "2"), "--matrix-scale without a matrix"),
        ("", ("--workload", "FILE.none"), "there is no such file"),
        ("hello\n", ("--workload", "FILE"), "FILE:1: found no workload"),
        ("1\n0 9 3 100 5 0\n", ("--workload", "FILE"), "FILE: 10 ranks; 8 cards"),
        ("1\n0 1 3 100 5 soon\n", ("--workload", "FILE"), "FILE:2"),
        ("0\n\n", ("--workload", "FILE"), "FILE"),
        (FLOWS, ("--workload", "FILE", "-b", "1M"), "-b with --workload; allowed: the file's own sizes"),
        (FLOWS, ("--workload", "FILE", "--algorithm", "ring"), "--algorithm with --workload"),
        (SIMAI.format(16), ("--workload", "FILE"), "FILE: all_gpus: 16; 8 cards"),
        (SIMAI.format(3), ("--workload", "FILE"), "groups TP of 2 ranks, 1 apart, among 3"),
        (MSCCL.format("alltoall"), ("--workload", "FILE", "-b", "6"), "0 bytes of alltoall for 2 ranks"),
        ("", ("all_reduce", "--communicators", "MOD 0"), "split 'MOD 0'"),
        ("", ("all_reduce", "--communicators", "some"), "split 'some'; allowed: AND, OR"),
        ("", ("all_reduce", "--communicators", "MOD 3"), "communicators of 2 and 3 of 8 ranks"),
        ("", ("all_reduce", "--communicators", "MOD 8"), "communicators of 1 of 8 ranks"),
        ("", ("all_reduce", "--engine", "scapy", "--ib-timeout", "14"), "--ib-timeout with --engine scapy"),
    ],
)
def test_what_cannot_be_meant_is_one_message_and_nothing_is_played(
    player: Player, capsys: Capture, tmp_path: Path, text: str, argv: tuple[str, ...], message: str
) -> None:
    file = written(tmp_path, "given", text)
    words = said(capsys, *(word.replace("FILE", file) for word in argv), code=2)
    assert message.replace("FILE", file) in words.err
    assert words.err.count("\n") == 1
    assert player.graphs == []


def test_a_dry_run_of_a_workload(player: Player, capsys: Capture, tmp_path: Path) -> None:
    words = said(capsys, "--workload", written(tmp_path, "flow.txt", FLOWS), "--dry-run")
    assert "3 messages of 3 ranks, 350000 bytes, 0 + 1 times, would be played" in words.err
    assert player.graphs == []
