import sys
import time
from pathlib import Path

import pytest

from labs.errors import PreflightFailed
from labs.shadowing import check_not_shadowed, check_sole_distribution

HOME = Path(sys.modules["labs"].__path__[0]).resolve().parent


def test_our_own_packages_pass() -> None:
    check_not_shadowed()


def test_start_is_not_slowed() -> None:
    """Budget: 5 ms of every start. It takes some 0.2 ms; the fastest of five leaves a busy machine out."""

    def seconds() -> float:
        began = time.perf_counter()
        check_not_shadowed()
        return time.perf_counter() - began

    assert min(seconds() for _ in range(5)) < 0.005


def test_a_folder_of_the_users_is_named() -> None:
    def origin(name: str) -> Path:
        return Path("/home/ann/traffic") if name == "traffic" else HOME / name

    with pytest.raises(PreflightFailed, match=r"traffic from /home/ann/traffic; .*\n  remedy: "):
        check_not_shadowed(origin)


def test_a_package_that_is_nowhere_is_named() -> None:
    with pytest.raises(PreflightFailed, match="topologies from nowhere"):
        check_not_shadowed(lambda name: None if name == "topologies" else HOME / name)


@pytest.mark.parametrize("taken_by", ["traffic.py", "traffic/__init__.py"])
def test_a_real_shadow_on_the_path_is_found(taken_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / taken_by).parent.mkdir(exist_ok=True)
    (tmp_path / taken_by).touch()
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "traffic"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(PreflightFailed, match="Python would import traffic from "):
        check_not_shadowed()


@pytest.mark.parametrize(
    "installed", [{}, {"labs": ["railbed"], "numpy": ["numpy"]}, {"topologies": ["railbed", "railbed"]}]
)
def test_no_other_distribution(installed: dict[str, list[str]]) -> None:
    check_sole_distribution(lambda: installed)


def test_another_distribution_is_named() -> None:
    with pytest.raises(PreflightFailed, match=r"names: netlabs ships labs, traffic-sim ships traffic\n"):
        check_sole_distribution(lambda: {"labs": ["railbed", "netlabs"], "traffic": ["traffic-sim"]})


def test_this_installation_is_alone() -> None:
    check_sole_distribution()
