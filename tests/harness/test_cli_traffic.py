"""`railbed traffic` on the fake backend: flags, table, JSON, exit codes. What is played is pretended."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from labs import collective_bridge as bridge
from labs.cli import run
from labs.cli_traffic import how_far
from labs.collective_trouble import check_running, explained
from labs.errors import NotReady
from labs.lab import Lab, adopt_lab
from labs.telemetry.samples import HostSample
from traffic.engines.graphs import EngineSettings
from traffic.engines.iperf3_graph import Iperf3Report
from traffic.engines.iperf3_plan import Iperf3Plans, Iperf3Settings
from traffic.engines.rc_plan import RcPlans
from traffic.engines.rc_report import RcReport
from traffic.engines.rc_settings import RcSettings
from traffic.engines.rnic_rc import RankProgress, Watches
from traffic.errors import TrafficError
from traffic.graph import Graph
from traffic.nccl_report import FlowLine
from traffic.placement import Placement

Capture = pytest.CaptureFixture[str]


@dataclass(frozen=True)
class PlayedReport(RcReport):
    """A report of a run that took a second an iteration."""

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
    cpu_left: float = 0.5
    failed: str | None = None
    fails_from: int = 0
    calls: list[tuple[Graph, int, bool]] | None = None
    settings: EngineSettings | None = None
    ranks: tuple[RankProgress, ...] = ()

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
        del lab
        if watch is not None:
            watch(self.ranks)
        self.calls = [*(self.calls or []), (graph, iterations, check)]
        self.settings = settings
        failed = self.failed if graph.input_bytes >= self.fails_from else None
        plans = RcPlans(graph, placement, RcSettings(), iterations, (), (), {})
        report = PlayedReport(plans, {}, (), (), (), self.wrong, failed)
        return bridge.Played(report, HostSample(duration_s=1.0, steal=0.0, starved_s=0.0), self.cpu_left)


@pytest.fixture
def player(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Player:
    """A lab that is up, and who plays on it."""
    found = Player()
    monkeypatch.setattr(bridge, "play", found.play)
    monkeypatch.setattr(bridge, "flow_lines", lambda _lab, _played: (FlowLine("host1", "host2", 4, 2.0, 0, 0, ("p",)),))
    assert run(["up", "clos_frr", "--backend", "fake", "--seed", "1", "--profile", "none"]) == 0
    capsys.readouterr()
    return found


def said(capsys: Capture, *argv: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert run(["traffic", *argv]) == code
    return capsys.readouterr()


def test_sizes_and_iterations_are_nccl_tests(player: Player, capsys: Capture) -> None:
    words = said(capsys, "all_reduce", "-b", "1M", "-e", "4M", "-f", "2", "-n", "5", "-w", "2", "-c", "0")
    assert player.calls is not None
    assert [(one.input_bytes >> 20, one.in_place, n, check) for one, n, check in player.calls] == [
        (size, inside, 7, False) for size in (1, 2, 4) for inside in (False, True)
    ]
    rows = [line for line in words.out.splitlines() if line and not line.startswith("#")]
    assert [row.split()[:5] for row in rows] == [
        [str(size << 20), str(size << 18), "float", "sum", "-1"] for size in (1, 2, 4)
    ]
    assert all("ideal" in row and "ratio" in row for row in rows)


@pytest.mark.parametrize("flag", ["--warmup-iters", "--warmup_iters", "-w"])
def test_run_may_be_said_and_warm_up_in_two_ways(player: Player, capsys: Capture, flag: str) -> None:
    said(capsys, "run", "alltoall_perf", "-b", "1M", "-n", "1", flag, "3", "--hosts", "host3,host1")
    assert player.calls is not None
    ((graph, iterations, check),) = player.calls
    assert (graph.ranks, iterations, check) == (2, 4, True)


def test_json_is_nccl_tests_and_ours(player: Player, capsys: Capture, tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    words = said(capsys, "broadcast", "-b", "1M", "-r", "2", "--format", "json", "-J", str(file))
    found = json.loads(words.out)
    assert json.loads(file.read_text()) == found
    assert (found["schema"], found["results"][0]["size"], found["results"][0]["root"]) == (1, 1 << 20, "     2")
    ours = found["railbed"]
    assert (ours["valid"], ours["invalid_because"], ours["line_rate_bps"]) == (True, None, 1e9)
    assert ours["busbw_ratio"] == pytest.approx((1 << 20) * 8 / 1e9)
    assert ours["flows"][0] == {
        "src": "host1", "dst": "host2", "bytes": 4, "fct_us": 2.0, "ce": 0, "retransmits": 0, "path": ["p"],
    }  # fmt: skip
    assert isinstance(player.settings, RcSettings)
    assert player.settings.seed == 1


def test_any_order_is_a_window_of_reordering(player: Player, capsys: Capture) -> None:
    for more, reorder in (((), 3), (("--any-order",), 64)):
        said(capsys, "alltoall", "-b", "1M", "--recovery", "sr", "--window", "64", *more)
        assert isinstance(player.settings, RcSettings)
        assert player.settings.reorder == reorder


@pytest.mark.parametrize("engine", ["iperf3", "scapy"])
def test_engines_without_data_say_that_nothing_was_checked(player: Player, capsys: Capture, engine: str) -> None:
    words = said(capsys, "all_reduce", "-b", "1M", "-n", "2", "--engine", engine, "-c", "0", "--format", "json")
    found = json.loads(words.out)
    assert (found["config"]["validation"], found["railbed"]["engine"]) == (0, engine)
    assert (found["results"][0]["out_of_place"]["nwrong"], found["out_of_bounds"]["count"]) == (None, 0)
    assert "N/A" in said(capsys, "all_reduce", "-b", "1M", "-n", "2", "--engine", engine).out
    assert player.calls is not None
    assert not any(check for _, _, check in player.calls)


def test_wrong_elements_are_a_false_verdict(player: Player, capsys: Capture) -> None:
    player.wrong = 3
    assert "Out of bounds values : 2 FAILED" in said(capsys, "all_reduce", "-b", "1M", code=1).out


def test_a_run_that_cannot_vouch_is_3_and_says_why_in_the_json(player: Player, capsys: Capture) -> None:
    player.cpu_left = 0.01
    words = said(capsys, "all_reduce", "-b", "1M", "--format", "json", code=3)
    found = json.loads(words.out)["railbed"]
    assert found["valid"] is False
    assert "the CPU had 1.0% left" in found["invalid_because"]
    assert found["invalid_because"] in words.err


def test_a_flow_that_fails_is_one_message_and_what_was_measured_is_kept(
    player: Player, capsys: Capture, tmp_path: Path
) -> None:
    """The first of two sizes is there in the table and in the file; the second says what failed, once."""
    player.failed, player.fails_from = "host1 to host2: no acknowledgement after all retries", 2 << 20
    file = tmp_path / "out.json"
    words = said(capsys, "all_reduce", "-b", "1M", "-e", "2M", "-f", "2", "-J", str(file), code=2)
    assert words.err.count("\n") == 1
    assert "2097152 bytes: host1 to host2: no acknowledgement" in words.err
    assert [line.split()[0] for line in words.out.splitlines() if line and not line.startswith("#")] == [str(1 << 20)]
    assert "Avg bus bandwidth" in words.out
    found = json.loads(file.read_text())
    assert [one["size"] for one in found["results"]] == [1 << 20]
    assert (found["railbed"]["valid"], found["errors"]) == (False, [found["railbed"]["invalid_because"]])
    assert "no acknowledgement" in found["errors"][0]
    assert found["railbed"]["flows"][0]["src"] == "host1"


def test_a_flow_that_fails_at_once_leaves_an_empty_table(player: Player, capsys: Capture) -> None:
    player.failed = "host1 to host2: no acknowledgement after all retries"
    words = said(capsys, "all_reduce", "-b", "1M", code=2)
    assert words.err.count("\n") == 1
    assert "# FAILED: ring all-reduce of 8, 1048576 bytes: host1 to host2: no acknowledgement" in words.out
    assert "# Collective test concluded" in words.out


@pytest.mark.parametrize(("raised", "code"), [(NotReady("asicd does not answer"), 2), (KeyboardInterrupt(), 130)])
def test_no_trouble_is_glued_to_the_line_that_tells_how_far(
    player: Player, capsys: Capture, monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int
) -> None:
    """The lab's trouble, or an interrupt; what was measured before the lab's trouble is kept."""

    def play(lab: Lab, graph: Graph, *more: Any, **words: Any) -> bridge.Played:
        played = player.play(lab, graph, *more, **words)
        if graph.input_bytes > 1 << 20:
            raise raised
        return played

    player.ranks = (RankProgress(0, "host1", 3, 21, 7, 10**6, 2 * 10**6),)
    monkeypatch.setattr(bridge, "play", play)
    screen = Terminal(tty=True)
    monkeypatch.setattr("sys.stderr", screen)
    assert run(["traffic", "all_reduce", "-b", "1M", "-e", "2M", "-f", "2"]) == code
    last = screen.text.rpartition("\r\x1b[K")[2]
    assert "iteration" not in last
    out = capsys.readouterr().out
    assert ("# FAILED: asicd does not answer" in out) == (code == 2)


def test_a_host_of_another_lab_is_named_with_its_lab(player: Player, capsys: Capture) -> None:
    assert run(["up", "incast_8", "--name", "other", "--backend", "fake", "--seed", "1", "--profile", "none"]) == 0
    words = said(capsys, "all_reduce", "-b", "1M", "--hosts", "host1,host9", "--lab", "clos-frr", code=2)
    assert words.err.count("\n") == 1
    assert "no host host9 in lab clos-frr (lab other has a host9; labs never meet); allowed: host1" in words.err
    assert player.calls is None


def test_a_host_that_is_stopped_is_named_before_anything_starts(player: Player) -> None:
    lab = adopt_lab("clos-frr")
    check_running(lab, ["host1"])
    lab.stop("host2")
    with pytest.raises(TrafficError, match="host2 is stopped: no flow can be from or to it"):
        check_running(lab, ["host1", "host2"])
    assert explained(lab, ["host1", "host2"], "why") == "host2 is stopped; why"
    assert player.calls is None


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("all_reduc",), "meant all_reduce"),
        (("all_reduce", "--algorithm", "star"), "ring, tree"),
        (("all_reduce", "--hosts", "host99"), "host99"),
        (("all_reduce", "--hosts", "host1"), "1 ranks on host1"),
        (("all_reduce", "-b", "2M", "-e", "1M"), "sizes from 2097152 to 1048576"),
        (("all_reduce", "-b", "soon"), "size 'soon'"),
        (("all_reduce", "--engine", "ns3"), "--engine ns3; allowed: rnic, iperf3, scapy"),
        (
            ("all_reduce", "--engine", "iperf3", "--cc", "dcqcn-mlx"),
            "--cc with --engine iperf3; allowed: --engine rnic",
        ),
        (("all_reduce", "--engine", "scapy", "-c", "1"), "--check with --engine scapy; allowed: --engine rnic"),
        (("all_reduce", "--any-order"), "--any-order with --recovery gbn; allowed: --recovery sr"),
        (("all_reduce", "--udp"), "--udp with --engine rnic; allowed: --engine iperf3"),
        (("all_reduce", "--engine", "scapy", "-b", "8M"), "is 28672 packets of 4096 bytes; allowed: up to 4096"),
        (("all_reduce", "--engine", "iperf3", "-n", "99"), "100 iterations of 112 flows; allowed: up to 512"),
        (("all_reduce", "--rate", "fast"), "--rate fast"),
        (("all_reduce", "broadcast"), "unexpected extra argument (broadcast)"),
        (("-b", "1M"), "Missing argument 'PATTERN'"),
        (("broadcast", "-b", "1M", "-r", "99"), "root 99"),
    ],
)
def test_what_cannot_be_meant_is_refused(player: Player, capsys: Capture, argv: tuple[str, ...], message: str) -> None:
    assert message in said(capsys, *argv, code=2).err
    assert player.calls is None


def test_a_dry_run_plays_nothing(player: Player, capsys: Capture) -> None:
    words = said(capsys, "all_reduce", "-b", "1M", "--dry-run")
    assert (words.out, player.calls) == ("", None)
    assert "all_reduce_perf by ring on 8 ranks would be played 1 + 20 times, of 1048576 bytes" in words.err


def test_the_list_names_patterns_and_algorithms(capsys: Capture) -> None:
    found = json.loads(said(capsys, "list", "--format", "json").out)
    assert {"pattern": "alltoall", "algorithms": ["at-once", "pairwise", "bruck"]} in found["patterns"]
    assert "double-tree" in said(capsys, "list").out
    assert json.loads(said(capsys, "--format", "json", "list").out) == found
    assert json.loads(said(capsys, "--format=json", "list").out) == found


def test_a_pattern_may_stand_behind_options(player: Player, capsys: Capture) -> None:
    """What an option takes is no command, whatever it is called."""
    said(capsys, "--split", "-b", "1M", "--hosts", "host1,host2", "alltoall")
    assert player.calls is not None
    assert player.calls[-1][0].ranks == 2
    assert "no host list" in said(capsys, "--hosts", "list", "alltoall", code=2).err


def test_help_names_the_commands(capsys: Capture) -> None:
    words = said(capsys, "--help").out
    assert all(f"\n  {name} " in words for name in ("list", "run"))
    assert "--minbytes" in said(capsys, "run", "--help").out


def test_what_was_counted_tells_whether_times_count(player: Player) -> None:
    report = PlayedReport(RcPlans(Graph("g", 2, ()), Placement(()), RcSettings(), 1, (), (), {}), {}, (), ())
    quiet = bridge.Played(report, HostSample(duration_s=1.0, steal=0.0, starved_s=0.0), 0.5)
    assert quiet.invalid_because is None
    assert "networking lock" in str(replace(quiet, disturbed="the kernel's networking lock").invalid_because)
    stolen = replace(quiet, host=HostSample(duration_s=1.0, steal=0.5, starved_s=0.0))
    assert stolen.invalid_because == "steal 50%, at most 10% allowed"
    unpaced = replace(
        quiet, report=Iperf3Report(Iperf3Plans(Graph("g", 2, ()), Placement(()), Iperf3Settings(), 1, (), ()), ())
    )
    assert unpaced.invalid_because is None
    assert replace(unpaced, cpu_left=0.01).invalid_because == "the CPU had 1.0% left, needed 10.0%"
    del player


@dataclass
class Terminal:
    """Stands in for stderr."""

    tty: bool
    text: str = ""

    def isatty(self) -> bool:
        return self.tty

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


@pytest.mark.parametrize("tty", [True, False])
def test_a_terminal_shows_how_far_it_is_on_one_line(player: Player, monkeypatch: pytest.MonkeyPatch, tty: bool) -> None:
    player.ranks = (RankProgress(0, "host1", 3, 21, 7, 10**6, 2 * 10**6), RankProgress(1, "host2", 2, 21, 7, 0, 10**6))
    screen = Terminal(tty)
    monkeypatch.setattr("sys.stderr", screen)
    assert run(["traffic", "all_reduce", "-b", "1M", "--format", "json"]) == 0
    shown = "\r\x1b[Kiteration 2 of 21 done on all hosts, 3 MB received"
    assert screen.text.split("\r\x1b[K")[1:] == ([shown[4:]] * 2 + [""] if tty else [])


def test_nobody_who_answers_is_said() -> None:
    assert how_far(()) == "nobody answers"
