"""`railbed traffic compare` on the fake backend: turns, rows, exit codes, and the lab's own profile back at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from labs import cli_traffic_compare, index
from labs import collective_bridge as bridge
from labs.cli import run
from labs.dataplane.load import load_profile
from labs.dataplane.profile import Profile
from labs.errors import NotReady
from labs.lab import Lab
from labs.telemetry.samples import HostSample
from topologies.ecmp import EcmpMode
from topologies.fabric import Tier
from traffic.engines.rc_plan import RcPlans
from traffic.engines.rc_report import RcReport
from traffic.engines.rc_settings import RcSettings
from traffic.errors import TrafficError
from traffic.graph import Graph
from traffic.placement import Placement

Capture = pytest.CaptureFixture[str]


class Asic:
    """Stands in for the lab's soft ASIC: it only remembers what it is told to play."""

    def __init__(self) -> None:
        self.profile: Profile = load_profile("roce_default")
        self.applied: list[Profile] = []
        self.stuck = False

    def apply(self, profile: Profile) -> int:
        if self.stuck:
            raise NotReady("asicd does not answer", remedy="railbed down")
        self.profile = profile
        self.applied.append(profile)
        return 1

    @property
    def mode(self) -> EcmpMode:
        return self.profile.ecmp("leaf1", Tier.LEAF)[3].mode


@dataclass(frozen=True)
class PlayedReport(RcReport):
    """A report of a run that took so long an iteration."""

    seconds: float | None = 1.0
    wrong_elements: int = 0
    failed: str | None = None

    @property
    def wrong(self) -> int | None:
        return self.wrong_elements

    @property
    def error(self) -> str | None:
        return self.failed

    def took_s(self, warmup: int = 0) -> float | None:
        return None if self.failed or self.seconds is None else self.seconds + 0 * warmup


@dataclass
class Player:
    """Stands in for `collective_bridge.play`; `took` by mode of load balancing, `spoil` what goes wrong."""

    asic: Asic
    took: Mapping[EcmpMode, float] = field(default_factory=dict)
    spoil: Callable[[bridge.Played], bridge.Played] = lambda one: one
    raises: BaseException | None = None
    calls: list[tuple[EcmpMode, RcSettings]] = field(default_factory=list)
    graphs: set[int] = field(default_factory=set)

    def play(
        self, lab: Lab, graph: Graph, placement: Placement, settings: RcSettings, *, iterations: int, check: bool
    ) -> bridge.Played:
        del lab, check
        self.calls.append((self.asic.mode, settings))
        self.graphs.add(id(graph))
        if self.raises is not None and len(self.calls) == 2:
            raise self.raises
        plans = RcPlans(graph, placement, settings, iterations, (), (), {})
        report = PlayedReport(plans, {}, (), (), (), self.took.get(self.asic.mode, 1.0))
        return self.spoil(bridge.Played(report, HostSample(duration_s=1.0, steal=0.0, starved_s=0.0), 0.5))


@pytest.fixture
def player(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Player:
    """A lab that is up, with a soft ASIC, and who plays on it."""
    asic = Asic()
    found = Player(asic)
    monkeypatch.setattr(bridge, "play", found.play)
    monkeypatch.setattr(cli_traffic_compare, "soft_asic_of", lambda _lab: asic)
    assert run(["up", "clos_frr", "--backend", "fake", "--seed", "1", "--profile", "none"]) == 0
    capsys.readouterr()
    return found


def said(capsys: Capture, *argv: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert run(["traffic", "compare", *argv]) == code
    return capsys.readouterr()


def run_dir() -> Path:
    return Path(index.read("clos-frr").run_dir)


def test_schemes_take_turns_on_the_same_graph_and_seeds(player: Player, capsys: Capture) -> None:
    words = said(capsys, "--repeat", "2")
    modes = [EcmpMode.KERNEL, EcmpMode.ROCE, EcmpMode.FLOWLET, EcmpMode.SPRAY, EcmpMode.ADAPTIVE]
    assert [mode for mode, _ in player.calls] == [mode for mode in modes for _ in range(2)] * 2
    assert [str(rc.congestion) for _, rc in player.calls] == ["dcqcn-mlx", "none"] * 10
    assert len(player.graphs) == 1
    seeds = [rc.seed for _, rc in player.calls]
    assert (len(set(seeds[:10])), len(set(seeds[10:])), len(set(seeds))) == (1, 1, 2)
    assert {rc.dilation for _, rc in player.calls if rc.congestion != "none"} == {100}
    assert [line.partition(":")[0] for line in words.err.splitlines()[:3]] == [
        "1/2 kernel dcqcn", "1/2 kernel none", "1/2 roce dcqcn",
    ]  # fmt: skip
    rows = [line.split() for line in words.out.splitlines()[1:11]]
    assert [row[:2] for row in rows] == [[mode.name.lower(), cc] for mode in modes for cc in ("dcqcn", "none")]
    for word in ("busbw GB/s", "p99 ms", "idle", "CE", "pauses", "reorder", "valid"):
        assert word in words.out.splitlines()[0]


def test_receivers_take_any_order_where_a_flow_may_change_its_way(player: Player, capsys: Capture) -> None:
    said(capsys, "--cc", "none", "--repeat", "1", "--window", "64")
    assert [(str(rc.recovery), rc.reorder) for _, rc in player.calls] == [("gbn", 3)] * 2 + [("sr", 64)] * 3
    player.calls.clear()
    assert " gbn " in said(capsys, "--cc", "none", "--repeat", "1", "--lb", "spray", "--recovery", "gbn").out
    assert [(str(rc.recovery), rc.reorder) for _, rc in player.calls] == [("gbn", 3)]


def test_the_own_profile_is_back_and_nothing_else_is_left(player: Player, capsys: Capture) -> None:
    own = player.asic.profile
    words = said(capsys, "--repeat", "1")
    assert player.asic.profile is own
    assert [one.name for one in player.asic.applied][-2:] == ["compare_adaptive", "roce_default"]
    plot = Path(next(line for line in words.out.splitlines() if line.startswith("plot: ")).removeprefix("plot: "))
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert list((run_dir() / "schemes").iterdir()) == [plot]


@pytest.mark.parametrize(("raised", "code"), [(KeyboardInterrupt(), 130), (NotReady("host1 is gone"), 2)])
def test_the_own_profile_is_back_after_an_end_half_way(
    player: Player, capsys: Capture, raised: BaseException, code: int
) -> None:
    own, player.raises = player.asic.profile, raised
    said(capsys, "--lb", "spray,roce", code=code)
    assert len(player.calls) == 2
    assert player.asic.profile is own
    assert not list((run_dir() / "schemes").glob("*.json"))


def test_a_profile_that_cannot_be_put_back_is_kept_and_named(player: Player, capsys: Capture) -> None:
    def stick(one: bridge.Played) -> bridge.Played:
        player.asic.stuck = True
        return one

    player.spoil = stick
    words = said(capsys, "--lb", "spray", "--cc", "none", "--repeat", "1", code=2)
    kept = run_dir() / "schemes" / "roce_default.json"
    assert f"railbed profile apply --lab clos-frr {kept}" in words.err
    assert load_profile(str(kept)).tables == load_profile("roce_default").tables
    player.asic.stuck = False
    again = said(capsys, "--lb", "spray", code=2)
    assert f"a comparison that was killed has left\n  remedy: railbed profile apply --lab clos-frr {kept}" in again.err


def test_json_has_every_repeat(player: Player, capsys: Capture, tmp_path: Path) -> None:
    player.took = {EcmpMode.KERNEL: 2.0, EcmpMode.SPRAY: 1.0}
    plot = tmp_path / "a.svg"
    argv = ("alltoall", "--lb", "kernel,spray", "--cc", "dcqcn-ns3", "-b", "8M", "--plot", str(plot))
    found = json.loads(said(capsys, *argv, "--format", "json").out)
    assert (found["schema"], found["pattern"], found["size"], found["plot"]) == (1, "alltoall", 8 << 20, str(plot))
    assert plot.read_text().startswith("<?xml")
    kernel, spray = found["rows"]
    assert [kernel["lb"], kernel["cc"], kernel["recovery"]] == ["kernel", "dcqcn-ns3", "gbn"]
    assert spray["bus_bw"] == pytest.approx(2 * kernel["bus_bw"])
    assert [len(kernel["repeats"]), kernel["valid"], kernel["settings"]["dilation"]] == [3, True, 100]
    assert [one["seed"] for one in kernel["repeats"]] == [one["seed"] for one in spray["repeats"]]


def test_half_of_a_step_is_idle_at_best_unless_told_otherwise(player: Player, capsys: Capture) -> None:
    ideal_s = (8 << 20) * 7 / 8 * 8 / 1e9 * (4096 + 82) / 4096
    player.took = dict.fromkeys(EcmpMode, ideal_s)
    one = ("--lb", "kernel", "--cc", "none", "--repeat", "1", "-b", "8M", "--format", "json")
    assert json.loads(said(capsys, *one).out)["rows"][0]["idle_share"] == pytest.approx(0.5)
    more = ("--compute-us", str(3e6 * ideal_s), "--overlap", "0.5")
    assert json.loads(said(capsys, *one, *more).out)["rows"][0]["idle_share"] == pytest.approx(0.5 / 3.5)


def test_one_scheme_without_a_valid_repeat_is_3(player: Player, capsys: Capture) -> None:
    def spoil(one: bridge.Played) -> bridge.Played:
        return replace(one, cpu_left=0.01) if player.asic.mode is EcmpMode.SPRAY else one

    player.spoil = spoil
    words = said(capsys, "--lb", "kernel,spray", "--cc", "none", "--repeat", "2", code=3)
    assert "spray none: the CPU had 1.0% left" in words.err
    assert [line.split()[-1] for line in words.out.splitlines()[1:3]] == ["2/2", "0/4"]


def test_one_invalid_repeat_of_several_does_not_count(player: Player, capsys: Capture) -> None:
    def spoil(one: bridge.Played) -> bridge.Played:
        return replace(one, cpu_left=0.01) if len(player.calls) == 1 else one

    player.spoil = spoil
    assert "2/3" in said(capsys, "--lb", "kernel", "--cc", "none", "--again", "0").out


def test_a_repeat_that_proves_nothing_is_started_again_with_its_seed(player: Player, capsys: Capture) -> None:
    def spoil(one: bridge.Played) -> bridge.Played:
        return replace(one, cpu_left=0.01) if len(player.calls) == 1 else one

    player.spoil = spoil
    words = said(capsys, "--lb", "kernel,roce", "--cc", "none", "--repeat", "2")
    modes = [mode for mode, _ in player.calls]
    assert modes == [EcmpMode.KERNEL, EcmpMode.ROCE, EcmpMode.KERNEL, EcmpMode.KERNEL, EcmpMode.ROCE]
    seeds = [rc.seed for _, rc in player.calls]
    assert (len(set(seeds[:3])), len(set(seeds))) == (1, 2)
    assert [line.split()[-1] for line in words.out.splitlines()[1:3]] == ["2/3", "2/2"]


def test_wrong_elements_are_a_false_verdict(player: Player, capsys: Capture) -> None:
    def spoil(one: bridge.Played) -> bridge.Played:
        assert isinstance(one.report, PlayedReport)
        return replace(one, report=replace(one.report, wrong_elements=1))

    player.spoil = spoil
    said(capsys, "--lb", "kernel", "--cc", "none", "--repeat", "1", code=1)


def test_a_connection_that_fails_is_that_rows_affair(player: Player, capsys: Capture) -> None:
    def spoil(one: bridge.Played) -> bridge.Played:
        assert isinstance(one.report, PlayedReport)
        failed = "host1 to host2: no acknowledgement" if player.asic.mode is EcmpMode.ROCE else None
        return replace(one, report=replace(one.report, failed=failed))

    player.spoil = spoil
    words = said(capsys, "--lb", "roce,kernel", "--cc", "none", "--repeat", "1", "--again", "0", code=3)
    assert "roce none: host1 to host2: no acknowledgement" in words.err
    assert [line.split()[-1] for line in words.out.splitlines()[1:3]] == ["0/1", "1/1"]


def test_a_run_that_does_not_start_is_an_invalid_repeat(player: Player, capsys: Capture) -> None:
    """The second of all runs: the rows of the others are there, and it is started again."""
    player.raises = TrafficError("host1: port 4791 in use")
    words = said(capsys, "--lb", "kernel,roce", "--cc", "none", "--repeat", "1", "--again", "0", code=3)
    assert "roce none: host1: port 4791 in use" in words.err
    assert [line.split()[-1] for line in words.out.splitlines()[1:3]] == ["1/1", "0/1"]
    player.calls.clear()
    words = said(capsys, "--lb", "kernel,roce", "--cc", "none", "--repeat", "1")
    assert [line.split()[-1] for line in words.out.splitlines()[1:3]] == ["1/1", "1/2"]


@pytest.mark.parametrize("raised", [PermissionError(13, "Permission denied"), RuntimeError("no font")])
def test_a_plot_that_cannot_be_drawn_leaves_the_table(
    player: Player, capsys: Capture, monkeypatch: pytest.MonkeyPatch, raised: Exception
) -> None:
    def draw(*_: object) -> None:
        raise raised

    monkeypatch.setattr("labs.scheme_plot.draw", draw)
    capsys.readouterr()
    argv = ["traffic", "compare", "--lb", "kernel", "--cc", "none", "--repeat", "1"]
    assert run(argv) == 2
    words = capsys.readouterr()
    assert "1/1" in words.out
    assert ("Permission denied" if isinstance(raised, OSError) else "no font") in words.err
    del player


def test_a_dry_run_plays_and_changes_nothing(player: Player, capsys: Capture) -> None:
    words = said(capsys, "--dry-run", "-b", "8M")
    assert (words.out, player.calls, player.asic.applied) == ("", [], [])
    assert "would be played 30 times (10 schemes, 3 repeats, each started 2 times at most)" in words.err
    assert "5 s on the wire at least" in words.err  # 90 times 8 MiB x 7/8 at 1 Gbit/s, with headers
    assert "flowlet none: sr, any order, none, times x 1, RAILBED_ECMP *|3: mode flowlet, gap_us 820" in words.err
    assert not (run_dir() / "schemes").exists()
