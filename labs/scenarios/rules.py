"""Steps that contradict each other, found before anything starts: each step against those that come before it.

traffic  runs (in the background) until it is finished; claims about it need its end
load     is over when the next step begins
probe    runs until it is finished, one at a time; claims on a fault need one that ran when it came, and when it went
fault    is in until it is reverted; one with a time of its own (`for`) until that is waited for
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

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
from labs.scenarios.words import CLAIMS, CONDITIONS, About, Word
from topologies.errors import SpecError
from topologies.validation import meant

Refused = Callable[[Step, str, str, str], SpecError]
"""Makes the error about a key of a step: the step, the key, what was found, what is allowed."""

DRAIN = "drain"
OVER_AT_ONCE = "neither for nor revert: it is over as soon as it is made"


@dataclass
class _Course:
    """What runs and what is broken after the steps so far."""

    error: Refused
    lasts_s: float
    running: dict[str, bool] = field(default_factory=dict)
    targets: dict[str, tuple[str, str, str | None]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    probes: dict[str, str] = field(default_factory=dict)
    made: dict[str, FaultStep] = field(default_factory=dict)
    began: dict[str, int] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    timed: set[str] = field(default_factory=set)
    reached_s: float = 0.0

    def faulted(self, step: WaitStep) -> str:
        """Which fault of the catalogue a step is about."""
        return self.made[step.of].fault if step.of in self.made else ""

    def new_name(self, step: Step, key: str, name: str) -> None:
        if name in self.running or name in self.faults or name in self.loads:
            raise self.error(step, key, f"found {name!r} again", "each traffic and each fault has a name of its own")
        self.began[name] = step.place

    def about(self, step: Step, key: str, name: str, about: About) -> None:
        """Refuse a name that stands for nothing that `about` allows here."""
        named = self.running if step_takes_probes(step) else self.running.keys() - self.probes.keys()
        runs = [one for one, on in self.running.items() if on and one in named]
        ended = [one for one, on in self.running.items() if not on and one in named]
        known = {About.RUNNING: runs, About.ENDED: ended, About.FAULT: self.faults, About.LOAD: self.loads}
        there = known[about]
        if name not in there:
            why = " (it still runs)" if name in runs else " (it has ended)" if name in ended else meant(name, there)
            raise self.error(step, key, f"found {name!r}{why}", _listed(about, there))


def check_course(scenario: Scenario, error: Refused) -> None:
    """Refuse the first step that contradicts what comes before it, and a scenario that judges nothing.

    Raises SpecError, as `error` makes it.
    """
    course = _Course(error, scenario.lasts_s)
    for step in scenario.steps:
        _follow(course, step)
    if not scenario.claims:
        raise error(scenario.steps[-1], "", "found no claim in any step", "at least one step with claim: NAME")
    _check_finished(course, scenario)


def _check_finished(course: _Course, scenario: Scenario) -> None:
    """Refuse what still runs at the end: nobody would ever look at how it came out."""
    for step in scenario.steps:
        if isinstance(step, TrafficStep | ProbeStep) and course.running[step.name]:
            key = "probe" if isinstance(step, ProbeStep) else "traffic"
            raise course.error(step, key, f"found {step.name!r}, which is never finished", f"finish: {step.name}")


def _follow(course: _Course, step: Step) -> None:
    match step:
        case TrafficStep():
            _traffic(course, step)
        case LoadStep():
            course.new_name(step, "load", step.name)
            course.loads.append(step.name)
        case ProbeStep():
            _probe(course, step)
        case FinishStep():
            course.about(step, "finish", step.name, About.RUNNING)
            course.running[step.name] = False
            course.ended[step.name] = step.place
        case FaultStep():
            _fault(course, step)
        case RevertStep():
            _revert(course, step)
        case WaitStep():
            _wait(course, step)
        case ClaimStep():
            _claim(course, step)


def _traffic(course: _Course, step: TrafficStep) -> None:
    course.new_name(step, "traffic", step.name)
    if step.iterations is None and not step.background:
        raise course.error(step, "traffic", "found traffic without an end", "iterations: N, or background: true")
    course.running[step.name] = step.background


def _probe(course: _Course, step: ProbeStep) -> None:
    course.new_name(step, "probe", step.name)
    other = next((name for name in course.probes if course.running[name]), None)
    if other is not None:
        raise course.error(step, "probe", f"found {step.name!r} while {other!r} runs", f"finish: {other} before it")
    course.running[step.name] = True
    course.probes[step.name] = step.around


def _fault(course: _Course, step: FaultStep) -> None:
    course.new_name(step, "fault" if step.name == step.fault else "name", step.name)
    wanted = (step.fault, step.target, step.sender)
    held = next((name for name, target in course.targets.items() if target == wanted), None)
    if held is not None:
        end = f"wait: reverted, of: {held}" if held in course.timed else f"revert: {held}"
        allowed = f"another target, or {end} before"
        raise course.error(
            step, "target", f"found {step.fault} on {step.target or 'the lab'} again, where {held!r} still is", allowed
        )
    if step.for_s is not None and not step.lasts:
        raise course.error(step, "for", f"found a {step.fault} for {step.for_s:g} s", OVER_AT_ONCE)
    begins, lasts = step.at_s or 0.0, course.lasts_s
    if begins < course.reached_s:
        found = f"found {begins:g} s after a step at {course.reached_s:g} s"
        raise course.error(step, "at", found, f"{course.reached_s:g}s or later: steps are made in their order")
    if begins > lasts:
        raise course.error(step, "at", f"found {begins:g} s in a run of {lasts:g} s", "a time within the run (lasts)")
    if step.for_s is not None and begins + step.for_s > lasts:
        found = f"found a fault until {begins + step.for_s:g} s in a run of {lasts:g} s"
        raise course.error(step, "for", found, "an end before the run's (lasts)")
    course.reached_s = begins or course.reached_s
    if step.lasts:
        course.targets[step.name] = wanted
    course.faults.append(step.name)
    course.made[step.name] = step
    if step.for_s is not None:
        course.timed.add(step.name)


def _revert(course: _Course, step: RevertStep) -> None:
    if step.name in course.timed:
        raise course.error(step, "revert", f"found {step.name!r}, which ends by itself (for)", "a fault without for")
    if step.name in course.made and not course.made[step.name].lasts:
        raise course.error(step, "revert", f"found {step.name!r}, a {course.made[step.name].fault}", OVER_AT_ONCE)
    if step.name not in course.targets:
        why = "was reverted before" if step.name in course.faults else "was not injected before"
        raise course.error(
            step, "revert", f"found {step.name!r}, which {why}", _listed(About.FAULT, list(course.targets))
        )
    del course.targets[step.name]
    course.ended[step.name] = step.place


def _wait(course: _Course, step: WaitStep) -> None:
    _check_names(course, step, CONDITIONS[step.condition])
    if step.within_s > course.lasts_s:
        found = f"found a wait of {step.within_s:g} s in a run of {course.lasts_s:g} s"
        raise course.error(step, "within", found, "at most as long as the run (lasts)")
    if step.condition == "reverted" and step.of is not None:
        if step.of in course.targets and step.of not in course.timed:
            raise course.error(step, "of", f"found {step.of!r}, which has no for", "a fault with for, or revert it")
        if course.targets.pop(step.of, None) is not None:
            course.ended[step.of] = step.place
    if step.condition == "drained" and course.faulted(step) != DRAIN:
        raise course.error(step, "of", f"found {step.of!r}, a {course.faulted(step)}", f"a fault {DRAIN}")


def _claim(course: _Course, step: ClaimStep) -> None:
    word = CLAIMS[step.claim]
    _check_names(course, step, word)
    if word.over and not course.made[str(step.of)].lasts:
        found = f"found {step.claim} of {step.of!r}, which is over as soon as it is made"
        raise course.error(step, "of", found, "a fault that lasts")
    if word.over and str(step.of) not in course.ended:
        allowed = f"revert: {step.of} before it, or with for: wait: reverted"
        raise course.error(step, "claim", f"found {step.claim} while {step.of!r} is still there", allowed)
    if word.probed:
        _check_probed(course, step)
    after, before = (step.numbers.get(key, 0.0) for key in ("after", "before"))
    if after > before:
        found = f"found {after:g} s after and {before:g} s before"
        raise course.error(step, "after", found, "after below before")


def _check_probed(course: _Course, step: ClaimStep) -> None:
    """Refuse a claim on what nobody watched: a fault without a probe as it came, or as it went where it is gone."""
    way, target = step.words.get("flows", "all"), course.made[str(step.of)].target
    if not target:
        raise course.error(step, "of", f"found {step.of!r}, which is on the whole lab", "a fault on a link or a switch")
    ended = [name for name in course.probes if name in course.ended]
    if not ended:
        raise course.error(
            step, "claim", f"found {step.claim} before a probe has ended", "probe: and finish: before it"
        )
    if way != "all":  # which is how flows stand to the link that they were chosen around
        ended = [name for name in ended if course.probes[name] == target]
        if not ended:
            found = f"found {way} of {step.of!r}, and no probe around {target or 'it'}"
            raise course.error(step, "flows", found, "all, or a fault on the link that a probe is around")
    came, went = course.began[str(step.of)], course.ended.get(str(step.of))
    for when, at in (("came", None if CLAIMS[step.claim].over else came), ("went", went)):
        if at is not None and not any(course.began[name] < at < course.ended[name] for name in ended):
            probe = "probe" if way == "all" else "probe around it"
            found = f"found {step.claim} of {step.of!r}, and no {probe} that ran when it {when}"
            raise course.error(step, "of", found, "probe: before that, and finish: after it")


def _check_names(course: _Course, step: WaitStep | ClaimStep, word: Word) -> None:
    if step.of is not None:
        course.about(step, "of", step.of, word.about)
    if isinstance(step, ClaimStep) and step.against is not None:
        course.about(step, "against", step.against, word.about)
    for name in step.without:
        course.about(step, "without", name, About.FAULT)
        if not course.made[name].target:
            raise course.error(
                step, "without", f"found {name!r}, which is on the whole lab", "faults on links or nodes"
            )


def step_takes_probes(step: Step) -> bool:
    """Whether a name in a step may be a probe's: only what ends it; conditions and claims on traffic know none."""
    return isinstance(step, FinishStep)


def _listed(about: About, there: Sequence[str]) -> str:
    return f"{about}: {', '.join(there)}" if there else f"{about}; there is none at this step"
