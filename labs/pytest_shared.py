"""A lab that tests share is whole before each of them.

After a test that did not pass, or in which the workstation was starved (BFD cuts links of processors that stand still),
the lab is looked at again before another test gets it. Where it does not converge any more it is taken down, and the
test gets a new one, and so does every fixture that names `lab` as an argument. A lab that never converged, was adopted,
or is to be kept for people to look at stays what it is.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from labs.pytest_valid import starved
from labs.pytest_wanted import wanted_by
from labs.telemetry.host_watch import HostWatch

_watch = pytest.StashKey[HostWatch]()
_doubted = pytest.StashKey[set[str]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """See to the lab that is up for this test, and watch the workstation from when there is a lab to suffer from it."""
    if wanted_by(item) is None:
        return (yield)
    up = _up_for(item)
    if up is None:
        result = yield
        item.stash[_watch] = HostWatch().__enter__()
        return result
    item.stash[_watch] = HostWatch().__enter__()
    live = up.cached_result[0]
    doubted = item.session.stash.setdefault(_doubted, set())
    if live.name in doubted and _replaceable(item, live) and not _whole(live):
        up.finish(item._request)  # type: ignore[attr-defined]  # noqa: SLF001 - no public way to end one early
    doubted.discard(live.name)
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that did not pass, or broke off, may have left anything."""
    report = yield
    if report.failed or (call.when == "call" and call.excinfo is not None):
        _doubt(item)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """See how the workstation fared."""
    try:
        return (yield)
    finally:
        watch = item.stash.get(_watch, None)
        if watch is not None:
            del item.stash[_watch]
            watch.__exit__(None, None, None)
            if starved(watch) is not None:
                _doubt(item)


def _doubt(item: pytest.Item) -> None:
    up = _up_for(item)
    if up is not None:
        item.session.stash.setdefault(_doubted, set()).add(up.cached_result[0].name)


def _up_for(item: pytest.Item) -> Any:
    """The fixture that holds a lab as this test wants it; None where there is none yet, or no longer."""
    wanted = wanted_by(item)
    if wanted is None:
        return None
    definition = item._fixtureinfo.name2fixturedefs["lab"][-1]  # type: ignore[attr-defined]  # noqa: SLF001 - the same
    if definition.cached_result is None:
        return None
    live, up_for, error = definition.cached_result
    return definition if error is None and live is not None and up_for == wanted else None


def _replaceable(item: pytest.Item, live: Any) -> bool:
    """Whether the lab is ours to take down, and was sound once."""
    option = item.config.getoption
    sound_once = live.converged is not None and live.converged.held
    return sound_once and option("--lab-keep") == "never" and not option("--lab-adopt")


def _whole(live: Any) -> bool:
    """Whether a lab that had converged once has done so now."""
    try:
        found = live.wait_converged()
    except Exception:  # noqa: BLE001 - whatever it is, the next test is not to meet it
        return False
    if found.held and found.valid:
        live.converged = found  # where nobody could tell before
    return bool(found.held)
