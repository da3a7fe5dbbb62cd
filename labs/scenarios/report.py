"""What is left of a scenario's runs for people and other programs: verdicts.json, JUnit, Markdown."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from labs import run_dir
from labs.lab import Lab
from labs.scenarios.play import Judged, Outcome, Repeats, Run
from labs.verdicts.repeats import CONFIDENCE

VERDICTS_FILE = "verdicts.json"
# Of what is bad when it is low, the columns of a table hold p5 and the least.
LOW = " (p5 and min)"
WORDS = {Outcome.HELD: "held", Outcome.FAILED: "FALSE", Outcome.INVALID: "INVALID", Outcome.ERROR: "ERROR"}


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
            "left_out": found.left_out,
            "said": str(found),
        },
        "runs": [
            {
                "run": run.number,
                "seed": run.seed,
                "outcome": str(run.outcome),
                "invalid_because": run.invalid_because,
                "trouble": None if run.trouble is None else str(run.trouble),
                "took_s": round(run.took_s, 3),
                **(run.seen.as_dict() if run.seen else {}),
            }
            for run in found.runs
        ],
        "measured": [one.as_dict() for one in found.measured],
        "verdicts": verdicts(found),
    }


def write_verdicts(lab: Lab, claims: Sequence[dict[str, object]]) -> Path:
    """Write verdicts.json into the lab's run directory."""
    return run_dir.write(lab.run_dir, VERDICTS_FILE, json.dumps(claims, indent=1) + "\n")


def line(judged: Judged) -> str:
    """A claim in one line, and below it why it is false."""
    verdict = judged.verdict
    because = f" ({verdict.invalid_because})" if not verdict.valid else ""
    text = f"{WORDS[judged.outcome]:<8}{judged.called}: {verdict.evidence.summary}{because}"
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
            of = " ".join(part for part in (one.of or "", f"({one.which})" if one.which else "") if part)
            table.append(f"| {run.number} | {one.claimed} | {of} | {WORDS[one.outcome]} | {_cell(said)} |")
        for word, why in _ended(run):
            table.append(f"| {run.number} | | | {word} | {_cell(why)} |")
    return "\n".join([*head, *table, *_numbers(found)]) + "\n"


def _numbers(found: Repeats) -> list[str]:
    """What was measured, as a table; nothing for one run, whose numbers stand beside its claims."""
    if len(found.counting) < 2 or not found.measured:
        return []
    rows = [
        f"| {_cell(one.claim)} | {one.number.what}, {one.number.unit}{LOW if one.number.low else ''} "
        f"| {' | '.join(one.cells)} |"
        for one in found.measured
    ]
    head = "| claim | number | runs | p50 | between | p95 | between | max | covers |"
    confidence = f"{CONFIDENCE:.0%}"
    return [
        "",
        head,
        "|---|---|---|---|---|---|---|---|---|",
        *rows,
        "",
        f"Percentiles of all runs lie *between* with {confidence} confidence; so sure is the share that max *covers*.",
        *(["", f"{left_out(found)}."] if found.left_out else []),
    ]


def left_out(found: Repeats) -> str:
    """How many runs the numbers are not of."""
    return f"{found.left_out} INVALID {'run' if found.left_out == 1 else 'runs'} left out"


def _ended(run: Run) -> list[tuple[str, str]]:
    """What ended a run before its end, and why."""
    spoilt = [(WORDS[Outcome.INVALID], run.spoilt_because)] if run.spoilt_because else []
    return [*spoilt, *([(WORDS[Outcome.ERROR], str(run.trouble))] if run.trouble is not None else [])]


def junit(repeats: Sequence[Repeats]) -> str:
    """JUnit XML: a suite a scenario, a case a claim of each run.

    INVALID is an error of type RunInvalid where too few runs count, else a case that was skipped: it is not green, and
    nothing has failed. What ended a run before its end is an error of its own type. A run's first case has its time.
    """
    from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

    whole = JUnitXml("railbed run")
    for found in repeats:
        suite = TestSuite(found.scenario.name)
        for run in found.runs:
            cases = _cases(run, numbered=found.most > 1 and len(found.runs) > 1)
            again = ", run again" if run.outcome is Outcome.INVALID and run is not found.runs[-1] else ""
            for at, (name, outcome, said) in enumerate(cases):
                took_s = 0.0 if at else round(run.took_s, 3)
                case = TestCase(name, classname=f"railbed.{found.scenario.name}", time=took_s)
                if outcome is Outcome.FAILED:
                    case.result = [Failure(said, "Verdict")]
                elif outcome is Outcome.ERROR:
                    case.result = [Error(said, type(run.trouble).__name__)]
                elif outcome is Outcome.INVALID and found.exit_code == 3:
                    case.result = [Error(said, "RunInvalid")]
                elif outcome is Outcome.INVALID:
                    case.result = [Skipped(f"INVALID{again}: {said}", "RunInvalid")]
                suite.add_testcase(case)
        suite.add_property("seed", str(found.seed))
        suite.add_property("repeats", str(found))
        for one in found.measured:
            suite.add_property("measured", str(one))
        whole.add_testsuite(suite)
    whole.update_statistics()  # type: ignore[no-untyped-call]
    return str(whole.tostring().decode())  # type: ignore[no-untyped-call]


def _cases(run: Run, *, numbered: bool) -> Iterator[tuple[str, Outcome, str]]:
    """The cases of a run, no two of one name: a claim that stands in several steps is numbered, and so are runs."""
    cases = [(one.called, one.outcome, str(one.verdict)) for one in run.judged]
    if run.spoilt_because:
        cases.append(("run", Outcome.INVALID, run.spoilt_because))
    if run.trouble is not None:
        cases.append(("run", Outcome.ERROR, str(run.trouble)))
    often, seen = Counter(name for name, _, _ in cases), Counter[str]()
    for name, outcome, said in cases:
        seen[name] += 1
        words = [name, *([f"#{seen[name]}"] if often[name] > 1 else []), *([f"run {run.number}"] if numbered else [])]
        yield " ".join(words), outcome, said


def _word(found: Repeats) -> str:
    return {0: "held", 1: "FALSE", 2: "ERROR", 3: "INVALID"}[found.exit_code]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
