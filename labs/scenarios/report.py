"""What is left of a scenario's runs for people and other programs: verdicts.json, JUnit, Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from labs import run_dir
from labs.lab import Lab
from labs.scenarios.play import Judged, Outcome, Repeats, Run

VERDICTS_FILE = "verdicts.json"
WORDS = {Outcome.HELD: "held", Outcome.FAILED: "FALSE", Outcome.INVALID: "INVALID"}


def verdicts(found: Repeats) -> list[dict[str, object]]:
    """Every claim of every run, in order, as plain data."""
    return [
        {"scenario": found.scenario.name, "run": run.number, "seed": run.seed, **one.as_dict()}
        for run in found.runs
        for one in run.judged
    ]


def as_dict(found: Repeats) -> dict[str, object]:
    """All of it as plain data."""
    return {
        "scenario": found.scenario.name,
        "about": found.scenario.about,
        "seed": found.seed,
        "repeats": {
            "wanted": found.wanted,
            "most": found.most,
            "started": len(found.runs),
            "valid": found.valid,
            "failed": found.failed,
            "said": str(found),
        },
        "runs": [
            {
                "run": run.number,
                "seed": run.seed,
                "outcome": str(run.outcome),
                "invalid_because": run.invalid_because,
                "took_s": round(run.took_s, 3),
                **(run.seen.as_dict() if run.seen else {}),
            }
            for run in found.runs
        ],
        "verdicts": verdicts(found),
    }


def write_verdicts(lab: Lab, claims: Sequence[dict[str, object]]) -> Path:
    """Write verdicts.json into the lab's run directory."""
    return run_dir.write(lab.run_dir, VERDICTS_FILE, json.dumps(claims, indent=1) + "\n")


def line(judged: Judged) -> str:
    """A claim in one line, and below it why it is false."""
    verdict = judged.verdict
    of = f" of {judged.of}" if judged.of else ""
    because = f" ({verdict.invalid_because})" if not verdict.valid else ""
    text = f"{WORDS[judged.outcome]:<8}{judged.name}{of}: {verdict.evidence.summary}{because}"
    rows = verdict.evidence.rows if judged.outcome is Outcome.FAILED else ()
    return "\n".join([text, *(f"          {row}" for row in rows)])


def markdown(found: Repeats) -> str:
    """A summary for a pull request or a wiki."""
    head = [
        f"# {found.scenario.name}: {_word(found)}",
        "",
        found.scenario.about,
        "",
        f"{found}; seed {found.seed}.",
        "",
    ]
    table = ["| run | claim | of | | evidence |", "|---|---|---|---|---|"]
    for run in found.runs:
        for one in run.judged:
            said = one.verdict.invalid_because or one.verdict.evidence.summary
            table.append(f"| {run.number} | {one.name} | {one.of or ''} | {WORDS[one.outcome]} | {_cell(said)} |")
        if run.spoilt_because:
            table.append(f"| {run.number} | | | INVALID | {_cell(run.spoilt_because)} |")
    return "\n".join([*head, *table]) + "\n"


def junit(repeats: Sequence[Repeats]) -> str:
    """JUnit XML: a suite a scenario, a case a claim of each run; INVALID is an error of type RunInvalid."""
    from junitparser import Error, Failure, JUnitXml, TestCase, TestSuite

    whole = JUnitXml("railbed run")
    for found in repeats:
        suite = TestSuite(found.scenario.name)
        for run in found.runs:
            for name, of, outcome, said in _cases(run):
                words = [name, *([of] if of else []), *([f"run {run.number}"] if len(found.runs) > 1 else [])]
                case = TestCase(" ".join(words), classname=f"railbed.{found.scenario.name}", time=0.0)
                # A run that was started again, and counts then, has not failed: it is told, and is no error.
                if outcome is Outcome.FAILED:
                    case.result = [Failure(said, "Verdict")]
                elif outcome is Outcome.INVALID and found.exit_code == 3:
                    case.result = [Error(said, "RunInvalid")]
                elif outcome is Outcome.INVALID:
                    case.system_out = f"INVALID, run again: {said}"
                suite.add_testcase(case)
        suite.time = round(sum(run.took_s for run in found.runs), 3)
        suite.add_property("seed", str(found.seed))
        suite.add_property("repeats", str(found))
        whole.add_testsuite(suite)
    whole.update_statistics()  # type: ignore[no-untyped-call]
    return str(whole.tostring().decode())  # type: ignore[no-untyped-call]


def _cases(run: Run) -> list[tuple[str, str | None, Outcome, str]]:
    cases = [(one.name, one.of, one.outcome, str(one.verdict)) for one in run.judged]
    if run.spoilt_because:
        cases.append(("run", None, Outcome.INVALID, run.spoilt_because))
    return cases


def _word(found: Repeats) -> str:
    return {0: "held", 1: "FALSE", 3: "INVALID"}[found.exit_code]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
