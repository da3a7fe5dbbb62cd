"""`railbed compare` on the fake backend: exit codes, what it says, what it leaves behind."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, Self

import pytest

from labs import index, replay
from labs.cli import run
from labs.lab import Lab, open_lab
from labs.replay import Measured
from labs.telemetry.samples import HostSample
from topologies.fabric import Link

Break = Callable[..., None]
Capture = pytest.CaptureFixture[str]
SMALL = "fabric: {shape: leaf_spine, spines: 1, leaves: 2, hosts_per_leaf: 1}\n"
QUICK = ("--repeat", "8", "--confidence", "90", "--seed", "1")


class Watch:
    """A workstation on which nothing, or `starved_s`, goes wrong."""

    starved_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def sample(self) -> HostSample:
        return HostSample(duration_s=1.0, steal=0.0, starved_s=self.starved_s)


@pytest.fixture(autouse=True)
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Timings by image: ``slow`` takes half as long again, ``jumpy`` anything; every lab wobbles a little."""
    wobble = count()

    def seconds(lab: Lab) -> float:
        n = next(wobble)
        image = lab.rendered.spec.images.get("frr")
        return {"slow": 1.5, "jumpy": (0.3, 3.0)[n % 3 == 0]}.get(image or "", 1.0) + (n * 7 % 5) / 1000

    def cut_and_mend(lab: Lab, link: Link) -> Measured:
        assert str(link) == "leaf1:spine1"
        took = seconds(lab)
        return Measured({"reroute_s": took, "restore_s": took})

    def measured(lab: Lab, host: HostSample, progress: Any) -> Measured:
        lab.timings = {"deploy_s": 1.0, "converge_s": seconds(lab), "total_s": 3.0}
        return original(lab, host, progress)

    original = replay._measured
    monkeypatch.setattr(replay, "HostWatch", Watch)
    monkeypatch.setattr(replay, "cut_and_mend", cut_and_mend)
    monkeypatch.setattr(replay, "_measured", measured)
    yield
    assert index.names() == ()


def recorded(name: str, *more: str) -> None:
    """A run of the past."""
    Path("small.yaml").write_text(SMALL)
    assert run(["up", "small.yaml", "--backend", "fake", "--seed", "1", "--name", name, *more]) in {0, 1}
    assert run(["down", name]) == 0


@pytest.fixture(autouse=True)
def runs(state: Path) -> None:
    """An old image, and a slow one."""
    del state
    recorded("old")
    recorded("slow", "--image", "frr=slow")


def kept(tmp_path: Path) -> dict[str, Any]:
    """What the only comparison wrote."""
    (file,) = tmp_path.glob(".labs/compare/*/comparison.json")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def test_0_nothing_differs(tmp_path: Path, capsys: Capture) -> None:
    """A/A: no alarm; all labs are gone, and their run directories are the comparison's."""
    assert run(["compare", "old", ".labs/old", *QUICK]) == 0
    said = capsys.readouterr()
    assert "nothing differs: an A/A comparison" in said.err
    assert "8 valid rounds of 8 started, at most 12" in said.err
    assert "settled: A in 8 of 8 rounds, B in 8 of 8: no less often" in said.err
    assert said.out.count("no slower") == 4
    assert len(kept(tmp_path)["rounds"]) == 8
    assert sorted(path.name for path in (tmp_path / ".labs").iterdir()) == ["compare", "old", "slow"]


def test_1_b_is_slower(capsys: Capture) -> None:
    """Control: an image that takes half as long again is found, by every timing it slows and no other."""
    capsys.readouterr()
    assert run(["compare", "old", "slow", *QUICK, "--format", "json"]) == 1
    said = capsys.readouterr()
    facts = json.loads(said.out)
    assert facts["schema"] == 1
    assert facts["differs"] == [{"what": "images.frr", "a": "-", "b": "slow"}]
    assert "images.frr: A -, B slow" in said.err
    assert {row["metric"]: row["outcome"] for row in facts["metrics"]} == {
        "deploy_s": "no slower",
        "converge_s": "slower",
        "reroute_s": "slower",
        "restore_s": "slower",
    }
    assert facts["metrics"][1]["difference"] == pytest.approx(0.5, abs=0.01)
    assert [verdict["held"] for verdict in facts["verdicts"]] == [True, True, False, False, False]
    assert facts["rounds"] == {"wanted": 8, "valid": 8, "started": 8, "most": 12}


def test_0_b_is_faster(capsys: Capture) -> None:
    assert run(["compare", "slow", "old", *QUICK]) == 0
    assert capsys.readouterr().out.count("faster") == 3


def test_1_b_does_not_converge(broken: Break, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """The finding of a broken image: told by round."""
    sound = open_lab

    def breaking(request: Any, **more: Any) -> Any:
        broken(**({"links_down": ["leaf1:spine1"]} if request.given[0].images else {}))
        return sound(request, **more)

    monkeypatch.setattr(replay, "open_lab", breaking)
    assert run(["compare", "old", "slow", *QUICK]) == 1
    said = capsys.readouterr()
    assert "settled: A in 8 of 8 rounds, B in 0 of 8: less often" in said.err
    assert "round 1, B: converge_s: " in said.err
    assert "undecided: 0 rounds have both values, 8 are needed" in said.out


def test_2_b_cannot_be_deployed(broken: Break, capsys: Capture) -> None:
    broken(boot_fails="leaf1")
    capsys.readouterr()
    assert run(["compare", "old", "slow", *QUICK]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "railbed: warming up, A (" in said.err
    assert "leaf1: /run/railbed/boot exited 1" in said.err


def test_2_wrong_questions(capsys: Capture) -> None:
    """Nothing is started, and the message says what would do."""
    recorded("other", "--no-wait")
    assert run(["up", "clos_4x8", "--backend", "fake", "--name", "big"]) == 0
    assert run(["down", "big"]) == 0
    for argv, words in (
        (("old", "nix"), "found no run 'nix'; allowed: a run directory, or a lab with runs in"),
        (("old", "big"), "found two fabrics, small in A and clos_4x8 in B"),
        (("old", "slow", "--repeat", "5"), "allowed: an even number from 14 to 200"),
        (("old", "slow", "--seed", "-1"), "seed -1"),
        (("old", "slow", "--margin", "0"), "margin"),
    ):
        capsys.readouterr()
        assert run(["compare", *argv]) == 2
        assert words in capsys.readouterr().err
    assert not Path(".labs/compare").exists()


def test_3_workstation_starved(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """Neither a pass nor a fail, however clear the numbers look."""
    monkeypatch.setattr(Watch, "starved_s", 60.0)
    assert run(["compare", "old", "slow", *QUICK]) == 3
    said = capsys.readouterr()
    assert "INVALID: 0 valid rounds of 12 started, 8 are needed; A: the workstation was starved" in said.err
    assert said.out.count("invalid") == 4


def test_3_undecided(capsys: Capture) -> None:
    recorded("jumpy", "--image", "frr=jumpy")
    assert run(["compare", "old", "jumpy", *QUICK]) == 3
    assert "undecided: ±" in capsys.readouterr().out
    assert run(["compare", "old", "jumpy", *QUICK, "--undecided-ok"]) == 0


def test_undecided_ok_changes_nothing_else() -> None:
    assert run(["compare", "old", "old", *QUICK, "--undecided-ok"]) == 0
    assert run(["compare", "old", "slow", *QUICK, "--undecided-ok"]) == 1


def test_2_an_image_that_is_another_by_now(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """`my-frr:latest` built anew since: it would be compared with itself."""
    newest = max(Path(".labs/old").iterdir())
    (newest / "images.json").write_text(json.dumps({"my-frr:latest": "sha256:" + "a" * 64}))
    monkeypatch.setattr("labs.engine.has_image", lambda _: True)
    monkeypatch.setattr("labs.engine.image_id", lambda _: "sha256:" + "b" * 64)
    assert run(["compare", "old", "slow", *QUICK]) == 2
    assert "image my-frr:latest as sha256:aaaaaaaaaaaa, which now stands for sha256:bbbb" in capsys.readouterr().err
    monkeypatch.setattr("labs.engine.image_id", lambda _: "sha256:" + "a" * 64)
    assert run(["compare", "old", "slow", *QUICK, "--dry-run"]) == 0


def test_dry_run_starts_nothing(capsys: Capture) -> None:
    before = sorted(Path().rglob("*"))
    capsys.readouterr()
    assert run(["compare", "old", "slow", "--seed", "1", "--dry-run"]) == 0
    said = capsys.readouterr()
    assert "24 valid rounds of at most 36 would be played" in said.err
    assert run(["compare", "old", "slow", "--seed", "1", "--dry-run", "--format", "json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["schema"], facts["dry_run"], facts["seed"]) == (1, True, 1)
    assert facts["rounds"] == {"wanted": 24, "most": 36}
    assert sorted(Path().rglob("*")) == before


def test_130_interrupted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture) -> None:
    """No lab is left, whenever it comes; the rounds before it are written down."""
    labs = count()

    def interrupted(lab: Lab, host: HostSample, progress: Any) -> Measured:
        assert index.read(lab.name).owner is not None
        if next(labs) == 2 + 5:
            raise KeyboardInterrupt
        return scripted_measured(lab, host, progress)

    scripted_measured = replay._measured
    monkeypatch.setattr(replay, "_measured", interrupted)
    assert run(["compare", "old", "slow", *QUICK]) == 130
    assert "nothing is left behind" in capsys.readouterr().err
    assert len(kept(tmp_path)["rounds"]) == 2


def test_files_are_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Behind sudo the comparison belongs to who called it."""
    given: list[Path] = []
    monkeypatch.setattr("labs.run_dir._own", given.append)
    assert run(["compare", "old", "old", *QUICK]) == 0
    (folder,) = (tmp_path / ".labs" / "compare").iterdir()
    assert {folder, folder / "comparison.json", folder / ".labs"} <= set(given)


def test_both_sides_share_a_rounds_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rendered with it: hashes are the same for A and B, and others in the next round."""
    seeds: list[int] = []

    def noting(lab: Lab, host: HostSample, progress: Any) -> Measured:
        seeds.append(lab.seed)
        return replace(scripted_measured(lab, host, progress), missed=())

    scripted_measured = replay._measured
    monkeypatch.setattr(replay, "_measured", noting)
    assert run(["compare", "old", "old", *QUICK]) == 0
    counted = seeds[2:]
    assert counted[::2] == counted[1::2]
    assert len(set(counted)) == 8
