"""A lab that tests share is whole before each of them.

After a test that did not pass, or in which the workstation was starved (BFD cuts links of processors that stand still),
the lab is looked at again before another test gets it. Where it does not converge any more it is taken down, and the
next test gets a new one. A lab that never converged, or was adopted, stays what it is.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from labs.errors import LabError
from labs.pytest_valid import starved
from labs.telemetry.host_watch import HostWatch

_watch = pytest.StashKey[HostWatch]()
_failed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Begin to watch the workstation."""
    if "lab" in getattr(item, "fixturenames", ()):
        item.stash[_failed] = False  # it may have been played before
        item.stash[_watch] = HostWatch().__enter__()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Learn that a test did not pass."""
    del call
    report = yield
    item.stash[_failed] = item.stash.get(_failed, False) or report.failed
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, None, None]:
    """Once the test's own fixtures are gone, see to the lab that the next test shares."""
    live = getattr(item, "funcargs", {}).get("lab")
    try:
        return (yield)
    finally:
        watch = item.stash.get(_watch, None)
        if watch is not None:
            watch.__exit__(None, None, None)
            shared: Any = _shared(item, nextitem)
            doubtful = item.stash.get(_failed, False) or starved(watch) is not None
            if shared is not None and live is not None and doubtful and not _whole(live):
                shared.finish(item._request)  # type: ignore[attr-defined]  # noqa: SLF001 - no public way to end one early


def _shared(item: pytest.Item, nextitem: pytest.Item | None) -> Any:
    """The fixture that holds the lab which both tests use, where it is one that may be taken down; else None."""
    if nextitem is None or item.config.getoption("--lab-adopt"):
        return None
    wanted, next_wanted = (getattr(getattr(one, "callspec", None), "params", {}).get("lab") for one in (item, nextitem))
    if wanted is None or wanted != next_wanted:
        return None
    definition = item._fixtureinfo.name2fixturedefs["lab"][-1]  # type: ignore[attr-defined]  # noqa: SLF001 - the same
    return definition if definition.cached_result is not None else None


def _whole(live: Any) -> bool:
    """Whether a lab that had converged once has done so now."""
    if live.converged is None or not live.converged.held:
        return True
    try:
        return bool(live.wait_converged().held)
    except LabError:
        return False
