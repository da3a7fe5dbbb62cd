"""The kinds of node there are: one line each. A new kind is a folder and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, cast

from labs.errors import CapabilityMissing, SpecError

if TYPE_CHECKING:  # the pure half must not pull in the live half
    from labs.kinds.base import Driver, Joining, Recipe, Software

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


def joining(kind: str) -> Joining | None:
    """How a kind lets its nodes speak to their neighbours without a program in them; None for one that has no way."""
    if kind not in KINDS or find_spec(f"{KINDS[kind]}.joining") is None:
        return None
    return cast("Joining", _half(kind, "joining").JOINING)


def software(kind: str) -> Software:
    """What can be done to the routing software of a kind. Raises CapabilityMissing for one without."""
    if kind in KINDS and find_spec(f"{KINDS[kind]}.software") is None:
        raise CapabilityMissing("daemons", f"railbed knows of no routing software on nodes of kind {kind}")
    return cast("Software", _half(kind, "software").SOFTWARE)


@cache
def _half(kind: str, half: str) -> ModuleType:
    if kind not in KINDS:
        raise SpecError(f"no kind {kind!r}", allowed=", ".join(KINDS))
    return import_module(f"{KINDS[kind]}.{half}")
