"""The plugin as a user's test run sees it: outcomes, their words in the terminal and in JUnit, options."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

import labs.testing
import labs.traffic_bridge  # noqa: F401 - as the one above: imported here once, not again by every inner run
from labs import index, reaper
from labs.lab import adopt_lab, open_lab
from labs.request import Request

Break = Callable[..., None]
# Without hypothesis, which every inner run would import anew.
FAKE = ("--lab-backend=fake", "-p", "no:cacheprovider", "-p", "no:hypothesispytest")
HEAD = """
import pytest
from labs.testing import *
from labs.errors import CommandFailed, NotReady
from traffic.errors import TrafficError
"""
# Subprocesses get the calm of tests/harness/conftest.py by this one; it takes back what it changes.
CALM = """
import pytest
from labs.telemetry.samples import HostSample

class CalmWatch:
    def __enter__(self): return self
    def __exit__(self, *_): pass
    def sample(self): return HostSample(1.0, 0.0, 0.0)

patch = pytest.MonkeyPatch()

def pytest_configure(config):
    patch.setattr("labs.convergence.HostWatch", CalmWatch)
    patch.setattr("labs.pytest_shared.HostWatch", CalmWatch)
    patch.setattr("labs.pytest_valid.HostWatch", CalmWatch)
    patch.setattr("labs.certifying.HostWatch", CalmWatch)
    patch.setattr("labs.convergence.GRACE_S", 0.0)
    patch.setattr("labs.convergence.PATIENCE_S", 0.0)

def pytest_unconfigure(config):
    patch.undo()
"""
BAD = (
    'Verdict("marking starts at the threshold", False, Evidence("0 of 9 packets marked", {"ce": 0}, ("leaf1 q3: 0",)))'
)


@pytest.fixture(autouse=True)
def calm(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CALM)


def body(*statements: str, fixtures: str = "lab", lab: str = "clos_frr") -> str:
    """A module of one test."""
    lines = "\n    ".join(statements)
    return f'{HEAD}\n@pytest.mark.lab("{lab}")\ndef test_it({fixtures}):\n    {lines}\n'


def run(pytester: pytest.Pytester, *args: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess(*FAKE, "--junitxml=out.xml", *args)


def junit(pytester: pytest.Pytester) -> ET.Element:
    suite = ET.parse(pytester.path / "out.xml").getroot().find("testsuite")
    assert suite is not None
    return suite


def counts(pytester: pytest.Pytester) -> dict[str, int]:
    suite = junit(pytester)
    assert len(suite.findall("testcase")) == int(suite.attrib["tests"])
    return {key: int(suite.attrib[key]) for key in ("errors", "failures", "skipped")}


def error_of(pytester: pytest.Pytester) -> ET.Element:
    """The one error in JUnit; nothing else may have gone wrong."""
    assert counts(pytester) == {"errors": 1, "failures": 0, "skipped": 0}
    (found,) = junit(pytester).iter("error")
    return found


def test_registered_once() -> None:
    assert [point.name for point in entry_points(group="pytest11") if point.value == "labs.pytest_plugin"] == [
        "railbed"
    ]


def test_labs_are_shared_by_a_module_and_no_further(pytester: pytest.Pytester) -> None:
    module = f"""{HEAD}
import pathlib
def note(lab, fabric):
    assert fabric is lab.fabric and lab.converged.held and lab.backend == "fake"
    with open("seen.txt", "a") as out: out.write(f"{{__name__}} {{lab.name}} {{id(lab)}}\\n")

@pytest.mark.lab("clos_frr")
def test_a(lab, fabric): note(lab, fabric)

@pytest.mark.lab("clos_frr")
def test_b(lab, fabric): note(lab, fabric)
"""
    pytester.makepyfile(test_one=module, test_two=module)
    run(pytester, "--strict-markers").assert_outcomes(passed=4)
    seen = [line.split() for line in Path("seen.txt").read_text().splitlines()]
    assert [line[0] for line in seen] == ["test_one", "test_one", "test_two", "test_two"]
    assert seen[0][1:] == seen[1][1:]
    assert seen[2][1:] == seen[3][1:]
    assert seen[0][1] != seen[2][1]
    assert index.names() == ()


def test_labs_are_shared_by_a_session(pytester: pytest.Pytester) -> None:
    """Tests of other labs stand between them, and are played afterwards: one lab is up at a time."""
    asking = """
import pytest
def note(lab):
    from labs import index
    assert index.names() == (lab.name,)
    with open("seen.txt", "a") as out: out.write(f"{__name__} {lab.name}\\n")

@pytest.mark.lab("clos_frr")
def test_a(lab): note(lab)

@pytest.mark.lab("rails_frr")
def test_b(lab): note(lab)

@pytest.mark.lab("clos_frr", profile="none")
def test_c(lab): note(lab)

def test_d():
    with open("seen.txt", "a") as out: out.write(f"{__name__} none\\n")
"""
    pytester.makepyfile(test_one=asking, test_two=asking)
    run(pytester, "--lab-scope=session").assert_outcomes(passed=8)
    seen = [line.split() for line in Path("seen.txt").read_text().splitlines()]
    assert [where for where, _ in seen] == ["test_one", "test_two"] * 4
    names = [name for _, name in seen]
    assert names[::2] == names[1::2]
    assert names[0] == "none"
    assert [name.rsplit("-", 2)[0] for name in names[2::2]] == ["clos-frr", "rails-frr", "clos-frr"]
    assert len(set(names)) == 4
    assert index.names() == ()


def test_two_labs_in_one_module(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        body("assert lab.fabric.name == 'clos_2x4'")
        + '\n@pytest.mark.lab("rails_frr")\ndef test_other(lab):\n    assert lab.name.startswith("rails-frr-")\n'
    )
    result = run(pytester, "-v")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*test_it?clos_frr?*PASSED*", "*test_other?rails_frr?*PASSED*"])


def test_false_verdict_fails_and_shows_its_evidence(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(body(f"assert {BAD}"))
    result = run(pytester)
    result.assert_outcomes(failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "*railbed verdict*",
            "marking starts at the threshold: FALSE",
            "0 of 9 packets marked",
            "  ce: 0",
            "*leaf1 q3: 0",
        ]
    )
    assert counts(pytester) == {"errors": 0, "failures": 1, "skipped": 0}


def test_held_verdict_passes_and_shows_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(body("assert " + BAD.replace("False", "True")))
    result = run(pytester)
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*railbed verdict*")


def test_evidence_of_other_tests_is_not_shown(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(body(f"assert not {BAD}") + "\ndef test_other():\n    assert 1 == 2\n")
    result = run(pytester)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.no_fnmatch_line("*railbed verdict*")


TROUBLE = {
    "NotReady": 'raise NotReady("leaf1: bgpd does not answer", remedy="look at its log")',
    "CommandFailed": 'raise CommandFailed("leaf1", ("ip", "route"), 2, "no such command")',
    "TrafficError": 'raise TrafficError("leaf1: rnic is missing")',
}


@pytest.mark.parametrize("name", TROUBLE)
def test_trouble_in_a_body_is_an_error(pytester: pytest.Pytester, name: str) -> None:
    pytester.makepyfile(body(TROUBLE[name]))
    result = run(pytester)
    result.assert_outcomes(errors=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*ERROR at call of test_it*", f"*{name}: leaf1*", "ERROR *test_it*", "*1 error*"])
    assert error_of(pytester).attrib["type"] == name


def test_an_ordinary_exception_in_a_body_stays_a_failure(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(body("raise ValueError('the test itself is wrong')"))
    run(pytester).assert_outcomes(failed=1)
    assert counts(pytester) == {"errors": 0, "failures": 1, "skipped": 0}


def test_invalid_run_is_a_marked_error(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(body(f'assert {BAD}.invalid("the workstation was starved")'))
    result = run(pytester, "-v")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*INVALID*", "RunInvalid: *the workstation was starved", "*q3: 0"])
    assert error_of(pytester).attrib["type"] == "RunInvalid"


def test_failure_and_then_trouble_in_the_teardown(pytester: pytest.Pytester) -> None:
    left = "@pytest.fixture\ndef left():\n    yield\n    raise NotReady('leaf1 does not stop')\n"
    pytester.makepyfile(f"{HEAD}\n{left}\ndef test_it(left): assert 1 == 2\n")
    run(pytester).assert_outcomes(failed=1, errors=1)
    assert counts(pytester) == {"errors": 1, "failures": 1, "skipped": 0}
    assert [error.get("type") for error in junit(pytester).iter("error")] == ["NotReady"]
    assert [failure.get("type") for failure in junit(pytester).iter("failure")] == [None]


def test_trouble_in_a_teardown_is_one_more_error_of_the_same_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        HEAD
        + "\n@pytest.fixture\ndef left():\n    yield\n    raise NotReady('leaf1 does not stop')\n"
        + "\ndef test_it(left): pass\n"
    )
    run(pytester).assert_outcomes(passed=1, errors=1)
    assert len(junit(pytester).findall("testcase")) == 1
    assert [error.attrib["type"] for error in junit(pytester).iter("error")] == ["NotReady"]


def test_the_same_under_xdist(pytester: pytest.Pytester) -> None:
    fine, rest = BAD.replace("False", "True"), "\n@pytest.mark.lab('clos_frr')\ndef test_{}(lab): {}\n"
    pytester.makepyfile(
        body(f"assert {fine}")
        + rest.format("false", f"assert {BAD}")
        + rest.format("trouble", TROUBLE["CommandFailed"])
        + rest.format("invalid", f"assert {BAD}.invalid('starved')")
        + rest.format("missing", MISSING)
    )
    result = run(pytester, "-n", "2", "-v", "-rs")
    result.assert_outcomes(passed=1, failed=1, errors=2, skipped=1)
    result.stdout.fnmatch_lines_random(
        [
            "*INVALID*",
            "*ERROR (CommandFailed)*",
            "*0 of 9 packets marked",
            "*ERROR at call of test_trouble*",
            "SKIPPED*queues",
        ]
    )
    assert counts(pytester) == {"errors": 2, "failures": 1, "skipped": 1}
    assert {error.attrib["type"] for error in junit(pytester).iter("error")} == {"CommandFailed", "RunInvalid"}


@pytest.mark.parametrize(
    ("invalid", "then", "outcome", "runs"),
    [(0, "True", "passed", 1), (2, "True", "passed", 3), (3, "True", "errors", 3), (1, "False", "failed", 2)],
)
def test_an_invalid_run_is_run_again_and_a_false_one_is_not(
    pytester: pytest.Pytester, invalid: int, then: str, outcome: str, runs: int
) -> None:
    """Marked valid_of(3): one valid run of at most three, none false."""
    pytester.makepyfile(
        f"""
        import pytest
        from pathlib import Path
        from labs.errors import RunInvalid

        @pytest.mark.valid_of(3)
        def test_it():
            path = Path("runs.txt")
            path.write_text((path.read_text() if path.exists() else "") + "x")
            if len(path.read_text()) <= {invalid}:
                raise RunInvalid("starved")
            assert {then}
        """
    )
    run(pytester).assert_outcomes(**{outcome: 1})
    assert len((pytester.path / "runs.txt").read_text()) == runs
    told = [one.attrib for one in junit(pytester).iter("property") if one.attrib["name"] == "invalid_run"]
    assert len(told) == invalid


MISSING = 'raise CapabilityMissing("soft-asic", "this backend has no queues")'


def test_missing_capability_skips_with_its_reason(pytester: pytest.Pytester) -> None:
    file = pytester.makepyfile(body(MISSING))
    result = run(pytester, "-rs")
    result.assert_outcomes(skipped=1)
    line = next(i for i, text in enumerate(file.read_text().splitlines(), 1) if text.startswith("@pytest.mark.lab"))
    result.stdout.fnmatch_lines([f"SKIPPED*{file.name}:{line}: *soft-asic is missing: this backend has no queues"])
    assert counts(pytester) == {"errors": 0, "failures": 0, "skipped": 1}


def test_required_capability_is_an_error_when_missing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(body(MISSING))
    run(pytester, "--lab-require=hash-seed, soft-asic").assert_outcomes(errors=1)
    assert error_of(pytester).attrib["type"] == "CapabilityMissing"
    run(pytester, "--lab-require=hash-seed").assert_outcomes(skipped=1)


def test_lab_that_never_converges_fails_its_tests(pytester: pytest.Pytester, broken: Break) -> None:
    broken(links_down=["leaf1:spine1"])
    pytester.makepyfile(body("open('ran.txt', 'w')"))
    result = run(pytester, "--lab-timeout-scale=0.001")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*converged within * s: FALSE", "*routes differ*", "*leaf1: *missing eth1*"])
    assert not (pytester.path / "ran.txt").exists()
    assert counts(pytester) == {"errors": 0, "failures": 1, "skipped": 0}
    assert index.names() == ()


def test_daemon_that_does_not_answer_is_an_error(pytester: pytest.Pytester, broken: Break) -> None:
    broken(silent=["leaf2"])
    pytester.makepyfile(body("pass"))
    result = run(pytester, "--lab-timeout-scale=0.001")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*ERROR at setup of test_it*", "NotReady: leaf2: *does not answer*"])
    assert error_of(pytester).attrib["type"] == "NotReady"
    assert index.names() == ()


def test_boot_failure_is_an_error_and_leaves_nothing(pytester: pytest.Pytester, broken: Break) -> None:
    broken(boot_fails="leaf1")
    pytester.makepyfile(body("pass"))
    run(pytester).assert_outcomes(errors=1)
    assert error_of(pytester).attrib["type"] == "DeployFailed"
    assert index.names() == ()


@pytest.mark.parametrize(
    ("keep", "statement", "left"),
    [
        ("never", "assert False", 0),
        ("on-failure", "pass", 0),
        ("on-failure", "assert False", 1),
        ("on-failure", "raise NotReady('leaf1')", 1),
        ("always", "pass", 1),
    ],
)
@pytest.mark.parametrize("how", ["option", "environment"])
def test_keep(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, keep: str, statement: str, left: int, how: str
) -> None:
    pytester.makepyfile(body("from labs import index", "assert index.names() == (lab.name,)", statement))
    assert index.names() == ()
    if how == "option":
        result = run(pytester, f"--lab-keep={keep}")
    else:
        monkeypatch.setenv("RAILBED_LAB_KEEP", keep)
        result = run(pytester)
    assert len(re.findall("is left up: railbed status clos-frr-", result.stderr.str())) == left
    assert len(index.names()) == left
    assert reaper.leftovers() == ()  # a lab that is kept belongs to a person, not to a run that has ended
    for name in index.names():
        assert index.read(name).owner is None
        assert adopt_lab(name).fabric.name == "clos_2x4"


def test_option_beats_environment(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAILBED_LAB_KEEP", "always")
    pytester.makepyfile(body("pass"))
    run(pytester, "--lab-keep=never").assert_outcomes(passed=1)
    assert index.names() == ()


def test_every_option_has_a_twin(pytester: pytest.Pytester) -> None:
    said = run(pytester, "--help").stdout.str()
    options = set(re.findall(r"^  (--lab-[a-z-]+)", said, re.MULTILINE))
    assert len(options) >= 9
    for option in options:
        assert f"[RAILBED_{option[2:].upper().replace('-', '_')}]" in re.sub(r"\s+", "", said)


@pytest.mark.parametrize(
    ("option", "value"),
    [("--lab-keep", "sometimes"), ("--lab-scope", "class"), ("--lab-timeout-scale", "slow"), ("--lab-seed", "x1")],
)
@pytest.mark.parametrize("how", ["option", "environment"])
def test_option_that_makes_no_sense(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, option: str, value: str, how: str
) -> None:
    twin = f"RAILBED_{option[2:].upper().replace('-', '_')}"
    if how == "environment":
        monkeypatch.setenv(twin, value)
    result = pytester.runpytest_subprocess(*FAKE, *([f"{option}={value}"] if how == "option" else []))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = result.stderr.str() + result.stdout.str()
    assert "Traceback" not in said
    assert value in said
    assert option in said or twin in said


def test_switched_off_in_the_environment(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAILBED_LAB_PAUSE_ON_ERROR", "0")
    pytester.makepyfile(body("assert False"))
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.no_fnmatch_line("*Enter goes on*")


@pytest.mark.parametrize("option", ["--lab-pause-on-error", "--lab-shell-on-failure"])
def test_nobody_there_to_look(pytester: pytest.Pytester, option: str) -> None:
    pytester.makepyfile(body("assert False") + "\ndef test_next(): pass\n")
    argv = (*pytester._getpytestargs(), *FAKE, option)
    pytester.run(*argv, stdin=b"").assert_outcomes(failed=1, passed=1)


def test_adopt(pytester: pytest.Pytester) -> None:
    open_lab(Request("clos_frr", backend="fake", name="mine"))
    before = index.read("mine")
    pytester.makepyfile(
        f"{HEAD}\ndef test_free(lab): assert lab.name == 'mine'\n"
        "@pytest.mark.lab('clos_frr')\ndef test_marked(lab): assert lab.name == 'mine'\n"
    )
    run(pytester, "--lab-adopt=mine").assert_outcomes(passed=2)
    assert index.names() == ("mine",)
    assert index.read("mine") == before


def test_adopt_of_nothing_is_an_error(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(body("pass"))
    run(pytester, "--lab-adopt=yours").assert_outcomes(errors=1)
    assert error_of(pytester).attrib["type"] == "LabNotFound"


def test_seed_is_taken_and_recorded(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(body("assert lab.seed == 4711"))
    run(pytester, "--lab-seed=4711", "--lab-keep=always").assert_outcomes(passed=1)
    (name,) = index.names()
    record = index.read(name)
    assert record.seed == 4711
    assert json.loads((Path(record.run_dir) / "lab.json").read_text())["seed"] == 4711


def test_seed_is_drawn_anew_for_each_run(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(body("pass"))
    for _ in range(2):
        run(pytester, "--lab-keep=always").assert_outcomes(passed=1)
    first, second = (index.read(name).seed for name in index.names())
    assert first != second


@pytest.mark.parametrize("marker", ["", "@pytest.mark.lab()"])
def test_test_that_names_no_lab(pytester: pytest.Pytester, marker: str) -> None:
    pytester.makepyfile(f"{HEAD}\n{marker}\ndef test_forgot(lab): pass\n")
    result = run(pytester)
    assert result.ret != pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*test_forgot uses a lab and names none; allowed: @pytest.mark.lab(NAME)*"])
    assert index.names() == ()


def test_unknown_lab_is_an_error_with_the_choices(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(body("pass", lab="clos_fr"))
    result = run(pytester)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["SpecError: *clos_fr*clos_frr*"])


def test_workers_get_labs_of_their_own(pytester: pytest.Pytester) -> None:
    module = body("from labs import index", "open(f'{lab.name}.seen', 'w').write(str(len(index.names())))")
    pytester.makepyfile(test_one=module, test_two=module)
    run(pytester, "-n", "2", "--dist=loadfile").assert_outcomes(passed=2)
    names = [path.stem for path in pytester.path.glob("*.seen")]
    assert len(names) == 2
    assert {name.split("-")[2] for name in names} == {"gw0", "gw1"}
    assert index.names() == ()


def test_interrupt_leaves_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        body("from labs import index", "open('seen', 'w').write(index.names()[0])", "raise KeyboardInterrupt")
    )
    result = pytester.runpytest_subprocess(*FAKE)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert (pytester.path / "seen").read_text().startswith("clos-frr-")
    assert index.names() == ()


def test_killed_run_leaves_what_reap_takes(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(body("import os, signal", "os.kill(os.getpid(), signal.SIGKILL)"))
    result = pytester.runpytest_subprocess(*FAKE)
    assert result.ret == -signal.SIGKILL
    (left,) = reaper.leftovers()
    assert re.match(r"the process that used it \(\d+\) is gone", left.because)
    assert reaper.reap() == (left,)
    assert index.names() == ()


def test_faults(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        body(
            "assert callable(faults.link_down)",
            "for name in ('cosmic_ray', '_lab_', '__wrapped__'):",
            "    with pytest.raises(AttributeError, match=f'no fault .{name}'):",
            "        getattr(faults, name)",
            fixtures="lab, faults",
        )
    )
    run(pytester).assert_outcomes(passed=1)


def test_fixture_of_the_users_own_called_lab(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(f"{HEAD}\n@pytest.fixture\ndef lab(): return 7\n\ndef test_it(lab): assert lab == 7\n")
    run(pytester).assert_outcomes(passed=1)


def test_rundir_is_the_tests_own(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        body(
            "assert rundir.is_dir() and rundir.parent.parent == lab.run_dir",
            "assert 'test_it' in rundir.name",
            fixtures="lab, rundir",
        )
    )
    run(pytester).assert_outcomes(passed=1)
    assert (pytester.path / ".labs").is_dir()
