"""`railbed run` on the fake backend: every exit code, the retry of an INVALID run, and the files it leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

import labs.certifying
from labs import index
from labs.cli import run
from labs.faults import injecting
from labs.scenarios import claims
from labs.scenarios.running import Underway
from labs.scenarios.scenario import ClaimStep
from labs.telemetry.host_watch import HostWatch
from labs.telemetry.samples import HostSample
from labs.verdicts import Evidence, Verdict

Capture = pytest.CaptureFixture[str]
Break = Callable[..., None]
SOUND = "about: the fabric is sound\nlab: clos_2x4\nsteps:\n  - {claim: routes_match, within: 1s}\n"
HELD = Verdict("it is so", True, Evidence("seen"))
FALSE = Verdict("it is so", False, Evidence("not seen", {"n": 3}, ("leaf1: nothing",)))
UNSURE = FALSE.invalid("the workstation was starved: steal 40%")


class Script:
    """What the claim `converged` says, run by run; the last for all further ones."""

    def __init__(self, *verdicts: Verdict) -> None:
        self.verdicts = list(verdicts)
        self.seeds: list[int] = []

    def __call__(self, under_way: Underway, step: ClaimStep) -> Verdict:
        del step
        self.seeds.append(under_way.seed)
        return self.verdicts.pop(0) if len(self.verdicts) > 1 else self.verdicts[0]


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Script]:
    """Have the claim `converged` say these verdicts."""

    def patch(*verdicts: Verdict) -> Script:
        script = Script(*verdicts)
        monkeypatch.setattr(claims, "CLAIMS", {**claims.CLAIMS, "converged": script})
        return script

    return patch


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sound.yaml"
    path.write_text(SOUND.replace("routes_match, within: 1s", "converged"))
    return path


def played(capsys: Capture, *argv: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert run(["run", *argv, "--backend", "fake"]) == code
    return capsys.readouterr()


def left(tmp_path: Path) -> list[dict[str, Any]]:
    (found,) = tmp_path.glob(".labs/*/*/verdicts.json")
    read: list[dict[str, Any]] = json.loads(found.read_text())
    return read


def test_claims_that_hold(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "sound.yaml").write_text(SOUND)
    said = played(capsys, "sound.yaml", "--seed", "7")
    assert said.out.startswith("held    routes_match: routes match: after ")
    assert "sound: 1 valid of at most 2 started, none failed; seed 7; " in said.err
    (verdict,) = left(tmp_path)
    assert (verdict["held"], verdict["valid"], verdict["fidelity"], verdict["run"]) == (True, True, "real", 1)
    assert {"claim", "evidence"} <= verdict.keys()
    assert index.names() == ()


def test_a_false_claim_is_1(tmp_path: Path, capsys: Capture, file: Path, says: Callable[..., Script]) -> None:
    says(FALSE)
    said = played(capsys, str(file), code=1)
    assert said.out == "FALSE   converged: not seen\n          leaf1: nothing\n"
    assert "1 valid of at most 2 started, 1 failed" in said.err
    assert left(tmp_path)[0]["held"] is False


def test_an_invalid_run_is_started_again_once(
    tmp_path: Path, capsys: Capture, file: Path, says: Callable[..., Script]
) -> None:
    script = says(UNSURE, HELD)
    said = played(capsys, str(file))
    assert said.out.splitlines() == [
        "INVALID converged: not seen (the workstation was starved: steal 40%)",
        "held    converged: seen",
    ]
    assert "run 1 is INVALID: converged: the workstation was starved: steal 40%" in said.err
    assert "1 valid of 2 started, none failed" in said.err
    assert [(one["run"], one["valid"]) for one in left(tmp_path)] == [(1, False), (2, True)]
    assert len(set(script.seeds)) == 2


def test_two_invalid_runs_are_3(capsys: Capture, file: Path, says: Callable[..., Script]) -> None:
    script = says(UNSURE)
    said = played(capsys, str(file), code=3)
    assert "0 valid of 2 started, none failed" in said.err
    assert "cannot vouch for itself: converged: the workstation was starved" in said.err
    assert len(script.seeds) == 2


def test_a_false_claim_after_an_invalid_run_is_1(capsys: Capture, file: Path, says: Callable[..., Script]) -> None:
    says(UNSURE, FALSE)
    assert "1 valid of 2 started, 1 failed" in played(capsys, str(file), code=1).err


@pytest.mark.parametrize(("wanted", "most"), [(2, 3), (4, 6)])
def test_repeats(capsys: Capture, file: Path, says: Callable[..., Script], wanted: int, most: int) -> None:
    says(UNSURE, HELD)
    said = played(capsys, str(file), "--repeat", str(wanted))
    count = f"{wanted} valid of {f'at most {most}' if wanted == 4 else most} started, none failed"
    assert count in said.err
    says(UNSURE)
    assert f"0 valid of {most} started" in played(capsys, str(file), "--repeat", str(wanted), code=3).err


def test_a_lab_that_never_converged_is_the_finding(tmp_path: Path, capsys: Capture, file: Path, broken: Break) -> None:
    broken(links_down=["leaf1:spine1"])
    said = played(capsys, str(file), code=1)
    assert said.out.startswith("FALSE   converged: ")
    assert left(tmp_path)[0]["name"] == "converged"
    assert index.names() == ()


def test_a_starved_bring_up_is_3(capsys: Capture, file: Path, starved: None) -> None:
    del starved
    assert played(capsys, str(file), code=3).out.startswith("INVALID converged: ")


def test_trouble_with_the_testbed_is_2(capsys: Capture, file: Path, broken: Break) -> None:
    broken(boot_fails="leaf1")
    said = played(capsys, str(file), code=2)
    assert said.out == ""
    assert "leaf1: /run/railbed/boot exited 1" in said.err
    assert index.names() == ()


@pytest.mark.parametrize(
    ("argv", "because"),
    [
        (["sond"], "found no scenario called 'sond'"),
        ([], "no scenario named"),
        (["missing.yaml"], "there is no such file"),
        (["sound.yaml", "--seed", "-1"], "seed -1"),
        (["sound.yaml", "--junit", "/nowhere/at/all.xml"], "/nowhere/at/all.xml cannot be written"),
    ],
)
def test_what_cannot_be_run_starts_nothing(capsys: Capture, file: Path, argv: list[str], because: str) -> None:
    del file
    said = played(capsys, *argv, code=2)
    assert because in said.err
    assert "; allowed: " in said.err
    assert list(Path.cwd().glob(".labs")) == []


def test_json_junit_and_markdown(tmp_path: Path, capsys: Capture, file: Path, says: Callable[..., Script]) -> None:
    says(UNSURE, FALSE)
    files = "--junit", "out.xml", "--markdown", "out.md"
    found = json.loads(played(capsys, str(file), *files, "--format", "json", code=1).out)
    assert found["schema"] == 1
    assert found["repeats"]["said"] == "1 valid of 2 started, 1 failed"
    assert [one["outcome"] for one in found["runs"]] == ["invalid", "failed"]
    assert {"workstation", "clock", "asicd"} <= found["runs"][0].keys()
    suite = ET.parse(tmp_path / "out.xml").getroot().find("testsuite")
    assert suite is not None
    assert {key: suite.attrib[key] for key in ("tests", "failures", "errors")} == {
        "tests": "2",
        "failures": "1",
        "errors": "0",
    }
    assert [case.attrib["name"] for case in suite.iter("testcase")] == ["converged run 1", "converged run 2"]
    text = (tmp_path / "out.md").read_text()
    assert text.startswith("# sound: FALSE\n")
    assert "| 1 | converged |  | INVALID | the workstation was starved: steal 40% |" in text


def test_junit_calls_a_run_that_proves_nothing_an_error(
    tmp_path: Path, capsys: Capture, file: Path, says: Callable[..., Script]
) -> None:
    says(UNSURE)
    played(capsys, str(file), "--junit", "out.xml", code=3)
    errors = list(ET.parse(tmp_path / "out.xml").getroot().iter("error"))
    assert [one.attrib["type"] for one in errors] == ["RunInvalid", "RunInvalid"]


def test_what_is_claimed_not_to_hold(tmp_path: Path, capsys: Capture, says: Callable[..., Script]) -> None:
    (tmp_path / "turned.yaml").write_text(SOUND.replace("routes_match, within: 1s", "converged, holds: false"))
    says(FALSE)
    played(capsys, "turned.yaml")
    says(HELD)
    played(capsys, "turned.yaml", code=1)
    says(UNSURE)
    played(capsys, "turned.yaml", code=3)


def test_a_wait_in_vain_ends_the_run(tmp_path: Path, capsys: Capture, broken: Break) -> None:
    steps = "  - {wait: sessions_down, within: 200ms}\n  - {claim: routes_match, within: 1s}\n"
    (tmp_path / "vain.yaml").write_text(SOUND.partition("  -")[0] + steps)
    said = played(capsys, "vain.yaml", code=1)
    assert [line.split(":")[0] for line in said.out.splitlines()] == ["FALSE   wait sessions_down"]
    broken()


def test_steps_later_than_the_run_lasts(tmp_path: Path, capsys: Capture) -> None:
    steps = "  - {wait: time, within: 300ms}\n  - {wait: time, within: 300ms}\n  - {claim: routes_match, within: 1s}\n"
    (tmp_path / "late.yaml").write_text(SOUND.partition("steps")[0] + "lasts: 400ms\nsteps:\n" + steps)
    assert "FALSE   lasts: a claim was to begin at 0.6" in played(capsys, "late.yaml", code=1).out


def test_faults_end_with_the_run(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ends it: here a claim in trouble. The pretended fault remembers that it was taken back."""
    made: list[str] = []

    def add(lab: object, fault: Any, target: str, params: object, **how: object) -> Any:
        del lab, params, how
        made.append(f"{fault.name} {target}")
        return type("Made", (), {"id": "f1", "site": None})

    monkeypatch.setattr(injecting, "add", add)
    monkeypatch.setattr(injecting, "revert", lambda _lab, number, **_: made.append(f"reverted {number}"))
    monkeypatch.setattr(injecting, "state_restored", lambda *_: HELD)
    steps = '  - {fault: link-down, name: cut, target: "leaf1:spine1"}\n  - {claim: routes_match, within: 1s}\n'
    (tmp_path / "cut.yaml").write_text(SOUND.partition("  -")[0] + steps)
    said = played(capsys, "cut.yaml")
    assert made == ["link-down leaf1:spine1", "reverted f1"]
    assert [line.split(":")[0].split()[-1] for line in said.out.splitlines()] == ["routes_match", "state_restored"]
    monkeypatch.setattr(injecting, "state_restored", lambda *_: FALSE)
    said = played(capsys, "cut.yaml", "--repeat", "3", code=1)
    assert "1 valid of at most 4 started, 1 failed" in said.err  # the next would begin on another lab


def test_on_a_running_lab(capsys: Capture, file: Path, says: Callable[..., Script]) -> None:
    says(HELD)
    assert run(["up", "clos_2x4", "--backend", "fake", "--seed", "1", "--name", "mine"]) == 0
    played(capsys, str(file), "--lab", "mine")
    assert index.names() == ("mine",)
    assert run(["up", "clos_4x8", "--backend", "fake", "--seed", "1", "--name", "other"]) == 0
    said = played(capsys, str(file), "--lab", "other", code=2)
    assert "lab other is not clos_2x4" in said.err


def test_keep_leaves_the_lab_up(capsys: Capture, file: Path, says: Callable[..., Script]) -> None:
    says(HELD)
    played(capsys, str(file), "--keep")
    (name,) = index.names()
    assert name.startswith("sound-")


def test_the_list_and_the_schema(capsys: Capture) -> None:
    found = json.loads(played(capsys, "--list", "--format", "json").out)
    assert "bytes_ledger" in {one["name"] for one in found["scenarios"]}
    capsys.readouterr()
    assert run(["schema", "scenario"]) == 0
    assert "TrafficEntry" in json.loads(capsys.readouterr().out)["$defs"]
    assert run(["validate", *(one["name"] for one in found["scenarios"])]) == 0


def test_a_dry_run_starts_nothing(capsys: Capture, file: Path) -> None:
    said = played(capsys, str(file), "--dry-run")
    assert "sound: 1 steps, 1 claims, on clos_2x4 on fake would be played" in said.err
    assert not Path(".labs").exists()


def test_the_workstation_is_watched_in_every_run(
    capsys: Capture, file: Path, says: Callable[..., Script], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A time limit that was kept on a starved workstation is INVALID, by the run's own watch."""

    class Starved(HostWatch):
        def sample(self) -> HostSample:
            return HostSample(duration_s=1.0, steal=0.0, starved_s=60.0)

    monkeypatch.setattr(labs.certifying, "HostWatch", Starved)
    says(Verdict("in time", True, Evidence("0.1 s"), budget_s=0.2))
    assert "a thread woke 60.000 s late" in played(capsys, str(file), code=3).out
    says(HELD)
    played(capsys, str(file))
