"""How a test asks for what the soft ASIC plays, and what its books say when the test is over."""

from __future__ import annotations

import pytest

# Without hypothesis, which every inner run would import anew.
FAKE = ("--lab-backend=fake", "-p", "no:cacheprovider", "-p", "no:hypothesispytest")
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
    patch.setattr("labs.convergence.GRACE_S", 0.0)
    patch.setattr("labs.convergence.PATIENCE_S", 0.0)
    patch.setattr("labs.pytest_plugin.EMPTY_WITHIN_S", 0.1)

def pytest_unconfigure(config):
    patch.undo()
"""
# A soft ASIC whose counters are what the test makes of them.
STUB = """
import pytest
from labs.telemetry.asic_counters import AsicCounters, AsicdCounters, PortCounters, QueueCounters

class Stub:
    waiting = own = 0

    def counters(self):
        queue = QueueCounters("host1", "eth1", 3, depth_packets=self.waiting, depth_bytes=100 * self.waiting,
                              sent_packets=10, own_packets=10 + self.own)
        ports = (PortCounters("host1", "eth1", "leaf1:eth1", False, 10**9),
                 PortCounters("leaf1", "eth1", "host1:eth1", True, 10**9))
        far = QueueCounters("leaf1", "eth1", 3)
        return AsicCounters("lab", ports, (queue, far), (), (), AsicdCounters())

@pytest.fixture(autouse=True)
def stub(lab):
    lab.asic = Stub()
    return lab.asic

@pytest.mark.lab("pair")
def test_it(asic):
"""


@pytest.fixture(autouse=True)
def calm(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CALM)


def run(pytester: pytest.Pytester, *args: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess(*FAKE, *args)


def marked(marker: str, fixture: str = "lab") -> str:
    return f"import pytest\n\n@pytest.mark.lab({marker})\ndef test_it({fixture}): pass\n"


@pytest.mark.parametrize("option", [(), ("--lab-profile=lossy",)])
def test_a_marker_names_the_profile_and_wins(pytester: pytest.Pytester, option: tuple[str, ...]) -> None:
    """A profile that is asked for and cannot be played is a skip with its reason; scripted nodes have no ports."""
    pytester.makepyfile(marked("'pair', profile='pfc_only'"))
    result = run(pytester, "-v", "-rs", *option)
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*test_it*pair-pfc_only*SKIPPED*", "*capability soft-asic is missing: *"])


def test_the_option_speaks_where_the_marker_does_not(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(marked("'pair'"))
    run(pytester).assert_outcomes(passed=1)
    run(pytester, "--lab-profile=pfc_only").assert_outcomes(skipped=1)
    run(pytester, "--lab-profile=none").assert_outcomes(passed=1)


def test_the_option_has_an_environment_twin(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAILBED_LAB_PROFILE", "pfc_only")
    pytester.makepyfile(marked("'pair'"))
    run(pytester).assert_outcomes(skipped=1)


def test_a_required_soft_asic_is_an_error(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(marked("'pair', profile='pfc_only'"))
    run(pytester, "--lab-require=soft-asic").assert_outcomes(errors=1)


def test_a_typo_in_the_marker_is_named(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(marked("'pair', profil='pfc_only'"))
    run(pytester).stdout.fnmatch_lines(["*lab(profil=…); allowed: lab(NAME, profile=PROFILE)*"])


def test_a_lab_that_plays_nothing_has_no_asic(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(marked("'pair'", "asic"))
    result = run(pytester, "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*capability soft-asic is missing: the lab plays no profile*"])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("pass", ""),
        ("asic.own = 1", "*every packet has one fate: FALSE*"),
        ("asic.waiting = asic.own = 1", "*nothing is left in the switches' buffers: FALSE*"),
    ],
)
def test_the_books_are_looked_at_after_every_test(pytester: pytest.Pytester, body: str, said: str) -> None:
    pytester.makepyfile(f"{STUB}    {body}\n")
    result = run(pytester)
    result.assert_outcomes(passed=1, errors=1 if said else 0)
    if said:
        result.stdout.fnmatch_lines([f"*after the test: {said}"])
