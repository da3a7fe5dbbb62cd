"""The kinds of node there are: one line each. A new kind is a folder and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, cast

from labs.errors import SpecError

if TYPE_CHECKING:  # the pure half must not pull in the live half
    from labs.kinds.base import Driver, Recipe

# kind -> the package with its recipe.py (pure) and driver.py (live). Import paths, so that rendering stays pure.
KINDS: Mapping[str, str] = MappingProxyType(
    {
        "frr": "labs.kinds.frr",
        "host": "labs.kinds.host",
        "plain": "labs.kinds.plain",
    }
)


def recipe(kind: str) -> Recipe:
    """The pure half of a kind. Raises SpecError that lists all kinds."""
    return cast("Recipe", _half(kind, "recipe").RECIPE)


def driver(kind: str) -> Driver:
    """The live half of a kind. Raises SpecError that lists all kinds."""
    return cast("Driver", _half(kind, "driver").DRIVER)


@cache
def _half(kind: str, half: str) -> ModuleType:
    if kind not in KINDS:
        raise SpecError(f"no kind {kind!r}", allowed=", ".join(KINDS))
    return import_module(f"{KINDS[kind]}.{half}")
