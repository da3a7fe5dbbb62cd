"""A guard against other people's `labs`, `topologies` or `traffic`: three names that are not ours alone.

A folder of the user's, or another distribution, that takes one of them would be imported instead of ours, and
fail later in ways that say nothing about it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

from labs.errors import PreflightFailed

PACKAGES = ("labs", "topologies", "traffic")
DISTRIBUTION = "railbed"


def _origin(package: str) -> Path | None:
    """Where Python takes a package from, without importing it."""
    spec = find_spec(package)
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve()
    return Path(spec.origin).resolve() if spec.origin else None


def _distributions() -> Mapping[str, list[str]]:
    from importlib.metadata import packages_distributions  # 20 ms that only doctor should pay

    return packages_distributions()


def check_not_shadowed(origin: Callable[[str], Path | None] = _origin) -> None:
    """Raise PreflightFailed unless Python takes all three from our folder. Well below 1 ms: for every start."""
    home = Path(__file__).resolve().parent.parent
    found = {name: origin(name) for name in PACKAGES}
    strangers = [f"{name} from {place or 'nowhere'}" for name, place in found.items() if place != home / name]
    if strangers:
        raise PreflightFailed(
            f"Python would import {', '.join(strangers)}; railbed's own packages lie in {home}",
            remedy="start railbed from another folder, or take the folder that holds the stranger off PYTHONPATH",
        )


def check_sole_distribution(installed: Callable[[], Mapping[str, list[str]]] = _distributions) -> None:
    """Raise PreflightFailed when another installed distribution ships one of the three.

    It reads the metadata of everything installed, some 50 ms: for `railbed doctor`.
    """
    owners = installed()
    others = [
        f"{distribution} ships {name}"
        for name in PACKAGES
        for distribution in sorted(set(owners.get(name, ())) - {DISTRIBUTION})
    ]
    if others:
        raise PreflightFailed(
            f"another installed distribution uses railbed's package names: {', '.join(others)}",
            remedy="keep railbed in a virtual environment of its own (`make setup` makes one), or uninstall the other",
        )
