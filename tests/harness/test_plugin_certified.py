"""Tests that measure, as users see them: watched, INVALID where the workstation spoilt them, and run once more."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

FAKE = ("--lab-backend=fake", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "--junitxml=out.xml")
# The workstation is starved in as many runs as stand in starved.txt.
CONFTEST = """
import pathlib
import pytest
from labs.telemetry.samples import HostSample

LEFT = pathlib.Path("starved.txt")

class Watch:
    def __enter__(self): return self
    def __exit__(self, *_): pass
    def sample(self): return HostSample(1.0, 0.0, 0.0)

class Starved(Watch):
    def __enter__(self):
        left = int(LEFT.read_text())
        LEFT.write_text(str(max(0, left - 1)))
        self.late = 60.0 if left else 0.0
        return self
    def sample(self): return HostSample(1.0, 0.0, self.late)

patch = pytest.MonkeyPatch()

def pytest_configure(config):
    patch.setattr("labs.convergence.HostWatch", Watch)
    patch.setattr("labs.pytest_shared.HostWatch", Watch)
    patch.setattr("labs.pytest_valid.HostWatch", Watch)
    patch.setattr("labs.certifying.HostWatch", Starved)

def pytest_unconfigure(config):
    patch.undo()
"""
MODULE = """
import pytest
from labs.testing import Evidence, Verdict
runs = []

@pytest.mark.lab("clos_frr")
def test_it({fixtures}):
    runs.append(1)
    assert Verdict("in time", {held}, Evidence("after 0.1 s"){budget})
"""


def outcomes(pytester: pytest.Pytester, module: str, starved: int) -> tuple[pytest.RunResult, ET.Element]:
    pytester.makeconftest(CONFTEST)
    (pytester.path / "starved.txt").write_text(str(starved))
    pytester.makepyfile(module)
    result = pytester.runpytest_inprocess(*FAKE)
    case = ET.parse(pytester.path / "out.xml").getroot().find("testsuite/testcase")
    assert case is not None
    return result, case


def one(*fixtures: str, held: bool = True, budget: str = ", budget_s=0.2") -> str:
    return MODULE.format(fixtures=", ".join(("lab", *fixtures)), held=held, budget=budget)


@pytest.mark.parametrize("fixture", ["traffic", "faults", "timeline"])
@pytest.mark.parametrize("held", [True, False])
def test_a_starved_test_is_run_again(pytester: pytest.Pytester, fixture: str, held: bool) -> None:
    """Neither a pass nor a fail the first time; what the second, calm run says is what counts."""
    result, case = outcomes(pytester, one(fixture, held=held), starved=1)
    result.assert_outcomes(passed=int(held), failed=int(not held))
    (told,) = (p.attrib["value"] for p in case.iter("property") if p.attrib["name"] == "invalid_run")
    assert "in time: the workstation was starved: a thread woke 60.000 s late" in told


@pytest.mark.parametrize("held", [True, False])
def test_twice_starved_is_an_error(pytester: pytest.Pytester, held: bool) -> None:
    result, case = outcomes(pytester, one("traffic", held=held), starved=2)
    result.assert_outcomes(errors=1)
    assert [error.attrib["type"] for error in case.iter("error")] == ["RunInvalid"]
    assert not list(case.iter("failure"))
    result.stdout.fnmatch_lines(["*INVALID*"])


@pytest.mark.parametrize(
    ("starved", "held", "outcome"),
    [(3, True, "passed"), (3, False, "failed"), (7, True, "passed"), (8, True, "errors"), (1, True, "passed")],
)
def test_trouble_that_lasts_is_waited_out(pytester: pytest.Pytester, starved: int, held: bool, outcome: str) -> None:
    """INVALID twice, a test is put at the end, in a lab of its own; what it says there last is all that is reported."""
    calm = "patch.setattr('labs.pytest_valid.PATIENCE.left_s', 0.0)"
    pytester.makeconftest(CONFTEST.replace("def pytest_configure(config):", f"{calm}\n\ndef pytest_configure(config):"))
    (pytester.path / "starved.txt").write_text(str(starved))
    later = "\n@pytest.mark.lab('clos_frr')\ndef test_later(lab):\n    assert len(runs) == 2\n"
    pytester.makepyfile(one("traffic", held=held) + later)
    result = pytester.runpytest_inprocess(*FAKE, "--lab-rerun-invalid")
    wanted = {"passed": 1, outcome: 1} if outcome != "passed" else {"passed": 2}
    result.assert_outcomes(**wanted)
    put_off = "*INVALID at first, played again at the end*"
    if starved == 1:
        result.stdout.no_fnmatch_line(put_off)
    else:
        result.stdout.fnmatch_lines([put_off, "*::test_it* in time: the workstation was starved*"])
    cases = list(ET.parse(pytester.path / "out.xml").getroot().iter("testcase"))
    assert [case.attrib["name"].partition("[")[0] for case in cases] == (
        ["test_it", "test_later"] if starved == 1 else ["test_later", "test_it"]
    )


@pytest.mark.parametrize(("starved", "passed"), [(0, 1), (1, 1), (2, 0)])
def test_a_starved_bring_up_is_judged_once_more(pytester: pytest.Pytester, starved: int, passed: int) -> None:
    """Else all tests that share the lab would be INVALID for one moment of the workstation's."""
    looks = """
from labs.lab import Lab
looks, real = [], Lab.wait_converged

def look(self, *args):
    looks.append(real(self, *args))
    return looks[-1].invalid("starved") if len(looks) <= {starved} else looks[-1]

def pytest_runtest_setup():
    patch.setattr(Lab, "wait_converged", look)
"""
    pytester.makeconftest(CONFTEST + looks.replace("{starved}", str(starved)))
    (pytester.path / "starved.txt").write_text("0")
    pytester.makepyfile(one())
    pytester.runpytest_inprocess(*FAKE).assert_outcomes(passed=passed, errors=1 - passed)


def test_state_is_no_question_of_starvation(pytester: pytest.Pytester) -> None:
    result, _ = outcomes(pytester, one("traffic", budget=""), starved=9)
    result.assert_outcomes(passed=1)


PLAIN = CONFTEST.replace('("labs.pytest_valid.HostWatch", Watch)', '("labs.pytest_valid.HostWatch", Starved)')
MISSED = """
import pytest
runs = []

@pytest.mark.lab("clos_frr")
def test_it(lab):
    runs.append(lab.name)
    {statement}
"""


def plain(pytester: pytest.Pytester, statement: str, starved: int, *args: str) -> pytest.RunResult:
    """A test that measures nothing, on a workstation that is starved in its first runs."""
    pytester.makeconftest(PLAIN)
    (pytester.path / "starved.txt").write_text(str(starved))
    pytester.makepyfile(MISSED.format(statement=statement))
    return pytester.runpytest_inprocess(*FAKE, *args)


@pytest.mark.parametrize("statement", ["assert 61 == 100", "pytest.fail('61 of 100')", "raise OSError('61 of 100')"])
@pytest.mark.parametrize(("starved", "outcome"), [(0, "failed"), (1, "errors")])
def test_a_failure_on_a_starved_workstation_says_nothing(
    pytester: pytest.Pytester, statement: str, starved: int, outcome: str
) -> None:
    """BFD cuts links of processors that stand still. Calm, the same is a failure; it is run once."""
    result = plain(pytester, statement, starved)
    result.assert_outcomes(**{outcome: 1})
    said = "*RunInvalid: *61*: the workstation was starved: a thread woke 60.000 s late*"
    (result.stdout.fnmatch_lines if starved else result.stdout.no_fnmatch_line)(said)


@pytest.mark.parametrize(
    "statement", ["pass", "pytest.skip('no')", "import labs.errors as e; raise e.CapabilityMissing('x', 'no')"]
)
def test_a_starved_workstation_changes_nothing_else(pytester: pytest.Pytester, statement: str) -> None:
    outcome = "passed" if statement == "pass" else "skipped"
    plain(pytester, statement, starved=9).assert_outcomes(**{outcome: 1})


@pytest.mark.parametrize(("until", "outcome"), [(2, "passed"), (9, "failed")])
def test_a_failure_on_a_starved_workstation_is_played_again(
    pytester: pytest.Pytester, until: int, outcome: str
) -> None:
    """At the end of the session; where it fails on a calm workstation, too, it has failed."""
    result = plain(pytester, f"assert len(runs) >= {until}", 1, "--lab-rerun-invalid")
    result.assert_outcomes(**{outcome: 1})
    result.stdout.fnmatch_lines(
        ["*INVALID at first, played again at the end*", "*AssertionError*: the workstation was starved*"]
    )


def test_a_failure_of_a_test_that_measures_is_run_again_in_the_same_lab(pytester: pytest.Pytester) -> None:
    module = MISSED.replace("(lab)", "(lab, traffic)").format(statement="assert runs == [lab.name] * 2")
    result, _ = outcomes(pytester, module, starved=1)
    result.assert_outcomes(passed=1)


FALSE_THEN_HELD = (
    "said = [Verdict(w, w == 'b', Evidence(''), watched=True) for w in 'ab']; assert not [v for v in said if not v]"
)


def test_what_failed_is_shown(pytester: pytest.Pytester) -> None:
    result = plain(pytester, "assert 61 == len(runs) * 100", 1)
    result.stdout.fnmatch_lines(["*what failed*", "*assert 61 == (1 * 100)*"])


@pytest.mark.parametrize(
    ("decorator", "statement", "outcome"),
    [
        ("@pytest.mark.xfail(raises=AssertionError, strict=True)", "assert False", "xfailed"),
        ("", "import unittest; raise unittest.SkipTest('no')", "skipped"),
        ("", "from topologies.errors import Unpredictable; raise Unpredictable('no')", "skipped"),
        (
            "",
            FALSE_THEN_HELD,
            "failed",
        ),
    ],
)
def test_what_somebody_else_judges_stays_as_it_is(
    pytester: pytest.Pytester, decorator: str, statement: str, outcome: str
) -> None:
    """Also a verdict that was vouched for by itself and is false, whatever was asked for after it."""
    pytester.makeconftest(PLAIN)
    (pytester.path / "starved.txt").write_text("9")
    module = MISSED.format(statement=statement).replace("@pytest.mark.lab", f"{decorator}\n@pytest.mark.lab")
    pytester.makepyfile("from labs.testing import Evidence, Verdict\n" + module)
    pytester.runpytest_inprocess(*FAKE).assert_outcomes(**{outcome: 1})


def test_a_coroutine_is_no_pass(pytester: pytest.Pytester) -> None:
    """Nothing here runs it: pytest says so."""
    pytester.makeconftest(CONFTEST)
    (pytester.path / "starved.txt").write_text("0")
    module = "import pytest\n\n@pytest.mark.lab('clos_frr')\nasync def test_{0}({0}):\n    assert False\n"
    pytester.makepyfile(test_lab=module.format("lab"), test_traffic=module.format("traffic"))
    pytester.runpytest_inprocess(*FAKE).assert_outcomes(failed=2)


def test_a_lab_of_the_users_own_is_not_ours_to_judge(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(PLAIN)
    (pytester.path / "starved.txt").write_text("9")
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture(scope="module", params=[1, 2])
        def lab(request):
            return request.param

        def test_first(lab):
            assert lab < 0

        def test_second(lab):
            assert lab > 0
        """
    )
    pytester.runpytest_inprocess(*FAKE).assert_outcomes(passed=2, failed=2)


SHARED = """
import pytest
names = []

@pytest.fixture(scope="module")
def named(lab):
    return lab.name

@pytest.fixture
def breaks(lab):
    yield
    assert {ends}

@pytest.mark.lab("clos_frr")
def test_first(lab, named, breaks):
    names.append(lab.name)
    assert {passes}

def test_between():
    pass

@pytest.mark.lab("clos_frr")
def test_second(lab, named):
    names.append(lab.name)
    assert named == lab.name
    assert len(set(names)) == {labs}
"""
LOOKS = """
from labs.lab import Lab
from labs.errors import NotReady
from dataclasses import replace
looks, real = [], Lab.wait_converged

def look(self, *args):
    looks.append(real(self, *args))
    if len(looks) != 2:
        return looks[-1]
    {second}

def pytest_runtest_setup():
    patch.setattr(Lab, "wait_converged", look)

def pytest_sessionfinish():
    assert len(looks) == {looks}
"""
WHOLE, BROKEN, DEAD = (
    "return looks[-1]",
    "return replace(looks[-1], held=False)",
    "raise NotReady('bgpd does not answer')",
)


@pytest.mark.parametrize(
    ("passes", "ends", "starved", "second", "labs", "looks"),
    [
        (True, True, 0, WHOLE, 1, 1),
        (False, True, 0, WHOLE, 1, 2),
        (False, True, 0, BROKEN, 2, 3),
        (False, True, 0, DEAD, 2, 3),
        (False, True, 0, "raise OSError('no such process')", 2, 3),
        (True, False, 0, BROKEN, 2, 3),
        (True, True, 1, WHOLE, 1, 2),
        (True, True, 1, BROKEN, 2, 3),
    ],
)
def test_a_shared_lab_is_whole_before_each_test(
    pytester: pytest.Pytester, passes: bool, ends: bool, starved: int, second: str, labs: int, looks: int
) -> None:
    """Looked at after trouble only, and replaced by a new one where it is no longer what it was."""
    conftest = CONFTEST.replace('("labs.pytest_shared.HostWatch", Watch)', '("labs.pytest_shared.HostWatch", Starved)')
    pytester.makeconftest(conftest + LOOKS.replace("{second}", second).replace("{looks}", str(looks)))
    (pytester.path / "starved.txt").write_text(str(starved))
    pytester.makepyfile(SHARED.format(passes=passes, ends=ends, labs=labs))
    pytester.runpytest_inprocess(*FAKE).assert_outcomes(passed=2 + passes, failed=1 - passes, errors=1 - ends)


@pytest.mark.parametrize(("keep", "looks"), [("never", 3), ("on-failure", 1)])
def test_a_lab_to_look_at_is_not_replaced(pytester: pytest.Pytester, keep: str, looks: int) -> None:
    """Each one that failed would stay up."""
    pytester.makeconftest(CONFTEST + LOOKS.replace("{second}", BROKEN).replace("{looks}", str(looks)))
    (pytester.path / "starved.txt").write_text("0")
    pytester.makepyfile(SHARED.format(passes=False, ends=True, labs=(looks + 1) // 2))
    pytester.runpytest_inprocess(*FAKE, f"--lab-keep={keep}").assert_outcomes(passed=2, failed=1)


SCENARIO = "about: it is sound\nlab: clos_2x4\nsteps:\n  - {claim: routes_match, within: 1s%s}\n"
SCENARIOS = """
import pytest

@pytest.mark.scenario("sound.yaml", "turned.yaml")
def test_scenario(scenario):
    open("labs.txt", "a").write(scenario._lab.name + "\\n")
    scenario.verify()
"""


def test_scenarios_as_tests(pytester: pytest.Pytester) -> None:
    """Each file is a test of its own name, both on one lab; what is false fails it, with the evidence."""
    (pytester.path / "sound.yaml").write_text(SCENARIO % "")
    (pytester.path / "turned.yaml").write_text(SCENARIO % ", holds: false")
    result, _ = outcomes(pytester, SCENARIOS, starved=0)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["*turned: 1 valid of at most 2 started, 1 failed*", "*not: every route of 6 switches*"]
    )
    assert len(set(Path("labs.txt").read_text().split())) == 1
    names = [case.attrib["name"] for case in ET.parse(pytester.path / "out.xml").getroot().iter("testcase")]
    assert sorted(names) == ["test_scenario[sound]", "test_scenario[turned]"]


@pytest.mark.parametrize(
    ("marker", "said"),
    [
        ('@pytest.mark.scenario("missing.yaml")', "there is no such file"),
        ("@pytest.mark.scenario()", "allowed: @pytest.mark.scenario"),
        ('@pytest.mark.lab("clos_frr")', "uses `scenario` and names none"),
    ],
)
def test_a_marker_that_names_none(pytester: pytest.Pytester, marker: str, said: str) -> None:
    pytester.makeconftest(CONFTEST)
    (pytester.path / "starved.txt").write_text("0")
    pytester.makepyfile(f"import pytest\n\n{marker}\ndef test_it(scenario):\n    scenario.verify()\n")
    assert re.search(re.escape(said), pytester.runpytest_inprocess(*FAKE).stdout.str())
