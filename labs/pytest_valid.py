"""Tests that can vouch for themselves: watched while they run, and run again when they turn out INVALID.

A test that measures (it uses `faults`, `traffic` or `timeline`) is watched as `railbed run` watches a scenario: each
verdict that it asserts is INVALID where the workstation, its clocks or the soft ASIC have spoilt it, and such a test is
run once more. `valid_of` says otherwise how often.

Of any test on a lab a failure is INVALID while the workstation was starved: BFD cuts links of processors that stand
still, and packets are lost. A verdict that was vouched for by itself stays false.

A workstation may be in trouble for minutes. With --lab-rerun-invalid a test that is INVALID all the same is put at the
end of the session, up to three times, and played again once the workstation has its processors to itself; what it says
last is its only report.
"""

from __future__ import annotations

import bdb
import inspect
import time
import traceback
import unittest
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from _pytest.runner import runtestprotocol  # what plugins that run tests again call: pytest has no other way

from labs.errors import CapabilityMissing, RunInvalid
from labs.pytest_wanted import wanted_by
from labs.telemetry.host_watch import HostWatch, Patience
from labs.verdicts import Evidence, Verdict, vouched
from labs.verdicts.health import vouch
from topologies.errors import Unpredictable

# The quickest clock of the labs that come with railbed: BFD of 300 ms misses a peer after three.
QUICKEST_S = 0.9
MEASURING = frozenset({"faults", "timeline", "traffic"})
RUNS = 2
PUT_OFF = 3  # how often a test is put off
PATIENCE = Patience(within=60.0, in_all=300.0)  # of a session
SEEN = pytest.StashKey[list[Verdict]]()
_put_off = pytest.StashKey[list[str]]()
_NO_FAILURE = (
    *(CapabilityMissing, Unpredictable, RunInvalid),
    *(pytest.skip.Exception, pytest.xfail.Exception, pytest.exit.Exception, unittest.SkipTest, bdb.BdbQuit),
)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Put a test that is INVALID at the session's end. Under xdist, which knows all items before, none is."""
    if not item.config.getoption("--lab-rerun-invalid") or hasattr(item.config, "workerinput"):
        return None
    before = item.stash.setdefault(_put_off, [])
    if before:
        PATIENCE.wait_calm()
    if len(before) == PUT_OFF:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, log=False, nextitem=nextitem)
    invalid = [one for one in reports if one.failed and getattr(one, "railbed_error", None) == RunInvalid.__name__]
    if invalid and not any(one.failed and one not in invalid for one in reports):
        before.append(str(invalid[0].longrepr).splitlines()[0])
        item.user_properties.append(("put_off", before[-1]))
        item.session.items.append(item)
    else:
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say which tests were put off, and why: a nightly log shows how often that is needed."""
    session = getattr(terminalreporter, "_session", None)
    put_off = {one.nodeid: one.stash.get(_put_off, []) for one in getattr(session, "items", ())}
    if any(put_off.values()):
        terminalreporter.section("INVALID at first, played again at the end")
        for name, whys in put_off.items():
            for why in whys:
                terminalreporter.write_line(f"{name}: {why}")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that measures again, in the same fixtures, while it is INVALID. A false verdict ends it at once.

    How many runs were INVALID stands in the report's properties, and in JUnit.
    """
    if not _is_run_again(pyfuncitem):
        return None
    marker = pyfuncitem.get_closest_marker("valid_of")
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}  # noqa: SLF001
    for left in reversed(range(int(marker.args[0]) if marker else RUNS)):
        try:
            with _watched(pyfuncitem):
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


class Once:
    """The same for tests that are run but once, by whoever runs them: pytest itself, or a plugin for coroutines."""

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> Generator[None, object, object]:
        """Watch it."""
        if _is_run_again(pyfuncitem):
            return (yield)
        with _watched(pyfuncitem):
            return (yield)


def pytest_configure(config: pytest.Config) -> None:
    """A second hook of the same name needs a plugin of its own."""
    config.pluginmanager.register(Once(), "railbed-once")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what failed in a test that is INVALID for it."""
    del item
    report = yield
    error = call.excinfo.value if call.excinfo else None
    if isinstance(error, RunInvalid) and error.__cause__ is not None:
        report.sections.append(("what failed", "".join(traceback.format_exception(error.__cause__))))
    return report


def _is_run_again(item: pytest.Function) -> bool:
    measures = not MEASURING.isdisjoint(item.fixturenames)
    return (measures or item.get_closest_marker("valid_of") is not None) and not inspect.iscoroutinefunction(item.obj)


@contextmanager
def _watched(item: pytest.Function) -> Iterator[None]:
    """Watch the workstation while a test on a lab runs. Raises RunInvalid for a failure that it may be to blame for."""
    lab: Any = item.funcargs.get("lab")
    measures = not MEASURING.isdisjoint(item.fixturenames)
    if lab is None or not (measures or wanted_by(item)):
        yield
        return
    before = len(item.stash.get(SEEN, []))
    with ExitStack() as stack:
        if measures:
            from labs.certifying import certified

            watch = stack.enter_context(certified(lab))
            stack.enter_context(vouched(watch.vouch))
            host = watch.host
        else:
            host = stack.enter_context(HostWatch())
        try:
            yield
        except _NO_FAILURE:
            raise
        except (Exception, pytest.fail.Exception) as error:
            judged = [one for one in item.stash.get(SEEN, [])[before:] if one.valid and one.watched and not one.held]
            because = None if judged or _judges_itself(item) else starved(host)
            if because is None:
                raise
            said = str(error).partition("\n")[0]
            raise RunInvalid(f"{type(error).__name__}: {said}: {because}") from error


def _judges_itself(item: pytest.Item) -> bool:
    """A scenario has its own watch, for each of its runs; what a test is expected to fail with is pytest's to judge."""
    return "scenario" in getattr(item, "fixturenames", ()) or item.get_closest_marker("xfail") is not None


def starved(host: HostWatch) -> str | None:
    """Why what went wrong on a lab may be the workstation's doing; None where it is not."""
    told = vouch(Verdict("it is sound", held=False, evidence=Evidence(""), budget_s=QUICKEST_S), host.sample())
    return told.invalid_because
