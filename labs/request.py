"""What a user asks for, and what comes of it before anything runs: a rendering, and who is to play it."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from labs import containerlab, engine, index
from labs.attaching import with_profile
from labs.backends import backend as backend_named
from labs.backends.base import Backend
from labs.backends.foreign import ForeignBackend
from labs.errors import LabError, LabNotFound, LeftoverLab
from labs.foreign.topology import is_foreign
from labs.foreign_lab import from_file
from labs.kinds import KINDS
from labs.load import IMAGE_NAME, load_lab
from labs.render import render
from labs.spec import LabSpec, RenderedLab
from topologies.errors import SpecError
from topologies.fabric import Fabric

SEEDS = 2**32


@dataclass(frozen=True, slots=True)
class Request:
    """What a user asked for: a lab or fabric by name or file, and how it is to differ from that.

    `owned` labs end with the process that opened them (a test run); others live until `down`. `given` is a spec and
    its fabric, for a caller that has them; `ref` then only names them. `profile` is what the soft ASIC is to play (a
    name, a path, or ``none``) where it is not what the lab's file says.
    """

    ref: str
    backend: str = "auto"
    name: str | None = None
    seed: int | None = None
    images: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    owned: bool = False
    given: tuple[LabSpec, Fabric] | None = None
    profile: str | None = None


def choose_backend(request: Request) -> tuple[Backend, str]:
    """The backend a request is played on, and why that one. Raises SpecError.

    ``auto`` is containerlab where a Docker engine answers and a containerlab that will do is found, else namespaces; a
    lab that runs stays on the backend that it runs on.
    """
    if is_foreign(request.ref):
        if request.backend not in {"auto", ForeignBackend.name}:
            raise SpecError(f"--backend {request.backend} with a containerlab file", allowed=ForeignBackend.name)
        return ForeignBackend(), "backend containerlab: the file is containerlab's"
    if request.backend != "auto":
        return _with_images(request, request.backend), f"backend {request.backend}: as asked for"
    because = _lacks_containers()
    if because is None:
        return backend_named("containerlab"), "backend containerlab: a Docker engine answers, and containerlab is here"
    return _with_images(request, "netns"), f"backend netns: {because}"


def _with_images(request: Request, name: str) -> Backend:
    if request.images and name == "netns":
        raise SpecError(
            f"--image {next(iter(request.images))}=… on namespaces, which run the workstation's own software",
            allowed="--backend containerlab",
        )
    return backend_named(name)


def _lacks_containers() -> str | None:
    """Why labs cannot run in containers here; None when they can."""
    try:
        containerlab.find()  # first: looking for a program is cheaper than asking an engine
        return engine.missing()
    except LabError as error:
        return error.message


def render_request(request: Request) -> RenderedLab:
    """Load and render what was asked for. A running lab of that name lends its seed to a request that has none."""
    if is_foreign(request.ref):
        check_seed(request.seed)
        drawn = secrets.randbelow(SEEDS) if request.seed is None else request.seed
        return with_profile(
            from_file(request.ref, name=request.name, seed=drawn, images=request.images), request.profile
        )
    spec, fabric = request.given or load_lab(request.ref, seed=0, kinds=KINDS)
    name = request.name or spec.name.replace("_", "-")
    check_lab_name(name)
    check_seed(request.seed)
    seed = request.seed
    if seed is None:
        seed = request.given[0].seed if request.given else _seed_of_running(name)
    known = {*KINDS, *(node.name for node in fabric.nodes)}
    if unknown := sorted(set(request.images) - known):
        raise SpecError(
            f"--image {unknown[0]}=…: no kind or node {unknown[0]!r}",
            allowed=f"{', '.join(sorted(KINDS))}, or a node's name",
        )
    chosen = replace(
        spec,
        seed=secrets.randbelow(SEEDS) if seed is None else seed,
        images={**spec.images, **request.images},
    )
    return with_profile(render(chosen, fabric, name), request.profile)


def check_seed(seed: int | None) -> None:
    """Refuse a seed that is none. Raises SpecError."""
    if seed is not None and not 0 <= seed < SEEDS:
        raise SpecError(f"seed {seed}", allowed=f"an integer from 0 to {SEEDS - 1}")


def split_images(words: Iterable[str]) -> dict[str, str]:
    """``frr=NAME`` as users write it, by kind or node. Raises SpecError."""
    found: dict[str, str] = {}
    for word in words:
        key, equals, image = word.partition("=")
        if not (key and equals and image):
            raise SpecError(f"image {word!r}", allowed="KIND=NAME or NODE=NAME, as in frr=quay.io/frrouting/frr:10.2.1")
        if not IMAGE_NAME.fullmatch(image):
            raise SpecError(f"image {word!r}", allowed=f"a NAME of letters, digits and ._/:@- after {key}=")
        found[key] = image
    return found


def check_lab_name(name: str) -> None:
    """Refuse a name that must not reach a path or an interface. Raises SpecError."""
    plain = set("abcdefghijklmnopqrstuvwxyz0123456789-")
    if not (name and len(name) <= 32 and name[0].isalpha() and set(name) <= plain):
        raise SpecError(f"lab name {name!r}", allowed="a-z first, then a-z, 0-9 and -, 32 characters at most")


def _seed_of_running(name: str) -> int | None:
    try:
        return index.read(name).seed
    except (LabNotFound, LeftoverLab):
        return None
