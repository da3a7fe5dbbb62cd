"""How often a fault is repeated here, and what the tests of recovery do to a lab beyond the catalogue."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from labs.lab import Lab
from labs.telemetry.records import FaultEvent
from labs.telemetry.telling import tell

NIGHTLY = os.environ.get("RAILBED_NIGHTLY") == "1"
IN_CONTAINERS = os.environ.get("RAILBED_LAB_BACKEND") == "containerlab"
collect_ignore = ["test_graceful_restart.py"] if IN_CONTAINERS and not NIGHTLY else []

Told = Callable[[str, str, Callable[[], None], Callable[[], None]], AbstractContextManager[None]]


@pytest.fixture
def repeats() -> int:
    """A few in the ordinary run; in the nightly one so many that "19 of 20" can be said."""
    return 20 if NIGHTLY else 2


@pytest.fixture
def told(lab: Lab) -> Told:
    """What is done to a node by its driver or by power, with the timeline told as of a fault."""

    @contextmanager
    def doing(name: str, target: str, make: Callable[[], None], undo: Callable[[], None]) -> Iterator[None]:
        def say(phase: str) -> None:
            tell(lab.name, FaultEvent(t=time.monotonic_ns(), id=name, fault=name, target=target, phase=phase))

        say("injecting")
        make()
        say("made")
        try:
            yield
        finally:
            say("reverting")
            undo()
            say("reverted")

    return doing
