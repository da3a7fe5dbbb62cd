"""What `railbed compare` shows: what differs, what was measured, and what follows from it."""

from __future__ import annotations

from statistics import median

from labs.compare import Comparison, Plan
from labs.errors import RunInvalid
from labs.output import emit_json, emit_table, say
from labs.status import SCHEMA
from labs.verdicts.comparison import Timing, percent


def show_plan(plan: Plan, *, form: str, dry_run: bool) -> None:
    """What is compared, and how: for people before it starts, with `dry_run` in place of it."""
    if dry_run and form == "json":
        emit_json({"schema": SCHEMA, "dry_run": True, **_facts(plan)})
        return
    for side in "ab":
        run = plan.run(side)
        say(f"{side.upper()}: {run.lab} on {run.backend}, {run}")
    for difference in plan.differs:
        say(f"  {difference.what}: A {difference.a}, B {difference.b}")
    if not plan.differs:
        say("  nothing differs: an A/A comparison, which shows how much noise there is")
    will = "would be played" if dry_run else "are played"
    say(
        f"{plan.rounds} valid rounds of at most {plan.most} {will}, each A and B by turns, two labs first to warm up: "
        f"{', '.join(plan.metrics)}; seed {plan.seed}, margin {plan.margin * 100:g} %, "
        f"{plan.confidence * 100:g} % confidence in all of them together"
    )


def show_comparison(found: Comparison, *, form: str, undecided_ok: bool) -> int:
    """Every timing of A and B side by side. 1 when B is worse, 3 when nobody can tell, else 0.

    A timing that is undecided shows no regression, and shows that there is none just as little: with `undecided_ok`
    that is 0.
    """
    if form == "json":
        emit_json(
            {
                "schema": SCHEMA,
                **_facts(found.plan),
                "rounds": {
                    "wanted": found.plan.rounds,
                    "valid": len(found.valid),
                    "started": len(found.rounds),
                    "most": found.plan.most,
                },
                "metrics": [_row(timing) for timing in found.timings],
                "settled": {"a": found.settling.a, "b": found.settling.b, "of": found.settling.rounds},
                "undecided": found.undecided,
                "verdicts": [verdict.as_dict() for verdict in found.verdicts],
                "folder": str(found.folder),
            }
        )
    else:
        _print(found)
    return exit_code(found, undecided_ok=undecided_ok)


def exit_code(found: Comparison, *, undecided_ok: bool) -> int:
    """See show_comparison."""
    if any(verdict.valid and not verdict.held for verdict in found.verdicts):
        return 1
    if found.invalid_because or (found.undecided and not undecided_ok):
        return RunInvalid.exit_code
    return 0


def _print(found: Comparison) -> None:
    emit_table(
        ("timing", "A median (s)", "B median (s)", "B against A", "interval", ""),
        [
            (
                timing.metric,
                f"{median(timing.a):.3f}" if timing.a else None,
                f"{median(timing.b):.3f}" if timing.b else None,
                percent(timing.ratio.estimate) if timing.ratio else None,
                f"{percent(timing.ratio.low)} … {percent(timing.ratio.high)}" if timing.ratio else None,
                "invalid" if found.invalid_because else timing.words,
            )
            for timing in found.timings
        ],
    )
    say(f"\n{len(found.valid)} valid rounds of {len(found.rounds)} started, at most {found.plan.most}")
    say(f"settled: {found.settling.verdict.evidence.summary}")
    for row in found.settling.rows:
        say(f"  {row}")
    if found.invalid_because:
        say(f"INVALID: {found.invalid_because}")
    say(f"every value: {found.folder}/comparison.json")


def _facts(plan: Plan) -> dict[str, object]:
    sides = {
        side: {"run": str(plan.run(side)), "lab": plan.run(side).lab, "backend": plan.run(side).backend}
        for side in "ab"
    }
    return {
        **sides,
        "differs": [{"what": d.what, "a": d.a, "b": d.b} for d in plan.differs],
        "seed": plan.seed,
        "margin": plan.margin,
        "confidence": plan.confidence,
        "rounds": {"wanted": plan.rounds, "most": plan.most},
        "metrics": list(plan.metrics),
    }


def _row(timing: Timing) -> dict[str, object]:
    ratio = timing.ratio
    return {
        "metric": timing.metric,
        "rounds": len(timing.a),
        "a_median_s": median(timing.a) if timing.a else None,
        "b_median_s": median(timing.b) if timing.b else None,
        "difference": ratio.estimate - 1 if ratio else None,
        "low": ratio.low - 1 if ratio else None,
        "high": ratio.high - 1 if ratio else None,
        "outcome": str(timing.outcome),
        "rounds_needed": timing.rounds_needed,
    }
