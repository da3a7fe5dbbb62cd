"""What `railbed run` does: find the scenario and its lab, play it, say every claim, leave the files."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from labs import run_dir
from labs.errors import LabError, SpecError
from labs.faults import catalogue
from labs.lab import Lab, adopt_lab, close_lab, open_lab
from labs.output import emit_json, emit_line, emit_table, live_progress, say
from labs.request import SEEDS, Request, choose_backend
from labs.scenarios import report
from labs.scenarios.by_hand import as_scenario, made_by_hand
from labs.scenarios.load import catalog_names, load_scenario
from labs.scenarios.play import Judged, Outcome, Repeats, repeat
from labs.scenarios.scenario import Scenario
from labs.scenarios.sites import check_lab, request_of
from labs.spec import LabSpec
from labs.status import SCHEMA
from labs.telemetry.live import LiveTimeline
from labs.telemetry.records import FaultEvent
from labs.verdicts import Verdict
from topologies.fabric import Fabric

# A lab that was up already: what is left to settle, and a session's next attempt.
CONVERGED_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A scenario, how often, and where: on the running lab `lab`, else on one that is brought up by `request`."""

    scenario: Scenario
    spec: LabSpec
    fabric: Fabric
    request: Request
    wanted: int
    seed: int
    keep: bool = False
    lab: str | None = None

    def __str__(self) -> str:
        found = self.scenario
        on = f"lab {self.lab}" if self.lab else f"{found.lab} on {choose_backend(self.request)[0].name}"
        return f"{found.name}: {len(found.steps)} steps, {len(found.claims)} claims, on {on}"


def asked(ref: str | None, *, wanted: int, seed: int | None, backend: str, keep: bool, lab: str | None) -> Asked:
    """What a call asks for. Raises SpecError; nothing is started."""
    if ref is None:
        raise SpecError("no scenario named", allowed=f"{', '.join(catalog_names())}, or the path of a .yaml file")
    found, spec, fabric = load_scenario(ref)
    drawn = next((one for one in (seed, found.seed) if one is not None), secrets.randbelow(SEEDS))
    request = request_of(found, spec, fabric, backend=backend, seed=drawn, keep=keep)
    return Asked(found, spec, fabric, request, wanted, drawn, keep, lab)


def play(one: Asked, form: str, *, junit: Path | None = None, markdown: Path | None = None) -> Repeats:
    """Play it, say every claim as it is judged, and leave verdicts.json in the run directory.

    A testbed in trouble (LabError) is raised once all files tell of it; after a false claim it is only said.
    """
    left, played, trouble = "no run directory", None, None
    try:
        with _on_lab(one) as lab:
            left = str(lab.run_dir / report.VERDICTS_FILE)
            played = _play(lab, one, form)
    except LabError as error:
        trouble = error
        played = played or Repeats.of_a_lab_that_never_came_up(one.scenario, one.seed, one.wanted, error)
    if junit is not None:
        run_dir.write(junit.absolute().parent, junit.name, report.junit([played]))
    if markdown is not None:
        run_dir.write(markdown.absolute().parent, markdown.name, report.markdown(played))
    if played.wanted > 1:
        for number in played.measured:
            say(str(number))
        if played.measured and played.left_out:
            say(report.left_out(played))
    say(f"{one.scenario.name}: {played}; seed {one.seed}; {left}")
    ended_by = trouble or played.trouble
    if ended_by is not None and not played.failed:
        raise ended_by
    if ended_by is not None:
        say(f"railbed: {ended_by}")
    return played


def recorded(name: str) -> tuple[str, int]:
    """The faults of a running lab's timeline as a scenario file's text, and how many there are. Raises SpecError."""
    lab = adopt_lab(name)
    found = made_by_hand(LiveTimeline(lab.name, lab.run_dir).read().of(FaultEvent))
    profile = lab.asic.profile.name if lab.asic is not None else None
    at_once = {name for name, fault in catalogue.faults().items() if not fault.lasts}
    return as_scenario(lab.rendered.spec.name, profile, found, at_once), len(found)


def show_list(form: str) -> None:
    """The scenarios that come with railbed."""
    found = [load_scenario(name)[0] for name in catalog_names()]
    if form == "json":
        rows = [{"name": one.name, "about": one.about, "lab": one.lab, "claims": len(one.claims)} for one in found]
        emit_json({"schema": SCHEMA, "scenarios": rows})
        return
    emit_table(
        ("scenario", "lab", "claims", "about"), [(one.name, one.lab, len(one.claims), one.about) for one in found]
    )


@contextmanager
def _on_lab(one: Asked) -> Iterator[Lab]:
    """The lab it is played on: one that runs, or one that is brought up for it."""
    if one.lab is not None:
        lab = adopt_lab(one.lab)
        check_lab(lab, one.scenario, one.spec, one.fabric)
        yield lab
        return
    say(choose_backend(one.request)[1])
    try:
        with live_progress(f"railbed run {one.scenario.name}") as progress:
            lab = open_lab(one.request, progress=progress).lab
        yield lab
    finally:
        if not one.keep:
            close_lab(str(one.request.name))


def _play(lab: Lab, one: Asked, form: str) -> Repeats:
    def told(judged: Judged) -> None:
        if form == "table":
            emit_line(report.line(judged))

    def before(number: int, seed: int) -> None:
        if one.wanted > 1:
            of = f" of {one.wanted}" if number <= one.wanted else ", in place of an INVALID one"
            say(f"run {number}{of}, seed {seed}")

    def after(so_far: Repeats) -> None:
        last = so_far.runs[-1]
        report.write_verdicts(lab, report.verdicts(so_far))
        if last.outcome is Outcome.INVALID:
            say(f"run {last.number} is INVALID: {last.invalid_because}")

    looks = _converged(lab)
    if not looks or (looks[-1].valid and looks[-1].held):
        played = repeat(lab, one.scenario, wanted=one.wanted, seed=one.seed, told=told, before=before, after=after)
    else:
        played = Repeats.of_a_lab_that_never_converged(one.scenario, one.seed, looks)
        for run in played.runs:
            told(run.judged[0])
        after(played)
    if form == "json":
        emit_json({"schema": SCHEMA, "lab": lab.name, "run_dir": str(lab.run_dir), **report.as_dict(played)})
    return played


def _converged(lab: Lab) -> tuple[Verdict, ...]:
    """Whether the lab is as designed, as it was judged when it came up; where nobody could tell, once more."""
    if lab.converged is None:
        return ()
    if lab.converged.valid:
        return (lab.converged,)
    say(f"bring-up is INVALID: {lab.converged.invalid_because}; it is judged again")
    return (lab.converged, lab.wait_converged(within=CONVERGED_WITHIN_S))
