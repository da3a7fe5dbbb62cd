"""`make test` plays a ninth of the tests on labs on each backend; in nine days none is forgotten on either."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

TESTS = Path(__file__).parents[1]
BACKENDS = ("netns", "containerlab")
DAYS = range(9)
NAMES = [*(f"test_rows[{row}]" for row in range(8)), "test_one", "test_other"]
LONG = "test_long"


@dataclass(frozen=True)
class Item:
    """What the dealing asks of a pytest.Item."""

    nodeid: str

    @property
    def path(self) -> Path:
        return TESTS / self.nodeid.partition("::")[0]

    def get_closest_marker(self, name: str) -> object:
        return name if self.nodeid.endswith(LONG) else None


@pytest.fixture
def dealing(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The conftest.py of all tests, once more."""
    monkeypatch.delenv("RAILBED_NIGHTLY", raising=False)
    spec = importlib.util.spec_from_file_location("dealing", TESTS / "conftest.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "choose_backend", lambda asked: (SimpleNamespace(name=asked.backend), ""))
    return module


def _into(left: list[object]) -> Callable[..., None]:
    def deselected(items: list[object]) -> None:
        left.extend(items)

    return deselected


def played(dealing: ModuleType, folder: str, backend: str = "netns") -> frozenset[str]:
    """Of ten tests and a long one in a folder, and as many that need no lab beside them, those that are played."""
    left: list[object] = []
    config = SimpleNamespace(
        getoption={"--lab-backend": backend}.get,
        hook=SimpleNamespace(pytest_deselected=_into(left)),
    )
    items = [Item(f"{where}/test_it.py::{name}") for where in {folder, "harness"} for name in [*NAMES, LONG]]
    everything = set(items)
    dealing.pytest_collection_modifyitems(config, items)
    assert set(left) | set(items) == everything
    assert len(left) + len(items) == len(everything)
    return frozenset(one.nodeid for one in items if one.nodeid.startswith(folder))


def test_in_nine_days_each_is_played_once_on_each_backend(dealing: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[frozenset[str]]] = {backend: [] for backend in BACKENDS}
    for day in DAYS:
        monkeypatch.setenv("RAILBED_DEAL", str(day))
        for backend in BACKENDS:
            seen[backend].append(played(dealing, "fabric", backend))
    for days in seen.values():
        assert sum(map(len, days)) == len(frozenset().union(*days)) == len(NAMES), "each once, and none twice"
        assert max(map(len, days)) <= 3, "8 rows are one a day, beside two more tests"
    for day in DAYS:
        assert seen["netns"][day] == seen["containerlab"][day - 4]
        assert seen["netns"][day].isdisjoint(seen["containerlab"][day])


@pytest.mark.parametrize("folder", ["netns", "containers"])
def test_what_tests_one_backend_is_played_every_third_day(
    dealing: ModuleType, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    days = []
    for day in DAYS:
        monkeypatch.setenv("RAILBED_DEAL", str(day))
        days.append(played(dealing, folder))
    assert days[:3] == days[3:6] == days[6:]
    assert sum(map(len, days[:3])) == len(frozenset().union(*days[:3])) == len(NAMES)


@pytest.mark.parametrize("night", [True, False])
def test_all_are_played_at_night_and_without_the_setting(
    dealing: ModuleType, monkeypatch: pytest.MonkeyPatch, night: bool
) -> None:
    monkeypatch.delenv("RAILBED_DEAL", raising=False)
    if night:
        monkeypatch.setenv("RAILBED_DEAL", "today")
        monkeypatch.setenv("RAILBED_NIGHTLY", "1")
    assert len(played(dealing, "fabric")) == len([*NAMES, LONG])


def test_what_needs_no_backend_is_played_every_day(dealing: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAILBED_DEAL", "today")
    assert len(played(dealing, "harness")) == len(NAMES)


def test_pytest_says_how_to_play_the_same_again(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAILBED_NIGHTLY", raising=False)
    monkeypatch.setenv("RAILBED_DEAL", "13")
    pytester.makeconftest((TESTS / "conftest.py").read_text())
    pytester.makepyfile(
        "import pytest\n\n@pytest.mark.nightly\ndef test_long() -> None: ...\n\ndef test_one() -> None: ..."
    )
    said = pytester.runpytest_inprocess()
    said.stdout.fnmatch_lines(["*RAILBED_DEAL=4 plays the same*", "*1 passed, 1 deselected*"])


def test_a_setting_that_is_none_is_refused(dealing: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAILBED_DEAL", "tomorrow")
    with pytest.raises(pytest.UsageError, match="RAILBED_DEAL=tomorrow: allowed are today and a number"):
        played(dealing, "harness")
