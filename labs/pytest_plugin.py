"""The pytest plugin: labs as fixtures, and the error law in pytest's own terms.

A lab in trouble is an ERROR, a run that cannot vouch for itself an ERROR of type RunInvalid, a missing capability a
skip with its reason (an error with --lab-require), and a false verdict a FAIL that shows its evidence. pytest would
call the first two failures; the hooks here tell it otherwise, in the terminal, in JUnit and under xdist.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from _pytest.junitxml import xml_key  # pytest has no public way to say "error" for a test's body

from labs.errors import CapabilityMissing, RailbedError, RunInvalid
from labs.pytest_valid import SEEN
from labs.pytest_wanted import WantedLab, by_lab, wanted_labs
from labs.verdicts import Verdict, judged
from topologies.errors import Unpredictable

pytest_plugins = ("labs.pytest_scenarios", "labs.pytest_shared", "labs.pytest_valid")

KEEP = ("never", "on-failure", "always")
SCOPES = ("module", "session")
# A session whose peer was gone waits for a connect timer of 10 s, at either end; three times that when it is busy.
STATE_WITHIN_S = 60.0
EMPTY_WITHIN_S = 5.0  # a buffer of 12 MiB holds what a port of 100 Mbit/s sends in 1 s; five ports of 20
# option -> (type or action, default, help); each has an environment twin: --lab-keep is RAILBED_LAB_KEEP.
OPTIONS: dict[str, tuple[object, str, str]] = {
    "--lab-backend": (str, "auto", "which backend runs labs: auto, containerlab, netns, fake"),
    "--lab-image": (str, "", "the image of a kind or of one node: frr=NAME,host=NAME,leaf1=NAME"),
    "--lab-profile": (str, "", "what the soft ASIC plays where a test's marker does not say: pfc_only, a file, none"),
    "--lab-keep": (str, "never", "leave a lab up after its tests: never, on-failure or always"),
    "--lab-scope": (str, "module", "which tests share a lab: those of a module, or of the whole session"),
    "--lab-adopt": (str, "", "use this running lab for every test, and leave it up"),
    "--lab-seed": (str, "", "the seed of every lab; default: drawn and recorded"),
    "--lab-shell-on-failure": (bool, "", "open a Python prompt with `lab` in it when a test fails"),
    "--lab-pause-on-error": (bool, "", "wait for Enter when a test fails, with the lab still up"),
    "--lab-pcap": (str, "", "capture on these ports during each test: leaf1:eth1,… or all"),
    "--lab-rerun-invalid": (bool, "", "play a test that is INVALID again at the end of the session"),
    "--lab-require": (str, "", "capabilities whose absence is an error, not a skip: soft-asic,…"),
    "--lab-timeout-scale": (
        float,
        "1",
        "stretch the deadlines of wait_… and traffic.run by this factor, for a slow workstation",
    ),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the --lab-… options."""
    group = parser.getgroup("railbed", "labs")
    for name, (kind, default, text) in OPTIONS.items():
        twin = "RAILBED_" + name.removeprefix("--").upper().replace("-", "_")
        value = os.environ.get(twin, default)
        if kind is bool:
            on = value.lower() not in {"", "0", "no", "false"}
            group.addoption(name, action="store_true", default=on, help=f"{text} [{twin}]")
        else:
            # argparse reads a default that is text as it reads the option itself, and refuses it in the same way.
            group.addoption(name, type=kind, default=value, help=f"{text} [{twin}]")


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers and refuse options that make no sense."""
    config.addinivalue_line(
        "markers",
        "lab(name, profile=None): the lab or fabric, by name or file, that a test runs on; what its soft ASIC plays",
    )
    config.addinivalue_line(
        "markers", "valid_of(started): one valid run of at most `started`, none false: an INVALID one is run again"
    )
    config.addinivalue_line("markers", "scenario(*names): a test of the `scenario` fixture for each, on its own lab")
    config.pluginmanager.register(JunitErrors(config), "railbed-junit")
    seed = config.getoption("--lab-seed")
    for option, allowed in (("--lab-keep", KEEP), ("--lab-scope", SCOPES)):
        if (given := config.getoption(option)) not in allowed:
            raise pytest.UsageError(f"{option} {given}: allowed: {', '.join(allowed)}")
    if seed and not seed.isdecimal():
        raise pytest.UsageError(f"--lab-seed {seed}: allowed: an integer from 0")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Run by root for a user, leave nothing of root's behind: pytest's own cache goes to that user."""
    cache = getattr(session.config, "cache", None)
    if cache is not None and os.geteuid() == 0 and "SUDO_UID" in os.environ:
        from labs import run_dir

        run_dir.give_away(Path(str(cache.mkdir("railbed"))).parents[1])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give the shared `lab` fixture the lab that the test's own marker names."""
    fixtures = metafunc._arg2fixturedefs.get("lab", ())  # noqa: SLF001 - no public way to whose fixture it is
    if not fixtures or fixtures[-1].func is not lab._get_wrapped_function():  # noqa: SLF001 - the same
        return  # none, or one of the user's own that is called so
    wanted = wanted_labs(metafunc.definition, metafunc.config.getoption("--lab-adopt"))
    scope = metafunc.config.getoption("--lab-scope")
    metafunc.parametrize("lab", wanted, indirect=True, scope=scope, ids=[one.id for one in wanted])


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of a session that share a lab follow each other: only one lab is up at a time."""
    if config.getoption("--lab-scope") == "session":
        items[:] = by_lab(items)


def _scope(fixture_name: str, config: pytest.Config) -> Any:  # noqa: ARG001 - pytest's own signature
    return config.getoption("--lab-scope")


@pytest.fixture(scope=_scope)
def lab(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The running lab that the test's marker names, shared by the tests of a module (--lab-scope); a labs.lab.Lab."""
    from labs.foreign.topology import is_foreign
    from labs.lab import adopt_lab, open_lab
    from labs.output import say
    from labs.request import Request, split_images

    option = request.config.getoption
    scale = option("--lab-timeout-scale")
    wanted: WantedLab = request.param
    if option("--lab-adopt"):
        adopted = adopt_lab(option("--lab-adopt"))
        adopted.timeout_scale = scale
        _check_adopted(adopted, wanted)
        yield adopted
        return
    foreign = is_foreign(wanted.ref)  # deployed as it is, by containerlab
    if foreign and option("--lab-backend") not in {"auto", "containerlab"}:
        raise CapabilityMissing("foreign-labs", f"{wanted} needs containerlab, not {option('--lab-backend')}")
    opened = open_lab(
        Request(
            wanted.ref,
            backend=option("--lab-backend"),
            name=unique_name(wanted.ref),
            images={} if foreign else split_images(word for word in option("--lab-image").split(",") if word),
            seed=int(option("--lab-seed")) if option("--lab-seed") else None,
            owned=True,
            given=wanted.given(),
            profile=wanted.profile or option("--lab-profile") or None,
        ),
        timeout_scale=scale,
    )
    if opened.lab.converged is not None and not opened.lab.converged.valid:
        opened.lab.converged = opened.lab.wait_converged()  # a starved workstation gets one more look
    failed_before = request.session.testsfailed
    yield opened.lab
    if option("--lab-keep") == "always" or (
        option("--lab-keep") == "on-failure" and request.session.testsfailed > failed_before
    ):
        disown(opened.lab.name)
        with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            say(f"\nlab {opened.lab.name} is left up: railbed status {opened.lab.name}")
        return
    opened.lab.close()


def _check_adopted(adopted: Any, wanted: WantedLab) -> None:
    """An adopted lab stays as it is. Raises CapabilityMissing where the test wants another profile played."""
    plays = adopted.asic.profile.name if adopted.asic else "none"
    if wanted.profile and plays != Path(wanted.profile).stem:
        raise CapabilityMissing("profile", f"the test wants {wanted.profile}, lab {adopted.name} plays {plays}")


def unique_name(ref: str) -> str:
    """A lab name that no other worker or run has: ``clos-frr-gw0-3fa2``."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "t")
    stem = "".join(c if c.isascii() and c.isalnum() else "-" for c in Path(ref).stem.lower()).strip("-") or "lab"
    stem = stem if stem[0].isalpha() else f"lab-{stem}"
    return f"{stem[:18].rstrip('-')}-{worker}-{secrets.token_hex(2)}"


def disown(name: str) -> None:
    """Let a lab outlive this process: from now on it is a person's, until `railbed down`."""
    from labs import index

    index.write(replace(index.read(name), owner=None))


@pytest.fixture
def fabric(lab: Any) -> Any:
    """The lab's design; a topologies.fabric.Fabric."""
    return lab.fabric


@pytest.fixture
def rundir(lab: Any, request: pytest.FixtureRequest) -> Path:
    """A folder for this test's own files, inside the lab's run directory."""
    from labs import run_dir

    name = "".join(c if c.isalnum() or c in "-_." else "_" for c in request.node.name)
    run_dir.create_folder(lab.run_dir / "tests" / name)
    return Path(lab.run_dir / "tests" / name)


@pytest.fixture
def asic(lab: Any) -> Iterator[Any]:
    """The lab's soft ASIC; a labs.dataplane.asic.SoftAsic. After every test its books must balance, and be empty.

    Raises CapabilityMissing for a lab without one.
    """
    from labs.verdicts.ledger import nothing_left, packets_conserved
    from labs.waiting import wait_until

    if lab.asic is None:
        raise CapabilityMissing("soft-asic", "the lab plays no profile: mark.lab(NAME, profile=…), or --lab-profile")
    before = lab.asic.counters()
    yield lab.asic
    # The last packets of a test need a moment; in between keepalives of the switches come and go.
    emptied = wait_until(
        "the switches are empty", lab.asic.counters, lambda now: nothing_left(now).held, within=EMPTY_WITHIN_S
    )
    for verdict in (packets_conserved(before, emptied.last), nothing_left(emptied.last)):
        if not verdict:
            pytest.fail(f"after the test: {verdict}", pytrace=False)


@pytest.fixture
def traffic(lab: Any) -> Iterator[Any]:
    """Sends TrafficPlans between the lab's hosts; whatever still runs is ended after the test."""
    from labs.traffic_bridge import LabTraffic

    with ExitStack() as stack:
        yield LabTraffic(lab, stack)


@pytest.fixture
def faults(lab: Any) -> Iterator[Faults]:
    """The fault catalogue, bound to the lab; every fault ends with its block, and the lab is as it was before then."""
    bound = Faults(lab)
    yield bound
    if bound.used:
        _faults_are_gone(lab)


def _faults_are_gone(lab: Any) -> None:
    """Fail a test after which a fault is still there, which is taken back, or the lab is not as it was before."""
    from labs.faults.injecting import active_faults, revert_all, state_restored, to_be_compared

    left = ", ".join(str(one) for one in active_faults(lab.name))
    revert_all(lab)
    verdict = state_restored(lab, STATE_WITHIN_S, settings=False) if to_be_compared(lab.name) else None
    if left:
        pytest.fail(f"after the test faults were still active: {left}", pytrace=False)
    if verdict is not None and not verdict:
        pytest.fail(f"after the test: {verdict}", pytrace=False)


class Faults:
    """``with faults.link_down(link): …`` for ``labs.faults.catalogue.link_down(lab, link)``."""

    def __init__(self, lab: Any) -> None:
        self._lab = lab
        self.used = False

    def __getattr__(self, name: str) -> Callable[..., Any]:
        from labs.faults import catalogue

        if name.startswith("_"):
            raise AttributeError(f"no fault {name!r}")
        function = getattr(catalogue, name)

        def made(*target: object, **params: object) -> Any:
            self.used = True
            return function(self._lab, *target, **params)

        return made


@pytest.fixture
def timeline(lab: Any) -> Any:
    """What happened in the lab since the test began; a labs.telemetry.live.LiveTimeline."""
    from labs.telemetry.live import LiveTimeline

    return LiveTimeline(lab.name, lab.run_dir, time.monotonic_ns())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """A lab that never converged is a finding: the test fails with that verdict, and does not run."""
    live = getattr(item, "funcargs", {}).get("lab")
    with judged() as seen:
        item.stash[SEEN] = seen
        verdict: Verdict | None = getattr(live, "converged", None)
        if verdict is not None and not verdict:
            pytest.fail(str(verdict), pytrace=False)
        with _capturing(item, live):
            return (yield)


@contextmanager
def _capturing(item: pytest.Item, live: Any) -> Iterator[None]:
    """Packet captures for the length of a test, with --lab-pcap."""
    wanted = item.config.getoption("--lab-pcap")
    if not wanted or live is None:
        yield
        return
    from labs.captures import capturing

    with capturing(live, wanted, item.name):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Tell a lab in trouble from a fabric in trouble, and show the evidence of verdicts that did not hold."""
    report: pytest.TestReport = yield
    error = call.excinfo.value if call.excinfo else None
    if isinstance(error, Unpredictable):
        error = CapabilityMissing("oracle", error.because)
    if isinstance(error, CapabilityMissing) and not _required(item.config, error):
        report.outcome = "skipped"
        path, line, _ = item.location
        report.longrepr = (path, (line or 0) + 1, f"Skipped: {error}")
    elif isinstance(error, RailbedError):
        report.railbed_error = type(error).__name__  # type: ignore[attr-defined]
        report.longrepr = f"{type(error).__name__}: {error}"
    if report.when == "call" and report.failed:
        for verdict in item.stash.get(SEEN, []):
            if verdict.valid and not verdict.held:  # an invalid one is the error's own message
                report.sections.append(("railbed verdict", str(verdict)))
        _look_on(item)
    return report


def _required(config: pytest.Config, error: CapabilityMissing) -> bool:
    return error.capability in [word.strip() for word in config.getoption("--lab-require").split(",")]


def _look_on(item: pytest.Item) -> None:
    """Stop for a person, with the lab still up and the fault still in."""
    live = getattr(item, "funcargs", {}).get("lab")
    shell, pause = (item.config.getoption(f"--lab-{name}") for name in ("shell-on-failure", "pause-on-error"))
    if live is None or not (shell or pause):
        return
    capture = item.config.pluginmanager.getplugin("capturemanager")
    capture.suspend_global_capture(in_=True)
    try:
        if shell:
            from labs.views import python_shell

            python_shell(live)
        else:
            with suppress(EOFError):  # nobody is there
                input(f"\n{item.nodeid} failed; lab {live.name} is up. Enter goes on: ")
    finally:
        capture.resume_global_capture()


def pytest_report_teststatus(report: Any) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    """An ERROR, also in a test's body, for everything that is the testbed's fault."""
    name = getattr(report, "railbed_error", None)
    if not name or not report.failed:
        return None
    if name == RunInvalid.__name__:
        return "error", "I", ("INVALID", {"yellow": True})
    return "error", "E", (f"ERROR ({name})", {"red": True})


class JunitErrors:
    """Lets JUnit say the same: ``<error type="RunInvalid">``, not a ``<failure>``. Under xdist in the controller."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self, report: Any) -> Generator[None, Any, Any]:
        """Turn the element that pytest writes in between."""
        name = getattr(report, "railbed_error", None)
        log = self._config.stash.get(xml_key, None)
        if not name or not report.failed or log is None:
            return (yield)
        # Asked for before pytest writes: with the report of a teardown it closes the element, and may open another.
        before, count = log.node_reporter(report), len(log.node_reporters_ordered)
        known = list(before.to_xml())
        result = yield
        for reporter in (before, *log.node_reporters_ordered[count:]):
            for element in reporter.to_xml():
                if element in known:
                    continue
                if element.tag == "failure":
                    element.tag = "error"
                    log.stats["failure"] -= 1
                    log.stats["error"] += 1
                if element.tag == "error":
                    element.set("type", name)
        return result
