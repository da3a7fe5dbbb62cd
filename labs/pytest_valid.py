"""Tests that can vouch for themselves: watched while they run, and run again when they turn out INVALID.

A test that measures (it uses `faults`, `traffic` or `timeline`) is watched as `railbed run` watches a scenario: each
verdict that it asserts is INVALID where the workstation, its clocks or the soft ASIC have spoilt it, and such a test is
run once more. `valid_of` says otherwise how often.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from labs.errors import RunInvalid
from labs.verdicts import vouched

MEASURING = frozenset({"faults", "timeline", "traffic"})
RUNS = 2


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test again, in the same fixtures, while it is INVALID. A false verdict ends it at once.

    How many runs were INVALID stands in the report's properties, and in JUnit.
    """
    marker = pyfuncitem.get_closest_marker("valid_of")
    measures = not MEASURING.isdisjoint(pyfuncitem.fixturenames)
    if marker is None and not measures:
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}  # noqa: SLF001
    for left in reversed(range(int(marker.args[0]) if marker else RUNS)):
        try:
            with _watched(pyfuncitem.funcargs.get("lab") if measures else None):
                pyfuncitem.obj(**arguments)
        except RunInvalid as why:
            pyfuncitem.user_properties.append(("invalid_run", str(why).splitlines()[0]))
            if not left:
                raise
            sending: Any = pyfuncitem.funcargs.get("traffic")
            if sending is not None:  # what the first run has left must not be the second one's
                sending.end_all()
            read: Any = pyfuncitem.funcargs.get("timeline")
            if read is not None:
                read.began_ns = time.monotonic_ns()
        else:
            break
    return True


@contextmanager
def _watched(lab: Any) -> Iterator[None]:
    if lab is None:
        yield
        return
    from labs.certifying import certified

    with certified(lab) as watch, vouched(watch.vouch):
        yield
