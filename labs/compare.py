"""Two recorded runs against each other: the same fabric is played again and again, by turns as A and as B.

    round 1: A B    round 2: B A    round 3: A B  …      one lab at a time, each round with a seed of its own for both

`compare` is the table of contents. What is measured of a lab stands in labs/replay.py.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from labs import run_dir
from labs.backends.base import Progress
from labs.errors import RailbedError, SpecError
from labs.recorded import Difference, RecordedRun, check_images, check_same_fabric, differences, find_run
from labs.replay import Measured, Measures, measure_run, metrics_of
from labs.request import SEEDS
from labs.spec import derived_seed
from labs.verdicts import Verdict
from labs.verdicts.comparison import (
    CONFIDENCE,
    MARGIN,
    MOST_ROUNDS,
    Outcome,
    Settling,
    Timing,
    compare_settling,
    compare_timings,
    least_rounds,
    sturdy_rounds,
    tail_of,
)

RUNS = "compare"
# Rounds on a workstation that starved are repeated; half as many again are started at most.
SPARE = 0.5


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be compared, and how: `rounds` valid ones of at most `most` started; `margin` is a fraction of A."""

    a: RecordedRun
    b: RecordedRun
    rounds: int
    seed: int
    margin: float = MARGIN
    confidence: float = CONFIDENCE

    @property
    def most(self) -> int:
        """How many rounds are started at most."""
        return self.rounds + int(SPARE * self.rounds)

    @property
    def metrics(self) -> tuple[str, ...]:
        """What can be measured on this fabric."""
        return metrics_of(self.a.fabric)

    @property
    def tail(self) -> float:
        """How rarely one limit of one interval may be wrong: the timings, and settling, are one family."""
        return tail_of(self.confidence, len(self.metrics) + 1)

    @property
    def differs(self) -> tuple[Difference, ...]:
        """What is being compared; empty for a comparison of a run with itself."""
        return differences(self.a, self.b)

    def run(self, side: str) -> RecordedRun:
        """The run of side ``a`` or ``b``."""
        return self.a if side == "a" else self.b


@dataclass(frozen=True, slots=True)
class Round:
    """A and B, one after the other; `order` says which came first. Where the first was invalid there is no second."""

    number: int
    seed: int
    order: str
    measured: Mapping[str, Measured]

    @property
    def invalid_because(self) -> str | None:
        """Why the round does not count, if so."""
        found = ((side, one.invalid_because) for side, one in self.measured.items() if one.invalid_because)
        return next((f"{side.upper()}: {because}" for side, because in found), None)

    def value(self, metric: str) -> tuple[float, float] | None:
        """A timing of A and of B, in seconds; None where one has none."""
        a, b = (self.measured[side].values.get(metric) for side in "ab")
        return None if a is None or b is None else (a, b)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Every round that was started, and what follows from those that are valid."""

    plan: Plan
    folder: Path
    rounds: tuple[Round, ...] = ()

    @property
    def valid(self) -> tuple[Round, ...]:
        """The rounds that count."""
        return tuple(one for one in self.rounds if one.invalid_because is None)

    @property
    def invalid_because(self) -> str | None:
        """Why nothing follows, when too few rounds count."""
        if len(self.valid) >= self.plan.rounds:
            return None
        last = next(
            (one.invalid_because for one in reversed(self.rounds) if one.invalid_because), "not all were started"
        )
        return f"{len(self.valid)} valid rounds of {len(self.rounds)} started, {self.plan.rounds} are needed; {last}"

    @property
    def timings(self) -> tuple[Timing, ...]:
        """One judgement for each timing."""
        plan = self.plan
        return tuple(
            compare_timings(
                metric,
                [pair for one in self.valid if (pair := one.value(metric))],
                margin=plan.margin,
                tail=plan.tail,
            )
            for metric in plan.metrics
        )

    @property
    def settling(self) -> Settling:
        """How often A and B came to rest."""
        pairs = [(one.measured["a"].settled, one.measured["b"].settled) for one in self.valid]
        rows = [
            f"round {one.number}, {side.upper()}: {missed}"
            for one in self.valid
            for side, found in one.measured.items()
            for missed in found.missed
        ]
        return compare_settling(pairs, tail=self.plan.tail, rows=rows)

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Every claim; all are invalid when too few rounds count."""
        found = (self.settling.verdict, *(timing.verdict for timing in self.timings))
        because = self.invalid_because
        return tuple(verdict.invalid(because) for verdict in found) if because else found

    @property
    def undecided(self) -> bool:
        """True when some claim is neither shown nor refuted."""
        outcomes = (self.settling.outcome, *(timing.outcome for timing in self.timings))
        return Outcome.UNDECIDED in outcomes


def make_plan(
    ref_a: str,
    ref_b: str,
    *,
    rounds: int | None = None,
    seed: int | None = None,
    margin: float = MARGIN,
    confidence: float = CONFIDENCE,
) -> Plan:
    """Find both runs and check that they can be compared.

    Args:
        rounds: how many valid rounds; default: the fewest with which one outlier decides nothing.
        seed: every round's own seed comes from it; default: drawn.

    Raises SpecError: no such run, another fabric, or too few rounds ever to say anything.
    """
    a, b = find_run(ref_a), find_run(ref_b)
    check_same_fabric(a, b)
    for run in (a, b):
        check_images(run)
    if seed is not None and not 0 <= seed < SEEDS:
        raise SpecError(f"seed {seed}", allowed=f"an integer from 0 to {SEEDS - 1}")
    plan = Plan(a, b, rounds or 0, secrets.randbelow(SEEDS) if seed is None else seed, margin, confidence)
    least = least_rounds(plan.tail)
    if rounds is None:
        plan = replace(plan, rounds=sturdy_rounds(plan.tail))
    if not least <= plan.rounds <= MOST_ROUNDS or plan.rounds % 2:
        raise SpecError(
            f"--repeat {plan.rounds} with --confidence {confidence * 100:g}",
            allowed=f"an even number from {least} to {MOST_ROUNDS}; n rounds all agree by chance once in 2^n",
        )
    return plan


def compare(plan: Plan, *, progress: Progress = lambda _: None, measure: Measures | None = None) -> Comparison:
    """Play all rounds of a plan. Whatever ends it, no lab is left behind and the rounds so far are written down.

    Raises LabError, told which round and side, when a lab cannot be brought up.
    """
    told = Comparison(plan, run_dir.choose(RUNS))
    player = _Player(plan, told.folder, progress, measure or measure_run, f"cmp-{secrets.token_hex(4)}")
    for side in "ab":  # not counted: the first of each reads its programs from disk
        player.play(0, side, plan.seed)
    write(told)
    while len(told.valid) < plan.rounds and len(told.rounds) < plan.most:
        told = replace(told, rounds=(*told.rounds, player.round(len(told.valid) + 1)))
        write(told)
    return told


def write(told: Comparison) -> None:
    """Keep every raw value in ``comparison.json``."""
    plan = told.plan
    rounds = [
        {
            "number": one.number,
            "seed": one.seed,
            "order": one.order,
            "invalid_because": one.invalid_because,
            **{
                side: {"values": dict(m.values), "missed": list(m.missed), "workstation": dict(m.workstation)}
                for side, m in one.measured.items()
            },
        }
        for one in told.rounds
    ]
    facts: dict[str, object] = {
        "schema": 1,
        **{side: {"run": str(plan.run(side)), "lab": plan.run(side).lab} for side in "ab"},
        "differs": [{"what": d.what, "a": d.a, "b": d.b} for d in plan.differs],
        "seed": plan.seed,
        "margin": plan.margin,
        "confidence": plan.confidence,
        "wanted": plan.rounds,
        "most": plan.most,
        "rounds": rounds,
        "verdicts": [verdict.as_dict() for verdict in told.verdicts],
    }
    run_dir.write_json(told.folder, "comparison.json", facts)


@dataclass(frozen=True, slots=True)
class _Player:
    """Plays rounds, one lab at a time, under names of its own."""

    plan: Plan
    folder: Path
    progress: Progress
    measure: Measures
    stem: str

    def round(self, number: int) -> Round:
        """Both sides; every other round B goes first, so that neither always follows the other."""
        seed, order = derived_seed(self.plan.seed, f"round/{number}"), "ab" if number % 2 else "ba"
        measured: dict[str, Measured] = {}
        for side in order:
            measured[side] = self.play(number, side, seed)
            if measured[side].invalid_because:
                break
        return Round(number, seed, order, measured)

    def play(self, number: int, side: str, seed: int) -> Measured:
        """One lab, up and down again. Round 0 warms up."""
        word = f"{number}/{self.plan.rounds}" if number else "warming-up"
        where = f"round {number}, {side.upper()}" if number else f"warming up, {side.upper()}"
        run = self.plan.run(side)
        self.progress(f"{word} {side.upper()}")
        try:
            return self.measure(
                run,
                name=f"{self.stem}-{side}",
                seed=seed,
                folder=self.folder,
                progress=lambda stage: self.progress(f"{word} {side.upper()}: {stage}"),
            )
        except RailbedError as error:
            error.args = (f"{where} ({run}): {error}",)
            raise
