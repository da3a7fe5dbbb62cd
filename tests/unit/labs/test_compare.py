"""How rounds are played: by turns, each pair with one seed, invalid ones again, and what follows; no lab runs here."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from labs.backends.base import Progress
from labs.compare import Comparison, Plan, compare, make_plan
from labs.errors import DeployFailed
from labs.kinds import KINDS
from labs.load import load_lab
from labs.recorded import RecordedRun
from labs.replay import OF_A_CUT, OF_UP, Measured, metrics_of
from labs.verdicts.comparison import Outcome
from topologies.errors import SpecError

SPEC, FABRIC = load_lab("clos_frr", seed=7, kinds=KINDS)
A = RecordedRun(Path("/runs/a"), "clos-frr", "fake", SPEC, FABRIC)
B = replace(A, path=Path("/runs/b"))
ROUNDS = 14


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparisons are written below the current folder."""
    monkeypatch.chdir(tmp_path)


def plan(**changes: object) -> Plan:
    return replace(Plan(A, B, ROUNDS, seed=1), **changes)  # type: ignore[arg-type]


@dataclass
class Scripted:
    """Measures by a function of (side, how often that side was measured before); keeps what it was asked."""

    answer: Callable[[str, int], Measured]
    asked: list[tuple[str, str, int]] = field(default_factory=list)

    def __call__(self, run: RecordedRun, *, name: str, seed: int, folder: Path, progress: Progress) -> Measured:
        del folder
        progress("nodes")
        side = "a" if run is A else "b"
        before = sum(one == side for one, _, _ in self.asked)
        self.asked.append((side, name, seed))
        return self.answer(side, before)


def timed(seconds: float, **more: object) -> Measured:
    return replace(Measured(dict.fromkeys(OF_UP + OF_A_CUT, seconds)), **more)  # type: ignore[arg-type]


def steady(side: str, n: int) -> Measured:
    """Both alike, a millisecond slower each time."""
    del side
    return timed(1 + n / 1000)


def outcomes(found: Comparison) -> set[Outcome]:
    return {timing.outcome for timing in found.timings}


def test_by_turns_with_one_seed_a_round() -> None:
    """A B, B A, A B …: two labs to warm up, then each side first equally often; all seeds of rounds differ."""
    script = Scripted(steady)
    stages: list[str] = []
    found = compare(plan(), progress=stages.append, measure=script)
    sides = "".join(side for side, _, _ in script.asked)
    assert sides == "ab" + "abba" * (ROUNDS // 2)
    seeds = [seed for _, _, seed in script.asked[2:]]
    assert seeds[::2] == seeds[1::2]
    assert len(set(seeds)) == ROUNDS
    assert len({name for _, name, _ in script.asked}) == 2
    assert all(name.startswith("cmp-") and name.endswith(f"-{side}") for side, name, _ in script.asked)
    assert outcomes(found) == {Outcome.NO_SLOWER}
    assert found.invalid_because is None
    assert not found.undecided
    assert "1/14 A: nodes" in stages
    again = Scripted(steady)
    compare(plan(), measure=again)
    assert [seed for _, _, seed in again.asked] == [seed for _, _, seed in script.asked]


def test_warming_up_is_not_counted() -> None:
    """The first lab of each side is a hundred times slower, and nobody minds."""
    found = compare(plan(), measure=Scripted(lambda _, n: timed(100.0 if n == 0 else 1 + n / 1000)))
    assert all(max(timing.a + timing.b) < 2 for timing in found.timings)


def test_slower_b_is_found() -> None:
    found = compare(plan(), measure=Scripted(lambda side, n: timed((1.3 if side == "b" else 1.0) + n / 1000)))
    assert outcomes(found) == {Outcome.SLOWER}
    assert [verdict.held for verdict in found.verdicts] == [True, False, False, False, False]


def test_invalid_rounds_are_played_again() -> None:
    """In the same order and with the same seed; the second lab of a spoilt round is spared."""
    script = Scripted(lambda side, n: timed(1.0, invalid_because="starved" if side == "b" and n == 2 else None))
    found = compare(plan(), measure=script)
    assert (len(found.rounds), len(found.valid)) == (ROUNDS + 1, ROUNDS)
    assert "".join(side for side, _, _ in script.asked)[2:8] == "ab" + "b" + "ba" + "a"
    assert [one.number for one in found.rounds][:4] == [1, 2, 2, 3]
    assert found.rounds[1].seed == found.rounds[2].seed
    assert found.rounds[1].invalid_because == "B: starved"


def test_too_few_valid_rounds_are_no_pass() -> None:
    """21 are started at most; every claim is then invalid, and says why."""
    found = compare(plan(), measure=Scripted(lambda _, n: timed(1.0, invalid_because="starved" if n else None)))
    assert len(found.rounds) == 21
    assert found.invalid_because == "0 valid rounds of 21 started, 14 are needed; A: starved"
    assert not any(verdict.valid for verdict in found.verdicts)


def test_b_that_does_not_converge_is_the_finding() -> None:
    """Counted and told; its timings are compared where both have them."""
    lost = Measured({"deploy_s": 1.0}, missed=("converge_s: not within 130 s",))
    found = compare(plan(), measure=Scripted(lambda side, n: lost if side == "b" and n == 3 else timed(1.0)))
    assert (found.settling.a, found.settling.b, found.settling.rounds) == (14, 13, 14)
    assert found.settling.rows == ("round 3, B: converge_s: not within 130 s",)
    assert not found.settling.verdict.held
    by_name = {timing.metric: len(timing.a) for timing in found.timings}
    assert by_name == {"deploy_s": 14, "converge_s": 13, "reroute_s": 13, "restore_s": 13}


def test_a_lab_that_cannot_be_brought_up_says_which() -> None:
    """A tool error, with the rounds before it written down."""

    def answer(side: str, n: int) -> Measured:
        if side == "b" and n == 3:
            raise DeployFailed("leaf1: exited 1", remedy="mend it")
        return timed(1.0)

    with pytest.raises(DeployFailed, match=r"round 3, B \(/runs/b\): leaf1: exited 1\n  remedy: mend it"):
        compare(plan(), measure=Scripted(answer))
    kept = json.loads(next(Path.cwd().glob(".labs/compare/*/comparison.json")).read_text())
    assert [one["number"] for one in kept["rounds"]] == [1, 2]
    assert not any(verdict["valid"] for verdict in kept["verdicts"])


def test_every_raw_value_is_kept() -> None:
    found = compare(plan(), measure=Scripted(steady))
    kept = json.loads((found.folder / "comparison.json").read_text())
    assert kept["schema"] == 1
    assert kept["rounds"][0]["a"]["values"] == dict.fromkeys(OF_UP + OF_A_CUT, 1.001)
    assert (kept["seed"], kept["wanted"], kept["most"], len(kept["rounds"])) == (1, 14, 21, 14)
    assert [verdict["held"] for verdict in kept["verdicts"]] == [True] * 5


def test_a_fabric_without_uplinks_is_timed_coming_up() -> None:
    assert metrics_of(load_lab("pair", seed=0, kinds=KINDS)[1]) == OF_UP
    assert metrics_of(FABRIC) == OF_UP + OF_A_CUT


@pytest.mark.parametrize(("repeat", "confidence"), [(5, 0.999), (15, 0.999), (12, 0.999), (202, 0.999), (6, 0.9)])
def test_rounds_that_cannot_say_anything_are_refused(
    monkeypatch: pytest.MonkeyPatch, repeat: int, confidence: float
) -> None:
    monkeypatch.setattr("labs.compare.find_run", lambda ref: A if ref == "a" else B)
    with pytest.raises(SpecError, match=f"--repeat {repeat} .* allowed: an even number from"):
        make_plan("a", "b", rounds=repeat, confidence=confidence)
    assert make_plan("a", "b").rounds == 24
    assert make_plan("a", "b", rounds=8, confidence=0.9).most == 12
