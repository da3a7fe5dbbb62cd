"""Play a scenario on a running lab: `play` once, `repeat` until enough runs count.

One run: its steps in order, each claim judged where it stands; then what still runs is ended, faults are taken back,
and the lab has to be as it was. A run that cannot vouch for itself is INVALID, and another is started in its place.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from enum import StrEnum

from labs.certifying import Certifying, certified
from labs.errors import RailbedError, RunInvalid
from labs.faults import injecting
from labs.lab import Lab
from labs.scenarios import loads
from labs.scenarios.claims import judge
from labs.scenarios.conditions import wait, wait_time
from labs.scenarios.measured import OverRepeats, over_repeats
from labs.scenarios.running import Underway
from labs.scenarios.scenario import (
    ClaimStep,
    FaultStep,
    FinishStep,
    LoadStep,
    ProbeStep,
    RevertStep,
    Scenario,
    Step,
    TrafficStep,
    WaitStep,
)
from labs.spec import derived_seed
from labs.telemetry.host_watch import Patience
from labs.telemetry.records import Note, TrafficEvent, VerdictRecord
from labs.telemetry.telling import tell
from labs.verdicts import Evidence, Verdict
from labs.verdicts.certified import Seen
from labs.verdicts.ended import came_to_its_end

# A session that failed its first attempt tries again after its connect timer, 10 s; a node that boots takes as long.
RESTORED_WITHIN_S = 60.0
RESTORED = "state_restored"
# Of a command; the smoke set has three minutes, of which its scenarios take two.
PATIENCE = Patience(within=30.0, in_all=30.0)

Tells = Callable[["Judged"], None]
Keeps = Callable[["Judged"], bool]


class Outcome(StrEnum):
    """What a run says: a claim that is false and valid weighs more than what proves nothing, and than trouble after it.

    Otherwise a testbed in trouble says nothing at all.
    """

    HELD = "held"
    FAILED = "failed"
    INVALID = "invalid"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Judged:
    """A claim of a run: its word in the scenario, what it is of, which flows, the verdict, and its step.

    `place` is None for a claim that stands in no step of its own. `holds` False: a control, that it does not hold.
    """

    name: str
    of: str | None
    verdict: Verdict
    which: str = ""
    place: int | None = None
    holds: bool = True

    @property
    def outcome(self) -> Outcome:
        """What it says."""
        if not self.verdict.valid:
            return Outcome.INVALID
        return Outcome.HELD if self.verdict.held else Outcome.FAILED

    @property
    def called(self) -> str:
        """In words: ``not recovered of cut (own)``."""
        return self.claimed + (f" of {self.of}" if self.of else "") + (f" ({self.which})" if self.which else "")

    @property
    def claimed(self) -> str:
        """Its word, as the scenario has it."""
        return self.name if self.holds else f"not {self.name}"

    def as_dict(self) -> dict[str, object]:
        """The fields of `verdicts.json`."""
        return {
            **self.verdict.as_dict(),
            "name": self.name,
            "of": self.of,
            "which": self.which or None,
            "holds": self.holds,
        }


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a scenario: the `number`-th that was started, from 1. `seen` is what was watched meanwhile.

    `spoilt_because` is why it proves nothing, `trouble` what ended it before its end.
    """

    number: int
    seed: int
    judged: tuple[Judged, ...]
    took_s: float
    seen: Seen | None = None
    spoilt_because: str | None = None
    trouble: RailbedError | None = None

    @property
    def outcome(self) -> Outcome:
        """What all claims say together."""
        found = {one.outcome for one in self.judged}
        if Outcome.FAILED in found:
            return Outcome.FAILED
        if self.trouble is not None:
            return Outcome.ERROR
        return Outcome.INVALID if self.spoilt_because or Outcome.INVALID in found else Outcome.HELD

    @property
    def invalid_because(self) -> str | None:
        """Why it proves nothing; None where it does."""
        if self.outcome is not Outcome.INVALID:
            return None
        first = next((one for one in self.judged if not one.verdict.valid), None)
        return self.spoilt_because or (f"{first.claimed}: {first.verdict.invalid_because}" if first else None)


@dataclass(frozen=True, slots=True)
class Repeats:
    """All runs that were started; `wanted` valid ones were asked for, of at most `most`."""

    scenario: Scenario
    wanted: int
    most: int
    seed: int
    runs: tuple[Run, ...] = ()

    @classmethod
    def of_a_lab_that_never_converged(cls, scenario: Scenario, seed: int, verdicts: Sequence[Verdict]) -> Repeats:
        """Nothing was played: that the lab is not as designed is the finding, or that nobody can tell."""
        looks = (Judged("converged", None, one) for one in verdicts)
        return cls(
            scenario, 1, 1 + spare(1), seed, tuple(Run(at, seed, (one,), 0.0) for at, one in enumerate(looks, 1))
        )

    @classmethod
    def of_a_lab_that_never_came_up(cls, scenario: Scenario, seed: int, wanted: int, trouble: RailbedError) -> Repeats:
        """Nothing was played."""
        return cls(scenario, wanted, wanted + spare(wanted), seed, (Run(1, seed, (), 0.0, trouble=trouble),))

    @property
    def counting(self) -> tuple[Run, ...]:
        """The runs that count."""
        return tuple(one for one in self.runs if one.outcome in {Outcome.HELD, Outcome.FAILED})

    @property
    def valid(self) -> int:
        """How many runs count."""
        return len(self.counting)

    @property
    def trouble(self) -> RailbedError | None:
        """What ended the last run before its end; None where all were played."""
        return next((one.trouble for one in self.runs if one.trouble is not None), None)

    @property
    def measured(self) -> tuple[OverRepeats, ...]:
        """The numbers that claims measured, over the runs that count."""
        judged = (one for run in self.counting for one in run.judged)
        return over_repeats((one.place, one.name, one.called, one.verdict) for one in judged if one.place is not None)

    @property
    def left_out(self) -> int:
        """How many runs are INVALID: no number of theirs counts."""
        return sum(one.outcome is Outcome.INVALID for one in self.runs)

    @property
    def failed(self) -> int:
        """How many have a false claim."""
        return sum(one.outcome is Outcome.FAILED for one in self.runs)

    @property
    def exit_code(self) -> int:
        """0 held, 1 a claim is false, 2 the testbed is in trouble, 3 too few runs count; 1 before all others."""
        if self.failed:
            return 1
        if self.trouble is not None:
            return self.trouble.exit_code
        return 0 if self.valid >= self.wanted else 3

    @property
    def invalid_because(self) -> str | None:
        """Why too few runs count; None where enough do."""
        if self.valid >= self.wanted:
            return None
        return next((one.invalid_because for one in reversed(self.runs) if one.invalid_because), "not all were started")

    def __str__(self) -> str:
        failed = f"{self.failed} failed" if self.failed else "none failed"
        if self.trouble is not None:
            failed += ", the last ended by trouble with the testbed"
        started = f"{len(self.runs)} started" if len(self.runs) == self.most else f"at most {self.most} started"
        return f"{self.valid} valid of {started}, {failed}"


def spare(wanted: int) -> int:
    """How many INVALID runs are started again: one, of many wanted half as many (as `railbed compare` has it)."""
    return max(1, wanted // 2)


def repeat(
    lab: Lab,
    scenario: Scenario,
    *,
    wanted: int = 1,
    seed: int,
    told: Tells = lambda _: None,
    before: Callable[[int, int], None] = lambda _number, _seed: None,
    after: Callable[[Repeats], None] = lambda _: None,
) -> Repeats:
    """Play a scenario until `wanted` runs count, or too many do not. One that may have changed the lab is the last.

    Args:
        seed: what each run's own seed derives from.
        told: gets each verdict as soon as it is there.
        before: gets the number and the seed of each run.
        after: gets all runs so far, after each.

    Before the first run, and after an INVALID one, it is waited until the workstation is calm. What this lab does not
    have, or a testbed in trouble, ends them: `Repeats.trouble`, which the caller is to raise.
    """
    found = Repeats(scenario, wanted, wanted + spare(wanted), seed)
    while found.valid < wanted and len(found.runs) < found.most:
        if not found.runs or found.runs[-1].outcome is Outcome.INVALID:
            PATIENCE.wait_calm()
        number = len(found.runs) + 1
        own = derived_seed(seed, f"run/{number}")
        before(number, own)
        run = play(lab, scenario, number=number, seed=own, told=told)
        found = replace(found, runs=(*found.runs, run))
        after(found)
        if run.trouble is not None or not _as_it_was(run):
            break
    return found


def _as_it_was(run: Run) -> bool:
    """Whether the next run begins on the same lab, as far as anybody can tell."""
    return all(one.outcome is Outcome.HELD for one in run.judged if one.name == RESTORED)


def play(lab: Lab, scenario: Scenario, *, seed: int, number: int = 1, told: Tells = lambda _: None) -> Run:
    """Play a scenario once. See `repeat`."""
    began, judged, spoilt, seen = time.monotonic(), list[Judged](), None, None

    def keep(one: Judged) -> bool:
        judged.append(one)
        verdict = one.verdict
        record = VerdictRecord(
            t=time.monotonic_ns(),
            claim=verdict.claim,
            held=verdict.held,
            valid=verdict.valid,
            summary=verdict.evidence.summary,
        )
        tell(lab.name, record)
        told(one)
        return verdict.held or not verdict.valid

    tell(lab.name, Note(t=time.monotonic_ns(), text=f"scenario {scenario.name}, run {number}, seed {seed}"))
    trouble: RailbedError | None = None
    try:
        with certified(lab) as watch:
            spoilt, faulted = _steps(lab, scenario, seed, watch, keep)
            if faulted or (spoilt and injecting.to_be_compared(lab.name)):
                keep(Judged(RESTORED, None, watch.vouch(injecting.state_restored(lab, RESTORED_WITHIN_S))))
            seen = watch.seen()
    except RailbedError as error:
        trouble = error
    return Run(number, seed, tuple(judged), time.monotonic() - began, seen, spoilt, trouble)


def _steps(lab: Lab, scenario: Scenario, seed: int, watch: Certifying, keep: Keeps) -> tuple[str | None, bool]:
    """Make the steps, and end what they began.

    Returns why that proves nothing, None where it does; and whether it made a fault.
    """
    faulted = False
    try:
        with ExitStack() as stack:
            run = Underway(lab, scenario, seed, stack, watch)
            for step in scenario.steps:
                if not _in_time(run, step, keep) or not _make(run, step, keep):
                    break
            faulted = bool(run.faults)
    except RunInvalid as why:
        return why.message, faulted
    return None, faulted


def _in_time(run: Underway, step: Step, keep: Keeps) -> bool:
    """Whether the run may still begin a step; where not, that is a false claim."""
    lasts = run.scenario.lasts_s * run.lab.timeout_scale
    if run.elapsed_s <= lasts:
        return True
    late = Verdict(
        f"every step begins within {lasts:g} s",
        False,
        Evidence(f"a {_kind(step)} was to begin at {run.elapsed_s:.1f} s"),
        budget_s=lasts,
    )
    keep(Judged("lasts", None, run.watch.vouch(late)))
    return False


def _make(run: Underway, step: Step, keep: Keeps) -> bool:
    """Make one step; False where the run ends with it."""
    match step:
        case TrafficStep():
            return _traffic(run, step, keep)
        case LoadStep():
            run.loads[step.name] = loads.put(run.lab, step)
        case ProbeStep():
            run.probe(step)
        case FinishStep() if step.name in run.probes:
            run.end_probe(step.name)
        case FinishStep():
            return _finish(run, step.name, keep)
        case FaultStep():
            wait_time(run, step.at_s or 0.0)
            run.inject(step)
        case RevertStep():
            run.revert(step.name)
        case WaitStep():
            verdict = wait(run, step)
            # One that comes in time is no claim of the scenario's; one that does not leaves nothing to go on with.
            return (verdict.held and verdict.valid) or _ended_by(keep, step, verdict)
        case ClaimStep():
            keep(Judged(step.claim, step.of, judge(run, step), step.which, step.place, step.holds))
    return True


def _ended_by(keep: Keeps, step: WaitStep, verdict: Verdict) -> bool:
    keep(Judged(f"wait {step.condition}", step.of, verdict))
    return False


def _traffic(run: Underway, step: TrafficStep, keep: Keeps) -> bool:
    tell(run.lab.name, TrafficEvent(t=time.monotonic_ns(), what=step.name, phase="start"))
    run.start(step)
    return True if step.background else _finish(run, step.name, keep)


def _finish(run: Underway, name: str, keep: Keeps) -> bool:
    """Traffic that fails unasked is a false claim: a scenario that names none about it would hold for nothing."""
    result = run.finish(name)
    phase = "failed" if result.error else "end"
    tell(run.lab.name, TrafficEvent(t=time.monotonic_ns(), what=name, phase=phase, done=result.iterations))
    asked = any(claim.claim == "completed" and claim.of == name for claim in run.scenario.claims)
    if result.error and not asked:
        ended = came_to_its_end(name, error=result.error, wrong=result.wrong, iterations=result.iterations)
        keep(Judged("completed", name, run.watch.vouch(ended)))
    return True


def _kind(step: Step) -> str:
    return type(step).__name__.removesuffix("Step").lower()
