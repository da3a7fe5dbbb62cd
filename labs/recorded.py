"""Runs of the past, as their run directories tell of them: which design, which software, which backend."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from labs import engine
from labs.errors import SpecError
from labs.load import spec_from_dict, spec_to_dict
from labs.run_dir import IMAGES_FILE, RUNS_DIR
from labs.spec import LabSpec
from topologies.fabric import Fabric
from topologies.load import fabric_from_dict, fabric_to_dict

LAB_FILE = "lab.json"
# What is not compared: names of things, the fabric (which must be the same) and the seed (which a replay replaces).
NAMES = frozenset({"name", "fabric", "seed"})


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A lab that once ran: everything it takes to bring the same up again."""

    path: Path
    lab: str
    backend: str
    spec: LabSpec
    fabric: Fabric
    image_ids: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class Difference:
    """One setting in which two runs differ, as text; ``-`` where one has none."""

    what: str
    a: str
    b: str


def find_run(ref: str, folder: Path | None = None) -> RecordedRun:
    """The run that `ref` names: a lab whose runs are below ``.labs``, the folder of a lab's runs, or a run directory.

    The newest run is taken where there are several. Raises SpecError that lists what there is.
    """
    base = (folder or Path.cwd()) / RUNS_DIR
    for path in (base / ref, Path(folder or Path.cwd(), ref)):
        if (path / LAB_FILE).is_file():
            return read_run(path)
        if runs := runs_in(path):
            return read_run(runs[-1])
    known = ", ".join(f"{lab} ({len(runs)}, the newest {runs[-1].name})" for lab, runs in _labs_in(base))
    raise SpecError(
        f"found no run {ref!r}", allowed=f"a run directory, or a lab with runs in {base}: {known or 'none'}"
    )


def runs_in(path: Path) -> tuple[Path, ...]:
    """The run directories in a folder, the oldest first."""
    found = [run for run in path.iterdir() if (run / LAB_FILE).is_file()] if path.is_dir() else []
    return tuple(sorted(found, key=_age))


def read_run(path: Path) -> RecordedRun:
    """What a run directory tells. Raises SpecError when that is not what railbed wrote."""
    file = path / LAB_FILE
    try:
        data = json.loads(file.read_text())
        if "foreign" in data:
            found = f"{path}: found a run of {data['lab']}, a lab that somebody else designed"
            raise SpecError(found, allowed="runs of labs that railbed rendered")
        return RecordedRun(
            path=path.resolve(),
            lab=str(data["lab"]),
            backend=str(data["backend"]),
            spec=spec_from_dict(data["spec"]),
            fabric=fabric_from_dict(data["fabric"]),
            image_ids=_image_ids(path / IMAGES_FILE),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SpecError(f"{file}: found no run: {error!r}", allowed="what railbed wrote") from None


def _image_ids(file: Path) -> Mapping[str, str]:
    try:
        return {str(name): str(found) for name, found in json.loads(file.read_text()).items()}
    except FileNotFoundError:
        return {}


def check_images(run: RecordedRun) -> None:
    """Raise SpecError when an image that a run played is no longer what its name stands for."""
    for name, then in run.image_ids.items():
        now = engine.image_id(name) if engine.has_image(name) else None
        if now != then:
            stands = f"now stands for {now[:19]}" if now else "is not here any more"
            raise SpecError(
                f"{run}: found image {name} as {then[:19]}, which {stands}",
                allowed="a name for every build, as in my-frr:2026-01-31, or the run made anew with `railbed up`",
            )


def differences(a: RecordedRun, b: RecordedRun) -> tuple[Difference, ...]:
    """In what two runs of one fabric differ: backend, images, settings."""
    flat = [{"backend": run.backend, **_settings(run)} for run in (a, b)]
    names = sorted({*flat[0], *flat[1]}, key=lambda name: (name != "backend", name))
    return tuple(
        Difference(name, flat[0].get(name, "-"), flat[1].get(name, "-"))
        for name in names
        if flat[0].get(name) != flat[1].get(name)
    )


def check_same_fabric(a: RecordedRun, b: RecordedRun) -> None:
    """Raise SpecError, which says how they differ, unless both runs have the same nodes and links."""
    parts = [_parts(run.fabric) for run in (a, b)]
    only = [sorted(one.keys() - other.keys()) for one, other in (parts, parts[::-1])]
    changed = sorted(name for name in parts[0].keys() & parts[1].keys() if parts[0][name] != parts[1][name])
    told = [
        f"{said} {', '.join(names[:4])}{f' and {len(names) - 4} more' if len(names) > 4 else ''}"
        for said, names in (("only A has", only[0]), ("only B has", only[1]), ("not alike:", changed))
        if names
    ]
    if told:
        raise SpecError(
            f"found two fabrics, {a.fabric.name} in A and {b.fabric.name} in B: {'; '.join(told)}",
            allowed="two runs of the same fabric; what plays it may differ",
        )


def _parts(fabric: Fabric) -> dict[str, object]:
    plain = fabric_to_dict(fabric)
    named = {f"{kind} {part['name']}": part for kind in ("node", "link") for part in plain[f"{kind}s"]}
    return {**named, "what was read from a foreign lab": plain.get("given")}


def _settings(run: RecordedRun) -> dict[str, str]:
    spec = {key: value for key, value in spec_to_dict(run.spec).items() if key not in NAMES}
    return dict(_flat(spec, ""))


def _flat(value: object, name: str) -> Iterator[tuple[str, str]]:
    """``{"bgp": {"hold_s": 30}}`` as ``("bgp.hold_s", "30")``."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value if isinstance(value, str) else json.dumps(value)


def _labs_in(base: Path) -> Iterator[tuple[str, tuple[Path, ...]]]:
    for lab in sorted(base.iterdir()) if base.is_dir() else ():
        if runs := runs_in(lab):
            yield lab.name, runs


def _age(run: Path) -> tuple[str, int]:
    """The order of runs: those of one second are numbered, ``20260101T120000``, ``20260101T120000-1``."""
    stamp, _, number = run.name.partition("-")
    return stamp, int(number) if number.isdecimal() else 0
