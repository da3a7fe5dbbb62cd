"""The faults there are: ``catalogue.link_down(lab, "leaf1:spine1")`` is a context manager, and so is each other.

    with catalogue.link_down(lab, link) as cut:
        …
    made = injecting.add(lab, catalogue.fault("link-down"), "leaf1:spine1", for_s=10)      # stays beyond this process

Each is journaled before it is made and undone when the block ends, by `railbed fault revert`, by `railbed down`, and
after a crash by the lab's Recorder or `railbed reap`. The rows are in labs/faults/{links,…}.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import cache
from importlib import import_module
from typing import Protocol

from labs.errors import SpecError
from labs.faults.fault import Example, Fault
from labs.faults.injecting import Injected, hold
from labs.faults.undoing import FAMILIES
from labs.lab import Lab


class HoldsFault(Protocol):
    """A fault as a function: the lab, its target (a name, or a Link or Node), its parameters."""

    def __call__(
        self, lab: Lab, target: object = "", *, sender: str | None = None, **params: object
    ) -> AbstractContextManager[Injected]:
        """Make the fault for the length of a block."""
        ...


@cache
def faults() -> Mapping[str, Fault]:
    """Every fault, by name, in the order of the families."""
    found: dict[str, Fault] = {}
    for family in FAMILIES:
        for one in import_module(family).FAULTS:
            if one.name in found:
                raise AssertionError(f"two faults are called {one.name}")
            found[one.name] = one
    return found


@cache
def examples() -> Mapping[str, Example]:
    """An example of every fault, by name."""
    return {name: one for family in FAMILIES for name, one in import_module(family).EXAMPLES.items()}


def fault(name: str) -> Fault:
    """A fault by its name. Raises SpecError that lists all."""
    found = faults().get(name)
    if found is None:
        raise SpecError(f"fault {name!r}", allowed=", ".join(faults()))
    return found


def __getattr__(name: str) -> HoldsFault:
    """``link_down`` for the fault ``link-down``."""
    found = None if name.startswith("_") else faults().get(name.replace("_", "-"))
    if found is None:
        raise AttributeError(f"no fault {name!r}")
    chosen = found

    def holding(
        lab: Lab, target: object = "", *, sender: str | None = None, **params: object
    ) -> AbstractContextManager[Injected]:
        return hold(lab, chosen, str(target), sender=sender, **params)

    return holding
