"""`railbed run` on the fake backend: every exit code, the retry of an INVALID run, and the files it leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self
from xml.etree import ElementTree as ET

import pytest

import labs.certifying
import labs.convergence
import labs.lab
from labs import index
from labs.cli import run
from labs.errors import NotReady
from labs.faults import injecting
from labs.scenarios import claims, conditions, measured
from labs.scenarios.running import Underway
from labs.scenarios.scenario import ClaimStep, WaitStep
from labs.telemetry import host_watch
from labs.telemetry.host_watch import HostWatch
from labs.telemetry.samples import HostSample
from labs.verdicts import Evidence, Verdict

Capture = pytest.CaptureFixture[str]
Break = Callable[..., None]
SOUND = "about: the fabric is sound\nlab: clos_2x4\nsteps:\n  - {claim: routes_match, within: 1s}\n"
HELD = Verdict("it is so", True, Evidence("seen"))
FALSE = Verdict("it is so", False, Evidence("not seen", {"n": 3}, ("leaf1: nothing",)))
UNSURE = FALSE.invalid("the workstation was starved: steal 40%")


class LateWatch:
    """A workstation whose threads woke so late."""

    def __init__(self, late_s: float) -> None:
        self.late_s = late_s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def sample(self) -> HostSample:
        return HostSample(duration_s=1.0, steal=0.0, starved_s=self.late_s)


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


@pytest.mark.parametrize(
    ("verdicts", "looks"), [((HELD,), 2), ((UNSURE, HELD), 3), ((FALSE,), 2)], ids=["held", "invalid", "false"]
)
def test_it_begins_on_a_calm_workstation(
    capsys: Capture,
    file: Path,
    says: Callable[..., Script],
    monkeypatch: pytest.MonkeyPatch,
    verdicts: tuple[Verdict, ...],
    looks: int,
) -> None:
    """Looked at until it is calm, before the first run, and before the one that takes an INVALID one's place."""
    taken = [0.3, 0.0, 0.0, 0.0]
    monkeypatch.setattr(host_watch, "stolen_under_load", lambda: taken.pop(0))
    says(*verdicts)
    played(capsys, str(file), code=int(verdicts[-1] is FALSE))
    assert 4 - len(taken) == looks


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
    """Judged once more, and then not a third time."""
    del starved
    said = played(capsys, str(file), code=3)
    assert [line.split(":")[0] for line in said.out.splitlines()] == ["INVALID converged", "INVALID converged"]
    assert "0 valid of 2 started" in said.err


def test_a_bring_up_that_is_only_invalid_at_first_is_played(
    capsys: Capture, file: Path, says: Callable[..., Script], monkeypatch: pytest.MonkeyPatch
) -> None:
    says(HELD)
    late = iter([60.0, 0.0])
    wait = labs.convergence.wait_converged

    def starved_at_first(*args: Any, **how: Any) -> Verdict:
        late_s = next(late)
        monkeypatch.setattr(labs.convergence, "HostWatch", lambda: LateWatch(late_s))
        return wait(*args, **how)

    monkeypatch.setattr(labs.lab, "wait_converged", starved_at_first)
    said = played(capsys, str(file))
    assert "bring-up is INVALID: the workstation was starved" in said.err
    assert said.out == "held    converged: seen\n"


def test_trouble_with_the_testbed_is_2(tmp_path: Path, capsys: Capture, file: Path, broken: Break) -> None:
    broken(boot_fails="leaf1")
    said = played(capsys, str(file), "--junit", "out.xml", "--markdown", "out.md", code=2)
    assert said.out == ""
    assert "leaf1: /run/railbed/boot exited 1" in said.err
    assert index.names() == ()
    (error,) = ET.parse(tmp_path / "out.xml").getroot().iter("error")
    assert "leaf1: /run/railbed/boot exited 1" in error.attrib["message"]
    assert (tmp_path / "out.md").read_text().startswith("# sound: ERROR\n")


def test_trouble_in_the_middle_of_a_run_leaves_all_files(
    tmp_path: Path, capsys: Capture, says: Callable[..., Script], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was judged before it stands there, the rest is an error: no claim is missing in silence."""
    says(HELD)

    def troubled(_run: Underway, _step: WaitStep) -> Verdict:
        raise NotReady("leaf1: zebra does not answer")

    monkeypatch.setattr(conditions, "CONDITIONS", {**conditions.CONDITIONS, "sessions_up": troubled})
    steps = "  - {claim: converged}\n  - {wait: sessions_up}\n  - {claim: routes_match, within: 1s}\n"
    (tmp_path / "cut.yaml").write_text(SOUND.partition("  -")[0] + steps)
    said = played(capsys, "cut.yaml", "--repeat", "3", "--junit", "out.xml", "--markdown", "out.md", code=2)
    assert said.out == "held    converged: seen\n"
    assert "none failed, the last ended by trouble with the testbed" in said.err
    assert "leaf1: zebra does not answer" in said.err
    cases = list(ET.parse(tmp_path / "out.xml").getroot().iter("testcase"))
    assert [case.attrib["name"] for case in cases] == ["converged", "run"]
    (error,) = cases[1].iter("error")
    assert (error.attrib["type"], error.attrib["message"]) == ("NotReady", "leaf1: zebra does not answer")
    assert "| 1 | | | ERROR | leaf1: zebra does not answer |" in (tmp_path / "out.md").read_text()
    assert len(left(tmp_path)) == 1
    assert index.names() == ()


def test_a_false_claim_goes_before_trouble_that_follows(
    tmp_path: Path, capsys: Capture, says: Callable[..., Script], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And an INVALID one does not."""
    says(FALSE)

    def troubled(_run: Underway, _step: WaitStep) -> Verdict:
        raise NotReady("leaf1: zebra does not answer")

    monkeypatch.setattr(conditions, "CONDITIONS", {**conditions.CONDITIONS, "sessions_up": troubled})
    steps = "  - {claim: converged}\n  - {wait: sessions_up}\n"
    (tmp_path / "cut.yaml").write_text(SOUND.partition("  -")[0] + steps)
    said = played(capsys, "cut.yaml", "--repeat", "3", "--junit", "out.xml", "--markdown", "out.md", code=1)
    assert "1 valid of at most 4 started, 1 failed, the last ended by trouble with the testbed" in said.err
    assert "leaf1: zebra does not answer" in said.err
    suite = next(ET.parse(tmp_path / "out.xml").getroot().iter("testsuite"))
    assert (suite.attrib["failures"], suite.attrib["errors"]) == ("1", "1")
    assert (tmp_path / "out.md").read_text().startswith("# cut: FALSE\n")
    says(UNSURE)
    played(capsys, "cut.yaml", code=2)


def test_names_in_junit_do_not_repeat(tmp_path: Path, capsys: Capture, says: Callable[..., Script]) -> None:
    says(HELD)
    steps = "  - {claim: converged}\n  - {claim: routes_match, within: 1s}\n  - {claim: converged}\n"
    (tmp_path / "twice.yaml").write_text(SOUND.partition("  -")[0] + steps)
    played(capsys, "twice.yaml", "--repeat", "2", "--junit", "out.xml")
    names = [case.attrib["name"] for case in ET.parse(tmp_path / "out.xml").getroot().iter("testcase")]
    assert names[:3] == ["converged #1 run 1", "routes_match run 1", "converged #2 run 1"]
    assert len(set(names)) == len(names) == 6


def test_numbers_over_repeats(
    tmp_path: Path, capsys: Capture, says: Callable[..., Script], monkeypatch: pytest.MonkeyPatch
) -> None:
    """p50, p95 and the longest, of the runs that count, on the terminal, in Markdown, JSON and JUnit."""

    def out(ms: float | None) -> Verdict:
        return Verdict("back in time", True, Evidence("out", {"longest_ms": ms}))

    monkeypatch.setattr(measured, "NUMBERS", {"converged": measured.NUMBERS["recovered"]})
    says(out(4.0), out(900.0).invalid("starved"), out(2.0), out(3.0))
    (tmp_path / "one.yaml").write_text(SOUND.replace("routes_match, within: 1s", "converged"))
    files = "--junit", "out.xml", "--markdown", "out.md"
    said = played(capsys, "one.yaml", "--repeat", "3", *files, "--format", "json")
    (number,) = json.loads(said.out)["measured"]
    assert (number["claim"], number["unit"], number["runs"]) == ("converged", "ms", 3)
    assert (number["p50"], number["p95"], number["max"], number["p50_between"]) == (3.0, 4.0, 4.0, [None, None])
    line = "converged: longest outage p50 3 (? to ?), p95 4 (3 to ?), max 4 ms in 3 runs: 37% of all runs"
    assert line in said.err
    assert "\n1 INVALID run left out\n" in said.err
    said_of_runs = [one.partition(", seed ")[0] for one in said.err.splitlines() if ", seed " in one]
    assert said_of_runs == ["run 1 of 3", "run 2 of 3", "run 3 of 3", "run 4, in place of an INVALID one"]
    assert f"run 2 of 3, seed {json.loads(said.out)['runs'][1]['seed']}\n" in said.err
    assert "\n1 INVALID run left out.\n" in (tmp_path / "out.md").read_text()
    assert (
        "| converged | longest outage, ms | 3 | 3 | ? to ? | 4 | 3 to ? | 4 | 37% |"
        in (tmp_path / "out.md").read_text()
    )
    assert line in (tmp_path / "out.xml").read_text()
    says(out(2.0), out(None))
    said = played(capsys, "one.yaml", "--repeat", "2", "--format", "json")
    assert "max without end ms" in said.err
    assert "left out" not in said.err
    (number,) = json.loads(said.out)["measured"]
    assert (number["p50"], number["max"], number["p95_between"]) == (2.0, {"endless": True}, [2.0, None])
    says(out(2.0))
    said = played(capsys, "one.yaml")
    assert "p50" not in said.err
    assert "run 1" not in said.err


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
    counts = {key: suite.attrib[key] for key in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "2", "failures": "1", "errors": "0", "skipped": "1"}
    (skipped,) = suite.iter("skipped")
    assert skipped.attrib["message"].startswith("INVALID, run again: it is so: INVALID (the workstation was starved")
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


def test_an_invalid_claim_beside_a_false_one_is_not_run_again(
    tmp_path: Path, capsys: Capture, says: Callable[..., Script]
) -> None:
    says(UNSURE, FALSE)
    (tmp_path / "two.yaml").write_text(SOUND.partition("  -")[0] + "  - {claim: converged}\n" * 2)
    played(capsys, "two.yaml", "--junit", "out.xml", code=1)
    (skipped,) = ET.parse(tmp_path / "out.xml").getroot().iter("skipped")
    assert skipped.attrib["message"].startswith("INVALID: it is so")


def test_what_is_claimed_not_to_hold(tmp_path: Path, capsys: Capture, says: Callable[..., Script]) -> None:
    (tmp_path / "turned.yaml").write_text(SOUND.replace("routes_match, within: 1s", "converged, holds: false"))
    says(FALSE)
    files = "--junit", "out.xml", "--markdown", "out.md"
    assert played(capsys, "turned.yaml", *files).out == "held    not converged: not seen\n"
    assert "| 1 | not converged |  | held |" in (tmp_path / "out.md").read_text()
    assert [case.attrib["name"] for case in ET.parse(tmp_path / "out.xml").getroot().iter("testcase")] == [
        "not converged"
    ]
    assert [(one["name"], one["holds"], one["held"]) for one in left(tmp_path)] == [("converged", False, True)]
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
    monkeypatch.setattr(injecting, "state_restored", lambda *_: UNSURE)
    said = played(capsys, "cut.yaml", "--repeat", "3", code=3)
    assert "0 valid of at most 4 started, none failed" in said.err

    class Starved(HostWatch):
        def sample(self) -> HostSample:
            return HostSample(duration_s=1.0, steal=0.5, starved_s=0.0)

    monkeypatch.setattr(labs.certifying, "HostWatch", Starved)
    monkeypatch.setattr(injecting, "state_restored", lambda *_: FALSE)
    assert (
        "INVALID state_restored: not seen (the workstation was starved: steal 50%"
        in played(capsys, "cut.yaml", code=3).out
    )


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
