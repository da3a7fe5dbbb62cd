"""Scenarios from YAML. Names in `labs/scenarios/catalog/` need no path.

about: a ring goes on beside a cut link        what it shows
lab: clos_frr                                  on which lab
steps:                                         one after the other
  - {traffic: ring, pattern: all_reduce, size: 1M, background: true}
  - {fault: link-down, name: cut, target: "leaf1:spine1"}
  - {claim: routes_match, without: [cut], within: 5s}
  - {revert: cut}
  - {finish: ring}
  - {claim: completed, of: ring}
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from labs.dataplane.load import load_profile
from labs.errors import SpecError
from labs.faults import catalogue
from labs.load import KNOWN_KINDS, BgpEntry, bgp_of, check_bgp, load_lab
from labs.scenarios import entries
from labs.scenarios.on_lab import check_on_lab
from labs.scenarios.rules import check_course
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
from labs.scenarios.words import CLAIMS, CONDITIONS, Word
from labs.spec import NO_PROFILE, LabSpec
from topologies.fabric import Fabric
from topologies.load import is_path, stem, unknown_name
from topologies.validation import Strict, meant, validated
from topologies.yaml_source import KeyPath, Source, read, show

CATALOG = Path(__file__).parent / "catalog"


def catalog_names() -> tuple[str, ...]:
    """The names of the scenarios that come with railbed, sorted."""
    return tuple(sorted(path.stem for path in CATALOG.glob("*.yaml")))


def is_scenario(source: Source) -> bool:
    """True when a file describes a scenario, by its keys."""
    return "steps" in source.at()


def load_scenario(ref: str) -> tuple[Scenario, LabSpec, Fabric]:
    """The scenario called `ref`, and the lab it is played on.

    Args:
        ref: a name in labs/scenarios/catalog, or the path of a file.

    Raises SpecError with file, line and key; nothing is started.
    """
    if not is_path(ref) and ref not in catalog_names():
        raise unknown_name("scenario", ref, {"scenarios": catalog_names()})
    path = Path(ref) if is_path(ref) else CATALOG / f"{ref}.yaml"
    source = read(path)
    return scenario_of(source, path.parent, stem(ref, source))


def scenario_of(source: Source, folder: Path, name: str) -> tuple[Scenario, LabSpec, Fabric]:
    """The scenario that stands in a source; paths in it begin at `folder`. Raises SpecError."""
    if not is_scenario(source):
        raise source.error((), f"found {show(source.at())}", allowed="a scenario: about, lab and steps")
    file = validated(entries.ScenarioFile, source)
    spec, fabric = _lab(file, source, folder)
    lab = str((folder / file.lab).resolve()) if is_path(file.lab) else file.lab
    scenario = Scenario(
        name=name,
        about=file.about,
        lab=lab,
        steps=tuple(canonical(step, fabric) for at in range(len(file.steps)) for step in _steps(source, at)),
        profile=_profile(file.profile, folder),
        bgp=spec.bgp if file.bgp else None,
        rate_bps=file.rate,
        seed=file.seed,
        lasts_s=file.lasts,
    )

    def refused(step: Step, key: str, found: str, allowed: str) -> SpecError:
        return source.error(("steps", step.place, *([key] if key else [])), found, allowed=allowed)

    check_course(scenario, refused)
    plays = file.profile or spec.profile or NO_PROFILE
    for step in scenario.steps:
        try:
            check_on_lab(step, scenario, fabric, spec.bgp, plays)
        except SpecError as error:
            raise source.placed(error, ("steps", step.place)) from None
    return scenario, spec, fabric


@lru_cache
def scenario_schema() -> Mapping[str, Any]:
    """The JSON Schema (draft 2020-12) of a scenario file, for editors."""
    found = entries.ScenarioFile.model_json_schema()
    defs = dict(found.pop("$defs", {}))
    for model in entries.STEPS.values():
        one = model.model_json_schema(by_alias=True)
        defs |= one.pop("$defs", {})
        defs[model.__name__] = one
    steps = {"anyOf": [{"$ref": f"#/$defs/{model.__name__}"} for model in entries.STEPS.values()]}
    properties = {**found["properties"], "steps": {**found["properties"]["steps"], "items": steps}}
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": dialect, **found, "title": "railbed scenario", "properties": properties, "$defs": defs}


def _lab(file: entries.ScenarioFile, source: Source, folder: Path) -> tuple[LabSpec, Fabric]:
    """The lab that a file names, with what the file says instead of it."""
    ref = str(folder / file.lab) if is_path(file.lab) else file.lab
    try:
        spec, fabric = load_lab(ref, kinds=KNOWN_KINDS)
    except SpecError as error:
        raise source.placed(error, ("lab",)) from None
    if file.profile not in {None, NO_PROFILE}:
        try:
            load_profile(str(file.profile), folder)
        except SpecError as error:
            raise source.placed(error, ("profile",)) from None
    if file.bgp is not None:
        spec = replace(spec, bgp=bgp_of(file.bgp, spec.bgp))
        check_bgp(BgpEntry(keepalive=spec.bgp.keepalive_s, hold=spec.bgp.hold_s), source)
    return adjusted(spec, fabric, file.rate)


def canonical(step: Step, fabric: Fabric) -> Step:
    """The step with its link named as the fabric does: either end may come first in a file."""
    with suppress(SpecError):  # what there is not, is said later
        if isinstance(step, FaultStep) and ":" in step.target:
            return replace(step, target=fabric.link(step.target).name)
        if isinstance(step, ProbeStep):
            return replace(step, around=fabric.link(step.around).name)
    return step


def adjusted(spec: LabSpec, fabric: Fabric, rate_bps: int | None) -> tuple[LabSpec, Fabric]:
    """A lab with every link at this rate, where there is one."""
    if rate_bps is None:
        return spec, fabric
    return spec, replace(fabric, links=tuple(replace(link, rate_bps=rate_bps) for link in fabric.links))


def _profile(ref: str | None, folder: Path) -> str | None:
    return str((folder / ref).resolve()) if ref and is_path(ref) else ref


def _steps(source: Source, at: int) -> tuple[Step, ...]:
    """The step at a place of the file; one with a `when` is a wait and itself."""
    where: KeyPath = ("steps", at)
    keys = source.at(where)
    if not isinstance(keys, dict):
        raise source.error(where, f"found {show(keys)}", allowed="a mapping with one of " + ", ".join(entries.STEPS))
    kinds = [key for key in entries.STEPS if key in keys]
    if len(kinds) != 1:
        unknown = next(iter(keys), "")
        found = (
            f"found {' and '.join(kinds)} in one step"
            if kinds
            else f"found {show(keys)}{meant(unknown, entries.STEPS)}"
        )
        raise source.error(where, found, allowed="exactly one of " + ", ".join(entries.STEPS))
    entry = validated(entries.STEPS[kinds[0]], source, where)
    return _made(entry, at, source, where)


def _made(entry: Strict, at: int, source: Source, where: KeyPath) -> tuple[Step, ...]:
    steps: tuple[Step, ...] = ()
    match entry:
        case entries.TrafficEntry():
            steps = (_traffic(entry, at),)
        case entries.LoadEntry():
            steps = (_load(entry, at),)
        case entries.ProbeEntry():
            steps = (ProbeStep(name=entry.probe, around=entry.around, pps=entry.pps, place=at),)
        case entries.FinishEntry():
            steps = (FinishStep(name=entry.finish, place=at),)
        case entries.FaultEntry():
            steps = _fault(entry, at, source)
        case entries.RevertEntry():
            steps = (RevertStep(name=entry.revert, place=at),)
        case entries.WhenEntry():
            steps = (_wait(entry, at, source, where),)
        case entries.ClaimEntry():
            steps = (_claim(entry, at, source),)
    return steps


def _traffic(entry: entries.TrafficEntry, at: int) -> TrafficStep:
    endless = entry.background and entry.iterations is None
    return TrafficStep(
        name=entry.traffic,
        pattern=entry.pattern,
        size=entry.size,
        algorithm=entry.algorithm,
        hosts=tuple(entry.hosts or ()),
        iterations=None if endless else entry.iterations or 1,
        warmup=0 if endless and "warmup" not in entry.model_fields_set else entry.warmup,
        background=entry.background,
        dscp=entry.dscp,
        timeout_s=entry.timeout,
        place=at,
    )


def _load(entry: entries.LoadEntry, at: int) -> LoadStep:
    return LoadStep(
        name=entry.load,
        hosts=tuple(entry.hosts),
        sink=entry.sink,
        rate_bps=entry.rate,
        lasts_s=entry.lasts,
        dscp=entry.dscp,
        place=at,
    )


def _fault(entry: entries.FaultEntry, at: int, source: Source) -> tuple[Step, ...]:
    if entry.at is not None and entry.when is not None:
        raise source.error(("steps", at, "when"), "found at and when", allowed="one of them: a time or a condition")
    step = FaultStep(
        name=entry.name or entry.fault,
        fault=entry.fault,
        target=entry.target or "",
        sender=entry.from_,
        params=dict(entry.params),
        at_s=entry.at,
        for_s=entry.for_,
        lasts=_lasts(entry.fault),
        place=at,
    )
    return (step,) if entry.when is None else (_wait(entry.when, at, source, ("steps", at, "when")), step)


def _lasts(name: str) -> bool:
    """Whether a fault of the catalogue stays; of one that is not there somebody else says so."""
    fault = catalogue.faults().get(name)
    return fault is None or fault.lasts


def _wait(entry: entries.WhenEntry, at: int, source: Source, where: KeyPath) -> WaitStep:
    word = CONDITIONS[entry.wait]
    _check_keys(source, where, word, "wait", extra={"within", *({"iterations"} if entry.wait == "progress" else ())})
    return WaitStep(
        condition=entry.wait,
        of=entry.of,
        without=tuple(entry.without or ()),
        iterations=entry.iterations or 1,
        within_s=entry.within,
        place=at,
    )


def _claim(entry: entries.ClaimEntry, at: int, source: Source) -> ClaimStep:
    word, where = CLAIMS[entry.claim], ("steps", at)
    _check_keys(source, where, word, "claim", extra={"holds"})
    numbers = {key: getattr(entry, key) for key in word.numbers}
    numbers |= {key: default for key, default in word.numbers.items() if numbers[key] is None}
    words = {key: getattr(entry, key) or choices[0] for key, choices in word.choices.items()}
    words |= {key: text for key in word.texts if (text := getattr(entry, key)) is not None}
    _check_kinds(source, where, word)
    return ClaimStep(
        claim=entry.claim,
        of=entry.of,
        against=entry.against,
        without=tuple(entry.without or ()),
        numbers=numbers,
        words=words,
        holds=entry.holds,
        place=at,
    )


def _check_kinds(source: Source, where: KeyPath, word: Word) -> None:
    """Refuse a time without a unit, a share with one, a word where a number is meant, and the other way round."""
    for key, found in source.at(where).items():
        text = isinstance(found, str)
        if key in word.choices and not text:
            raise source.error((*where, key), f"found {show(found)}", allowed=", ".join(word.choices[key]))
        if word.is_time(key) and not text:
            raise source.error((*where, key), f"found {show(found)}", allowed=entries.DURATION_RULE)
        if key in word.numbers and not word.is_time(key) and text:
            raise source.error((*where, key), f"found {show(found)}", allowed="a number")
        if key == "flows" and key in word.numbers and found < 1:
            raise source.error((*where, key), f"found {show(found)}", allowed="1 or more")


def _check_keys(source: Source, where: KeyPath, word: Word, kind: str, extra: Collection[str]) -> None:
    """Refuse keys that this condition or claim does not take, and miss those that it needs."""
    said = source.at(where)
    takes = (kind, *word.keys, *sorted(set(extra) - set(word.keys)))
    for key in said:
        if key not in takes:
            found = f"{said[kind]} takes no such key{meant(key, takes)}"
            raise source.error((*where, key), found, allowed=", ".join(takes[1:]) or "no further key")
    for key in word.must:
        if key not in said:
            raise source.error(where, f"{said[kind]} without {key}", allowed=f"{key}: {word.says}")
